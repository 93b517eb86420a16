package identity

import (
	"sync"

	"kith/event"
	"kith/pipeline"
	"kith/workspace"
)

// Identity is the stage that gives every record its profile. It serves all
// spaces and is safe for concurrent use.
type Identity struct {
	slot pipeline.Slot[Resolution]

	mu       sync.RWMutex
	compiled map[*workspace.Space]*rules // of snapshots, which never change; emptied when it grows
	defaults *rules
	given    *Given    // nil where both collections are worked out
	orders   []*orders // compiled last
	override *override // read last
}

// maxCompiled bounds the rules that are kept ready.
const maxCompiled = 64

// New returns the stage, its place in records taken from layout.
func New(layout *pipeline.Layout) *Identity {
	defaults, err := compile(nil)
	if err != nil {
		panic(err) // the defaults are constants
	}
	return &Identity{slot: pipeline.NewSlot[Resolution](layout), compiled: map[*workspace.Space]*rules{}, defaults: defaults}
}

// Slot is where a record's Resolution is.
func (s *Identity) Slot() pipeline.Slot[Resolution] { return s.slot }

// Name returns "identity".
func (s *Identity) Name() string { return "identity" }

// Prepare looks for the identifiers on a record: this needs nothing but the
// record and the rules of its source's space.
func (s *Identity) Prepare(r *pipeline.Record) {
	if r.Event == nil || r.Snapshot == nil {
		return
	}
	var space *workspace.Space
	if r.Source != nil {
		space = r.Snapshot.Space(r.Source.SpaceID)
	}
	rs, err := s.rulesOf(space)
	if err != nil {
		return // the pass meets the same error, and can say so
	}
	s.slot.Set(r, &Resolution{found: find(rs, r)})
}

// Keys names the owners that the pass will ask for.
func (s *Identity) Keys(b *pipeline.Batch, r *pipeline.Record) [][]byte {
	res := s.slot.Get(r)
	if res == nil || res.found.optedOut {
		return nil
	}
	k := keys{b.Space, b.Epoch}
	list := make([][]byte, len(res.found.ids))
	for i, id := range res.found.ids {
		list[i] = k.owner(id)
	}
	return list
}

// Begin starts a pass over a batch.
func (s *Identity) Begin(b *pipeline.Batch) (pipeline.Pass, error) {
	p := &pass{
		stage:   s,
		batch:   b,
		read:    NewReader(b.Tx, b.Space, b.Epoch),
		owners:  map[event.Identifier]event.ProfileID{},
		nodes:   map[event.ProfileID]*node{},
		links:   map[event.ProfileID]link{},
		members: map[[2]event.ProfileID]*Member{},
	}
	var err error
	if p.types, err = p.read.Types(); err != nil {
		return nil, err
	}
	if p.digest, err = b.Tx.Get(p.read.keys.digest()); err != nil {
		return nil, err
	}
	p.override, err = s.overrideOf(p.read)
	return p, err
}

// rulesOf returns the rules of a space of some snapshot; nil has the defaults.
func (s *Identity) rulesOf(space *workspace.Space) (*rules, error) {
	if space == nil || len(space.Identifiers) == 0 && len(space.Filters) == 0 && space.IdentityGuard == (workspace.IdentityGuard{}) {
		return s.defaults, nil
	}
	s.mu.RLock()
	rs := s.compiled[space]
	s.mu.RUnlock()
	if rs != nil {
		return rs, nil
	}
	rs, err := compile(space)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.compiled) >= maxCompiled {
		clear(s.compiled)
	}
	s.compiled[space] = rs
	return rs, nil
}
