package kvtest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"kith/kv"
	"kith/kv/memkv"
)

// Options says what more a driver can do. The zero value is a driver that
// forgets everything when it is closed.
type Options struct {
	// Reopen closes db and opens again what it kept; nil when it keeps
	// nothing.
	Reopen func(t *testing.T, db kv.DB) kv.DB
	// Crash opens what a crash at this moment would leave of db, which goes
	// on; nil when that cannot be told.
	Crash func(t *testing.T, db kv.DB) kv.DB
}

// patience bounds how long a test waits for what should happen at once.
const patience = 30 * time.Second

// Run runs the suite. open returns a new, empty store each time; the suite
// closes it.
func Run(t *testing.T, open func(t *testing.T) kv.DB, opts Options) {
	tests := []struct {
		name string
		run  func(t *testing.T, db kv.DB)
	}{
		{"get and set", getAndSet},
		{"nil and empty values", emptyValues},
		{"get many", getMany},
		{"rollback", rollback},
		{"read your writes", readYourWrites},
		{"ownership of slices", ownership},
		{"scan in order", scanInOrder},
		{"scan with bounds", scanBounds},
		{"scan own writes", scanOwnWrites},
		{"write elsewhere while scanning", scanAndWrite},
		{"leave a scan early", scanEarlyExit},
		{"view does not change", viewIsolation},
		{"what is written in a transaction is not seen outside", txIsolation},
		{"large values", largeValues},
		{"many keys", manyKeys},
		{"limits of a key and a value", limits},
		{"limit of a transaction", txLimit},
		{"a transaction after its end", staleTx},
		{"one fence, one at a time", oneFence},
		{"two fences at the same time", twoFences},
		{"a fence after an error and a panic", fenceAfterFailure},
		{"context", contexts},
		{"concurrent readers of a transaction", concurrentReaders},
		{"concurrent use", concurrentUse},
		{"close", closing},
		{"delete a range", deleteRange},
		{"scrub", scrub},
		{"scrub while others read and write", scrubBesides},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.run(t, closed(t, open(t)))
		})
	}
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("same answers as memkv, seed %d", seed), func(t *testing.T) {
			want := Replay(t, closed(t, memkv.New()), seed, 150)
			Same(t, Replay(t, closed(t, open(t)), seed, 150), want)
		})
	}
	if opts.Reopen != nil {
		t.Run("reopen", func(t *testing.T) { reopening(t, open(t), opts.Reopen) })
	}
	if opts.Crash != nil {
		for seed := range uint64(20) {
			t.Run(fmt.Sprintf("crash, seed %d", seed), func(t *testing.T) {
				crashing(t, closed(t, open(t)), opts.Crash, seed)
			})
		}
	}
}

// Same fails the test when two answers of Replay differ, and shows where.
func Same(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("answer %d of %d differs:\n got %s\nwant %s\nafter %s", i, len(w), g[i], w[i], strings.Join(w[max(0, i-5):i], "\n      "))
		}
	}
	t.Fatalf("got %d answers, want %d", len(g), len(w))
}

// closed has db closed at the end of the test.
func closed(t *testing.T, db kv.DB) kv.DB {
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// update runs fn under the fence "test" and fails the test on an error.
func update(t *testing.T, db kv.DB, fn func(tx kv.Tx) error) {
	t.Helper()
	if err := db.Update(t.Context(), "test", kv.Lazy, fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, db kv.DB, fn func(r kv.Reader) error) {
	t.Helper()
	if err := db.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// set writes "key=value" pairs.
func set(t *testing.T, db kv.DB, pairs ...string) {
	t.Helper()
	update(t, db, func(tx kv.Tx) error { return write(tx, pairs...) })
}

func write(tx kv.Tx, pairs ...string) error {
	for _, p := range pairs {
		key, value, _ := strings.Cut(p, "=")
		if err := tx.Set([]byte(key), []byte(value)); err != nil {
			return err
		}
	}
	return nil
}

// scan returns what a scan yields, as "key=value key=value".
func scan(t *testing.T, r kv.Reader, rg kv.Range) string {
	t.Helper()
	var out []string
	for pair, err := range r.Scan(rg) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(pair.Key)+"="+string(pair.Value))
	}
	return strings.Join(out, " ")
}

func all(t *testing.T, db kv.DB) (s string) {
	t.Helper()
	view(t, db, func(r kv.Reader) error {
		s = scan(t, r, kv.Range{})
		return nil
	})
	return s
}

func get(t *testing.T, r kv.Reader, key string) []byte {
	t.Helper()
	value, err := r.Get([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// soon fails the test when done is not closed within patience.
func soon(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatalf("waited in vain: %s", what)
	}
}
