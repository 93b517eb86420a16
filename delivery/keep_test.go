package delivery_test

import (
	"strings"
	"testing"
	"time"

	"kith/delivery"
	"kith/kv"
)

// TestNeedsAndRetention asks what a destination may still read, and has its dead
// letters go with the retention.
func TestNeedsAndRetention(t *testing.T) {
	w := newWorld(t)
	w.retention = 10 * 24 * time.Hour
	s := w.sink()
	s.answers(func(r request) (int, map[string]string) {
		switch {
		case strings.Contains(r.events[0], "bad"):
			return 400, nil
		case strings.Contains(r.events[0], "later"):
			return 503, nil
		}
		return 200, nil
	})
	w.destination("dst", "webhook", s.settings(""))
	w.run()
	w.append(1, w.event(1, `{}`), w.event(2, `{"bad":1}`), w.event(3, `{"later":1}`), w.event(4, `{}`))
	w.settle()
	now := start.UnixMilli()
	needs := func(deadBefore int64) map[delivery.NeedReason]int {
		t.Helper()
		list, err := w.d.Needs(t.Context(), 1, deadBefore)
		if err != nil {
			t.Fatal(err)
		}
		found := map[delivery.NeedReason]int{}
		for _, n := range list {
			found[n.Why] = int(n.Offset)
		}
		return found
	}
	if got := needs(0); len(got) != 2 || got[delivery.NeedDead] != 1 || got[delivery.NeedWaiting] != 2 {
		t.Errorf("needs %v, want the dead letter 1 and what waits, 2", got)
	}
	if got := needs(now + 1); len(got) != 1 || got[delivery.NeedWaiting] != 2 {
		t.Errorf("without older dead letters, needs %v, want what waits, 2", got)
	}
	w.advance(9 * 24 * time.Hour) // by now the one that waited is dead, too
	w.counts("dst", 2, 0, 2, 0)
	w.append(1, w.event(5, `{"bad":2}`))
	w.settle()
	w.advance(30 * time.Hour)
	w.append(1, w.event(6, `{}`)) // which wakes the worker
	w.settle()
	w.counts("dst", 3, 0, 1, 0)
	for _, kind := range []byte{'x', 'i'} {
		if n, _ := w.stored(kv.WorkspaceKey('d').String("dst").Byte(kind)); n != 1 {
			t.Errorf("%d pairs of kind %c after ten days, want that of the youngest letter", n, kind)
		}
	}
	if got := needs(0); len(got) != 1 || got[delivery.NeedDead] != 4 {
		t.Errorf("needs %v, want the dead letter 4", got)
	}
	s.status(200)
	if n, err := w.d.ResendAll(t.Context(), "dst"); n != 1 || err != nil {
		t.Fatalf("sent again %d, %v", n, err)
	}
	w.finish()
	if got := needs(0); len(got) != 0 {
		t.Errorf("needs %v although everything has arrived", got)
	}
}
