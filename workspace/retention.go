package workspace

import (
	"strconv"
	"strings"
	"time"

	"kith/fault"
)

// Forever is the retention of a space that keeps its events for ever.
const Forever = "forever"

// MinRetention and MaxRetention bound how long a space may keep its events: what
// is on its way to a destination is tried for hours.
const (
	MinRetention = 24 * time.Hour
	MaxRetention = 100 * 365 * 24 * time.Hour
)

// ParseRetention reads how long events are kept: 90d, 12w, 36h, or forever,
// which is zero.
func ParseRetention(text string) (time.Duration, error) {
	if text == Forever || text == "0" {
		return 0, nil
	}
	var d time.Duration
	ok := false
	for _, unit := range []struct {
		suffix string
		is     time.Duration
	}{{"d", 24 * time.Hour}, {"w", 7 * 24 * time.Hour}, {"h", time.Hour}} {
		number, has := strings.CutSuffix(text, unit.suffix)
		if n, err := strconv.ParseUint(number, 10, 24); has && err == nil {
			d, ok = time.Duration(n)*unit.is, true
		}
	}
	if !ok {
		return 0, fault.New(fault.Invalid, "%.40q is not how long events are kept: want a number of days, weeks or hours such as 90d, 12w or 36h, or forever", text)
	}
	if d < MinRetention || d > MaxRetention {
		return 0, fault.New(fault.Invalid, "events cannot be kept for %.40q: want 1d to 36500d, or forever", text)
	}
	return d, nil
}

// KeepsFor returns how long the space keeps its events, zero for ever; otherwise
// is for a space that says nothing.
func (s *Space) KeepsFor(otherwise time.Duration) time.Duration {
	if s.Retention == "" {
		return otherwise
	}
	d, err := ParseRetention(s.Retention)
	if err != nil {
		return 0 // which forgets nothing; a draft is checked
	}
	return d
}

// FormatRetention writes how long events are kept, as ParseRetention reads it.
func FormatRetention(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d <= 0:
		return Forever
	case d%day == 0:
		return strconv.Itoa(int(d/day)) + "d"
	}
	return strconv.Itoa(int(d/time.Hour)) + "h"
}
