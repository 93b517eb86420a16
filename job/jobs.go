package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"kith/clock"
	"kith/fault"
	"kith/kv"
)

// keepEnded is how long an ended job can still be seen.
const keepEnded = 7 * 24 * time.Hour

// Kind is one kind of long work.
type Kind struct {
	Name string
	// Run does the work from h's cursor on. It returns nil when all is done,
	// and the context's error when the context ends. Any other error fails
	// the job, but for fault.Unavailable, after which it is tried again from
	// the last saved cursor, later and later.
	Run func(ctx context.Context, h *Handle) error
}

// Jobs owns the jobs of a server. It is safe for concurrent use.
type Jobs struct {
	db     kv.DB
	clock  clock.Clock
	logger *slog.Logger
	kinds  map[string]Kind

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before it
	running map[string]context.CancelFunc
	wg      sync.WaitGroup
}

// New returns the jobs kept in db. kinds are all the kinds there are.
func New(db kv.DB, clk clock.Clock, logger *slog.Logger, kinds ...Kind) *Jobs {
	j := &Jobs{db: db, clock: clk, logger: logger, kinds: map[string]Kind{}, running: map[string]context.CancelFunc{}}
	for _, k := range kinds {
		j.kinds[k.Name] = k
	}
	return j
}

// Run resumes the jobs that were running and then runs those that are started,
// until ctx ends; it returns when all have stopped.
func (j *Jobs) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	j.mu.Lock()
	j.ctx = ctx // before the list is read: what is started meanwhile is launched by Start
	j.mu.Unlock()
	err := j.resume(ctx)
	if err == nil {
		<-ctx.Done()
	}
	stop()
	j.mu.Lock()
	j.ctx = nil // nothing is launched any more
	j.mu.Unlock()
	j.wg.Wait()
	return err
}

// resume launches the jobs that were running, and forgets those that ended long
// ago. That ctx ends meanwhile is no error.
func (j *Jobs) resume(ctx context.Context) error {
	all, err := j.List(ctx)
	for _, s := range all {
		switch {
		case s.State == Running:
			j.launch(s.ID)
		case err == nil && s.State.ended() && j.clock.Now().Sub(s.Updated) > keepEnded:
			err = j.forget(ctx, s)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Start makes a job durable and runs it. The id is the caller's and names the
// work: where a job of that id runs already it goes on and nothing is started;
// one that has ended begins anew with these parameters.
func (j *Jobs) Start(ctx context.Context, kind, id string, params any) error {
	if _, ok := j.kinds[kind]; !ok {
		return fault.New(fault.Invalid, "there is no job of the kind %q", kind)
	}
	raw, err := json.Marshal(params)
	if err != nil {
		return fmt.Errorf("parameters of job %s: %w", id, err)
	}
	now := j.clock.Now()
	err = j.update(ctx, id, func(s *Status) error {
		if s.ID != "" && !s.State.ended() {
			return nil
		}
		*s = Status{ID: id, Kind: kind, Params: raw, State: Running, Run: s.Run + 1, Created: now}
		return nil
	})
	if err != nil {
		return err
	}
	j.launch(id)
	return nil
}

// Pause stops a job where it is until Resume.
func (j *Jobs) Pause(ctx context.Context, id string) error { return j.set(ctx, id, Paused) }

// Cancel stops a job for good. What it has done stays done.
func (j *Jobs) Cancel(ctx context.Context, id string) error { return j.set(ctx, id, Canceled) }

// Resume lets a paused job go on.
func (j *Jobs) Resume(ctx context.Context, id string) error {
	if err := j.set(ctx, id, Running); err != nil {
		return err
	}
	j.launch(id)
	return nil
}

// Get returns a job, or fault.NotFound.
func (j *Jobs) Get(ctx context.Context, id string) (Status, error) {
	var s Status
	err := j.db.View(ctx, func(r kv.Reader) error {
		value, err := r.Get(jobKey(id))
		if err != nil {
			return err
		}
		if value == nil {
			return errNoJob(id)
		}
		s, err = decode(value)
		return err
	})
	return s, err
}

// List returns all jobs by id, those that ended in the last week too.
func (j *Jobs) List(ctx context.Context) ([]Status, error) {
	var all []Status
	err := j.db.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix(kv.WorkspaceKey(JobRoom))) {
			if err != nil {
				return err
			}
			s, err := decode(p.Value)
			if err != nil {
				return err
			}
			all = append(all, s)
		}
		return nil
	})
	return all, err
}

// set moves a job to a state. An ended job stays as it is: fault.Conflict.
func (j *Jobs) set(ctx context.Context, id string, to State) error {
	err := j.update(ctx, id, func(s *Status) error {
		switch {
		case s.ID == "":
			return errNoJob(id)
		case s.State.ended():
			return fault.New(fault.Conflict, "job %s is %s already", id, s.State)
		}
		s.State = to
		return nil
	})
	if err == nil && to != Running {
		j.mu.Lock()
		if stop := j.running[id]; stop != nil {
			stop()
		}
		j.mu.Unlock()
	}
	return err
}

