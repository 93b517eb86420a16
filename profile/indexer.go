package profile

import (
	"bytes"
	"context"
	"fmt"

	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
)

// Loop is what an Indexer needs of a space's loop.
type Loop interface {
	// Do has the loop run fn in a transaction of its own between two batches;
	// see pipeline.Loop.
	Do(ctx context.Context, fn pipeline.Work) error
}

// Indexer brings the search index of an epoch into line with what its space
// lists: it goes through the profiles that were there before a trait was
// listed, and clears away the index of one that is listed no more. It runs
// beside the loop; all it writes, the loop writes for it, each piece with the
// place it has come to, so that it goes on after a crash where it was.
type Indexer struct {
	db    kv.DB
	loop  Loop
	stage *Profiles
	place place
	step  int // profiles, or entries, of one transaction
}

// NewIndexer returns an Indexer. There is one for each loop; stage is the one
// in that loop's row.
func NewIndexer(db kv.DB, loop Loop, stage *Profiles, space, epoch uint32) *Indexer {
	return &Indexer{db: db, loop: loop, stage: stage, place: place{space, epoch}, step: 500}
}

// Run works until ctx ends, which is no error, or until the store is broken.
func (x *Indexer) Run(ctx context.Context) error {
	wake := x.stage.changed(x.place)
	for {
		busy, err := x.work(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("search index of space %d: %w", x.place.space, err)
		}
		if busy {
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// work does the next piece of work, and reports whether there was one.
func (x *Indexer) work(ctx context.Context) (bool, error) {
	k := keys(x.place)
	var at *index
	err := x.db.View(ctx, func(r kv.Reader) (err error) {
		at, err = readIndex(r, k)
		return err
	})
	if err != nil {
		return false, err
	}
	piece := x.fill
	switch {
	case at.first(indexDropping) != "":
		piece = x.drop
	case at.first(indexFilling) == "":
		return false, nil
	}
	return true, x.loop.Do(ctx, func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		at, err := readIndex(b.Tx, k) // as it is now
		if err != nil {
			return err
		}
		if err := piece(b.Tx, k, at); err != nil {
			return err
		}
		return b.Tx.Set(k.index(), at.encode())
	})
}

// fill goes through the next profiles.
func (x *Indexer) fill(tx kv.Tx, k keys, at *index) error {
	stem := k.allPages()
	rng := kv.Prefix(stem)
	if !at.after.IsZero() {
		rng.From = kv.PrefixEnd(k.pages(at.after))
	}
	var next []event.ProfileID
	for pair, err := range tx.Scan(rng) {
		if err != nil {
			return err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		profile, page := event.ProfileID(parts.Fixed(len(at.after))), parts.Byte()
		if !parts.OK() {
			return errStored
		}
		if page != 0 {
			continue
		}
		if len(next) == x.step {
			break
		}
		next = append(next, profile)
	}
	graph := identity.NewReader(tx, x.place.space, x.place.epoch)
	filling := func(name string) bool { return at.state(name) == indexFilling }
	for _, profile := range next {
		link, err := graph.Link(profile)
		if err != nil {
			return err
		}
		if link != nil {
			continue // merged away: what it had, the survivor has
		}
		if err := enter(tx, k, at, profile, filling); err != nil {
			return err
		}
	}
	if len(next) == x.step {
		at.after = next[len(next)-1]
		return nil
	}
	at.after = event.ProfileID{}
	for i := range at.traits {
		if at.traits[i].state == indexFilling {
			at.traits[i].state = indexComplete
		}
	}
	return nil
}

// enter puts a profile into the indexes that are asked for.
func enter(tx kv.Tx, k keys, at *index, profile event.ProfileID, wanted func(trait string) bool) error {
	b, err := open(tx, k, profile)
	if err != nil {
		return err
	}
	for _, t := range at.traits {
		if !wanted(t.name) {
			continue
		}
		value, err := b.value(t.name)
		if err != nil {
			return err
		}
		text, ok := folded(value)
		if !ok {
			continue
		}
		if err := tx.Set(k.entry(t.name, text, profile), kv.Value{entryFormat}); err != nil {
			return err
		}
	}
	return nil
}

// drop removes entries of a trait that is listed no more.
func (x *Indexer) drop(tx kv.Tx, k keys, at *index) error {
	name := at.first(indexDropping)
	rng := kv.Prefix(k.entries(name))
	rng.Limit = x.step
	var gone [][]byte
	for pair, err := range tx.Scan(rng) {
		if err != nil {
			return err
		}
		gone = append(gone, bytes.Clone(pair.Key))
	}
	for _, key := range gone {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	if len(gone) == x.step {
		return nil
	}
	for i := range at.traits {
		if at.traits[i].name == name {
			at.traits = append(at.traits[:i], at.traits[i+1:]...)
			break
		}
	}
	return nil
}
