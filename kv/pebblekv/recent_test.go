package pebblekv

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"kith/kv"
)

const owned = 7 // keys of an owner

func ownedKey(owner, n int) []byte { return kv.SpaceKey(uint32(owner), 'x').Uint32(uint32(n)) }

// ownedValue is what an owner's key holds after so many commits: of all but the
// first some are gone.
func ownedValue(n int, commits uint64) []byte {
	if n > 0 && commits%3 == uint64(n%3) {
		return nil
	}
	return binary.BigEndian.AppendUint64(nil, commits)
}

// TestRecentIsExact: owners change all their keys in one commit, while views
// read them again and again. Every view sees one moment, which has what was
// committed before it began and is not older than what was seen; with few
// marks, which many keys share, and with many.
func TestRecentIsExact(t *testing.T) {
	const owners, rounds = 4, 500
	for _, marks := range []int{1, 8, 1 << 12} {
		t.Run(fmt.Sprint(marks), func(t *testing.T) {
			db := open(t, "store", Options{fs: vfs.NewMem()})
			defer db.Close()
			db.recent = newRecent(marks, recentBytes)
			var committed [owners]atomic.Uint64
			var writers, readers sync.WaitGroup
			for o := range owners {
				writers.Go(func() {
					for n := uint64(1); n <= rounds; n++ {
						if err := change(db, o, n); err != nil {
							t.Error(err)
						}
						committed[o].Store(n)
					}
				})
			}
			var done atomic.Bool
			var kept atomic.Uint64 // reads of what is not younger than the view
			for range 3 {
				readers.Go(func() {
					var seen [owners]uint64
					for !done.Load() && !t.Failed() {
						for o := range owners {
							seen[o] = max(seen[o], committed[o].Load())
						}
						err := db.View(context.Background(), func(r kv.Reader) error {
							for o := range owners {
								now, err := look(r, o, seen[o])
								if err != nil {
									return err
								}
								seen[o] = now
								kept.Add(1)
							}
							return nil
						})
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			writers.Wait()
			done.Store(true)
			readers.Wait()
			if kept.Load() == 0 {
				t.Error("nobody has read")
			}
		})
	}
}

// change makes an owner's commit number n.
func change(db *DB, owner int, n uint64) error {
	return db.Update(context.Background(), kv.Fence(fmt.Sprint(owner)), kv.Lazy, func(tx kv.Tx) error {
		for i := range owned {
			value := ownedValue(i, n)
			if value == nil {
				if err := tx.Delete(ownedKey(owner, i)); err != nil {
					return err
				}
			} else if err := tx.Set(ownedKey(owner, i), value); err != nil {
				return err
			}
		}
		return nil
	})
}

// look reads an owner's keys twice and returns which commit they are of.
func look(r kv.Reader, owner int, least uint64) (now uint64, err error) {
	for i := range 2 * owned {
		value, err := r.Get(ownedKey(owner, i%owned))
		if err != nil {
			return 0, err
		}
		if i == 0 && value != nil {
			now = binary.BigEndian.Uint64(value)
		}
		if now < least {
			return 0, fmt.Errorf("owner %d stands at %d after %d", owner, now, least)
		}
		if want := ownedValue(i%owned, now); now > 0 && (string(value) != string(want) || (value == nil) != (want == nil)) {
			return 0, fmt.Errorf("owner %d has %x under key %d at %d", owner, value, i%owned, now)
		}
	}
	return now, nil
}

// TestRecent: what was read is kept, with the keys that are not there, until it
// is written or its range is dropped; what a view gets is its own; and a view
// that began before a commit does not see it.
func TestRecent(t *testing.T) {
	const bytes = 1 << 20
	db := open(t, "store", Options{fs: vfs.NewMem()})
	defer db.Close()
	db.recent = newRecent(1<<12, bytes)
	set := func(key, value string) {
		t.Helper()
		err := db.Update(t.Context(), "owner", kv.Lazy, func(tx kv.Tx) error { return tx.Set([]byte(key), []byte(value)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	kept := func(key string) bool {
		hash := db.recent.hash([]byte(key))
		e, ok := db.recent.get(hash, []byte(key))
		return ok && db.recent.holds(hash, e.commits)
	}
	read := func(r kv.Reader, key, want string) {
		t.Helper()
		value, err := r.Get([]byte(key))
		if err != nil || string(value) != want || (value == nil) != (want == "") {
			t.Errorf("%s is %q (%v), want %q", key, value, err, want)
		}
		for i := range value {
			value[i] = 'x' // it is the caller's
		}
	}
	view := func(fn func(r kv.Reader)) {
		t.Helper()
		if err := db.View(t.Context(), func(r kv.Reader) error { fn(r); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	set("a", "1")
	set("b", "1")
	view(func(r kv.Reader) {
		for range 2 {
			read(r, "a", "1")
			read(r, "none", "")
		}
		if !kept("a") || !kept("none") || kept("b") {
			t.Error("not what was read is kept")
		}
		set("a", "2")
		read(r, "a", "1")
		view(func(r kv.Reader) { read(r, "a", "2"); read(r, "a", "2") })
		read(r, "a", "1")
		read(r, "b", "1") // of before, and not changed since
	})
	if !kept("a") || !kept("none") || !kept("b") {
		t.Error("what was not written again is not kept")
	}
	if err := db.DeleteRange(t.Context(), []byte("a"), []byte("b")); err != nil {
		t.Fatal(err)
	}
	view(func(r kv.Reader) { read(r, "a", ""); read(r, "b", "1"); read(r, "b", "1") })
	if err := db.Scrub(t.Context(), kv.Prefix([]byte("a"))); err != nil {
		t.Fatal(err)
	}
	if kept("b") {
		t.Error("something is kept behind a scrub")
	}
	large := string(make([]byte, recentValue+1))
	set("large", large)
	view(func(r kv.Reader) { read(r, "large", large) })
	if kept("large") {
		t.Error("a large value is kept")
	}
	// What is kept is bounded, and what is asked for stays.
	for i := range 20_000 {
		view(func(r kv.Reader) {
			if _, err := r.Get(kv.SpaceKey(1, 'x').Uint32(uint32(i))); err != nil {
				t.Fatal(err)
			}
			if i%100 == 0 {
				read(r, "b", "1")
			}
		})
	}
	entries := 0
	for i := range db.recent.parts {
		entries += len(db.recent.parts[i].young) + len(db.recent.parts[i].old)
	}
	if most := bytes / recentEach; entries > most || entries < most/4 || !kept("b") {
		t.Errorf("%d entries are kept, of at most %d; b: %v", entries, most, kept("b"))
	}
}

// TestRecentUnderWay: of a commit that views can see and that has not ended,
// a view has all or nothing.
func TestRecentUnderWay(t *testing.T) {
	db := open(t, "store", Options{fs: vfs.NewMem()})
	defer db.Close()
	key := []byte("a")
	view := func(want string) {
		t.Helper()
		err := db.View(t.Context(), func(r kv.Reader) error {
			for range 2 {
				value, err := r.Get(key)
				if err != nil {
					return err
				}
				for pair, err := range r.Scan(kv.Prefix(key)) {
					if err != nil || string(pair.Value) != string(value) || string(value) != want {
						t.Errorf("%q and %q (%v), want %q", value, pair.Value, err, want)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	other := func() { // another commit ends
		t.Helper()
		if err := change(db, 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	under := func(run func(commit func() error) error, value, before string) {
		t.Helper()
		view(before)
		err := run(func() error {
			view(before)
			if err := db.pebble.Set(key, []byte(value), nil); err != nil {
				return err
			}
			other()
			view(value)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		db.moments.pass()
		view(value)
	}
	hashes := []uint64{db.recent.hash(key)}
	under(func(commit func() error) error { return db.recent.writing(hashes, commit) }, "1", "")
	under(func(commit func() error) error { return db.recent.writing(hashes, commit) }, "2", "1")
	under(db.recent.writingAny, "3", "2")
	view("3")
}