// update changes a job's record; fn sees a zero Status when there is none, and
// leaves it so when there is to be none.
func (j *Jobs) update(ctx context.Context, id string, fn func(*Status) error) error {
	return j.db.Update(ctx, fence(id), kv.Durable, func(tx kv.Tx) error {
		value, err := tx.Get(jobKey(id))
		if err != nil {
			return err
		}
		var s Status
		if value != nil {
			if s, err = decode(value); err != nil {
				return err
			}
		}
		if err := fn(&s); err != nil || s.ID == "" {
			return err
		}
		s.Updated = j.clock.Now()
		if value, err = encode(s); err != nil {
			return err
		}
		return tx.Set(jobKey(id), value)
	})
}

// forget removes an ended job, unless it has been started anew meanwhile.
func (j *Jobs) forget(ctx context.Context, ended Status) error {
	return j.db.Update(ctx, fence(ended.ID), kv.Lazy, func(tx kv.Tx) error {
		value, err := tx.Get(jobKey(ended.ID))
		if err != nil || value == nil {
			return err
		}
		if s, err := decode(value); err != nil || s.Run != ended.Run {
			return err
		}
		return tx.Delete(jobKey(ended.ID))
	})
}

// launch gives a job its goroutine, if Run is under way and it has none.
func (j *Jobs) launch(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.ctx == nil || j.running[id] != nil {
		return
	}
	ctx, stop := context.WithCancel(j.ctx)
	j.running[id] = stop
	j.wg.Go(func() {
		defer stop()
		j.run(ctx, id)
	})
}

// run works on a job until it stands.
func (j *Jobs) run(ctx context.Context, id string) {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := j.attempt(ctx, id)
		if fault.Is(err, fault.Unavailable) && ctx.Err() == nil {
			j.logger.Warn("job waits", "job", id, "error", err, "wait", wait)
			reached, stop := j.clock.Until(j.clock.Now().Add(wait))
			select {
			case <-reached:
			case <-ctx.Done():
			}
			stop()
			if ctx.Err() == nil {
				continue
			}
		}
		break
	}
	// It may have been started or resumed again while it was ending.
	j.mu.Lock()
	delete(j.running, id)
	j.mu.Unlock()
	if s, err := j.Get(context.WithoutCancel(ctx), id); err == nil && s.State == Running {
		j.launch(id)
	}
}

// attempt runs a job's kind once and records how it ended.
func (j *Jobs) attempt(ctx context.Context, id string) error {
	s, err := j.Get(ctx, id)
	if err != nil || s.State != Running {
		return err
	}
	err = j.work(ctx, &Handle{jobs: j, status: s})
	if errors.Is(err, errStopped) {
		return nil // whoever stopped it has said what it is now
	}
	if err != nil && (ctx.Err() != nil || fault.Is(err, fault.Unavailable)) {
		return err
	}
	end := Finished
	if err != nil {
		end = Failed
		j.logger.Error("job failed", "job", id, "error", err)
	}
	return j.update(context.WithoutCancel(ctx), id, func(now *Status) error {
		if !s.goesOn(now) {
			return nil
		}
		now.State = end
		if err != nil {
			now.Error = err.Error()
		}
		return nil
	})
}

// work hands a job to its kind. A defect there fails the job and nothing else:
// a server that fell over it would meet it again at its next start.
func (j *Jobs) work(ctx context.Context, h *Handle) (err error) {
	kind, ok := j.kinds[h.status.Kind]
	if !ok {
		return fault.New(fault.Internal, "this version of kith does not know jobs of the kind %q", h.status.Kind)
	}
	defer func() {
		if p := recover(); p != nil {
			j.logger.Error("a job panicked", "job", h.ID(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "a defect in jobs of the kind %q: %v", kind.Name, p)
		}
	}()
	return kind.Run(ctx, h)
}

// Handle is a running job in the hands of its kind.
type Handle struct {
	jobs   *Jobs
	status Status
}

// ID returns the job's id.
func (h *Handle) ID() string { return h.status.ID }

// Params decodes the job's parameters into v.
func (h *Handle) Params(v any) error {
	if err := json.Unmarshal(h.status.Params, v); err != nil {
		return fmt.Errorf("parameters of job %s: %w", h.status.ID, err)
	}
	return nil
}

// Cursor returns what was saved last, or nil.
func (h *Handle) Cursor() []byte { return h.status.Cursor }

// errStopped ends a Run whose job was paused or canceled meanwhile.
var errStopped = errors.New("the job was stopped")

// Save makes the cursor and the progress durable. It fails once the job has
// been paused or canceled, also when it has been started anew since; Run then
// returns that error.
func (h *Handle) Save(ctx context.Context, cursor []byte, done, total uint64) error {
	return h.jobs.update(ctx, h.status.ID, func(s *Status) error {
		if !h.status.goesOn(s) {
			return errStopped
		}
		s.Cursor, s.Done, s.Total = cursor, done, total
		h.status.Cursor, h.status.Done, h.status.Total = cursor, done, total
		return nil
	})
}

func errNoJob(id string) error { return fault.New(fault.NotFound, "there is no job %q", id) }
