package inspect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"

	"kith/event"
	"kith/kv"
)

// Forget removes what is kept of identifiers: on which days they were seen,
// and the rejected messages and samples in which stands finds one. The counts
// stay. What an Observer that runs has in memory of them expires with the day.
// It may be done again.
func Forget(ctx context.Context, db kv.DB, ids []event.Identifier, stands func([]byte) bool) error {
	hashes := map[[16]byte]bool{}
	for _, id := range ids {
		sum := sha256.Sum256([]byte(id.Value))
		hashes[[16]byte(sum[:16])] = true
	}
	for _, of := range []struct {
		stem  kv.Key
		fence kv.Fence
		gone  func(kv.Pair) bool
	}{
		{kv.WorkspaceKey(room).Byte(rejections), fence, func(p kv.Pair) bool { return stands(p.Value) }},
		{sampleDayStem(), usageFence, func(p kv.Pair) bool { return stands(p.Value) }},
		{identityStem(), usageFence, func(p kv.Pair) bool {
			parts := kv.PartsAfter(p.Key, identityStem())
			parts.Uint32()
			parts.Byte()
			return hashes[[16]byte(parts.Fixed(16))]
		}},
	} {
		if err := forget(ctx, db, of.fence, of.stem, of.gone); err != nil {
			return err
		}
	}
	return nil
}

// forget deletes the pairs under a stem of which gone says so.
func forget(ctx context.Context, db kv.DB, fence kv.Fence, stem kv.Key, gone func(kv.Pair) bool) error {
	const page = 10_000
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
				if gone(pair) {
					keys = append(keys, bytes.Clone(pair.Key))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for some := range slices.Chunk(keys, 1000) {
			err := db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
				for _, key := range some {
					if err := tx.Delete(key); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if n < page {
			return nil
		}
	}
}
