package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"kith/commitlog"
	"kith/destination"
	"kith/fault"
	"kith/kv"
	"kith/workspace"
)

// session is a worker's state between a start and a stop, or a failure of the
// store. It belongs to one goroutine.
type session struct {
	w      *worker
	cfg    *Config
	limits Limits

	snapshot *workspace.Snapshot
	dest     *workspace.Destination
	rules    *rules
	opened   *opened // nil while nothing can be sent
	problem  string  // why

	lanes  map[uint32]*lane
	order  []*lane
	turn   int
	queues *queues

	pending      int // units at hand that are not stored
	pendingBytes int
	stored       int // units that wait, in the store

	inFlight int
	sending  map[*batch]struct{}
	results  chan result
	spread   float64 // chance, from 0 to 1, for the retries of a batch
	sendCtx  context.Context
	cancel   context.CancelFunc

	commits
	broken   error // the store could not be read; the session ends
	failures failures
	swept    int64 // when what has expired was last looked for, in milliseconds
	settles  []*settleRequest
	resends  []*resendRequest
	reports  []Report

	lastFailure string
	lastSuccess time.Time
	successes   uint64 // events delivered since the session began
}

// opened is a destination that is open with certain settings. It is closed
// once it is retired and no request of it is under way.
type opened struct {
	destination destination.Destination
	batching    destination.Batching
	limits      destination.Limits
	inFlight    int
	retired     bool
}

// runSession delivers until ctx is done, the destination is removed, or the
// store fails.
func runSession(ctx context.Context, w *worker) (removed bool, err error) {
	s := &session{
		w: w, cfg: &w.d.cfg, limits: w.d.cfg.Limits,
		lanes: map[uint32]*lane{}, queues: newQueues(), sending: map[*batch]struct{}{},
		results: make(chan result, 64),
		commits: newCommits(), failures: failures{},
	}
	s.sendCtx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer s.close()
	if err := s.loadFailures(ctx); err != nil {
		return false, fmt.Errorf("load the failures: %w", err)
	}
	for {
		more := false
		more, removed, err = s.step(ctx)
		if removed || err != nil {
			return removed, err
		}
		if ctx.Err() != nil {
			return false, s.drain()
		}
		if err := s.wait(ctx, more); err != nil {
			return false, err
		}
	}
}

// step does everything that can be done now. more says that the logs hold more
// that could be read at once.
func (s *session) step(ctx context.Context) (more, removed bool, err error) {
	snap, resends, settles := s.w.mail()
	s.settles = append(s.settles, settles...)
	s.resends = append(s.resends, resends...)
	if snap != s.snapshot {
		if snap.Destination(s.w.id) == nil {
			return false, true, nil
		}
		if err := s.configure(ctx, snap); err != nil {
			return false, false, err
		}
	}
	for !s.committing && len(s.resends) > 0 {
		r := s.resends[0]
		s.resends = s.resends[1:]
		s.resend(ctx, r)
	}
	if s.problem == "" {
		s.wakeDue(s.now())
		more = s.read(ctx)
		if err := s.dispatch(ctx); err != nil {
			return false, false, err
		}
	}
	s.sweep(ctx)
	if s.broken != nil {
		return false, false, s.broken
	}
	s.startCommit()
	s.tap()
	s.publish()
	s.answerSettles()
	return more, false, nil
}

// wait waits for the next reason to do something.
func (s *session) wait(ctx context.Context, more bool) error {
	if more {
		select {
		case r := <-s.results:
			s.outcomes(r)
		case err := <-s.committed:
			return s.endCommit(err)
		default:
		}
		return nil
	}
	alarm, stop := s.alarm()
	defer stop()
	select {
	case r := <-s.results:
		s.outcomes(r)
		for range len(s.results) {
			s.outcomes(<-s.results)
		}
	case err := <-s.committed:
		return s.endCommit(err)
	case <-s.w.wake:
	case <-alarm:
	case <-ctx.Done():
	}
	return nil
}

// alarm returns a channel for the next instant at which there is something to
// do by itself.
func (s *session) alarm() (<-chan struct{}, func()) {
	next := int64(0)
	at := func(t int64) {
		if next == 0 || t < next {
			next = t
		}
	}
	if s.problem == "" {
		if len(s.queues.hold) > 0 {
			at(s.queues.hold[0].due)
		}
		for _, l := range s.order {
			if l.until > 0 {
				at(l.until)
			}
		}
		if s.inFlight < s.opened.limits.Concurrency {
			for _, g := range s.queues.order {
				if len(g.list) > 0 {
					at(g.ripe(s.opened.batching))
				}
			}
		}
	}
	at(s.swept + sweepEvery.Milliseconds())
	switch {
	case s.committing:
	case s.unsaved > 0:
		at(s.savedAt + commitEvery.Milliseconds())
	case s.unread > 0:
		at(s.savedAt + commitReadEvery.Milliseconds())
	}
	if next == 0 {
		return nil, func() {}
	}
	return s.cfg.Clock.Until(time.UnixMilli(next))
}

