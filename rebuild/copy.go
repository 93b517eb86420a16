package rebuild

import (
	"bytes"
	"context"
	"errors"

	"kith/commitlog"
	"kith/fault"
	"kith/job"
	"kith/kv"
)

// How much of the base is copied in one transaction.
const (
	copyKeys  = 5_000
	copyBytes = 4 << 20
)

// errStale means that the base has become another while it was copied.
var errStale = errors.New("rebuild: the base has changed")

// ErrOther is BaseReplay's: the epoch has to begin again.
var ErrOther = errors.New("rebuild: the live state goes by other rules than the base was made by")

// Took notes that something was taken out of an epoch, in the same transaction,
// while another epoch, or the same, was the base: a copy of the base that is
// under way begins again. An erasure does so.
func Took(tx kv.Tx, space, base, epoch uint32) error {
	key := takenStem(space, base).Uint32(epoch)
	value, err := tx.Get(key)
	if err != nil {
		return err
	}
	n := uint64(0)
	if value != nil {
		if n, err = decodeTaken(value); err != nil {
			return err
		}
	}
	return tx.Set(key, kv.Value{epochFormat}.Uvarint(n+1))
}

func decodeTaken(value []byte) (uint64, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == epochFormat
	n := f.Uvarint()
	if !known || !f.OK() {
		return 0, fault.New(fault.Internal, "what is kept of the base is damaged or of an unknown format")
	}
	return n, nil
}

// taken returns how often something was taken out while an epoch was the base.
func taken(r kv.Reader, space, base uint32) (n uint64, err error) {
	for pair, err := range r.Scan(kv.Prefix(takenStem(space, base))) {
		if err != nil {
			return 0, err
		}
		more, err := decodeTaken(pair.Value)
		if err != nil {
			return 0, err
		}
		n += more
	}
	return n, nil
}

// base returns the base of a space, zero when there is none.
func (m *Manager) base(ctx context.Context, space uint32) (epoch uint32, err error) {
	err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
		epoch, _, err = m.cfg.House.Base(r, space)
		return err
	})
	return epoch, err
}

// ground gives an epoch what its replay begins with: nothing, what it has
// already, or a copy of the base where records that it would need were trimmed.
// A copy that was interrupted goes on behind the last key that is there.
func (m *Manager) ground(ctx context.Context, h *job.Handle, at place, seen *progress) (*Epoch, error) {
	for {
		e, err := m.epoch(ctx, at.space, at.epoch)
		if err != nil {
			return nil, err
		}
		var base uint32
		var horizon, next commitlog.Offset
		var gone uint64
		err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
			if base, horizon, err = m.cfg.House.Base(r, at.space); err != nil {
				return err
			}
			if next, err = m.cfg.House.Position(r, at.space, at.epoch); err != nil {
				return err
			}
			gone, err = taken(r, at.space, base)
			return err
		})
		if err != nil {
			return nil, err
		}
		if !e.Anew && next >= horizon && (e.Base == 0 || e.Copied) {
			return e, nil
		}
		if e.Anew || e.Copied || e.Base != base || e.Taken != gone {
			if err := m.clear(ctx, at.space, at.epoch); err != nil {
				return nil, err
			}
			err := m.change(ctx, at.space, at.epoch, func(e *Epoch) error {
				e.Anew, e.Base, e.Begins, e.Copied, e.Taken = false, base, horizon, false, gone
				return nil
			})
			if err != nil {
				return nil, err
			}
			continue
		}
		err = m.copy(ctx, h, at, e, seen)
		if err == nil {
			err = m.change(ctx, at.space, at.epoch, func(e *Epoch) error {
				e.Copied = true
				return nil
			})
		}
		if err != nil && !errors.Is(err, errStale) {
			return nil, err
		}
	}
}

// copy copies what the base holds and the epoch has not yet. It fails with
// errStale when that is the base no longer, or something was taken out of it.
func (m *Manager) copy(ctx context.Context, h *job.Handle, at place, e *Epoch, seen *progress) error {
	for more := true; more; {
		err := m.cfg.DB.Update(ctx, loopFence(at.space, at.epoch), kv.Lazy, func(tx kv.Tx) (err error) {
			more, err = copySome(tx, at.space, e.Base, at.epoch)
			return err
		})
		if err != nil {
			return err
		}
		// What was read was the base, and whole, if it is so still. This is no
		// affair of that transaction: others write these keys.
		err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
			base, _, err := m.cfg.House.Base(r, at.space)
			if err != nil {
				return err
			}
			gone, err := taken(r, at.space, base)
			if err == nil && (base != e.Base || gone != e.Taken) {
				err = errStale
			}
			return err
		})
		if err != nil {
			return err
		}
		seen.note(m.cfg.Clock.Now(), 0, uint64(e.Begins))
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return h.Save(ctx, nil, uint64(e.Begins), uint64(e.Begins))
}

// copySome copies the next keys of the base to an epoch, and reports whether
// there may be more.
func copySome(tx kv.Tx, space, base, epoch uint32) (more bool, err error) {
	rest, last := kv.EpochRange(space, base), kv.EpochRange(space, epoch)
	last.Reverse, last.Limit = true, 1
	for pair, err := range tx.Scan(last) {
		if err != nil {
			return false, err
		}
		rest.From = append(kv.InEpoch(pair.Key, base), 0)
	}
	rest.Limit = copyKeys
	var pairs []kv.Pair
	size := 0
	for pair, err := range tx.Scan(rest) {
		if err != nil {
			return false, err
		}
		key := kv.InEpoch(pair.Key, epoch)
		pairs = append(pairs, kv.Pair{Key: key, Value: bytes.Clone(pair.Value)})
		if size += len(key) + len(pair.Value); size > copyBytes {
			more = true
			break
		}
	}
	for _, p := range pairs {
		if err := tx.Set(p.Key, p.Value); err != nil {
			return false, err
		}
	}
	return more || len(pairs) == copyKeys, nil
}

// errAgain means that an epoch is to begin again.
var errAgain = errors.New("rebuild: the epoch begins again")

// overtaken looks at why a replay failed: one that has come to records which
// were trimmed meanwhile begins again with the base, which is errAgain.
func (m *Manager) overtaken(ctx context.Context, at place, failed error) error {
	var next, horizon commitlog.Offset
	err := m.cfg.DB.View(ctx, func(r kv.Reader) (err error) {
		if _, horizon, err = m.cfg.House.Base(r, at.space); err != nil {
			return err
		}
		next, err = m.cfg.House.Position(r, at.space, at.epoch)
		return err
	})
	if err != nil || next >= horizon {
		return failed
	}
	m.cfg.Logger.Info("a rebuild begins again with the base, since the records that come next were trimmed", "space", at.space, "epoch", at.epoch)
	return errAgain
}

// reaches refuses to swap back to a former epoch that cannot be led on to where
// the live one is.
func (m *Manager) reaches(ctx context.Context, space uint32, e *Epoch) error {
	return m.cfg.DB.View(ctx, func(r kv.Reader) error {
		base, horizon, err := m.cfg.House.Base(r, space)
		if err != nil || base == 0 {
			return err
		}
		next, err := m.cfg.House.Position(r, space, e.Number)
		if err != nil {
			return err
		}
		if next < horizon {
			return fault.New(fault.Conflict, "the former state %d stands at record %d, and the events before record %d have been trimmed since: it cannot be led on to today", e.Number, next, horizon)
		}
		return m.cfg.House.Alike(r, space, e.Number, base)
	})
}
