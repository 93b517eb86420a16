package pebblekv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"kith/kv"
)

// benchOpen opens a store and reports, at the end, what the disk took for each
// operation counted by b.N.
func benchOpen(b *testing.B) *DB {
	db, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		m := db.Stats()
		b.ReportMetric(float64(m.Written)/float64(b.N), "written-B/op")
		b.ReportMetric(float64(m.Disk)/float64(b.N), "disk-B/op")
		b.ReportMetric(float64(m.Debt)/float64(b.N), "debt-B/op")
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	return db
}

// BenchmarkBatch commits batches under one fence as a space's loop does: for
// each of 500 events a look for a key that is mostly new and its write, and a
// page of state of one of a million profiles read and rewritten; and for each
// batch a look for the end of the log and one block of 300 bytes an event. One operation is one event.
func BenchmarkBatch(b *testing.B) {
	const batch, profiles = 500, 1_000_000
	db := benchOpen(b)
	rng := rand.NewChaCha8([32]byte{1})
	random := rand.New(rng)
	block := make([]byte, 300*batch)
	state := make([]byte, 150)
	id := make([]byte, 16)
	b.ResetTimer()
	for done := 0; done < b.N; done += batch {
		rng.Read(block)
		err := db.Update(context.Background(), "loop", kv.Durable, func(tx kv.Tx) error {
			for i := range batch {
				rng.Read(id)
				dedup := kv.SpaceKey(1, 'd').Fixed(id)
				if _, err := tx.Get(dedup); err != nil {
					return err
				}
				if err := tx.Set(dedup, []byte{1}); err != nil {
					return err
				}
				profile := kv.EpochKey(1, 1, 'f').Uint64(uint64(random.IntN(profiles)) * 0x9e3779b97f4a7c15)
				if _, err := tx.Get(profile); err != nil {
					return err
				}
				if err := tx.Set(profile, fmt.Appendf(state[:0], "%0150d", done+i)); err != nil {
					return err
				}
			}
			log := kv.SpaceKey(1, 'o')
			last := kv.Prefix(log)
			last.Reverse, last.Limit = true, 1
			for _, err := range tx.Scan(last) {
				if err != nil {
					return err
				}
			}
			return tx.Set(log.Uint64(uint64(done)), block)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit commits one small pair durably, alone and from many fences
// at once: one operation is one commit.
func BenchmarkCommit(b *testing.B) {
	set := func(db *DB, fence kv.Fence, i uint64) error {
		return db.Update(context.Background(), fence, kv.Durable, func(tx kv.Tx) error {
			return tx.Set(kv.Key(fence).Uint64(i), make([]byte, 100))
		})
	}
	b.Run("one fence", func(b *testing.B) {
		db := benchOpen(b)
		for i := range uint64(b.N) {
			if err := set(db, "one", i); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64 fences", func(b *testing.B) {
		db := benchOpen(b)
		var fences atomic.Uint64
		b.SetParallelism(64)
		b.RunParallel(func(p *testing.PB) {
			fence := kv.Fence(fmt.Sprint("fence ", fences.Add(1)))
			for i := uint64(0); p.Next(); i++ {
				if err := set(db, fence, i); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// BenchmarkRead reads single keys, in a view each: one that is there, and one
// that is not.
func BenchmarkRead(b *testing.B) {
	const keys = 500_000
	db := benchOpen(b)
	for from := uint64(0); from < keys; from += 5000 {
		err := db.Update(context.Background(), "f", kv.Lazy, func(tx kv.Tx) error {
			for i := from; i < from+5000; i++ {
				if err := tx.Set(kv.Key("key").Uint64(i*0x9e3779b97f4a7c15), make([]byte, 150)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for name, off := range map[string]uint64{"there": 0, "missing": 1} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				err := db.View(context.Background(), func(r kv.Reader) error {
					_, err := r.Get(kv.Key("key").Uint64(rand.Uint64N(keys)*0x9e3779b97f4a7c15 + off))
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