func (s *session) now() int64 { return s.cfg.Clock.Now().UnixMilli() }

// configure takes over a snapshot: it opens the destination anew if its
// settings have changed, compiles its gates, and joins the spaces that are new.
func (s *session) configure(ctx context.Context, snap *workspace.Snapshot) error {
	if err := s.join(ctx, snap); err != nil {
		return err
	}
	before, dest := s.dest, snap.Destination(s.w.id)
	s.snapshot, s.dest = snap, dest
	connector, err := s.cfg.Registry.Find(dest.MetadataID)
	if err != nil {
		s.halt(err.Error())
		return nil
	}
	rules, broken := newRules(dest, &connector.Spec)
	s.rules = rules
	for _, id := range broken {
		s.cfg.Logger.Warn("a subscription cannot be read and matches nothing", "destination", dest.ID, "subscription", id)
	}
	same := before != nil && before.MetadataID == dest.MetadataID && string(before.Settings) == string(dest.Settings)
	stood := s.problem != ""
	if s.opened == nil || !same {
		if problem := s.reopen(connector, dest); problem != "" {
			s.halt(problem)
			return nil
		}
	}
	if s.problem = ""; !dest.Enabled {
		s.problem = "it is disabled"
		return nil
	}
	if before != nil && (stood || !same) { // whoever mended it wants to see it go
		now := s.now()
		for _, q := range s.queues.hold {
			q.due = min(q.due, now)
		}
	}
	return nil
}

// reopen opens the destination with its settings of now.
func (s *session) reopen(c *destination.Connector, dest *workspace.Destination) (problem string) {
	settings, err := s.cfg.Unseal(dest.Settings)
	if err != nil {
		return "its secrets cannot be read: " + err.Error()
	}
	d, err := c.Open(settings, destination.Env{HTTP: s.cfg.HTTP, Clock: s.cfg.Clock, Logger: s.cfg.Logger.With("destination", dest.ID)})
	if err != nil {
		return "it cannot be opened: " + err.Error()
	}
	s.retire()
	o := &opened{destination: d, batching: destination.BatchingOf(d), limits: c.Spec.Limits}
	o.batching.Size = max(1, o.batching.Size)
	o.limits.Concurrency = max(1, o.limits.Concurrency)
	s.opened = o
	s.queues.regroup(o.batching.Whole)
	return ""
}

// halt keeps everything from being sent.
func (s *session) halt(problem string) {
	s.retire()
	s.problem = problem
	s.cfg.Logger.Warn("nothing is sent to a destination", "destination", s.w.id, "why", problem)
}

func (s *session) retire() {
	if s.opened != nil {
		s.opened.retired = true
		s.closeRetired(s.opened)
		s.opened = nil
	}
}

func (s *session) closeRetired(o *opened) {
	if !o.retired || o.inFlight > 0 {
		return
	}
	if err := o.destination.Close(); err != nil {
		s.cfg.Logger.Warn("a destination was not closed cleanly", "destination", s.w.id, "err", err)
	}
}

