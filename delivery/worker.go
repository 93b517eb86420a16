package delivery

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"kith/commitlog"
	"kith/workspace"
)

// worker owns the delivery to one destination. Others leave what they want in
// its mailbox and nudge it; only its goroutine touches the state of delivery,
// which is a session.
type worker struct {
	d    *Delivery
	id   string
	wake chan struct{} // holds one nudge

	mu       sync.Mutex
	snapshot *workspace.Snapshot // the newest; without the destination the worker ends
	resends  []*resendRequest
	settles  []*settleRequest
	status   Status
	ended    bool
}

// settleRequest asks to be told when all before the offsets is done with.
type settleRequest struct {
	upTo      map[uint32]commitlog.Offset
	done      chan struct{}
	abandoned atomic.Bool // nobody waits any more
}

// resendRequest asks to send dead letters again.
type resendRequest struct {
	ids    []deadID // none: the oldest
	after  *deadID  // of these only those that died after this one; nil: all
	until  int64    // and no later than this, in milliseconds; zero: all
	answer chan resendAnswer
}

type resendAnswer struct {
	n    int
	more *deadID // the last one, when others come after it
	err  error
}

func newWorker(d *Delivery, id string, snap *workspace.Snapshot) *worker {
	return &worker{d: d, id: id, wake: make(chan struct{}, 1), snapshot: snap, status: Status{Destination: id}}
}

// nudge makes the worker look around. It never waits.
func (w *worker) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *worker) configure(snap *workspace.Snapshot) {
	w.mu.Lock()
	w.snapshot = snap
	w.mu.Unlock()
	w.nudge()
}

func (w *worker) settle(s *settleRequest) {
	w.mu.Lock()
	ended := w.ended
	if !ended {
		w.settles = append(w.settles, s)
	}
	w.mu.Unlock()
	if ended {
		close(s.done)
	}
	w.nudge()
}

func (w *worker) resend(r *resendRequest) {
	w.mu.Lock()
	ended := w.ended
	if !ended {
		w.resends = append(w.resends, r)
	}
	w.mu.Unlock()
	if ended {
		r.answer <- resendAnswer{err: errStopped()}
	}
	w.nudge()
}

// mail takes what lies in the mailbox.
func (w *worker) mail() (snap *workspace.Snapshot, resends []*resendRequest, settles []*settleRequest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	snap, resends, settles = w.snapshot, w.resends, w.settles
	w.resends, w.settles = nil, nil
	return snap, resends, settles
}

// Status returns how the destination was doing when its worker last looked.
func (w *worker) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

func (w *worker) publish(s Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = s
}

// pause is how long the worker waits after something of ours has failed: the
// store, a log, the archive.
const pause = time.Second

// run delivers until ctx is done or the destination is removed. When the store
// fails it begins again from what was committed.
func (w *worker) run(ctx context.Context) error {
	defer w.end()
	for {
		removed, err := runSession(ctx, w)
		switch {
		case removed:
			if err := forget(context.WithoutCancel(ctx), w.d.cfg.DB, w.id); err != nil {
				w.d.cfg.Logger.Warn("what is kept of a removed destination could not be deleted; the next start tries again",
					"destination", w.id, "err", err)
			}
			return nil
		case ctx.Err() != nil:
			return nil
		}
		w.d.cfg.Logger.Error("delivery begins again from what was committed", "destination", w.id, "err", err)
		w.mu.Lock()
		w.status.Problem = "the store failed: " + err.Error()
		w.mu.Unlock()
		again, stop := w.d.cfg.Clock.Until(w.d.cfg.Clock.Now().Add(pause))
		select {
		case <-again:
		case <-ctx.Done():
		}
		stop()
	}
}

// end answers everybody who still waits.
func (w *worker) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	_, resends, settles := w.mail()
	for _, r := range resends {
		r.answer <- resendAnswer{err: errStopped()}
	}
	for _, s := range settles {
		close(s.done)
	}
}
