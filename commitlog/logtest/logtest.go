package logtest

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"kith/commitlog"
	"kith/kv"
)

// Subject is a log to be tried, and what its driver can do beside it.
type Subject struct {
	Log commitlog.Log
	// Reopen opens the log again after it has been closed; nil when it keeps
	// nothing.
	Reopen func(t *testing.T) commitlog.Log
	// Update runs fn as a durable transaction under the log's fence, for logs
	// that are commitlog.TxAppenders; nil for others.
	Update func(ctx context.Context, fn func(tx kv.Tx) error) error
}

// patience bounds how long a test waits for what should happen at once.
const patience = 30 * time.Second

// Run runs the suite. open returns a new, empty log each time; the suite
// closes the log, and open arranges for what is beneath.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	tests := []struct {
		name string
		run  func(t *testing.T, s Subject)
	}{
		{"an empty log", emptyLog},
		{"append and read", appendAndRead},
		{"several blocks in one append", appendSeveral},
		{"read positions", readPositions},
		{"ownership of data", ownership},
		{"blocks that are refused", refused},
		{"the largest block", largestBlock},
		{"concurrent appends", concurrentAppends},
		{"append with a context that is done", appendCanceled},
		{"wait", waiting},
		{"wait and close", waitAndClose},
		{"trim", trimming},
		{"trim everything", trimEverything},
		{"close", closing},
		{"reopen", reopening},
		{"append in a transaction", appendTx},
		{"append in a transaction that fails", appendTxRollback},
		{"transactions of a log that is reopened", appendTxReopen},
		{"replace blocks", replacing},
		{"replace blocks while others read and append", replacingBesides},
		{"replace blocks in a transaction", replaceTx},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Log.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			test.run(t, s)
		})
	}
}

// block returns a payload whose data says what it is.
func block(count int, data string) commitlog.Payload {
	return commitlog.Payload{Count: count, Data: []byte(data)}
}

func add(t *testing.T, l commitlog.Log, blocks ...commitlog.Payload) commitlog.Offset {
	t.Helper()
	first, err := l.Append(t.Context(), blocks...)
	if err != nil {
		t.Fatal(err)
	}
	return first
}

// read returns what Read answers, as "first+count:data …".
func read(t *testing.T, l commitlog.Log, from commitlog.Offset, maxBytes int) string {
	t.Helper()
	blocks, err := l.Read(t.Context(), from, maxBytes)
	if err != nil {
		t.Fatalf("read at %d: %v", from, err)
	}
	return show(blocks)
}

func show(blocks []commitlog.Block) string {
	var out []string
	for _, b := range blocks {
		out = append(out, fmt.Sprintf("%d+%d:%s", b.First, b.Count, b.Data))
	}
	return strings.Join(out, " ")
}

// readAll walks the log from an offset to its end in small steps, and checks
// that blocks follow each other without a gap.
func readAll(t *testing.T, l commitlog.Log, from commitlog.Offset) []commitlog.Block {
	t.Helper()
	var all []commitlog.Block
	for from < l.End() {
		blocks, err := l.Read(t.Context(), from, 100)
		if err != nil {
			t.Fatalf("read at %d: %v", from, err)
		}
		if len(blocks) == 0 {
			t.Fatalf("nothing at %d, though the log ends at %d", from, l.End())
		}
		for _, b := range blocks {
			if b.First != from {
				t.Fatalf("a block begins at %d, the one before ends at %d", b.First, from)
			}
			from = b.End()
		}
		all = append(all, blocks...)
	}
	return all
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// within returns a context that gives up after patience.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func fill(n int) []byte { return bytes.Repeat([]byte{'x'}, n) }
