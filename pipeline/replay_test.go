package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kith/archive"
	"kith/commitlog"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// replay starts a replay of the world's past into an epoch.
func (w *world) replay(epoch uint32, past pipeline.Past, stages ...pipeline.Stage) (loop *pipeline.Loop, end func() error) {
	w.t.Helper()
	if past == nil {
		past = w.archive.Past(1, w.loop.Passed)
	}
	loop, err := pipeline.NewLoop(context.Background(), pipeline.Config{
		DB: w.db, Snapshots: snapshots{}, Stages: stages, Recorder: w.archive, Space: 1, Epoch: epoch,
		Logger: slog.New(slog.DiscardHandler), Past: past,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	return loop, func() error {
		cancel()
		return <-ended
	}
}

// state returns what an epoch holds, without the epoch in its keys.
func (w *world) state(epoch uint32) map[string]string {
	w.t.Helper()
	all := map[string]string{}
	stem := kv.EpochKey(1, epoch, 0)
	stem = stem[:len(stem)-1]
	err := w.db.View(context.Background(), func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			if p.Key[len(stem)] == archive.ProfileRoom {
				continue // one value a batch, and batches are cut by chance
			}
			all[fmt.Sprintf("%q", p.Key[len(stem):])] = fmt.Sprintf("%x", p.Value)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// A replay gives the state that the live loop has made, timers and verdicts
// among it, and nothing leaves it.
func TestReplay(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.run(echo{})
	w.passed(w.send("a", "b", "a", "wake+2s", "panic 1", "chain+1s"))
	w.clock.Set(start.Add(3 * time.Second))
	w.passed(w.raw.End()) // the tick
	last := w.send("c", "b", "wake+1h")
	w.passed(last)
	outputs := w.outputs()

	loop, end := w.replay(1, nil, echo{})
	if err := loop.Passed(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	// It goes on with what comes.
	w.clock.Set(start.Add(time.Minute))
	last = w.send("d", "a")
	w.passed(last)
	if err := loop.Passed(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(w.state(0), w.state(1)); diff != "" {
		t.Errorf("the replay made something else (-live +replay):\n%s", diff)
	}
	if diff := cmp.Diff(append(outputs, "1m0s event d"), w.outputs()); diff != "" {
		t.Errorf("something left the replay (-want +got):\n%s", diff)
	}
	w.stop()
}

// Taking over loses no record and tells none twice, while records keep coming.
func TestTakeOver(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.run(echo{})
	w.passed(w.send("a", "b", "wake+1h"))
	old := w.loop
	replay, end := w.replay(1, nil, echo{})

	sent := make(chan commitlog.Offset)
	go func() {
		var last commitlog.Offset
		for i := range 300 {
			last = w.send(fmt.Sprintf("m%d", i), "a")
		}
		sent <- last
	}()
	flipped := 0
	next, err := pipeline.TakeOver(t.Context(), old, replay, func(tx kv.Tx) error {
		flipped++
		return tx.Set(kv.Key("live"), []byte{1})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if flipped != 1 || next.Epoch() != 1 {
		t.Fatalf("flipped %d times, the epoch is %d", flipped, next.Epoch())
	}
	if err := old.Do(t.Context(), nil); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the old loop took work: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- next.Run(ctx) }()
	last := <-sent
	if err := old.Passed(t.Context(), last); err != nil { // who waited at the old loop waits at the new one
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, line := range w.outputs() {
		seen[line]++
	}
	for i := range 300 {
		if n := seen[fmt.Sprintf("0s event m%d", i)]; n != 1 {
			t.Errorf("m%d left %d times", i, n)
		}
	}
	if seen["0s event a"] != 1 || seen["0s 1 "] != 1 {
		t.Errorf("a left %d times, the swap was told %d times", seen["0s event a"], seen["0s 1 "])
	}
	if got := w.state(1)[`"z"`]; got != fmt.Sprintf("%016x", 303) {
		t.Errorf("the new epoch has counted %s events, want 303", got)
	}
}

// When the flip fails, the live loop goes on as if nothing had been.
func TestTakeOverFails(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.run(echo{})
	w.passed(w.send("a"))
	replay, end := w.replay(1, nil, echo{})
	broken := errors.New("no")
	if _, err := pipeline.TakeOver(t.Context(), w.loop, replay, func(kv.Tx) error { return broken }); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	w.passed(w.send("b"))
	if err := replay.Passed(t.Context(), w.raw.End()-1); err != nil {
		t.Fatal(err)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if diff := cmp.Diff([]string{"0s event a", "0s event b"}, w.outputs()); diff != "" {
		t.Error(diff)
	}
}

// A past that ends ends the replay.
func TestReplayEnds(t *testing.T) {
	w := newWorld(t, memkv.New(), start)
	w.run(echo{})
	w.passed(w.send("a", "b"))
	loop, _ := w.replay(1, short{w.archive}, echo{})
	if err := loop.Passed(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if diff := cmp.Diff(w.state(0), w.state(1)); diff != "" {
		t.Error(diff)
	}
}

type short struct{ archive *archive.Archive }

func (s short) Follow(ctx context.Context, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (commitlog.Offset, error) {
	return s.archive.Follow(ctx, 1, from, maxBytes, fn)
}

func (short) Wait(context.Context, commitlog.Offset) error { return pipeline.ErrPastEnds }
