package logtest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
)

func replacer(t *testing.T, s Subject) commitlog.Replacer {
	t.Helper()
	l, ok := s.Log.(commitlog.Replacer)
	if !ok {
		t.Skip("this log does not replace blocks")
	}
	return l
}

// at returns a block at its place.
func at(first commitlog.Offset, count int, data string) commitlog.Block {
	return commitlog.Block{First: first, Payload: block(count, data)}
}

func replacing(t *testing.T, s Subject) {
	l := replacer(t, s)
	add(t, l, block(2, "a"), block(1, "b"), block(3, "c"))
	if err := l.Replace(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.Replace(t.Context(), at(0, 2, "A"), at(3, 3, "a longer one")); err != nil {
		t.Fatal(err)
	}
	equal(t, "after replacing two", read(t, l, 0, 1000), "0+2:A 2+1:b 3+3:a longer one")
	equal(t, "read from within", read(t, l, 4, 1000), "3+3:a longer one")
	for _, wrong := range []commitlog.Block{at(0, 3, "x"), at(1, 1, "x"), at(6, 1, "x"), at(9, 1, "x"), at(2, 1, ""), at(2, 0, "x")} {
		if err := l.Replace(t.Context(), at(2, 1, "B"), wrong); !fault.Is(err, fault.Invalid) {
			t.Errorf("block at %d of %d records: got %v, want fault.Invalid", wrong.First, wrong.Count, err)
		}
	}
	equal(t, "after what was refused", read(t, l, 0, 1000), "0+2:A 2+1:b 3+3:a longer one")
	equal(t, "the next block", add(t, l, block(1, "d")), 6)
	if err := l.Trim(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if err := l.Replace(t.Context(), at(0, 2, "back"), at(3, 3, "C")); err != nil {
		t.Errorf("with a block that was trimmed: %v", err)
	}
	if _, err := l.Read(t.Context(), 0, 1000); !fault.Is(err, fault.NotFound) {
		t.Errorf("a block that was trimmed came back: %v", err)
	}
	equal(t, "after the trim", read(t, l, 3, 1000), "3+3:C 6+1:d")
	if err := l.Trim(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if err := l.Replace(t.Context(), at(3, 3, "back")); err != nil {
		t.Errorf("when everything was trimmed: %v", err)
	}
	equal(t, "the end", l.End(), 7)
	if s.Reopen != nil {
		equal(t, "the next block", add(t, l, block(2, "e")), 7)
		if err := l.Replace(t.Context(), at(7, 2, "E")); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Replace(t.Context(), at(7, 2, "x")); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a closed log: got %v, want fault.Unavailable", err)
		}
		again := s.Reopen(t)
		defer again.Close()
		equal(t, "opened again", read(t, again, 7, 1000), "7+2:E")
	}
}

func replacingBesides(t *testing.T, s Subject) {
	l := replacer(t, s)
	const blocks = 50
	for i := range blocks {
		add(t, l, block(2, fmt.Sprintf("old %d", i)))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range commitlog.Offset(blocks) {
			if err := l.Replace(t.Context(), at(2*i, 2, fmt.Sprintf("new %d", i))); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		for i := range blocks {
			if first, err := l.Append(t.Context(), block(1, "late")); err != nil || first != 2*blocks+commitlog.Offset(i) {
				t.Errorf("appended at %d, %v", first, err)
			}
		}
	})
	for range 20 {
		for i, b := range readAll(t, l, 0) {
			want := fmt.Sprintf(" %d", i)
			if i < blocks && string(b.Data) != "old"+want && string(b.Data) != "new"+want {
				t.Errorf("block %d reads %q", i, b.Data)
			}
		}
	}
	wg.Wait()
	for i, b := range readAll(t, l, 0)[:blocks] {
		if !strings.HasPrefix(string(b.Data), "new") {
			t.Errorf("block %d reads %q in the end", i, b.Data)
		}
	}
}

func replaceTx(t *testing.T, s Subject) {
	l := replacer(t, s)
	if s.Update == nil {
		t.Skip("this log has no transactions")
	}
	appender := s.Log.(commitlog.TxAppender)
	err := s.Update(t.Context(), func(tx kv.Tx) error {
		_, err := appender.AppendTx(tx, block(2, "a"), block(1, "b"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	appender.Published(3)
	failed := errors.New("failed")
	err = s.Update(t.Context(), func(tx kv.Tx) error {
		if err := l.ReplaceTx(tx, at(0, 2, "x")); err != nil {
			return err
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	equal(t, "after a transaction that failed", read(t, l, 0, 1000), "0+2:a 2+1:b")
	if err := s.Update(t.Context(), func(tx kv.Tx) error { return l.ReplaceTx(tx, at(0, 2, "A")) }); err != nil {
		t.Fatal(err)
	}
	equal(t, "after one that did not", read(t, l, 0, 1000), "0+2:A 2+1:b")
}
