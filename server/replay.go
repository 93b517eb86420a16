package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"kith/activation"
	"kith/commitlog"
	"kith/computation"
	"kith/erasure"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
	"kith/revision"
	"kith/workspace"
)

// How a replay behaves beside the live loop.
const (
	// nearEnough is how many records a replay may be behind at a swap: what it
	// reads in some hundredths of a second.
	nearEnough = 500
	// liveBehind is how far the live loop may be behind the raw log before a
	// replay lets it go first, and letGo how long it stands for that at most.
	liveBehind = 2000
	letGo      = time.Second
	// swapWithin bounds the time for which the live loop stands at a swap that
	// does not work out.
	swapWithin = 2 * time.Second
	// lookReplay is how often a replay is looked at.
	lookReplay = 100 * time.Millisecond
)

// replay is a replay into an epoch, as package rebuild runs it.
type replay struct {
	s    *Server
	sp   *space
	row  *row
	loop *pipeline.Loop
	past *steppedPast
	// reviser works out again, in this epoch, what standing commands change that
	// come while the replay goes on. Those from before its start hold in it from
	// the first record on.
	reviser *revision.Reviser

	mu     sync.Mutex
	beside *crew // the errands of the loop; nil while they stand
	over   bool  // Run has ended: they stand for good
	failed chan error
}

// newReplayRow makes a row for a replay: the rooms behind intake, none of which
// shares anything with the live ones.
func (s *Server) newReplayRow() *row {
	layout := &pipeline.Layout{}
	r := &row{identity: identity.New(layout)}
	r.profile = profile.New(layout, r.identity.Slot())
	r.computation = computation.New(layout, r.identity.Slot(), r.profile.Slot())
	r.activation = activation.New(r.identity.Slot(), r.profile.Slot(), r.computation.Slot(), func(uint32) {})
	r.erasure = erasure.NewStage(forgetful{s}, s.archive, s.cfg.Logger, func(uint32) {})
	return r
}

// behindIntake returns the row's doors behind intake.
func (r *row) behindIntake() []pipeline.Stage {
	return []pipeline.Stage{r.identity, r.profile, r.computation, r.activation, r.erasure}
}

// openReplay puts a replay into an epoch together.
func (s *Server) openReplay(ctx context.Context, sp *space, epoch uint32) (*replay, error) {
	r := &replay{s: s, sp: sp, row: s.newReplayRow(), failed: make(chan error, 1)}
	r.reviser = s.newReviser(r.row.computation.Reader(), func(uint32) (revision.Loop, error) { return r.loop, nil })
	r.past = &steppedPast{
		replay: r,
		inner: s.archive.Past(sp.number, func(ctx context.Context, at commitlog.Offset) error {
			return sp.loop().Passed(ctx, at)
		}),
	}
	loop, err := pipeline.NewLoop(ctx, pipeline.Config{
		DB: s.db, Snapshots: s.workspace, Stages: r.row.behindIntake(), Recorder: s.archive, Space: sp.number, Epoch: epoch,
		Logger: s.cfg.Logger, Past: r.past, Tap: func(c pipeline.Committed) { r.reviser.Committed(c.Records) },
	})
	if err != nil {
		return nil, err
	}
	r.loop = loop
	r.past.step, r.past.number = loop.Position().Next, loop.Position().Snapshot
	return r, nil
}

// Run replays; see rebuild.Replay.
func (r *replay) Run(ctx context.Context) error {
	r.start(ctx)
	defer func() {
		r.mu.Lock()
		r.over = true
		r.mu.Unlock()
		r.stop()
	}()
	loop := newCrewIn(ctx, r.failed)
	defer loop.stop()
	ended := make(chan struct{})
	loop.run("replay", func(ctx context.Context) error {
		defer close(ended)
		return r.loop.Run(ctx)
	})
	select {
	case <-ended:
	case err := <-r.failed:
		return err
	case <-ctx.Done():
	}
	<-ended
	select {
	case err := <-r.failed:
		return err
	default:
		return nil
	}
}

