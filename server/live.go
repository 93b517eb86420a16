package server

import (
	"context"

	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
)

// live is what everybody goes by in a space: an epoch, the loop that writes it,
// and the work that hands this loop work. A rebuild puts another in its place.
type live struct {
	epoch  uint32
	loop   *pipeline.Loop // nil without the pipeline role
	beside []errand
	over   chan struct{} // closed once another has taken its place

	stop []func() // end the errands and wait; guarded by the server's mu
}

// errand is work beside a loop that writes through it. It returns nil when its
// context ends.
type errand struct {
	name string
	run  func(context.Context) error
}

// epoch returns the live epoch.
func (sp *space) epoch() uint32 { return sp.live.Load().epoch }

// loop returns the loop that writes the live epoch, nil without the pipeline
// role.
func (sp *space) loop() *pipeline.Loop { return sp.live.Load().loop }

// newLive puts a loop together with the work beside it, through the stages of
// the row that the loop leads its records through.
func (s *Server) newLive(sp *space, loop *pipeline.Loop, r *row) *live {
	return &live{epoch: loop.Epoch(), loop: loop, beside: s.errands(sp, loop, r), over: make(chan struct{})}
}

// errands is the work beside a loop. The loop's row does it, so that a rebuild
// has errands of its own.
func (s *Server) errands(sp *space, loop *pipeline.Loop, r *row) []errand {
	builder := computation.NewBuilder(computation.BuilderConfig{
		DB: s.db, Loop: loop, History: s.archive, Engine: r.computation, Space: sp.number, Epoch: loop.Epoch(), Logger: s.cfg.Logger,
		Profiles: func(r kv.Reader, space, epoch uint32, after event.ProfileID, limit int) ([]event.ProfileID, error) {
			return identity.NewReader(r, space, epoch).People(after, limit)
		},
		Live: func() { s.syncs.Connected(sp.number) },
	})
	indexer := profile.NewIndexer(s.db, loop, r.profile, sp.number, loop.Epoch())
	return []errand{{"computations of space " + sp.slug, builder.Run}, {"search index of space " + sp.slug, indexer.Run}}
}

// runSpace runs the live loop of a space, one after another: each runs until the
// next takes its place.
func (s *Server) runSpace(sp *space) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			l := sp.live.Load()
			if err := l.loop.Run(ctx); err != nil || ctx.Err() != nil {
				return err
			}
			select {
			case <-l.over:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// startBeside starts the errands of a loop, if it has any. The caller holds mu.
func (s *Server) startBeside(l *live) {
	if s.beside == nil {
		return
	}
	for _, e := range l.beside {
		l.stop = append(l.stop, s.beside.begin(e.name, e.run))
	}
}

// stopBeside ends the errands of a loop and waits for them.
func (s *Server) stopBeside(l *live) {
	s.mu.Lock()
	stop := l.stop
	l.stop = nil
	s.mu.Unlock()
	for _, end := range stop {
		end()
	}
}
