package fql_test

import (
	"strings"
	"testing"
	"time"

	"kith/fql"
)

func TestCost(t *testing.T) {
	for src, want := range map[string]int{
		"all":                   0,
		"event = 'Heartbeat'":   1,
		"type = 'a' or a.b = 1": 2,
		"a in ['x', b]":         2,
		"!contains(traits.email, '@example.com')": 3,
		"match(context.userAgent, '*bot*')":       3,
		"match(a, 'ab?*plain*[0-9]')":             3 + 4*3 + 4,
		"match(a, b)":                             2 + 2 + 4*256,
	} {
		e, err := fql.Parse(src)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Cost(); got != want {
			t.Errorf("%s costs %d, want %d", src, got, want)
		}
	}
}

// BenchmarkWorst is the worst that a reading costs, by what it is spent on.
func BenchmarkWorst(b *testing.B) {
	body := []byte(`{"properties":{"text":"` + strings.Repeat("a", 32_000) + `","last":1}}`)
	for name, src := range map[string]string{
		"pattern": "match(properties.text, '*" + strings.Repeat("?", 250) + "[b]*')",
		"fields":  strings.TrimSuffix(strings.Repeat("properties.last = 2 or ", 200), " or "),
		"calls":   strings.TrimSuffix(strings.Repeat("snakecase(properties.text) = 'x' or ", 100), " or "),
	} {
		e, err := fql.Parse(src)
		if err != nil {
			b.Fatal(err)
		}
		d := fql.NewDocument(body)
		b.Run(name, func(b *testing.B) {
			start := time.Now()
			for b.Loop() {
				e.MatchDocument(d)
			}
			b.ReportMetric(float64(time.Since(start).Microseconds())/float64(b.N*e.Cost()), "µs/reading")
		})
	}
}
