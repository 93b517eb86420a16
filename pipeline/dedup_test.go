package pipeline_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

const day = 24 * time.Hour

// verdicts returns, of all events in the raw log, which record each repeats;
// -1 for those that count.
func (w *world) verdicts() (all []int) {
	w.t.Helper()
	for at := commitlog.Offset(0); at < w.raw.End(); at++ {
		e, err := w.archive.Event(context.Background(), 1, at)
		if err != nil {
			w.t.Fatal(err)
		}
		switch {
		case e.Head.Kind != event.KindEvent:
		case e.Verdict.Code == pipeline.Duplicate:
			all = append(all, int(e.Verdict.Of))
		case e.Verdict.Code == pipeline.Admitted:
			all = append(all, -1)
		default:
			w.t.Errorf("record %d: %+v", at, e.Verdict)
		}
	}
	return all
}

func (w *world) expect(want ...int) {
	w.t.Helper()
	if got := w.verdicts(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("the records repeat %v, want %v", got, want)
	}
}

// TestDedupWindow sends ids again just within and just beyond the window, with
// and without a restart, and in one batch that spans it.
func TestDedupWindow(t *testing.T) {
	for _, restart := range []bool{false, true} {
		w := newWorld(t, memkv.New(), start)
		w.run(echo{})
		again := func() {
			if restart {
				w.stop()
				w = newWorld(t, w.db.(*memkv.DB).Crash(0), w.clock.Now())
				w.run(echo{})
			}
		}
		w.passed(w.send("a", "b", "a"))
		again()
		w.clock.Set(start.Add(30*day - time.Millisecond))
		w.passed(w.send("a", "c"))
		again()
		w.clock.Set(start.Add(30 * day))
		w.passed(w.send("a", "b", "a", "c"))
		again()
		w.clock.Set(start.Add(60*day - time.Millisecond))
		w.passed(w.send("a", "c"))
		w.expect(-1, -1, 0, 0, -1, -1, -1, 5, 4, 5, -1)
		if got := w.find("a"); got != "5 true" {
			t.Errorf("the newest record with the id is found at %s, want 5", got)
		}
		w.clock.Set(start.Add(200 * day))
		w.passed(w.send("d"))
		w.stop()
	}

	w := newWorld(t, memkv.New(), start)
	w.send("a", "b")
	w.clock.Set(start.Add(29 * day))
	w.send("a")
	w.clock.Set(start.Add(31 * day))
	last := w.send("a", "b", "a")
	w.run(echo{}) // all of it is one batch
	w.passed(last)
	w.stop()
	w.expect(-1, -1, 0, -1, -1, 3)
}

func TestNoDedup(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.run(echo{})
	w.passed(w.send("a"))
	w.stop()
	w.window = 0
	w.run(echo{})
	w.passed(w.send("a", "b", "b"))
	w.stop()
	w.expect(-1, -1, -1, -1)
	if a, b := w.find("a"), w.find("b"); a != "0 true" || b != "0 false" {
		t.Errorf("found a at %s and b at %s, want a at 0 and no b, which came without dedup", a, b)
	}
	w.window = pipeline.DefaultDedupWindow
	w.run(echo{})
	w.passed(w.send("a", "b", "b"))
	w.stop()
	w.expect(-1, -1, -1, -1, 0, -1, 5)
}

// TestDedupInAnyTransactions leads one history through stores that take much
// and little at once, run transactions twice and crash between them: the
// verdicts are those of a map.
func TestDedupInAnyTransactions(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	feed := func(w *world) (want []int) {
		random := rand.New(rand.NewPCG(seed, 1))
		type first struct {
			offset int
			at     time.Time
		}
		counted := map[string]first{}
		for range 60 {
			w.clock.Set(w.clock.Now().Add([]time.Duration{0, 1, time.Second, day, 4 * day, 5 * day, 29 * day, 70 * day}[random.IntN(8)]))
			var ids []string
			for range 1 + random.IntN(40) {
				id := fmt.Sprint("m", random.IntN(100))
				ids = append(ids, id)
				was, ok := counted[id]
				now := time.UnixMilli(w.clock.Now().UnixMilli()) // as precise as a record's At
				if ok && now.Sub(was.at) < 30*day {
					want = append(want, was.offset)
				} else {
					counted[id] = first{len(want), now}
					want = append(want, -1)
				}
			}
			w.send(ids...)
		}
		return want
	}
	pad := stage{handle: func(b *pipeline.Batch, r *pipeline.Record) error {
		return b.Tx.Set(b.Key('y').Uint64(uint64(r.Offset)), make([]byte, 1000))
	}}
	for name, db := range map[string]kv.DB{
		"plain":  memkv.New(),
		"rerun":  memkv.NewWith(memkv.Options{Rerun: func(kv.Fence) bool { return true }}),
		"narrow": narrow{memkv.New(), 40 << 10},
	} {
		w := newWorld(t, db, start)
		want := feed(w)
		last := w.raw.End() - 1
		for stops := 0; w.loop == nil || w.loop.Position().Next <= last; stops++ {
			w.run(echo{}, pad)
			if stops > 20 {
				w.passed(last)
			} else {
				next := w.loop.Position().Next
				w.passed(min(next+commitlog.Offset(rand.IntN(100)), last))
			}
			w.stop()
		}
		if got := w.verdicts(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: the records repeat %v, want %v", name, got, want)
		}
	}
}
