package workspace

import (
	"testing"
	"time"
)

func TestParseRetention(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"90d": 90 * day, "12w": 84 * day, "36h": 36 * time.Hour, "1d": day, "forever": 0, "0": 0, "36500d": 36500 * day,
	} {
		if got, err := ParseRetention(text); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "90", "d", "-1d", "23h", "0d", "36501d", "99999999999d", "1y", "1.5d", "ever"} {
		if got, err := ParseRetention(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
	for text, want := range map[string]time.Duration{"": 7 * day, "forever": 0, "2d": 2 * day, "nonsense": 0} {
		if got := (&Space{Retention: text}).KeepsFor(7 * day); got != want {
			t.Errorf("a space with %q keeps for %v, want %v", text, got, want)
		}
	}
}
