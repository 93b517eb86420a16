package computation

import (
	"fmt"
	"sync"

	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
)

// Engine is the stage that computes audiences. It serves all spaces and is
// safe for concurrent use.
type Engine struct {
	outcome  pipeline.Slot[Outcome]
	prepared pipeline.Slot[prepared]
	identity pipeline.Slot[identity.Resolution]
	profile  pipeline.Slot[profile.View]

	frozen bool // see Freeze

	mu     sync.Mutex
	graphs map[place]compiled
	latest map[uint32]*graph // by space, of the epoch that was passed last: for Prepare
	wakes  map[place]chan struct{}
}

// place is a space and an epoch.
type place struct{ space, epoch uint32 }

// compiled is a graph and the digest of the registry that it was made of.
type compiled struct {
	digest string
	graph  *graph
}

// prepared is what Prepare found, valid for one graph and one event.
type prepared struct {
	graph *graph
	event *event.Event
	hits  []hit
}

// New returns the stage, its places in records taken from layout. It reads
// whose a record is from identity's slot, and traits from profile's.
func New(layout *pipeline.Layout, identity pipeline.Slot[identity.Resolution], profile pipeline.Slot[profile.View]) *Engine {
	return &Engine{
		outcome: pipeline.NewSlot[Outcome](layout), prepared: pipeline.NewSlot[prepared](layout),
		identity: identity, profile: profile,
		graphs: map[place]compiled{}, latest: map[uint32]*graph{}, wakes: map[place]chan struct{}{},
	}
}

// Slot is where a record's Outcome is.
func (e *Engine) Slot() pipeline.Slot[Outcome] { return e.outcome }

// Name returns "computation".
func (e *Engine) Name() string { return "computation" }

// Prepare judges an event by the filters that watch it.
func (e *Engine) Prepare(r *pipeline.Record) {
	if r.Event == nil || r.Source == nil || r.Snapshot == nil {
		return
	}
	space := r.Snapshot.Space(r.Source.SpaceID)
	if space == nil {
		return
	}
	e.mu.Lock()
	g := e.latest[space.Number]
	e.mu.Unlock()
	if g != nil {
		e.prepared.Set(r, &prepared{graph: g, event: r.Event, hits: g.hits(r)})
	}
}

// Begin starts a pass over a batch.
func (e *Engine) Begin(b *pipeline.Batch) (pipeline.Pass, error) {
	g, err := e.graph(b.Tx, place{b.Space, b.Epoch})
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.latest[b.Space] = g
	e.mu.Unlock()
	return &pass{
		engine: e, batch: b, keys: keys{b.Space, b.Epoch}, graph: g, people: map[event.ProfileID]*person{}, sizes: map[uint32]int64{},
	}, nil
}

// graph returns the compiled registry of a place. It is compiled anew only
// when it has changed.
func (e *Engine) graph(r kv.Reader, at place) (*graph, error) {
	k := keys(at)
	digest, err := r.Get(k.digest())
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	c, ok := e.graphs[at]
	e.mu.Unlock()
	if ok && c.digest == string(digest) {
		return c.graph, nil
	}
	value, err := r.Get(k.registry())
	if err != nil {
		return nil, err
	}
	reg, err := decodeRegistry(value)
	if err != nil {
		return nil, err
	}
	if e.frozen {
		reg.fromTheBeginning()
	}
	g, err := compile(reg)
	if err != nil {
		return nil, fmt.Errorf("computations of space %d: %w", at.space, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.graphs[at] = compiled{string(digest), g}
	return g, nil
}

// changed returns a channel on which something comes whenever the registry of
// a place has changed.
func (e *Engine) changed(at place) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wakes[at] == nil {
		e.wakes[at] = make(chan struct{}, 1)
	}
	return e.wakes[at]
}

// wake tells the Builder of a place to look.
func (e *Engine) wake(at place) {
	select {
	case e.changed(at) <- struct{}{}:
	default: // it will look anyway
	}
}
