package logtest

import (
	"context"
	"errors"
	"testing"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
)

func appender(t *testing.T, s Subject) commitlog.TxAppender {
	t.Helper()
	l, ok := s.Log.(commitlog.TxAppender)
	if !ok || s.Update == nil {
		t.Skip("this log is not appended to in transactions")
	}
	return l
}

func appendTx(t *testing.T, s Subject) {
	l := appender(t, s)
	stop, cancel := context.WithCancel(t.Context())
	defer cancel()
	woken := make(chan error, 1)
	go func() { woken <- l.Wait(stop, 0) }()

	var first commitlog.Offset
	err := s.Update(t.Context(), func(tx kv.Tx) (err error) {
		first, err = l.AppendTx(tx, block(2, "a"), block(1, "b"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "offset", first, 0)
	equal(t, "end before it is published", l.End(), 0)
	equal(t, "the log before it is published", read(t, l, 0, 100), "")
	select {
	case err := <-woken:
		t.Errorf("a waiter woke before it was published: %v", err)
	default:
	}
	l.Published(3)
	equal(t, "end", l.End(), 3)
	equal(t, "the log", read(t, l, 0, 100), "0+2:a 2+1:b")
	if err := <-woken; err != nil {
		t.Errorf("a waiter woke with %v", err)
	}

	// Two commits, published at once.
	for range 2 {
		err := s.Update(t.Context(), func(tx kv.Tx) error {
			_, err := l.AppendTx(tx, block(1, "c"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	l.Published(5)
	l.Published(3) // the end does not go back
	equal(t, "the log", read(t, l, 1, 100), "0+2:a 2+1:b 3+1:c 4+1:c")
}

func appendTxRollback(t *testing.T, s Subject) {
	l := appender(t, s)
	boom := errors.New("boom")
	for range 2 {
		err := s.Update(t.Context(), func(tx kv.Tx) error {
			first, err := l.AppendTx(tx, block(2, "never"))
			equal(t, "offset", first, 0)
			return errors.Join(err, boom)
		})
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
	}
	err := s.Update(t.Context(), func(tx kv.Tx) error {
		if _, err := l.AppendTx(tx, block(0, "")); !fault.Is(err, fault.Invalid) {
			t.Errorf("an empty block: got %v, want fault.Invalid", err)
		}
		first, err := l.AppendTx(tx, block(1, "a"))
		equal(t, "offset after transactions that failed", first, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Published(1)
	equal(t, "the log", read(t, l, 0, 100), "0+1:a")
	if err := l.Trim(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx kv.Tx) error {
		first, err := l.AppendTx(tx, block(1, "b"))
		equal(t, "offset after trimming everything", first, 1)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Published(2)
	equal(t, "the log", read(t, l, 1, 100), "1+1:b")
}

func appendTxReopen(t *testing.T, s Subject) {
	l := appender(t, s)
	if s.Reopen == nil {
		t.Skip("this log keeps nothing")
	}
	err := s.Update(t.Context(), func(tx kv.Tx) error {
		_, err := l.AppendTx(tx, block(2, "a"))
		return err
	})
	if err == nil {
		err = l.Close() // before Published, as a crash would
	}
	if err != nil {
		t.Fatal(err)
	}
	again := s.Reopen(t)
	defer again.Close()
	equal(t, "end", again.End(), 2)
	equal(t, "the log", read(t, again, 0, 100), "0+2:a")
}
