package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"kith/archive"
	"kith/commitlog"
	"kith/pipeline"
	"kith/rebuild"
)

// advanced moves the horizon to the first record that was appended at an instant
// or later.
func (n *inn) advanced(before time.Time) archive.Horizon {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	id, err := n.s.rebuilds.AdvanceBase(ctx, 1, before)
	if err != nil {
		n.t.Fatal(err)
	}
	for {
		j, err := n.s.jobs.Get(ctx, id)
		if err != nil {
			s, _ := n.s.rebuilds.Base(n.t.Context(), 1)
			n.t.Fatalf("%v; %+v", err, s)
		}
		switch j.State {
		case "finished":
			h, err := n.s.archive.Horizon(ctx, 1)
			if err != nil {
				n.t.Fatal(err)
			}
			return h
		case "failed":
			n.t.Fatalf("the base was not advanced: %s", j.Error)
		}
		rest(ctx, time.Millisecond)
	}
}

// instant returns an instant in the life of the space: that of a record, by
// where it is between the first, 0, and the last, 1.
func (n *inn) instant(part float64) time.Time {
	n.t.Helper()
	at := commitlog.Offset(float64(n.s.space(1).raw.End()-1) * part)
	var ms int64
	_, err := n.s.archive.FollowHeads(n.t.Context(), 1, at, 1<<10, func(j *pipeline.Judged) error {
		if j.Offset == at {
			ms = j.Head.At
		}
		return nil
	})
	if err != nil || ms == 0 {
		n.t.Fatalf("record %d: %v", at, err)
	}
	return time.UnixMilli(ms)
}

// same rebuilds the space and compares the outcome with what was live.
func (n *inn) same(when string) {
	n.t.Helper()
	live := n.s.space(1).epoch()
	was, told := n.state(live), n.received()
	s := n.rebuilt(rebuild.Request{Note: when})
	if lines := differ(was, n.state(s.Number)); len(lines) > 0 {
		n.t.Errorf("%s: %d differences, among them:\n%s", when, len(lines), strings.Join(lines[:min(len(lines), 12)], "\n"))
	}
	if more := n.received() - told; more != 0 {
		n.t.Errorf("%s: the destination was told %d more", when, more)
	}
}

// After the horizon has moved a rebuild begins with the base, and gives what is
// live, key by key.
func TestBase(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := openInn(t, seed, nil)
			n.apply(1, 2, 30, true)
			n.live(150)
			before := n.state(1)
			h := n.advanced(n.instant(0.4))
			for at := range h.Offset { // whose those are is not scanned any more
				delete(before, fmt.Sprintf("record %d", at))
			}
			if lines := differ(before, n.state(1)); h.Offset == 0 || len(lines) > 0 {
				t.Fatalf("horizon %+v; live:\n%s", h, strings.Join(lines, "\n"))
			}
			s, err := n.s.rebuilds.Base(t.Context(), 1)
			if err != nil || s.Epoch == 0 || s.Horizon != h.Offset || s.Advancing {
				t.Fatalf("%+v, %v", s, err)
			}
			n.same("after the first advance")
			n.live(60)
			again := n.advanced(n.instant(0.8))
			if again.Offset <= h.Offset {
				t.Fatalf("from %d to %d", h.Offset, again.Offset)
			}
			n.same("after the second")
			n.live(60)
			n.same("and later")
			if back := n.advanced(n.instant(0.1)); back != again {
				t.Errorf("led back to %+v", back)
			}
			n.gone(s.Epoch)
		})
	}
}