// start starts the errands of the replay's loop.
func (r *replay) start(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.beside = newCrewIn(ctx, r.failed)
	for _, e := range r.s.errands(r.sp, r.loop, r.row) {
		r.beside.run(e.name, e.run)
	}
	r.beside.run("revisions", func(ctx context.Context) error {
		return r.reviser.Run(ctx, func() []uint32 { return []uint32{r.sp.number} })
	})
}

// stop ends them.
func (r *replay) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.beside != nil {
		r.beside.stop()
		r.beside = nil
	}
}

// Position says how far it is; see rebuild.Replay.
func (r *replay) Position() (next, live commitlog.Offset) {
	return r.loop.Position().Next, r.sp.loop().Position().Next
}

// Ready reports whether a swap is a moment; see rebuild.Replay.
func (r *replay) Ready(ctx context.Context) (bool, error) {
	if _, live := r.Position(); !r.past.seen.Load() || commitlog.Offset(r.past.caught.Load())+nearEnough < live {
		return false, nil
	}
	busy, err := r.busy(ctx)
	return !busy, err
}

// busy reports whether something is being computed beside the replay or beside
// the live loop.
func (r *replay) busy(ctx context.Context) (busy bool, err error) {
	err = r.s.db.View(ctx, func(v kv.Reader) error {
		if busy, err = r.unsettled(v, r.row, r.loop.Epoch()); err != nil || busy {
			return err
		}
		busy, err = r.unsettled(v, r.s.row, r.sp.epoch())
		return err
	})
	return busy, err
}

// unsettled reports whether something of an epoch is being computed, or is still
// to be worked out again.
func (r *replay) unsettled(v kv.Reader, row *row, epoch uint32) (bool, error) {
	if busy, err := row.computation.Reader().Busy(v, r.sp.number, epoch); err != nil || busy {
		return busy, err
	}
	n, err := revision.Open(v, r.sp.number, epoch)
	return n > 0, err
}

// Swap makes the epoch the live one; see rebuild.Replay. What computes beside
// both loops stands still meanwhile, so that neither epoch has something half
// done that the other knows nothing of.
func (r *replay) Swap(ctx context.Context) (pause time.Duration, behind uint64, err error) {
	old := r.sp.live.Load()
	r.stop()
	r.s.stopBeside(old)
	again := func(err error) (time.Duration, uint64, error) {
		r.past.hurry.Store(false)
		r.s.mu.Lock()
		r.s.startBeside(old)
		r.s.mu.Unlock()
		r.start(ctx)
		return 0, 0, err
	}
	busy, err := r.busy(ctx)
	if err == nil && busy {
		err = fault.New(fault.Unavailable, "audiences are being computed, or the past is being worked out again")
	}
	if err != nil {
		return again(err)
	}
	within, cancel := context.WithTimeout(ctx, swapWithin)
	defer cancel()
	r.past.hurry.Store(true) // nothing computes that could be waited for
	begun := time.Now()
	next, live := r.Position()
	loop, err := pipeline.TakeOver(within, old.loop, r.loop, func(tx kv.Tx) error {
		// On its last steps it may have come to a command or a configuration that
		// the live epoch is done with: what it has not worked out yet would be
		// taken back from destinations, and told again.
		if busy, err := r.unsettled(tx, r.row, r.loop.Epoch()); err != nil || busy {
			if err == nil {
				err = fault.New(fault.Unavailable, "the rebuild has something to work out that came just now")
			}
			return err
		}
		return tx.Set(epochKey(r.sp.number), encodeNumber(uint64(r.loop.Epoch())))
	})
	if err != nil {
		return again(err)
	}
	l := r.s.newLive(r.sp, loop, r.s.row)
	r.sp.live.Store(l)
	close(old.over)
	pause = time.Since(begun)
	r.s.mu.Lock()
	r.s.startBeside(l)
	r.s.mu.Unlock()
	r.s.reviser.Wake() // a command may have come just before
	return pause, uint64(live - min(next, live)), nil
}

