package kvtest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"kith/kv"
)

func reopening(t *testing.T, db kv.DB, reopen func(*testing.T, kv.DB) kv.DB) {
	ctx := t.Context()
	put := func(key string, d kv.Durability) {
		t.Helper()
		if err := db.Update(ctx, "test", d, func(tx kv.Tx) error { return write(tx, key+"=1") }); err != nil {
			t.Fatal(err)
		}
	}
	put("durable", kv.Durable)
	put("dropped", kv.Durable)
	if ranges, ok := db.(kv.RangeDeleter); ok {
		if err := ranges.DeleteRange(ctx, []byte("dropped"), []byte("dropped\x00")); err != nil {
			t.Fatal(err)
		}
	} else {
		update(t, db, func(tx kv.Tx) error { return tx.Delete([]byte("dropped")) })
	}
	put("lazy", kv.Lazy)
	db = reopen(t, db)
	equal(t, "after closing and opening", all(t, db), "durable=1 lazy=1")
	put("more", kv.Durable)
	db = closed(t, reopen(t, db))
	equal(t, "after doing it again", all(t, db), "durable=1 lazy=1 more=1")
}

// crashing commits under several fences, one after another, some durably, and
// looks at what a crash leaves: whole commits, the first ones, and no fewer
// than up to the last durable one.
func crashing(t *testing.T, db kv.DB, crash func(*testing.T, kv.DB) kv.DB, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	durable := 0
	commits := 1 + rng.IntN(60)
	for i := 1; i <= commits; i++ {
		d := kv.Durability(rng.IntN(10) == 0)
		fence := kv.Fence(fmt.Sprint("fence ", rng.IntN(3)))
		value := make([]byte, rng.IntN(3000))
		err := db.Update(t.Context(), fence, d, func(tx kv.Tx) error {
			if d == kv.Durable && rng.IntN(3) == 0 {
				return nil // an empty durable commit makes those before it durable too
			}
			for part := range byte(3) {
				if err := tx.Set(kv.Key("commit").Uint32(uint32(i)).Byte(part), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if d == kv.Durable {
			durable = i
		}
	}
	left := closed(t, crash(t, db))
	made, there := commitParts(t, db), commitParts(t, left)
	missing := 0
	for i := 1; i <= commits; i++ {
		switch {
		case made[i] == 0:
		case there[i] == 0 && i <= durable:
			t.Errorf("commit %d is lost, though commit %d was durable", i, durable)
		case there[i] == 0 && missing == 0:
			missing = i
		case there[i] != 0 && there[i] != made[i]:
			t.Errorf("commit %d is there in part", i)
		case there[i] != 0 && missing != 0:
			t.Errorf("commit %d is there, but commit %d before it is not", i, missing)
		}
	}
}

// commitParts returns how many keys of each commit there are.
func commitParts(t *testing.T, db kv.DB) map[int]int {
	parts := make(map[int]int)
	stem := kv.Key("commit")
	view(t, db, func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			key := kv.PartsAfter(pair.Key, stem)
			parts[int(key.Uint32())]++
		}
		return nil
	})
	return parts
}
