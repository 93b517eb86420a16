package job_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"testing"
	"time"

	"kith/clock"
	"kith/fault"
	"kith/job"
	"kith/kv"
	"kith/kv/memkv"
)

// counting counts to its parameter, one saved step at a time; gate lets it
// take a step. It tells its steps, and zero when it has been stopped.
func counting(gate <-chan struct{}, steps chan<- uint64) job.Kind {
	return job.Kind{Name: "count", Run: func(ctx context.Context, h *job.Handle) error {
		var to uint64
		if err := h.Params(&to); err != nil {
			return err
		}
		n := uint64(0)
		if c := h.Cursor(); c != nil {
			n = binary.BigEndian.Uint64(c)
		}
		for n < to {
			select {
			case <-gate:
			case <-ctx.Done():
				steps <- 0
				return ctx.Err()
			}
			n++
			if err := h.Save(ctx, binary.BigEndian.AppendUint64(nil, n), n, to); err != nil {
				return err
			}
			steps <- n
		}
		return nil
	}}
}

func run(t *testing.T, db kv.DB, kinds ...job.Kind) (*job.Jobs, func()) {
	t.Helper()
	jobs := job.New(db, clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), slog.New(slog.DiscardHandler), kinds...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- jobs.Run(ctx) }()
	return jobs, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// until waits for a job to reach a state.
func until(t *testing.T, jobs *job.Jobs, id string, want job.State) job.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		s, err := jobs.Get(ctx, id)
		if err != nil && !fault.Is(err, fault.NotFound) {
			t.Fatal(err)
		}
		if s.State == want {
			return s
		}
		if ctx.Err() != nil {
			t.Fatalf("job %s is %q, want %q", id, s.State, want)
		}
	}
}

func TestGoesOnAfterRestart(t *testing.T) {
	db := memkv.New()
	gate, steps := make(chan struct{}), make(chan uint64, 10)
	jobs, stop := run(t, db, counting(gate, steps))
	if err := jobs.Start(t.Context(), "count", "a", 3); err != nil {
		t.Fatal(err)
	}
	gate <- struct{}{}
	<-steps
	stop()
	<-steps

	jobs, stop = run(t, db.Crash(0), counting(gate, steps))
	defer stop()
	gate <- struct{}{}
	if n := <-steps; n != 2 {
		t.Errorf("the job went on at step %d, want 2", n)
	}
	gate <- struct{}{}
	if s := until(t, jobs, "a", job.Finished); s.Done != 3 || s.Total != 3 {
		t.Errorf("progress at the end: %d of %d", s.Done, s.Total)
	}
}

func TestPauseResumeCancel(t *testing.T) {
	gate, steps := make(chan struct{}), make(chan uint64, 10)
	jobs, stop := run(t, memkv.New(), counting(gate, steps))
	defer stop()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(jobs.Start(ctx, "count", "a", 100))
	gate <- struct{}{}
	<-steps
	must(jobs.Pause(ctx, "a"))
	until(t, jobs, "a", job.Paused)
	<-steps
	must(jobs.Resume(ctx, "a"))
	gate <- struct{}{}
	if n := <-steps; n != 2 {
		t.Errorf("resumed at step %d, want 2", n)
	}
	must(jobs.Cancel(ctx, "a"))
	until(t, jobs, "a", job.Canceled)
	<-steps
	if err := jobs.Resume(ctx, "a"); !fault.Is(err, fault.Conflict) {
		t.Errorf("a canceled job was resumed: %v", err)
	}
	// Started again under the same id, it begins anew.
	must(jobs.Start(ctx, "count", "a", 1))
	gate <- struct{}{}
	if n := <-steps; n != 1 {
		t.Errorf("began anew at step %d, want 1", n)
	}
	until(t, jobs, "a", job.Finished)
}

func TestFailure(t *testing.T) {
	broken := job.Kind{Name: "broken", Run: func(context.Context, *job.Handle) error { return errors.New("no such table") }}
	jobs, stop := run(t, memkv.New(), broken)
	defer stop()
	if err := jobs.Start(t.Context(), "broken", "b", nil); err != nil {
		t.Fatal(err)
	}
	if s := until(t, jobs, "b", job.Failed); s.Error != "no such table" {
		t.Errorf("the reason is %q", s.Error)
	}
	if err := jobs.Start(t.Context(), "unknown", "c", nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a job of no kind was started: %v", err)
	}
}
