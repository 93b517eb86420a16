package delivery

import (
	"bytes"
	"context"

	"kith/event"
	"kith/kv"
)

// Forget takes erased persons out of what is kept of outputs that wait, of dead
// letters and of failures: whose they are, and reasons in which stands finds an
// identifier. The outputs themselves keep their place; the gates hold them back,
// since nothing is left to send. It may be done again.
func (d *Delivery) Forget(ctx context.Context, whose func(event.ProfileID) bool, stands func([]byte) bool) error {
	ids, err := d.kept(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		for _, of := range []struct {
			stem   kv.Key
			forget func(value []byte) (instead []byte, changed bool, err error)
		}{
			{stemOf(id).Byte(WaitingKind), func(value []byte) ([]byte, bool, error) {
				w, err := decodeWaiting(value)
				changed := whose(w.profile) || stands([]byte(w.reason))
				if whose(w.profile) {
					w.profile = event.ProfileID{}
				}
				w.reason = ""
				return w.encode(), changed, err
			}},
			{deadStem(id), func(value []byte) ([]byte, bool, error) {
				x, err := decodeDead(value)
				changed := whose(x.profile) || stands([]byte(x.reason))
				if whose(x.profile) {
					x.profile = event.ProfileID{}
				}
				x.reason = ""
				return x.encode(), changed, err
			}},
			{failureStem(id), func(value []byte) ([]byte, bool, error) { return nil, stands(value), nil }},
		} {
			if err := forgetIn(ctx, d.cfg.DB, Fence(id), of.stem, of.forget); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetIn replaces the values under a stem that change, or deletes the pairs
// of which nothing is left. It looks in pieces, and again in the transaction.
func forgetIn(ctx context.Context, db kv.DB, fence kv.Fence, stem kv.Key, forget func([]byte) ([]byte, bool, error)) error {
	const page = 1000
	next := kv.Prefix(stem)
	next.Limit = page
	for {
		var keys [][]byte
		n := 0
		err := db.View(ctx, func(r kv.Reader) error {
			for pair, err := range r.Scan(next) {
				if err != nil {
					return err
				}
				n++
				next.From = append(bytes.Clone(pair.Key), 0)
				if _, changed, err := forget(pair.Value); err != nil {
					return err
				} else if changed {
					keys = append(keys, bytes.Clone(pair.Key))
				}
			}
			return nil
		})
		if err == nil && len(keys) > 0 {
			err = db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
				for _, key := range keys {
					value, err := tx.Get(key)
					if err != nil {
						return err
					}
					if value == nil {
						continue
					}
					instead, changed, err := forget(value)
					switch {
					case err != nil:
						return err
					case !changed:
					case instead == nil:
						if err := tx.Delete(key); err != nil {
							return err
						}
					default:
						if err := tx.Set(key, instead); err != nil {
							return err
						}
					}
				}
				return nil
			})
		}
		if err != nil || n < page {
			return err
		}
	}
}
