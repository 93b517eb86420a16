package query

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// FuzzParse: no text makes the parser fall over, an accepted text has one
// canonical form, and an accepted program can be evaluated.
func FuzzParse(f *testing.F) {
	for _, file := range []string{"testdata/parse.txt", "testdata/check.txt"} {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.SplitSeq(string(data), "\n") {
			if text, ok := strings.CutPrefix(line, "> "); ok {
				f.Add(text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Parse(text)
		if err != nil {
			var at *Error
			if !errors.As(err, &at) || at.Line < 1 || at.Column < 1 {
				t.Fatalf("%q: error without a place: %v", text, err)
			}
			return
		}
		printed := String(n)
		again, err := Parse(printed)
		if err != nil {
			t.Fatalf("%q is printed %q, which is refused: %v", text, printed, err)
		}
		if String(again) != printed {
			t.Fatalf("%q is printed %q and then %q", text, printed, String(again))
		}
		prog, err := ParseAudience(text)
		if err != nil {
			return
		}
		same, err := ParseAudience(printed)
		if err != nil || describe(same) != describe(prog) {
			t.Fatalf("%q and its canonical form are two programs: %v", text, err)
		}
		p := &person{prog: prog, now: 1000, traits: `{"a":{"b":[1,"2",null,{"c":"1970-01-01"}]}}`, events: []happened{{0, "A", `{"properties":{"a":5}}`}}}
		if _, next := prog.Eval(1000, p); next <= 1000 {
			t.Fatalf("%q: next instant %d is not ahead", text, next)
		}
	})
}

func TestBounds(t *testing.T) {
	for name, text := range map[string]string{
		"long":        "trait('" + strings.Repeat("a", MaxTextBytes) + "') = 1",
		"parentheses": strings.Repeat("(", MaxNesting) + "trait('a') = 1" + strings.Repeat(")", MaxNesting),
		"nots":        strings.Repeat("NOT ", MaxNesting+1) + "trait('a') = 1",
		"calls":       strings.Repeat("where(", MaxNesting+1),
		"brackets":    "trait('a').one_of(" + strings.Repeat("[", 10_000),
		"many":        strings.Repeat("trait('a') = 1 OR ", MaxExpressions) + "trait('a') = 1",
		"no UTF-8":    "trait('\xff') = 1",
	} {
		var at *Error
		if _, err := Parse(text); !errors.As(err, &at) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fine := strings.Repeat("event('A').count() >= 1 OR ", 150) + strings.Repeat("(", 100) + "trait('a') = 1" + strings.Repeat(")", 100)
	if _, err := ParseAudience(fine); err != nil {
		t.Error(err)
	}
}

func BenchmarkEval(b *testing.B) {
	prog := parsed(b, "event('A').within(1 day).count() >= 2 AND trait('n') = 1 AND NOT event('B').count() > 3")
	for b.Loop() {
		prog.Eval(0, stepEnv{})
	}
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		parsed(b, "event('Booked').where(property('hotel') = 'Bern' AND property('value') >= 100).within(60 days).count() >= 2 AND trait('lifetime_value') > 500")
	}
}
