package object

import (
	"bytes"
	"context"

	"kith/archive/redact"
	"kith/kv"
)

// redactPage is how many objects are looked at in one moment of the store.
const redactPage = 1000

// Redact takes erased identifiers out of all objects of a space: out of their
// properties, and an object whose id is one goes. It runs beside the loop, under
// its fence, and may be done again.
func Redact(ctx context.Context, db kv.DB, fence kv.Fence, space uint32, set *redact.Set) error {
	stem := kv.SpaceKey(space, Room).Byte(objects)
	next := kv.Prefix(stem)
	next.Limit = redactPage
	for {
		var found [][]byte
		n := 0
		err := db.View(ctx, func(r kv.Reader) error {
			for pair, err := range r.Scan(next) {
				if err != nil {
					return err
				}
				n++
				next.From = append(bytes.Clone(pair.Key), 0)
				if _, id, ok := objectOf(stem, pair.Key); !ok || set.Stands([]byte(id)) || set.In(pair.Value) {
					found = append(found, bytes.Clone(pair.Key))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(found) > 0 {
			err := db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
				for _, key := range found {
					if err := redactOne(tx, space, stem, key, set); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if n < redactPage {
			return nil
		}
	}
}

func redactOne(tx kv.Tx, space uint32, stem kv.Key, key []byte, set *redact.Set) error {
	value, err := tx.Get(key)
	if err != nil || value == nil {
		return err
	}
	s, err := decodeState(value)
	if err != nil {
		return err
	}
	counted, id, ok := objectOf(stem, key)
	if ok && set.Text(id) == id {
		clean := set.JSON([]byte(s.properties), nil, nil)
		if string(clean) == s.properties {
			return nil
		}
		s.properties = string(clean)
		return tx.Set(key, s.encode())
	}
	if err := tx.Delete(key); err != nil || !ok {
		return err
	}
	countKey := countStem(space, counted.source).String(counted.name)
	value, err = tx.Get(countKey)
	if err != nil {
		return err
	}
	t, err := decodeTally(value)
	if err != nil || t.objects == 0 {
		return err
	}
	t.objects--
	return tx.Set(countKey, t.encode())
}

// collection is where an object is.
type collection struct{ source, name string }

func objectOf(stem kv.Key, key []byte) (c collection, id string, ok bool) {
	parts := kv.PartsAfter(key, stem)
	c.source, c.name = parts.String(), parts.String()
	id = parts.String()
	return c, id, parts.OK()
}
