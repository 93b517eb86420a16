package rebuild

import (
	"context"
	"time"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
)

// Purpose is what an epoch is for.
type Purpose string

// The purposes.
const (
	First      Purpose = "first"      // the one that a space begins with
	Rebuild    Purpose = "rebuild"    // it takes the place of the live one
	Simulation Purpose = "simulation" // other rules are tried in it; it goes at the end
	Base       Purpose = "base"       // it stands at the horizon, or is to; see Advance
)

// beside reports whether epochs of a purpose never become live: what operators
// do to rebuilds is not for them.
func (p Purpose) beside() bool { return p == Simulation || p == Base }

// Mode says by which identity rules an epoch was made.
type Mode string

// The modes.
const (
	// Recorded: every record by the rules that were in force when it came.
	Recorded Mode = "recorded"
	// Current: the rules in force when the rebuild was started, from the first
	// record on.
	Current Mode = "current"
)

// Epoch is one of the states that were derived of a space.
type Epoch struct {
	Number  uint32    `json:"number"`
	Purpose Purpose   `json:"purpose"`
	Engine  string    `json:"engine"` // the version of kith that made it
	Created time.Time `json:"created"`
	Rules   Mode      `json:"rules"`
	// Snapshot is, where the rules are Current, the configuration they are of.
	Snapshot uint64 `json:"snapshot,omitempty"`
	Note     string `json:"note,omitempty"`
	Hold     bool   `json:"hold,omitempty"` // wait for somebody to look before the swap

	// Base is, where it began as a copy of the base, that epoch, and Begins the
	// record at which that stood: the records before it were not replayed. Copied
	// says that all of it is there, Taken is Taken's number of the base then.
	Base   uint32           `json:"base,omitempty"`
	Begins commitlog.Offset `json:"begins,omitempty"`
	Copied bool             `json:"copied,omitempty"`
	Taken  uint64           `json:"taken,omitempty"`
	// Target is, of a base, the record at which it is to stand, and TargetAt the
	// instant since when all records are kept then.
	Target   commitlog.Offset `json:"target,omitempty"`
	TargetAt time.Time        `json:"targetAt,omitzero"`

	// Anew says that what there is of it is to be removed before it goes on; see
	// Renew.
	Anew bool `json:"anew,omitempty"`
	// Ready is when it had caught up and stood waiting for the swap.
	Ready time.Time `json:"ready,omitzero"`
	// Swapped is when it became the live one, and Pause for how long the loop
	// stood then. Behind is how many records it still had to read then.
	Swapped time.Time     `json:"swapped,omitzero"`
	Former  uint32        `json:"former,omitempty"` // whose place it took
	Pause   time.Duration `json:"pause,omitempty"`
	Behind  uint64        `json:"behind,omitempty"`
	// Replaced is when another took its place, Keep until when it is kept.
	Replaced time.Time `json:"replaced,omitzero"`
	Keep     time.Time `json:"keep,omitzero"`
	// Dropped is when somebody gave it up or its time was over: what is left of
	// it goes.
	Dropped time.Time `json:"dropped,omitzero"`
}

// kept reports whether the epoch can be swapped back to.
func (e *Epoch) kept() bool { return !e.Replaced.IsZero() && e.Dropped.IsZero() }

// remembered is how many epochs that were dropped can still be seen, and
// rememberedBases how many that were the base.
const (
	remembered      = 50
	rememberedBases = 3
)

// epochs reads the list of a space's epochs, oldest first. The first is in it
// once something was written about it.
func epochs(r kv.Reader, space uint32) ([]*Epoch, error) {
	var list []*Epoch
	for pair, err := range r.Scan(kv.Prefix(epochStem(space))) {
		if err != nil {
			return nil, err
		}
		e, err := decode(pair.Value)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// list reads the epochs of a space; see epochs.
func (m *Manager) list(ctx context.Context, space uint32) (all []*Epoch, err error) {
	err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
		all, err = epochs(r, space)
		return err
	})
	return all, err
}

// all returns the live epoch of a space and the list of its epochs.
func (m *Manager) all(ctx context.Context, space uint32) (live uint32, all []*Epoch, err error) {
	if live, err = m.cfg.House.Live(space); err != nil {
		return 0, nil, err
	}
	all, err = m.list(ctx, space)
	return live, all, err
}

// epoch reads one epoch, or fault.NotFound.
func (m *Manager) epoch(ctx context.Context, space, number uint32) (e *Epoch, err error) {
	err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
		value, err := r.Get(epochKey(space, number))
		if err != nil {
			return err
		}
		if value == nil {
			return fault.New(fault.NotFound, "there is no rebuild %d; see the list", number)
		}
		e, err = decode(value)
		return err
	})
	return e, err
}

// change changes what is kept of an epoch, which is made if it is not there.
func (m *Manager) change(ctx context.Context, space, number uint32, fn func(*Epoch) error) error {
	return m.cfg.DB.Update(ctx, fence(space), kv.Durable, func(tx kv.Tx) error {
		value, err := tx.Get(epochKey(space, number))
		if err != nil {
			return err
		}
		e := &Epoch{Number: number, Purpose: First, Rules: Recorded}
		if value != nil {
			if e, err = decode(value); err != nil {
				return err
			}
		}
		if err := fn(e); err != nil {
			return err
		}
		if value, err = encode(e); err != nil {
			return err
		}
		return tx.Set(epochKey(space, number), value)
	})
}

// add gives out the number of a new epoch, and forgets those that were dropped
// long ago. check may refuse it.
func (m *Manager) add(ctx context.Context, space, live uint32, e *Epoch, check func([]*Epoch) error) error {
	return m.cfg.DB.Update(ctx, fence(space), kv.Durable, func(tx kv.Tx) error {
		all, err := epochs(tx, space)
		if err != nil {
			return err
		}
		if err := check(all); err != nil {
			return err
		}
		e.Number = live + 1
		dropped, bases := 0, 0
		for i := len(all) - 1; i >= 0; i-- {
			e.Number = max(e.Number, all[i].Number+1)
			if all[i].Dropped.IsZero() {
				continue
			}
			if all[i].Purpose == Base {
				bases++
			} else {
				dropped++
			}
			if all[i].Purpose == Base && bases > rememberedBases || all[i].Purpose != Base && dropped > remembered {
				if err := tx.Delete(epochKey(space, all[i].Number)); err != nil {
					return err
				}
			}
		}
		value, err := encode(e)
		if err != nil {
			return err
		}
		return tx.Set(epochKey(space, e.Number), value)
	})
}
