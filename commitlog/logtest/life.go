package logtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"kith/commitlog"
	"kith/fault"
)

func waiting(t *testing.T, s Subject) {
	add(t, s.Log, block(2, "a"))
	for at := range commitlog.Offset(2) {
		if err := s.Log.Wait(t.Context(), at); err != nil {
			t.Errorf("wait at %d, which is there: %v", at, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Log.Wait(ctx, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("wait at the end: got %v, want context.Canceled", err)
	}
	// Waiters far and near: each returns when its record is there.
	var wg sync.WaitGroup
	for at := commitlog.Offset(2); at < 6; at++ {
		ctx := within(t)
		wg.Go(func() {
			if err := s.Log.Wait(ctx, at); err != nil {
				t.Errorf("wait at %d: %v", at, err)
			}
			if end := s.Log.End(); end <= at {
				t.Errorf("wait at %d returned when the log ended at %d", at, end)
			}
			if _, err := s.Log.Read(ctx, at, 1); err != nil {
				t.Errorf("read at %d after waiting: %v", at, err)
			}
		})
	}
	for i := range 4 {
		add(t, s.Log, block(1, fmt.Sprint(i)))
	}
	wg.Wait()
}

func waitAndClose(t *testing.T, s Subject) {
	ctx := within(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := s.Log.Wait(ctx, 0); !fault.Is(err, fault.Unavailable) {
				t.Errorf("wait while the log closes: got %v, want fault.Unavailable", err)
			}
		})
	}
	if err := s.Log.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func trimming(t *testing.T, s Subject) {
	add(t, s.Log, block(2, "a"), block(3, "b"), block(1, "c"), block(4, "d"))
	gone := commitlog.Offset(0)
	for _, test := range []struct {
		before, gone commitlog.Offset
	}{
		{0, 0}, {1, 0}, {2, 2}, {2, 2}, {4, 2}, {1, 2}, {5, 5}, {9, 6},
	} {
		if err := s.Log.Trim(t.Context(), test.before); err != nil {
			t.Fatalf("trim before %d: %v", test.before, err)
		}
		gone = test.gone
		for at := range commitlog.Offset(10) {
			blocks, err := s.Log.Read(t.Context(), at, 1000)
			if at < gone {
				if !fault.Is(err, fault.NotFound) {
					t.Errorf("trimmed before %d: read at %d: got %s, %v, want fault.NotFound", test.before, at, show(blocks), err)
				}
				continue
			}
			if err != nil || blocks[0].First > at || blocks[0].End() <= at {
				t.Errorf("trimmed before %d: read at %d: got %s, %v", test.before, at, show(blocks), err)
			}
		}
		equal(t, "end", s.Log.End(), 10)
	}
	equal(t, "what is left", read(t, s.Log, 6, 100), "6+4:d")
}

func trimEverything(t *testing.T, s Subject) {
	end := commitlog.Offset(0)
	for i := range 3 {
		add(t, s.Log, block(2, "a"), block(3, "b"))
		end += 5
		// At the end, and far beyond it: the log goes on where it was.
		if err := s.Log.Trim(t.Context(), end+commitlog.Offset(i)*1000); err != nil {
			t.Fatal(err)
		}
		if err := s.Log.Trim(t.Context(), end); err != nil {
			t.Fatalf("trimming nothing more: %v", err)
		}
		equal(t, "end", s.Log.End(), end)
		equal(t, "read at the end", read(t, s.Log, end, 100), "")
		if _, err := s.Log.Read(t.Context(), end-1, 100); !fault.Is(err, fault.NotFound) {
			t.Errorf("read before the end: got %v, want fault.NotFound", err)
		}
		if s.Reopen != nil {
			if err := s.Log.Close(); err != nil {
				t.Fatal(err)
			}
			s.Log = s.Reopen(t)
			equal(t, "end after opening again", s.Log.End(), end)
		}
	}
	equal(t, "offset of the next block", add(t, s.Log, block(1, "next")), end)
	equal(t, "the log", read(t, s.Log, end, 100), fmt.Sprintf("%d+1:next", end))
	if err := s.Log.Close(); err != nil {
		t.Fatal(err)
	}
}

func closing(t *testing.T, s Subject) {
	add(t, s.Log, block(1, "a"))
	// Appends that run while the log closes are in it or were refused.
	var mu sync.Mutex
	answered := make(map[string]commitlog.Offset)
	var wg sync.WaitGroup
	started := make(chan struct{}, 64)
	for i := range 8 {
		wg.Go(func() {
			for j := 0; ; j++ {
				data := fmt.Sprintf("%d/%d", i, j)
				first, err := s.Log.Append(context.Background(), block(1, data))
				if fault.Is(err, fault.Unavailable) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				answered[data] = first
				mu.Unlock()
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 20 {
		<-started
	}
	if err := s.Log.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := s.Log.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := s.Log.Append(t.Context(), block(1, "late")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("append to a closed log: got %v, want fault.Unavailable", err)
	}
	if s.Reopen == nil {
		return
	}
	l := s.Reopen(t)
	defer l.Close()
	equal(t, "blocks", len(readAll(t, l, 0)), 1+len(answered))
	for _, b := range readAll(t, l, 0)[1:] {
		equal(t, "offset of "+string(b.Data), b.First, answered[string(b.Data)])
	}
}

func reopening(t *testing.T, s Subject) {
	if s.Reopen == nil {
		t.Skip("this log keeps nothing")
	}
	l := s.Log
	end := commitlog.Offset(0)
	for i := range 4 {
		equal(t, "end", l.End(), end)
		if i%2 == 0 { // every other time nothing is appended
			equal(t, "offset", add(t, l, block(2, "a"), block(1, "b")), end)
			end += 3
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = s.Reopen(t)
	}
	equal(t, "the log", read(t, l, 0, 100), "0+2:a 2+1:b 3+2:a 5+1:b")
	equal(t, "from the middle of a block", read(t, l, 4, 100), "3+2:a 5+1:b")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
