package bot

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

//go:embed testdata/agents.txt
var agents string

// Each line is a user agent that the list gives as an example of a bot.
func TestBots(t *testing.T) {
	l := New()
	n := 0
	for agent := range strings.Lines(agents) {
		agent = strings.TrimRight(agent, "\r\n")
		if strings.Contains(agent, "GoogleImageProxy") || strings.Contains(agent, "YahooMailProxy") {
			continue
		}
		if n++; !l.Is(agent) {
			t.Errorf("not known as a bot: %s", agent)
		}
	}
	if n < 1000 {
		t.Errorf("only %d user agents were looked at", n)
	}
}

func TestPeople(t *testing.T) {
	l := New()
	for _, agent := range []string{
		"",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 Edg/124.0.0.0",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:125.0) Gecko/20100101 Firefox/125.0",
		"Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/24.0 Chrome/117.0.0.0 Mobile Safari/537.36",
		"Mozilla/5.0 (Linux; Android 13; SM-A515F; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/124.0 Mobile Safari/537.36 [FB_IAB/FB4A;FBAV/460.0.0.32.109;]",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Instagram 328.0.2.29.90",
		"Mozilla/5.0 (iPad; CPU OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/124.0 Mobile/15E148 Safari/604.1",
		"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 OPR/110.0",
		"Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
		"Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UQ1A.240205.002)",
		"MyApp/1 CFNetwork/1474 Darwin/23.0.0", "Dart/3.4 (dart:io)",
		"Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
		"YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
	} {
		if l.Is(agent) {
			t.Errorf("taken for a bot: %s", agent)
		}
	}
}

// The words find what the patterns find.
func TestWordsAgainstPatterns(t *testing.T) {
	var all []string
	for p := range strings.Lines(patterns) {
		p = strings.TrimRight(p, "\r\n")
		if p != "GoogleImageProxy" && p != "YahooMailProxy" {
			all = append(all, "(?:"+p+")")
		}
	}
	pattern, l := regexp.MustCompile(strings.Join(all, "|")), New()
	lines := strings.Split(agents, "\n")
	rapid.Check(t, func(t *rapid.T) {
		agent := rapid.SampledFrom(lines).Draw(t, "agent")
		from := rapid.IntRange(0, len(agent)).Draw(t, "from")
		to := rapid.IntRange(from, len(agent)).Draw(t, "to")
		cut := agent[from:to] + rapid.SampledFrom([]string{"", "x", " Mozilla/5.0"}).Draw(t, "more")
		if got, want := l.look(cut), pattern.MatchString(cut); got != want {
			t.Fatalf("%q: %v, the patterns say %v", cut, got, want)
		}
	})
}

// However many user agents come, what is remembered is bounded, and right.
func TestManyAgents(t *testing.T) {
	l := New()
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 3 * maxVerdicts {
				n := (i*7 + g) % (2 * maxVerdicts)
				if l.Is(fmt.Sprintf("Mozilla/5.0 (x%d)", n)) || !l.Is(fmt.Sprintf("Googlebot/%d %s", n, strings.Repeat("x", 1000))) {
					t.Errorf("wrong about %d", n)
				}
			}
		})
	}
	all.Wait()
	if len(l.verdicts) > maxVerdicts || len(l.before) > maxVerdicts {
		t.Errorf("%d and %d are remembered", len(l.verdicts), len(l.before))
	}
	for agent := range l.verdicts {
		if len(agent) > maxAgentBytes {
			t.Errorf("%d bytes are remembered", len(agent))
		}
	}
}

func BenchmarkIs(b *testing.B) {
	const agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36 Edg/124.0.0.0"
	l := New()
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.Is(agent)
		}
	})
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			l.look(agent)
		}
	})
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			New()
		}
	})
}
