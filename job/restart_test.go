package job_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/clock"
	"kith/job"
	"kith/kv"
	"kith/kv/memkv"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestStartedAnewWhileTheOldOneEnds starts a job again before the canceled run
// of it has noticed: nothing that the old run still does may touch the new one.
func TestStartedAnewWhileTheOldOneEnds(t *testing.T) {
	ctx := t.Context()
	entered, release := make(chan struct{}), make(chan struct{})
	saved := make(chan error, 1)
	got := make(chan string, 1)
	jobs, stop := run(t, memkv.New(), job.Kind{Name: "slow", Run: func(_ context.Context, h *job.Handle) error {
		var name string
		if err := h.Params(&name); err != nil {
			return err
		}
		if name == "old" {
			close(entered)
			<-release // deaf to its context
			saved <- h.Save(ctx, []byte("of the old"), 9, 9)
			return nil
		}
		got <- name + " from " + string(h.Cursor())
		return nil
	}})
	defer stop()
	if err := jobs.Start(ctx, "slow", "a", "old"); err != nil {
		t.Fatal(err)
	}
	<-entered
	if err := jobs.Cancel(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := jobs.Start(ctx, "slow", "a", "new"); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := <-saved; err == nil {
		t.Error("the canceled run saved its cursor into the job that was started after it")
	}
	s := until(t, jobs, "a", job.Finished)
	select {
	case how := <-got:
		if how != "new from " {
			t.Errorf("the new run began as %q", how)
		}
	default:
		t.Errorf("the job is finished (%s), but the new run has done nothing", s.Params)
	}
}

// hooked is a store that calls after once, when an Update has committed.
type hooked struct {
	kv.DB
	mu    sync.Mutex
	after func()
}

func (h *hooked) Update(ctx context.Context, f kv.Fence, d kv.Durability, fn func(kv.Tx) error) error {
	err := h.DB.Update(ctx, f, d, fn)
	h.mu.Lock()
	after := h.after
	h.after = nil
	h.mu.Unlock()
	if after != nil {
		after()
	}
	return err
}

// TestResumedWhileItStops pauses and resumes a job so fast that the run which
// met the pause ends when the job is to run again.
func TestResumedWhileItStops(t *testing.T) {
	ctx := t.Context()
	db := &hooked{DB: memkv.New()}
	entered, gate, stopped, end := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	first := true
	jobs, stop := run(t, db, job.Kind{Name: "k", Run: func(_ context.Context, h *job.Handle) error {
		if !first {
			return nil
		}
		first = false
		close(entered)
		<-gate
		err := h.Save(ctx, nil, 1, 2)
		close(stopped)
		<-end
		return err
	}})
	defer stop()
	if err := jobs.Start(ctx, "k", "a", nil); err != nil {
		t.Fatal(err)
	}
	<-entered
	db.mu.Lock()
	db.after = func() { // the pause is in the store, the run has not been told
		close(gate)
		<-stopped
		if err := jobs.Resume(ctx, "a"); err != nil {
			t.Error(err)
		}
		close(end)
		until(t, jobs, "a", job.Finished)
	}
	db.mu.Unlock()
	if err := jobs.Pause(ctx, "a"); err != nil {
		t.Fatal(err)
	}
}

// nudged is a clock that does something once, when it is asked for the time.
type nudged struct {
	*clock.Manual
	once sync.Once
	do   func()
}

func (n *nudged) Now() time.Time {
	n.once.Do(n.do)
	return n.Manual.Now()
}

// TestStartedAgainWhileItIsForgotten starts a job that ended long ago at the
// moment in which the next Run forgets it.
func TestStartedAgainWhileItIsForgotten(t *testing.T) {
	ctx := t.Context()
	db := memkv.New()
	kind := func(result error) job.Kind {
		return job.Kind{Name: "k", Run: func(context.Context, *job.Handle) error { return result }}
	}
	jobs, stop := run(t, db, kind(errors.New("no")))
	if err := jobs.Start(ctx, "k", "a", nil); err != nil {
		t.Fatal(err)
	}
	until(t, jobs, "a", job.Failed)
	stop()
	idle := job.New(db, clock.NewManual(began), slog.New(slog.DiscardHandler), kind(nil))
	if err := idle.Start(ctx, "k", "b", nil); err != nil {
		t.Fatal(err)
	}

	later := clock.NewManual(began.Add(30 * 24 * time.Hour))
	clk := &nudged{Manual: later}
	other := job.New(db, later, slog.New(slog.DiscardHandler), kind(nil)) // only writes: it does not run
	clk.do = func() {
		if err := other.Start(ctx, "k", "a", nil); err != nil {
			t.Error(err)
		}
	}
	again := job.New(db, clk, slog.New(slog.DiscardHandler), kind(nil))
	runCtx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- again.Run(runCtx) }()
	until(t, other, "b", job.Finished) // comes behind "a" in the list
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if s, err := other.Get(ctx, "a"); err != nil || s.State != job.Running {
		t.Errorf("the job that was started meanwhile is %q, %v", s.State, err)
	}
}

// TestUnknownKind has a job left behind by a binary that knew its kind.
func TestUnknownKind(t *testing.T) {
	db := memkv.New()
	old := job.New(db, clock.NewManual(began), slog.New(slog.DiscardHandler), job.Kind{Name: "of old"})
	if err := old.Start(t.Context(), "of old", "a", nil); err != nil {
		t.Fatal(err)
	}
	jobs, stop := run(t, db)
	defer stop()
	if s := until(t, jobs, "a", job.Failed); !strings.Contains(s.Error, "of old") {
		t.Errorf("the reason does not name the kind: %q", s.Error)
	}
}

// TestPanic has a defect in a kind fail the job and nothing else: after the
// restart of the server it would be met again.
func TestPanic(t *testing.T) {
	jobs, stop := run(t, memkv.New(), job.Kind{Name: "k", Run: func(context.Context, *job.Handle) error { panic("a defect") }})
	defer stop()
	if err := jobs.Start(t.Context(), "k", "a", nil); err != nil {
		t.Fatal(err)
	}
	if s := until(t, jobs, "a", job.Failed); !strings.Contains(s.Error, "a defect") {
		t.Errorf("the reason is %q", s.Error)
	}
}
