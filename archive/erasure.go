package archive

import (
	"context"
	"encoding/json"
	"slices"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
)

// Erasure is an erase command of a space that the loop has carried out. Until
// its work is done it holds whom it erased, and every reader hides them; then
// only the receipt is left.
type Erasure struct {
	Offset   commitlog.Offset `json:"offset"`   // of the command in the raw log; the erasure holds for the records before it
	Resolved commitlog.Offset `json:"resolved"` // it holds for the outputs before this one
	Epoch    uint32           `json:"epoch"`    // that was live; it says whose events were
	At       int64            `json:"at"`       // the command's instant, in milliseconds
	By       string           `json:"by,omitempty"`
	Note     string           `json:"note,omitempty"`

	Persons int `json:"persons"` // how many profiles were erased, merged ones counted as one
	// Profiles are the ids of those profiles, and of all that were ever merged
	// into them.
	Profiles    []event.ProfileID  `json:"-"`
	Identifiers []event.Identifier `json:"-"`

	// Others are persons whose events were redacted and who are to be worked
	// out again, by the ids of that time.
	Others []event.ProfileID `json:"-"`

	Receipt *Receipt `json:"receipt,omitempty"` // nil: blocks hold what readers must hide
}

// Receipt says what an erasure has done.
type Receipt struct {
	// Hash stands for whom it erased: whoever knows the identifiers and has
	// the server's key can tell that they are meant, and nobody else.
	Hash     string `json:"hash"`
	Together int    `json:"together"` // how many erasures were completed in one pass; the numbers below are of all
	Erased   uint64 `json:"erased"`   // events of which nothing but offset, instant and record id is left
	Redacted uint64 `json:"redacted"` // events of others out of which identifiers were taken
	Outputs  uint64 `json:"outputs"`  // of the resolved log, erased or redacted
	Blocks   uint64 `json:"blocks"`   // that were written anew
	// Uploads is how many imports were unfinished: their files may name the
	// erased, and go when the import ends, 7 days after it was paused at the latest.
	Uploads int `json:"uploads,omitempty"`
	// Left says why others, whose events were redacted, still have what the
	// identifiers gave them: they wait for a rebuild.
	Left      string `json:"left,omitempty"`
	Completed int64  `json:"completed"` // when no file held anything of it any more, in milliseconds; zero: some may
}

// Done reports whether nothing is left of whom the erasure erased, in any file.
func (e *Erasure) Done() bool { return e.Receipt != nil && e.Receipt.Completed > 0 }

// erasureJSON is the JSON of an Erasure.
type erasureJSON struct {
	Erasure
	Whom  []string           `json:"profiles,omitempty"`
	Known []event.ExternalID `json:"identifiers,omitempty"`
	Again []string           `json:"others,omitempty"`
}

func encodeErasure(e *Erasure) (kv.Value, error) {
	s := erasureJSON{Erasure: *e}
	for _, p := range e.Profiles {
		s.Whom = append(s.Whom, p.String())
	}
	for _, p := range e.Others {
		s.Again = append(s.Again, p.String())
	}
	for _, id := range e.Identifiers {
		s.Known = append(s.Known, event.ExternalIDOf(id))
	}
	b, err := json.Marshal(s)
	return append(kv.Value{erasureFormat}, b...), err
}

func decodeErasure(value []byte) (*Erasure, error) {
	if len(value) == 0 || value[0] != erasureFormat {
		return nil, errErasure
	}
	var s erasureJSON
	if err := json.Unmarshal(value[1:], &s); err != nil {
		return nil, errErasure
	}
	e := &s.Erasure
	for _, of := range []struct {
		texts []string
		into  *[]event.ProfileID
	}{{s.Whom, &e.Profiles}, {s.Again, &e.Others}} {
		for _, text := range of.texts {
			p, err := event.ParseProfileID(text)
			if err != nil {
				return nil, errErasure
			}
			*of.into = append(*of.into, p)
		}
	}
	for _, x := range s.Known {
		e.Identifiers = append(e.Identifiers, x.Identifier())
	}
	return e, nil
}

