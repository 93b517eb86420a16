package pebblekv

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"kith/kv"
)

// TestMain plays the process that is killed, when TestKill asks for it.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PEBBLEKV_CRASH_DIR"); dir != "" {
		fmt.Fprintln(os.Stderr, writeUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const (
	crashWriters = 4
	crashRounds  = 6
	crashAcks    = 400 // acknowledged commits before the process is killed
)

// writeUntilKilled commits under several fences, mixed Durable and Lazy, and
// prints "writer commit" for each Durable one once it is acknowledged. It goes
// on where the store says that each writer stopped.
func writeUntilKilled(dir string) error {
	db, err := Open(dir, small)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, crashWriters)
	for w := range crashWriters {
		wg.Go(func() { errs <- writeCommits(db, byte(w)) })
	}
	err = <-errs
	wg.Wait()
	return err
}

func writeCommits(db *DB, w byte) error {
	ctx := context.Background()
	fence := kv.Fence(fmt.Sprint("writer ", w))
	for {
		var n uint64
		if err := db.Update(ctx, fence, kv.Lazy, nextCommit(w, &n)); err != nil {
			return err
		}
		if err := db.Update(ctx, fence, kv.Durable, nextCommit(w, &n)); err != nil {
			return err
		}
		// One write of one line: it is there whole or not at all.
		if _, err := os.Stdout.WriteString(fmt.Sprintf("%d %d\n", w, n)); err != nil {
			return err
		}
	}
}

// nextCommit counts a writer's counter on, and writes as many keys for its
// number as a batch has.
func nextCommit(w byte, n *uint64) func(kv.Tx) error {
	return func(tx kv.Tx) error {
		value, err := tx.Get(counterKey(w))
		if err != nil {
			return err
		}
		old := kv.FieldsOf(value)
		*n = old.Uvarint() + 1
		for part := range byte(commitParts) {
			if err := tx.Set(partKey(w, *n, part), bytes.Repeat([]byte{w}, int(*n%700))); err != nil {
				return err
			}
		}
		return tx.Set(counterKey(w), kv.Value{}.Uvarint(*n))
	}
}

const commitParts = 5

func counterKey(w byte) kv.Key                   { return kv.Key("counter").Byte(w) }
func partKey(w byte, n uint64, part byte) kv.Key { return kv.Key("part").Byte(w).Uint64(n).Byte(part) }

// TestKill kills a process that writes to the store, again and again on the
// same directory, and looks whether all that it acknowledged is there, and
// every commit whole.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	dir := t.TempDir()
	acked := make(map[int]uint64) // the last acknowledged commit of each writer
	for round := range crashRounds {
		writeAndKill(t, dir, acked)
		db := open(t, dir, small)
		checkCommits(t, db, acked, round)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func writeAndKill(t *testing.T, dir string, acked map[int]uint64) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "PEBBLEKV_CRASH_DIR="+dir)
	var stderr bytes.Buffer
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	n := 0
	for lines.Scan() {
		var writer int
		var commit uint64
		if _, err := fmt.Sscan(lines.Text(), &writer, &commit); err != nil {
			t.Errorf("the process said %q: %v", lines.Text(), err)
		}
		acked[writer] = commit
		if n++; n == crashAcks {
			if err := child.Process.Kill(); err != nil { // SIGKILL
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || n < crashAcks {
		t.Fatalf("the process ended by itself after %d commits: %v %s", n, err, &stderr)
	}
}

func checkCommits(t *testing.T, db *DB, acked map[int]uint64, round int) {
	t.Helper()
	err := db.View(t.Context(), func(r kv.Reader) error {
		for w := range crashWriters {
			value, err := r.Get(counterKey(byte(w)))
			if err != nil {
				return err
			}
			fields := kv.FieldsOf(value)
			last := fields.Uvarint()
			if last < acked[w] {
				t.Errorf("round %d: writer %d is at %d, though %d was acknowledged", round, w, last, acked[w])
			}
			stem := kv.Key("part").Byte(byte(w))
			parts := uint64(0)
			for pair, err := range r.Scan(kv.Prefix(stem)) {
				if err != nil {
					return err
				}
				key := kv.PartsAfter(pair.Key, stem)
				if n := key.Uint64(); n != parts/commitParts+1 || len(pair.Value) != int(n%700) {
					t.Fatalf("round %d: writer %d: key %d belongs to commit %d and has %d bytes", round, w, parts, n, len(pair.Value))
				}
				parts++
			}
			if parts != last*commitParts {
				t.Errorf("round %d: writer %d is at %d and has %d keys, want %d", round, w, last, parts, last*commitParts)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
