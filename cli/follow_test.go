package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"kith/clock"
	"kith/fault"
)

// hasty is a clock on which every wait is over at once, and takes its time.
type hasty struct{ *clock.Manual }

func (h hasty) Until(t time.Time) (<-chan struct{}, func()) {
	h.Set(t)
	return h.Manual.Until(t)
}

func TestFollowWaitsForAServerThatStartsAgain(t *testing.T) {
	away := fault.New(fault.Unavailable, "connection refused")
	for _, test := range []struct {
		name  string
		away  int // how often the server does not answer after the first time
		fails error
		want  string // of the error; empty: it ends well
	}{
		{"it comes back", int(serverMayRun/askEvery) - 1, nil, ""},
		{"it does not come back", 1000, nil, "connection refused\ngo on with: kith go on"},
		{"the server has an answer, and it is no", 0, fault.New(fault.NotFound, "there is no such job"), "there is no such job"},
	} {
		p, _, _ := program()
		p.Clock = hasty{clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
		asked := 0
		got, err := follow(&run{Program: p, ctx: t.Context()}, following[int]{
			ask: func() (int, error) {
				asked++
				switch {
				case asked > 1 && asked <= 1+test.away:
					return 0, away
				case asked > 1 && test.fails != nil:
					return 0, test.fails
				}
				return asked, nil
			},
			tell: func(n int) (string, bool) { return "running", n < 2+test.away },
			gone: "go on with: kith go on",
		})
		switch {
		case test.want == "" && (err != nil || got != 2+test.away):
			t.Errorf("%s: %d, %v", test.name, got, err)
		case test.want != "" && (err == nil || err.Error() != test.want):
			t.Errorf("%s: %v; want %s", test.name, err, test.want)
		}
	}
}

func TestWhoeverStopsFollowingIsToldHowToGoOn(t *testing.T) {
	p, _, stderr := program()
	ctx, stop := context.WithCancel(t.Context())
	_, err := follow(&run{Program: p, ctx: ctx}, following[int]{
		ask:  func() (int, error) { stop(); return 1, nil },
		tell: func(int) (string, bool) { return "running", true },
		left: "it goes on: kith follow 1",
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(stderr.String(), "it goes on: kith follow 1") {
		t.Errorf("%v, %q", err, stderr)
	}
}