var errErasure = fault.New(fault.Internal, "a stored erasure is damaged or of an unknown format")

// Erase writes an erasure down. It is called within a transaction of the live
// loop, which calls Hide once that is committed.
func (a *Archive) Erase(tx kv.Tx, space uint32, e *Erasure) error {
	value, err := encodeErasure(e)
	if err != nil {
		return err
	}
	return tx.Set(erasureKey(space, e.Offset), value)
}

// Erasures returns the erasures of a space, the oldest first.
func Erasures(r kv.Reader, space uint32) (list []*Erasure, err error) {
	for pair, err := range r.Scan(kv.Prefix(erasureStem(space))) {
		if err != nil {
			return nil, err
		}
		e, err := decodeErasure(pair.Value)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// ErasureAt returns the erasure whose command has an offset, or nil.
func ErasureAt(r kv.Reader, space uint32, at commitlog.Offset) (*Erasure, error) {
	value, err := r.Get(erasureKey(space, at))
	if err != nil || value == nil {
		return nil, err
	}
	return decodeErasure(value)
}

// Hide has every reader of a space hide what an erasure has erased, from now
// on.
func (a *Archive) Hide(ctx context.Context, space uint32, e *Erasure) error {
	return a.change(ctx, space, func(list []*Erasure) []*Erasure {
		list = slices.DeleteFunc(list, func(other *Erasure) bool { return other.Offset == e.Offset })
		return append(list, e)
	})
}

// Unhide ends that for an erasure whose work is done: nothing is left to hide.
func (a *Archive) Unhide(ctx context.Context, space uint32, at commitlog.Offset) error {
	return a.change(ctx, space, func(list []*Erasure) []*Erasure {
		return slices.DeleteFunc(list, func(e *Erasure) bool { return e.Offset == at })
	})
}

// change gives a space another veil and forgets the blocks that are at hand.
func (a *Archive) change(ctx context.Context, space uint32, fn func([]*Erasure) []*Erasure) error {
	if _, err := a.veilOf(ctx, space); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.veils[space] = NewVeil(fn(slices.Clone(a.veils[space].list))).behind(a.veils[space].horizon)
	a.drop(space)
	return nil
}

// drop forgets the unpacked blocks of a space. The caller holds mu.
func (a *Archive) drop(space uint32) {
	a.hot = slices.DeleteFunc(a.hot, func(h *hotBlock) bool {
		if h.space == space {
			a.size -= h.bytes
			return true
		}
		return false
	})
}

// Forgotten forgets the unpacked blocks of a space that are at hand: the log
// has others now.
func (a *Archive) Forgotten(space uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := a.veils[space]; v != nil {
		a.veils[space] = NewVeil(v.list).behind(v.horizon) // what is being unpacked is not kept either
	}
	a.drop(space)
}

// veilOf returns what readers of a space hide; it reads it when it is asked for
// the first time.
func (a *Archive) veilOf(ctx context.Context, space uint32) (*Veil, error) {
	a.mu.Lock()
	v := a.veils[space]
	a.mu.Unlock()
	if v != nil {
		return v, nil
	}
	var hidden []*Erasure
	var horizon Horizon
	err := a.db.View(ctx, func(r kv.Reader) (err error) {
		if horizon, err = HorizonOf(r, space); err != nil {
			return err
		}
		list, err := Erasures(r, space)
		hidden = slices.DeleteFunc(list, func(e *Erasure) bool { return e.Receipt != nil })
		return err
	})
	if err != nil {
		return nil, err
	}
	v = NewVeil(hidden).behind(horizon)
	a.mu.Lock()
	defer a.mu.Unlock()
	if other := a.veils[space]; other != nil {
		return other, nil
	}
	a.veils[space] = v
	return v, nil
}
