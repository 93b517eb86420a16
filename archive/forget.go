package archive

import (
	"bytes"
	"maps"
	"slices"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// Whose is whom an event belongs to; zero: nobody.
type Whose struct {
	Profile event.ProfileID
	Account event.ProfileID
}

// Held returns the keys of the history of one profile in an epoch, under its
// own id.
func Held(r kv.Reader, space, epoch uint32, profile event.ProfileID) (held [][]byte, err error) {
	for pair, err := range r.Scan(kv.Prefix(historyStem(space, epoch, profile))) {
		if err != nil {
			return nil, err
		}
		held = append(held, bytes.Clone(pair.Key))
	}
	return held, nil
}

// Forget removes the history of profiles in an epoch, and makes their events
// nobody's: an event of a person keeps its account, one of an account its
// person. The events themselves stay. All of a family must be named. It is
// called within a transaction of the loop.
func Forget(tx kv.Tx, space, epoch uint32, profiles ...event.ProfileID) error {
	runs := runReader{reader: tx, space: space, epoch: epoch}
	whose := map[commitlog.Offset]Whose{}
	for _, p := range profiles {
		held, err := Held(tx, space, epoch, p)
		if err != nil {
			return err
		}
		for _, key := range held {
			parts := kv.PartsAfter(key, historyStem(space, epoch, p))
			parts.Int64()
			at := commitlog.Offset(parts.Uint64())
			if !parts.OK() {
				return errRun
			}
			w, known := whose[at]
			if !known {
				run, err := runs.profiles(at)
				if err != nil {
					return err
				}
				if run == nil {
					return errRun
				}
				w = run.of(at)
			}
			if w.Profile == p {
				w.Profile = event.ProfileID{}
			}
			if w.Account == p {
				w.Account = event.ProfileID{}
			}
			whose[at] = w
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
	}
	return Reassign(tx, space, epoch, whose)
}

// Reassign says whose events are, in place of what was recorded when they
// passed. It does not write their history. It is called within a transaction of
// the loop.
func Reassign(tx kv.Tx, space, epoch uint32, whose map[commitlog.Offset]Whose) error {
	for _, at := range slices.Sorted(maps.Keys(whose)) {
		w := whose[at]
		value := kv.Value{overlayFormat}.Fixed(w.Profile[:]).Fixed(w.Account[:])
		if err := tx.Set(runKey(overlayStem(space, epoch), at), value); err != nil {
			return err
		}
	}
	return nil
}

// overlay applies what Reassign has said to a run.
func (r *profileRun) overlay(reader kv.Reader, space, epoch uint32) error {
	stem := overlayStem(space, epoch)
	rng := kv.Range{From: runKey(stem, r.first), To: runKey(stem, r.first+commitlog.Offset(len(r.profiles)))}
	for pair, err := range reader.Scan(rng) {
		if err != nil {
			return err
		}
		parts, f := kv.PartsAfter(pair.Key, stem), kv.FieldsOf(pair.Value)
		known := f.Byte() == overlayFormat
		i := commitlog.Offset(parts.Uint64()) - r.first
		copy(r.profiles[i][:], f.Fixed(len(r.profiles[i])))
		copy(r.accounts[i][:], f.Fixed(len(r.accounts[i])))
		if !known || !parts.OK() || !f.OK() {
			return errRun
		}
	}
	return nil
}

// of returns whose a record of the run is.
func (r *profileRun) of(at commitlog.Offset) Whose {
	return Whose{Profile: r.profiles[at-r.first], Account: r.accounts[at-r.first]}
}