// join opens the lanes of spaces that have none yet.
func (s *session) join(ctx context.Context, snap *workspace.Snapshot) error {
	var fresh []uint32
	for i := range snap.Spaces {
		if n := snap.Spaces[i].Number; s.lanes[n] == nil {
			fresh = append(fresh, n)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := s.w.d.begin(ctx, s.w.id, snap); err != nil {
		return err
	}
	for _, space := range fresh {
		f, err := s.w.d.feed(space)
		if err != nil {
			return err
		}
		if err := s.cfg.DB.View(ctx, func(r kv.Reader) error { return s.load(r, f) }); err != nil {
			return fmt.Errorf("load what waits in space %d: %w", space, err)
		}
		f.join(s.w)
	}
	return nil
}

// load reads the state of one lane.
func (s *session) load(r kv.Reader, f *feed) error {
	values, err := r.GetMany([][]byte{cursorKey(s.w.id, f.space), countKey(s.w.id, f.space)})
	if err != nil {
		return err
	}
	c, err := decodeCursor(values[0])
	if err != nil {
		return err
	}
	counts, err := decodeCounts(values[1])
	if err != nil {
		return err
	}
	l := newLane(f, c, counts)
	stem := waitingStem(s.w.id, f.space)
	var touched []*queue
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		u := &unit{lane: l, place: place{offset: commitlog.Offset(parts.Uint64()), subscription: parts.String()}, stored: true, settled: true}
		if u.waiting, err = decodeWaiting(pair.Value); err != nil || !parts.OK() {
			return errors.Join(err, errDamaged("key"))
		}
		q := s.queues.queueOf(u.profile)
		if len(q.units) == 0 {
			touched = append(touched, q)
		}
		q.units = append(q.units, u)
		s.stored++
	}
	for _, q := range touched {
		if q.units[0].due > 0 {
			s.queues.putOnHold(q)
		} else {
			s.queues.makeReady(q)
		}
	}
	s.lanes[f.space] = l
	s.order = append(s.order, l)
	return nil
}

// publish shows how the destination is doing.
func (s *session) publish() {
	st := Status{Destination: s.w.id, Pending: s.pending, InFlight: s.inFlight, LastFailure: s.lastFailure, LastSuccess: s.lastSuccess, Problem: s.problem}
	for _, l := range s.order {
		st.Counts.add(&l.counts)
		for _, m := range l.multi {
			st.Counts.add(&m.counts)
		}
		if end := l.feed.log.End(); end > l.frontier() {
			st.Backlog += uint64(end - l.frontier())
		}
	}
	if len(s.queues.hold) > 0 {
		st.NextRetry = time.UnixMilli(s.queues.hold[0].due).UTC()
	}
	s.w.publish(st)
}

func (s *session) tap() {
	if len(s.reports) > 0 {
		s.cfg.Tap(s.reports)
		s.reports = nil
	}
}

// answerSettles answers those who wait until all is done with.
func (s *session) answerSettles() {
	s.settles = slices.DeleteFunc(s.settles, func(r *settleRequest) bool {
		done := s.isSettled(r)
		if done {
			close(r.done)
		}
		return done || r.abandoned.Load()
	})
}

func (s *session) isSettled(r *settleRequest) bool {
	if s.unsaved+s.unread > 0 || s.committing {
		return false
	}
	if s.problem != "" {
		return true
	}
	if len(s.queues.hold) > 0 && s.queues.hold[0].due <= s.now() {
		return false
	}
	for space, end := range r.upTo {
		l := s.lanes[space]
		if l != nil && l.frontier() < min(end, l.feed.log.End()) && s.stored+s.pending < s.limits.MaxWaiting {
			return false
		}
	}
	before := func(units []*unit) bool {
		return slices.ContainsFunc(units, func(u *unit) bool { return u.offset < r.upTo[u.lane.space] })
	}
	for _, g := range s.queues.order {
		for _, q := range g.list {
			if before(q.units) {
				return false
			}
		}
	}
	for b := range s.sending {
		for _, q := range b.queues {
			if before(q.units) {
				return false
			}
		}
	}
	return true
}

// drain ends the session: requests under way get the grace they need, and
// what is known is written down.
func (s *session) drain() error {
	grace, cancel := context.WithTimeout(context.Background(), s.limits.Grace)
	defer cancel()
	for s.inFlight > 0 {
		select {
		case r := <-s.results:
			s.outcomes(r)
		case <-grace.Done():
			s.cancel()
			s.outcomes(<-s.results)
		}
	}
	s.tap()
	s.publish()
	if s.committing {
		if err := s.endCommit(<-s.committed); err != nil {
			return err
		}
	}
	s.durable = true
	s.startCommit()
	if s.committing {
		return s.endCommit(<-s.committed)
	}
	return nil
}

// close frees what the session holds. After a failure of the store requests
// may still be under way: their outcomes are lost, so they are sent again.
func (s *session) close() {
	s.cancel()
	for s.inFlight > 0 {
		r := <-s.results
		s.inFlight--
		r.batch.opened.inFlight--
		s.closeRetired(r.batch.opened)
	}
	if s.committing {
		<-s.committed
	}
	s.retire()
	for _, l := range s.order {
		l.feed.leave(s.w)
	}
	s.fail(fault.New(fault.Unavailable, "delivery has stopped"))
	for _, r := range s.resends {
		s.w.resend(r)
	}
	for _, r := range s.settles {
		s.w.settle(r)
	}
}
