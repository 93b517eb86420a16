package kvtest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"kith/kv"
)

// scrub looks whether a scrub leaves everything as it is. That old values are
// gone is for the test of a driver with files, which knows where to look.
func scrub(t *testing.T, db kv.DB) {
	scrubber, ok := db.(kv.Scrubber)
	if !ok {
		t.Skip("this store does not scrub")
	}
	set(t, db, "a=1", "b=2", "c=3", "d=4")
	set(t, db, "b=5")
	update(t, db, func(tx kv.Tx) error { return tx.Delete([]byte("c")) })
	for _, ranges := range [][]kv.Range{
		nil,
		{{From: []byte("b"), To: []byte("d")}},
		{{From: []byte("d"), To: []byte("b")}},
		{{}, {From: []byte("x")}},
	} {
		if err := scrubber.Scrub(t.Context(), ranges...); err != nil {
			t.Fatal(err)
		}
		equal(t, "after a scrub", all(t, db), "a=1 b=5 d=4")
	}
	set(t, db, "c=6")
	equal(t, "after writing again", all(t, db), "a=1 b=5 c=6 d=4")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := scrubber.Scrub(ended, kv.Range{}); err == nil {
		t.Error("a scrub whose context had ended did not say so")
	}
}

// scrubBesides scrubs while a writer writes and a view that came later reads.
func scrubBesides(t *testing.T, db kv.DB) {
	scrubber, ok := db.(kv.Scrubber)
	if !ok {
		t.Skip("this store does not scrub")
	}
	const rounds = 40
	value := strings.Repeat("v", 1000)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := range rounds {
			update(t, db, func(tx kv.Tx) error {
				return tx.Set(fmt.Appendf(nil, "k%03d", i), append([]byte(value), fmt.Sprint(i)...))
			})
		}
	}()
	for range 5 {
		if err := scrubber.Scrub(t.Context(), kv.Range{}); err != nil {
			t.Fatal(err)
		}
		view(t, db, func(r kv.Reader) error {
			n := 0
			for pair, err := range r.Scan(kv.Range{}) {
				if err != nil {
					return err
				}
				if !bytes.HasPrefix(pair.Value, []byte(value)) {
					t.Errorf("%s has another value", pair.Key)
				}
				n++
			}
			if n > rounds {
				t.Errorf("there are %d keys", n)
			}
			return nil
		})
	}
	soon(t, "the writer", written)
	if err := scrubber.Scrub(t.Context(), kv.Range{}); err != nil {
		t.Fatal(err)
	}
	view(t, db, func(r kv.Reader) error {
		for i := range rounds {
			if got := get(t, r, fmt.Sprintf("k%03d", i)); string(got) != value+fmt.Sprint(i) {
				t.Errorf("key %d is not what was written", i)
			}
		}
		return nil
	})
}
