package logtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"kith/commitlog"
	"kith/fault"
)

func emptyLog(t *testing.T, s Subject) {
	equal(t, "end", s.Log.End(), 0)
	equal(t, "read at 0", read(t, s.Log, 0, 100), "")
	equal(t, "read behind the end", read(t, s.Log, 7, 100), "")
	if err := s.Log.Trim(t.Context(), 5); err != nil {
		t.Errorf("trim: %v", err)
	}
	equal(t, "end after trimming nothing", s.Log.End(), 0)
	equal(t, "offset of the first block", add(t, s.Log, block(1, "a")), 0)
	equal(t, "the log", read(t, s.Log, 0, 100), "0+1:a")
}

func appendAndRead(t *testing.T, s Subject) {
	equal(t, "offset of the first", add(t, s.Log, block(3, "abc")), 0)
	equal(t, "end", s.Log.End(), 3)
	equal(t, "offset of the second", add(t, s.Log, block(1, "d")), 3)
	equal(t, "offset of the third", add(t, s.Log, block(300, "\x00\xff")), 4)
	equal(t, "end", s.Log.End(), 304)
	equal(t, "the log", read(t, s.Log, 0, 100), "0+3:abc 3+1:d 4+300:\x00\xff")
}

func appendSeveral(t *testing.T, s Subject) {
	add(t, s.Log, block(2, "before"))
	equal(t, "offset of three blocks", add(t, s.Log, block(1, "a"), block(2, "b"), block(3, "c")), 2)
	equal(t, "the log", read(t, s.Log, 0, 100), "0+2:before 2+1:a 3+2:b 5+3:c")
	equal(t, "offset of no blocks", add(t, s.Log), 8)
	equal(t, "end", s.Log.End(), 8)
}

func readPositions(t *testing.T, s Subject) {
	add(t, s.Log, block(3, "aaaa"), block(2, "bbbb"), block(1, "cccc"))
	for _, test := range []struct {
		from     commitlog.Offset
		maxBytes int
		want     string
	}{
		{0, 100, "0+3:aaaa 3+2:bbbb 5+1:cccc"},
		{1, 100, "0+3:aaaa 3+2:bbbb 5+1:cccc"},
		{2, 100, "0+3:aaaa 3+2:bbbb 5+1:cccc"},
		{3, 100, "3+2:bbbb 5+1:cccc"},
		{4, 100, "3+2:bbbb 5+1:cccc"},
		{5, 100, "5+1:cccc"},
		{6, 100, ""},
		{7, 100, ""},
		{1 << 40, 100, ""},
		// Until the data exceeds maxBytes, and one block at least.
		{0, 0, "0+3:aaaa"},
		{1, 1, "0+3:aaaa"},
		{0, 3, "0+3:aaaa"},
		{0, 4, "0+3:aaaa 3+2:bbbb"},
		{0, 7, "0+3:aaaa 3+2:bbbb"},
		{4, 8, "3+2:bbbb 5+1:cccc"},
	} {
		equal(t, fmt.Sprintf("read at %d, %d bytes", test.from, test.maxBytes), read(t, s.Log, test.from, test.maxBytes), test.want)
	}
}

func ownership(t *testing.T, s Subject) {
	data := []byte("data")
	add(t, s.Log, commitlog.Payload{Count: 1, Data: data})
	copy(data, "XXXX")
	for range 2 {
		blocks, err := s.Log.Read(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the log", show(blocks), "0+1:data")
		copy(blocks[0].Data, "YYYY")
	}
}

func refused(t *testing.T, s Subject) {
	good := block(1, "good")
	for name, bad := range map[string]commitlog.Payload{
		"no records":      {Count: 0, Data: []byte("x")},
		"fewer than none": {Count: -1, Data: []byte("x")},
		"no data":         {Count: 1},
		"too large":       {Count: 1, Data: fill(commitlog.MaxBlockBytes + 1)},
	} {
		for _, blocks := range [][]commitlog.Payload{{bad}, {good, bad}, {bad, good}} {
			if _, err := s.Log.Append(t.Context(), blocks...); !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: got %v, want fault.Invalid", name, err)
			}
		}
	}
	equal(t, "end", s.Log.End(), 0)
	add(t, s.Log, good)
	equal(t, "the log", read(t, s.Log, 0, 100), "0+1:good")
}

func largestBlock(t *testing.T, s Subject) {
	data := fill(commitlog.MaxBlockBytes)
	add(t, s.Log, commitlog.Payload{Count: 1000, Data: data}, block(1, "after"))
	blocks, err := s.Log.Read(t.Context(), 999, 1)
	if err != nil || len(blocks) != 1 || string(blocks[0].Data) != string(data) {
		t.Errorf("got %d blocks, %v", len(blocks), err)
	}
}

// concurrentAppends has several appenders at work: the log is a sequence in
// which the blocks of an append stand together and those of one appender in
// its order, each at the offset that was answered.
func concurrentAppends(t *testing.T, s Subject) {
	const appenders, each = 16, 25
	var mu sync.Mutex
	answered := make(map[string]commitlog.Offset)
	var wg sync.WaitGroup
	for a := range appenders {
		wg.Go(func() {
			for i := range each {
				var blocks []commitlog.Payload
				for part := range 1 + (a+i)%3 {
					blocks = append(blocks, block(1+(a*i+part)%5, fmt.Sprintf("%d/%d/%d", a, i, part)))
				}
				first, err := s.Log.Append(context.Background(), blocks...)
				if err != nil {
					t.Error(err)
					return
				}
				if end := s.Log.End(); end <= first {
					t.Errorf("an append answered %d, but the log ends at %d", first, end)
				}
				mu.Lock()
				answered[fmt.Sprintf("%d/%d", a, i)] = first
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	next := make(map[int]int) // of each appender
	part := 0
	for _, b := range readAll(t, s.Log, 0) {
		var a, i, p int
		if _, err := fmt.Sscanf(string(b.Data), "%d/%d/%d", &a, &i, &p); err != nil {
			t.Fatalf("block %q: %v", b.Data, err)
		}
		if p != part || i != next[a] {
			t.Fatalf("block %s stands where append %d of %d, block %d, should", b.Data, next[a], a, part)
		}
		if p == 0 {
			equal(t, "offset of "+string(b.Data), b.First, answered[strings.TrimSuffix(string(b.Data), "/0")])
		}
		if part++; part == 1+(a+i)%3 {
			part = 0
			next[a]++
		}
	}
	for a := range appenders {
		equal(t, fmt.Sprintf("appends of %d", a), next[a], each)
	}
}

func appendCanceled(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Log.Append(ctx, block(1, "late")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	add(t, s.Log, block(1, "next"))
	for _, b := range readAll(t, s.Log, 0) {
		if string(b.Data) == "late" {
			t.Error("an append that was canceled before it began is in the log")
		}
	}
}
