package computation

import (
	"slices"

	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// pass is the stage at work on one batch. What it reads and writes of a
// profile is kept until Finish, so that a hot profile is read and written once
// a batch.
type pass struct {
	engine *Engine
	batch  *pipeline.Batch
	keys   keys
	graph  *graph

	people map[event.ProfileID]*person
	order  []*person
	sizes  map[uint32]int64 // how much builds have grown, by number
	spare  []Outcome
}

// person is what of a profile has been read or written in this batch.
type person struct {
	id      event.ProfileID
	fresh   bool  // created in this batch: nothing is stored
	page    *page // nil until it is asked for
	turned  bool  // the page has changed
	shelves []*shelf
}

// Handle computes what a record changes.
func (p *pass) Handle(r *pipeline.Record) error {
	if p.engine.outcome.Get(r) != nil {
		p.engine.outcome.Set(r, nil) // from a transaction that failed
	}
	switch w := r.Work.(type) {
	case rewrite:
		return p.rewrite(w)
	case nil:
		if r.Kind == event.KindConfig {
			return p.configure(r)
		}
	}
	res := p.engine.identity.Get(r)
	view := p.engine.profile.Get(r)
	if res == nil || view == nil || r.Profile.IsZero() {
		return nil
	}
	// Without aggregates and audiences there is nothing to count. But timers outlive what they
	// were set for: a page that did not learn that its own has fired would never
	// set another.
	if len(p.graph.registry.Builds)+len(p.graph.registry.Early) == 0 && r.Firing == nil && len(res.Merged) == 0 {
		return nil
	}
	t := turn{pass: p, record: r, resolution: res, view: view, who: p.person(r.Profile), now: r.At}
	return t.take()
}

// rewrite is the Work of records that change the registry. It may run again.
type rewrite func(*registry)

// rewrite changes the registry and has the Builder look at it.
func (p *pass) rewrite(change rewrite) error {
	reg, err := p.graph.registry.clone()
	if err != nil {
		return err
	}
	change(reg)
	reg.prune()
	if reg.equal(p.graph.registry) {
		return nil
	}
	g, err := compile(reg)
	if err != nil {
		return err
	}
	p.graph = g
	p.batch.AfterCommit(func() { p.engine.wake(place{p.batch.Space, p.batch.Epoch}) })
	return reg.write(p.batch.Tx, p.keys)
}

func (p *pass) person(id event.ProfileID) *person {
	w := p.people[id]
	if w == nil {
		w = &person{id: id}
		p.people[id] = w
		p.order = append(p.order, w)
	}
	return w
}

func (p *pass) page(w *person) (*page, error) {
	if w.page != nil {
		return w.page, nil
	}
	var value []byte
	if !w.fresh {
		var err error
		if value, err = p.batch.Tx.Get(p.keys.page(w.id)); err != nil {
			return nil, err
		}
	}
	var err error
	w.page, err = decodePage(value)
	return w.page, err
}

func (p *pass) shelf(w *person, number uint32) (*shelf, error) {
	for _, s := range w.shelves {
		if s.number == number {
			return s, nil
		}
	}
	var value []byte
	if !w.fresh {
		var err error
		if value, err = p.batch.Tx.Get(p.keys.shelf(w.id, number)); err != nil {
			return nil, err
		}
	}
	s, err := decodeShelf(number, value)
	if err == nil {
		w.shelves = append(w.shelves, s)
	}
	return s, err
}

func (p *pass) cell(w *person, a *aggregate) (*cell, error) {
	s, err := p.shelf(w, a.Shelf)
	if err != nil {
		return nil, err
	}
	return s.cell(a)
}

// enrol writes a profile into the index of a build's members.
func (p *pass) enrol(build uint32, id event.ProfileID, since int64) error {
	p.sizes[build]++
	return p.batch.Tx.Set(p.keys.member(build, id), kv.Value{memberFormat}.Varint(since))
}

// strike takes a profile out of it.
func (p *pass) strike(build uint32, id event.ProfileID) error {
	p.sizes[build]--
	return p.batch.Tx.Delete(p.keys.member(build, id))
}

// Finish writes what the batch has changed.
func (p *pass) Finish() error {
	tx := p.batch.Tx
	for _, w := range p.order {
		for _, s := range w.shelves {
			if s.dirty() {
				if err := put(tx, p.keys.shelf(w.id, s.number), s.encode(p.graph)); err != nil {
					return err
				}
			}
		}
		if w.turned {
			if err := put(tx, p.keys.page(w.id), w.page.encode(p.graph.known)); err != nil {
				return err
			}
		}
	}
	builds := make([]uint32, 0, len(p.sizes))
	for b, grown := range p.sizes {
		if grown != 0 && p.graph.registry.build(b) != nil {
			builds = append(builds, b)
		}
	}
	slices.Sort(builds)
	for _, b := range builds {
		value, err := tx.Get(p.keys.size(b))
		if err != nil {
			return err
		}
		size, err := decodeSize(value)
		if err != nil {
			return err
		}
		if err := tx.Set(p.keys.size(b), kv.Value{sizeFormat}.Varint(size+p.sizes[b])); err != nil {
			return err
		}
	}
	return nil
}

// put writes a value, or removes the key when there is none.
func put(tx kv.Tx, key kv.Key, value kv.Value) error {
	if value == nil {
		return tx.Delete(key)
	}
	return tx.Set(key, value)
}

func decodeSize(value []byte) (int64, error) {
	if value == nil {
		return 0, nil
	}
	f := kv.FieldsOf(value)
	if f.Byte() != sizeFormat {
		return 0, errStored
	}
	n := f.Varint()
	if !f.OK() {
		return 0, errStored
	}
	return n, nil
}
