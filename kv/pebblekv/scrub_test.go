package pebblekv

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"kith/kv"
)

// noise returns bytes that do not get smaller, so that they are found in a
// file whatever packs it.
func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return b[:n]
}

// TestScrubLeavesNoByte overwrites and deletes in a store on disk and looks
// through every file for what was there: values, and keys, which stand in lists
// of files too.
func TestScrubLeavesNoByte(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir, small)
	defer db.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	put := func(pairs ...kv.Pair) {
		t.Helper()
		err := db.Update(t.Context(), "test", kv.Durable, func(tx kv.Tx) error {
			for _, p := range pairs {
				if err := tx.Set(p.Key, p.Value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var secrets [][]byte
	var doomed []kv.Pair
	for round := range 12 {
		var pairs []kv.Pair
		for i := range 200 {
			p := kv.Pair{Key: kv.Key("k").Uint32(uint32(i * 7)).Uint32(uint32(round)), Value: noise(rng, 900)}
			if i%40 == 3 {
				// The greatest and the least keys are the bounds of tables.
				secret := noise(rng, 48)
				p.Key = append(kv.Key{"k\x00\xff"[rng.IntN(3)]}, secret...)
				p.Value = append(p.Value[:100:100], secret...)
				secrets, doomed = append(secrets, secret), append(doomed, p)
			}
			pairs = append(pairs, p)
		}
		put(pairs...)
	}
	if err := db.pebble.Flush(); err != nil {
		t.Fatal(err)
	}
	if n := found(t, dir, secrets); n == 0 {
		t.Fatal("nothing is found before: the test proves nothing")
	}
	err := db.Update(t.Context(), "test", kv.Durable, func(tx kv.Tx) error {
		for _, p := range doomed {
			if err := tx.Delete(p.Key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := found(t, dir, secrets); n == 0 {
		t.Fatal("deleting alone was enough: the test proves nothing")
	}
	if err := db.Scrub(t.Context(), kv.Range{}); err != nil {
		t.Fatal(err)
	}
	if n := found(t, dir, secrets); n > 0 {
		t.Errorf("%d of %d secrets are in the files after a scrub", n, len(secrets))
	}
	// And it goes on: nothing that is left comes back, everything else is there.
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, dir, small)
	n := 0
	err = db.View(t.Context(), func(r kv.Reader) error {
		for _, err := range r.Scan(kv.Range{}) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil || n != 12*200-len(doomed) {
		t.Errorf("%d pairs are left, %v; want %d", n, err, 12*200-len(doomed))
	}
}

// found counts the secrets that are in a file of the directory.
func found(t *testing.T, dir string, secrets [][]byte) int {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	hit := map[int]bool{}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) { // a compaction may end meanwhile
			t.Fatal(err)
		}
		for i, secret := range secrets {
			if bytes.Contains(data, secret) {
				hit[i] = true
			}
		}
	}
	return len(hit)
}

// TestScrubWaitsForViews has a view open: what it may read is kept until it
// ends, and a scrub ends only after it.
func TestScrubWaitsForViews(t *testing.T) {
	opts := small
	opts.fs = vfs.NewMem()
	db := open(t, "data", opts)
	defer db.Close()
	set := func(value string) {
		if err := db.Update(t.Context(), "test", kv.Durable, func(tx kv.Tx) error { return tx.Set([]byte("k"), []byte(value)) }); err != nil {
			t.Error(err)
		}
	}
	set("old")
	inside, leave, read := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	go func() {
		_ = db.View(context.Background(), func(r kv.Reader) error {
			close(inside)
			<-leave
			value, err := r.Get([]byte("k"))
			read <- string(value)
			return err
		})
	}()
	<-inside
	set("new")
	ended := make(chan error, 1)
	go func() { ended <- db.Scrub(context.Background(), kv.Range{}) }()
	select {
	case err := <-ended:
		t.Fatalf("the scrub ended before the view: %v", err)
	default:
	}
	close(leave)
	if got := <-read; got != "old" {
		t.Errorf("the view read %q", got)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
