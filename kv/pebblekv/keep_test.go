package pebblekv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"kith/kv"
	"kith/kv/kvtest"
)

// keeping has the store keep what is read under every fence.
type keeping struct{ *DB }

func (k keeping) Update(ctx context.Context, f kv.Fence, d kv.Durability, fn func(kv.Tx) error) error {
	if k.keeps.of(f) == nil {
		k.Keep(f, nil, keptPieces*2*keptSmallest)
	}
	return k.DB.Update(ctx, f, d, fn)
}

func TestConformanceKeeping(t *testing.T) {
	dirs := make(map[kv.DB]string)
	inDir := func(t *testing.T, dir string) kv.DB {
		db := keeping{open(t, dir, Options{})}
		dirs[db] = dir
		return db
	}
	kvtest.Run(t, func(t *testing.T) kv.DB { return inDir(t, t.TempDir()) }, kvtest.Options{
		Reopen: func(t *testing.T, db kv.DB) kv.DB {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return inDir(t, dirs[db])
		},
	})
}

// TestKeep compares what a fence reads with a plain map, over random
// transactions: some fail, some are of another fence, sometimes a range goes,
// and there is room for some of the values only.
func TestKeep(t *testing.T) {
	const stem = "e1"
	ctx := t.Context()
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		db := open(t, t.TempDir(), small)
		want := map[string][]byte{}
		key := func() []byte {
			form := "e1%c%c%d"
			if random.IntN(10) == 0 {
				form = "e%c%c%d" // outside the stem, or as short as a kind
			}
			return fmt.Appendf(nil, form, 'a'+random.IntN(3), 'a'+random.IntN(3), random.IntN(300))[:2+random.IntN(6)]
		}
		value := func() []byte {
			size := random.IntN(200)
			if random.IntN(50) == 0 {
				size = keptValue + random.IntN(100)
			}
			return bytes.Repeat([]byte{byte(random.IntN(256))}, size)
		}
		fill := func(fence kv.Fence, n int) {
			next := map[string][]byte{}
			for k, v := range want {
				next[k] = v
			}
			failed := errors.New("on purpose")
			err := db.Update(ctx, fence, kv.Lazy, func(tx kv.Tx) error {
				for range n {
					k := key()
					if random.IntN(3) > 0 {
						got, err := tx.Get(k)
						if err != nil {
							return err
						}
						if v, there := next[string(k)]; !bytes.Equal(got, v) || there != (got != nil) {
							t.Fatalf("seed %d: %q is %.20x (%d bytes), want %.20x (%d bytes)", seed, k, got, len(got), v, len(v))
						}
					}
					var err error
					switch random.IntN(4) {
					case 0:
						err = tx.Delete(k)
						delete(next, string(k))
					case 1, 2:
						v := value()
						err = tx.Set(k, v)
						next[string(k)] = v
					}
					if err != nil {
						return err
					}
				}
				if random.IntN(8) == 0 {
					return failed
				}
				return nil
			})
			switch {
			case err == nil:
				want = next
			case !errors.Is(err, failed):
				t.Fatal(err)
			}
		}
		if seed%2 == 0 {
			fill("other", 200)
		}
		end := db.Keep("f", []byte(stem), keptPieces*keptSmallest*2)
		for range 150 {
			switch random.IntN(30) {
			case 0:
				fill("other", 50)
			case 1:
				from, to := key(), key()
				if bytes.Compare(from, to) > 0 {
					from, to = to, from
				}
				if err := db.DeleteRange(ctx, from, to); err != nil {
					t.Fatal(err)
				}
				for k := range want {
					if k >= string(from) && k < string(to) {
						delete(want, k)
					}
				}
			case 2:
				end()
				end = db.Keep("f", []byte(stem), keptPieces*keptSmallest*2)
			default:
				fill("f", 100)
			}
		}
		end()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeepIsBounded: what is kept takes no more than it was given, and what is
// asked for again and again stays.
func TestKeepIsBounded(t *testing.T) {
	const most = 4 << 20
	c := newKept(nil, most)
	c.vacant = true
	hot := []byte("hot key")
	c.put(hot, []byte("hot"))
	for i := range 200_000 {
		key := fmt.Appendf(nil, "cold %d", i)
		if _, known := c.get(key); known && i > 100_000 {
			t.Fatal("of a kind of which much had to go it is said that all is there")
		}
		c.put(key, make([]byte, i%300))
		if _, known := c.get(hot); !known {
			t.Fatalf("after %d others the hot one is gone", i)
		}
	}
	size := len(c.at) * 24
	for _, p := range c.pieces {
		size += cap(p)
	}
	if size > most*5/4 {
		t.Errorf("%d bytes are kept, %d were given", size, most)
	}
	if newKept(nil, 1000) != nil {
		t.Error("a thousand bytes are enough to keep something")
	}
}