// steppedPast is the past of a replay, in steps: behind every configuration that
// changes audiences it waits until they are computed. So the replay does to
// audiences what the live loop did: who leaves later was a member, and who was
// one when an audience was disabled stays one.
type steppedPast struct {
	replay *replay
	inner  pipeline.Past
	hurry  atomic.Bool // take no steps, and no notice of the live loop

	seen   atomic.Bool   // the replay had caught up, once
	caught atomic.Uint64 // the offset up to which there was nothing more to read then

	// Of the feeder, which alone calls Follow and Wait.
	step   commitlog.Offset // nothing from here on is read before the audiences are computed
	open   bool             // they are
	number uint64           // the configuration in force at step
	read   time.Time        // when a batch was read last
}

var errStep = errors.New("server: a step of the past ends")

// Follow reads on as far as the step goes; see pipeline.Past.
func (p *steppedPast) Follow(ctx context.Context, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (commitlog.Offset, error) {
	if !p.open && from >= p.step {
		return from, nil
	}
	if !p.hurry.Load() {
		p.replay.s.giveWay(ctx, p.replay.sp, p.read)
	}
	next, err := p.inner.Follow(ctx, from, maxBytes, func(j *pipeline.Judged) error {
		if !p.open && j.Offset >= p.step {
			return errStep
		}
		if err := fn(j); err != nil || j.Head.Kind != event.KindConfig {
			return err
		}
		return p.config(ctx, j)
	})
	if errors.Is(err, errStep) {
		err = nil
	}
	p.read = time.Now()
	return next, err
}

// config ends the step behind a configuration that changes audiences.
func (p *steppedPast) config(ctx context.Context, j *pipeline.Judged) error {
	n, err := event.ConfigNumber(j.Raw)
	if err != nil {
		return err
	}
	before := p.number
	p.number = n
	if p.hurry.Load() {
		return nil
	}
	was, err := p.audiences(ctx, before)
	if err != nil {
		return err
	}
	is, err := p.audiences(ctx, n)
	if err == nil && !bytes.Equal(was, is) {
		p.step, p.open = j.Offset+1, false
	}
	return err
}

// audiences returns what a configuration says of the space's audiences.
func (p *steppedPast) audiences(ctx context.Context, n uint64) (text []byte, err error) {
	if n == 0 {
		return nil, nil
	}
	r := p.replay
	err = r.s.db.View(ctx, func(v kv.Reader) error {
		snap, err := r.s.workspace.At(v, n)
		if err != nil {
			return err
		}
		space := snap.SpaceByNumber(r.sp.number)
		var mine []*workspace.Audience
		for i := range snap.Audiences {
			if a := &snap.Audiences[i]; space != nil && a.SpaceID == space.ID {
				mine = append(mine, a)
			}
		}
		if len(mine) > 0 {
			text, err = json.Marshal(mine)
		}
		return err
	})
	return text, err
}

// Wait waits for the end of a step, or for the live loop; see pipeline.Past.
func (p *steppedPast) Wait(ctx context.Context, at commitlog.Offset) error {
	if p.open || at < p.step {
		p.caught.Store(uint64(at))
		p.seen.Store(true)
		return p.inner.Wait(ctx, at)
	}
	r := p.replay
	if at > 0 {
		if err := r.loop.Passed(ctx, at-1); err != nil {
			return err
		}
	}
	for !p.hurry.Load() {
		busy := false
		err := r.s.db.View(ctx, func(v kv.Reader) (err error) {
			busy, err = r.row.computation.Reader().Busy(v, r.sp.number, r.loop.Epoch())
			return err
		})
		if err != nil {
			return err
		}
		if !busy {
			break
		}
		rest(ctx, lookAgain)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	p.open = true
	return nil
}

// giveWay lets the live loop of a space go first when it is behind, and holds
// what replays its past, and has read last at an instant, to its share of the
// machine.
func (s *Server) giveWay(ctx context.Context, sp *space, read time.Time) {
	for begun := time.Now(); ctx.Err() == nil && time.Since(begun) < letGo; rest(ctx, lookAgain) {
		if next := sp.loop().Position().Next; next+liveBehind >= sp.raw.End() {
			break
		}
	}
	if share := s.cfg.RebuildShare; share < 100 && !read.IsZero() {
		rest(ctx, min(letGo, time.Since(read)*time.Duration(100-share)/time.Duration(share)))
	}
}

// rest waits for a while of the machine, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
