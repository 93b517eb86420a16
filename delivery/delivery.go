package delivery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
	"kith/workspace"
)

// Delivery runs the workers of all destinations. Its methods are safe for
// concurrent use.
type Delivery struct {
	cfg     Config
	random  sync.Mutex    // guards cfg.Random
	running chan struct{} // closed once Run has begun

	mu      sync.Mutex
	group   *errgroup.Group // of the workers and feeds; nil while Run is not running
	ctx     context.Context // of the group
	number  uint64          // of the snapshot that was applied last
	begun   map[string]bool // destinations that Begin has seen
	workers map[string]*worker
	feeds   map[uint32]*feed
}

// New returns a delivery that does nothing until Run.
func New(cfg Config) *Delivery {
	cfg.Limits = cfg.Limits.withDefaults()
	return &Delivery{cfg: cfg, running: make(chan struct{}), begun: map[string]bool{}, workers: map[string]*worker{}, feeds: map[uint32]*feed{}}
}

// Run delivers until ctx is done. Then it lets requests under way end, for
// Limits.Grace at most, writes down what it knows, and returns nil. It is
// called once.
func (d *Delivery) Run(ctx context.Context) error {
	d.mu.Lock()
	d.group, d.ctx = errgroup.WithContext(ctx)
	group := d.group
	d.mu.Unlock()
	group.Go(func() error {
		defer d.stop()
		if err := d.sweep(d.ctx, d.cfg.Workspace.Current()); err != nil && ctx.Err() == nil {
			d.cfg.Logger.Warn("what is kept of removed destinations could not be deleted", "err", err)
		}
		snapshots := d.cfg.Workspace.Watch(d.ctx)
		for snap := d.cfg.Workspace.Current(); snap != nil; snap = <-snapshots {
			if err := d.apply(snap); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	close(d.running) // with one at work, others may join the group while it is waited for
	return group.Wait()
}

// stop keeps workers from being started once Run ends.
func (d *Delivery) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.group = nil
}

// apply makes the workers fit a snapshot: it starts those of new destinations
// and tells the others what has changed. An older snapshot than the one in
// force changes nothing.
func (d *Delivery) apply(snap *workspace.Snapshot) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.group == nil || d.ctx.Err() != nil {
		return errStopped()
	}
	if snap.Number < d.number {
		return nil
	}
	d.number = snap.Number
	for i := range snap.Spaces {
		if _, err := d.feedOf(snap.Spaces[i].Number); err != nil {
			return err
		}
	}
	for i := range snap.Destinations {
		dest := &snap.Destinations[i]
		if w := d.workers[dest.ID]; w != nil {
			w.configure(snap)
			continue
		}
		w := newWorker(d, dest.ID, snap)
		d.workers[dest.ID] = w
		ctx := d.ctx
		d.group.Go(func() error { return w.run(ctx) })
	}
	for id, w := range d.workers {
		if snap.Destination(id) == nil {
			delete(d.workers, id)
			w.configure(snap) // which ends it and deletes what it has kept
		}
	}
	return nil
}

// feedOf returns the feed of a space, and starts it when it is new. The caller
// holds mu.
func (d *Delivery) feedOf(space uint32) (*feed, error) {
	if f := d.feeds[space]; f != nil {
		return f, nil
	}
	log, err := d.cfg.Logs(space)
	if err != nil {
		return nil, fmt.Errorf("resolved log of space %d: %w", space, err)
	}
	f := newFeed(space, log)
	d.feeds[space] = f
	if d.group != nil {
		ctx := d.ctx
		d.group.Go(func() error {
			if why := f.follow(ctx); ctx.Err() == nil {
				d.cfg.Logger.Warn("the resolved log can no longer be followed", "space", space, "err", why)
			}
			return nil
		})
	}
	return f, nil
}

func (d *Delivery) feed(space uint32) (*feed, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.feedOf(space)
}

// Begin sets where destinations that are new in next begin: at the end of
// every log as it is now. It is called before next is in force, so that a new
// destination gets everything that is accepted once its maker knows of it. A
// destination that Begin has not seen begins when its worker starts.
func (d *Delivery) Begin(ctx context.Context, next *workspace.Snapshot) error {
	for i := range next.Destinations {
		id := next.Destinations[i].ID
		d.mu.Lock()
		known := d.workers[id] != nil
		d.begun[id] = true
		d.mu.Unlock()
		if known {
			continue
		}
		if err := d.begin(ctx, id, next); err != nil {
			return fmt.Errorf("begin destination %s: %w", id, err)
		}
	}
	return nil
}

// begin writes the cursors that a destination lacks: at the end of the logs for
// a new destination, at their beginning for a space that is newer than it.
func (d *Delivery) begin(ctx context.Context, id string, snap *workspace.Snapshot) error {
	ends := map[uint32]commitlog.Offset{}
	for i := range snap.Spaces {
		f, err := d.feed(snap.Spaces[i].Number)
		if err != nil {
			return err
		}
		ends[f.space] = f.log.End()
	}
	missing := func(r kv.Reader) (list []uint32, err error) {
		for _, space := range slices.Sorted(maps.Keys(ends)) {
			value, err := r.Get(cursorKey(id, space))
			if err != nil {
				return nil, err
			}
			if value == nil {
				list = append(list, space)
			}
		}
		return list, nil
	}
	complete := false
	err := d.cfg.DB.View(ctx, func(r kv.Reader) error {
		list, err := missing(r)
		complete = len(list) == 0
		return err
	})
	if err != nil || complete {
		return err
	}
	return d.cfg.DB.Update(ctx, Fence(id), kv.Durable, func(tx kv.Tx) error {
		list, err := missing(tx)
		if err != nil {
			return err
		}
		for _, space := range list {
			c := cursor{}
			if len(list) == len(ends) {
				c.base = ends[space]
			}
			c.frontier = c.base
			if err := tx.Set(cursorKey(id, space), c.encode()); err != nil {
				return err
			}
		}
		return nil
	})
}

// Settled waits until every destination has done with all outputs before the
// given offsets of the resolved logs, but for what waits for a retry that is
// due later than now and for destinations that send nothing (Status.Problem).
// Batches are sent without waiting for more. All of it is committed then. It
// applies the newest configuration first. Before Run it waits for it.
func (d *Delivery) Settled(ctx context.Context, upTo map[uint32]commitlog.Offset) error {
	select {
	case <-d.running:
	case <-ctx.Done():
		return errStopped()
	}
	if err := d.apply(d.cfg.Workspace.Current()); err != nil {
		return err
	}
	var waits []*settleRequest
	for _, w := range d.all() {
		s := &settleRequest{upTo: upTo, done: make(chan struct{})}
		w.settle(s)
		waits = append(waits, s)
	}
	for i, s := range waits {
		select {
		case <-s.done:
		case <-ctx.Done():
			for _, s := range waits[i:] {
				s.abandoned.Store(true)
			}
			return fault.New(fault.Unavailable, "destinations have not done with everything: %w", ctx.Err())
		}
	}
	return nil
}

// NextDue returns when the earliest retry is due.
func (d *Delivery) NextDue() (time.Time, bool) {
	var next time.Time
	for _, s := range d.Stats() {
		if !s.NextRetry.IsZero() && s.Problem == "" && (next.IsZero() || s.NextRetry.Before(next)) {
			next = s.NextRetry
		}
	}
	return next, !next.IsZero()
}

// Stats returns how each destination is doing, by id. There is none before Run.
func (d *Delivery) Stats() []Status {
	var list []Status
	for _, w := range d.all() {
		list = append(list, w.Status())
	}
	return list
}

// all returns the workers, by id.
func (d *Delivery) all() []*worker {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []*worker
	for _, id := range slices.Sorted(maps.Keys(d.workers)) {
		list = append(list, d.workers[id])
	}
	return list
}

func (d *Delivery) worker(id string) (*worker, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.group == nil {
		return nil, errStopped()
	}
	if w := d.workers[id]; w != nil {
		return w, nil
	}
	return nil, fault.New(fault.NotFound, "there is no destination %q", id)
}

// sweep deletes what is kept of destinations that are gone: those whose worker
// was not there to do it when they were removed.
func (d *Delivery) sweep(ctx context.Context, snap *workspace.Snapshot) error {
	kept, err := d.kept(ctx)
	if err != nil {
		return err
	}
	for _, id := range kept {
		d.mu.Lock()
		gone := snap.Destination(id) == nil && !d.begun[id]
		d.mu.Unlock()
		if gone {
			if err := forget(ctx, d.cfg.DB, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// kept returns the ids of all destinations of which something is kept.
func (d *Delivery) kept(ctx context.Context) (ids []string, err error) {
	room := kv.WorkspaceKey(Room)
	err = d.cfg.DB.View(ctx, func(r kv.Reader) error {
		next := kv.Range{From: room, To: kv.PrefixEnd(room), Limit: 1}
		for more := true; more; {
			more = false
			for pair, err := range r.Scan(next) {
				if err != nil {
					return err
				}
				parts := kv.PartsAfter(pair.Key, room)
				id := parts.String()
				ids = append(ids, id)
				next.From = kv.PrefixEnd(stemOf(id))
				more = next.From != nil
			}
		}
		return nil
	})
	return ids, err
}

// forget deletes everything that is kept of a destination.
func forget(ctx context.Context, db kv.DB, id string) error {
	const chunk = 10_000
	for {
		n := 0
		err := db.Update(ctx, Fence(id), kv.Lazy, func(tx kv.Tx) error {
			var keys [][]byte
			r := kv.Prefix(stemOf(id))
			r.Limit = chunk
			for pair, err := range tx.Scan(r) {
				if err != nil {
					return err
				}
				keys = append(keys, append([]byte{}, pair.Key...))
			}
			n = len(keys)
			for _, key := range keys {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || n < chunk {
			return err
		}
	}
}

func errStopped() error { return fault.New(fault.Unavailable, "delivery is not running") }
