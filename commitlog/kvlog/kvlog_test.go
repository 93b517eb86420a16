package kvlog_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/commitlog/logtest"
	"kith/fault"
	"kith/kv"
	"kith/kv/kvtest"
	"kith/kv/memkv"
	"kith/kv/pebblekv"
)

const fence = kv.Fence("log/raw/7")

func stem() kv.Key { return kv.SpaceKey(7, 'r') }

func open(t testing.TB, db kv.DB, opts kvlog.Options) *kvlog.Log {
	t.Helper()
	l, err := kvlog.Open(context.Background(), db, stem(), fence, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// subject is a log among other keys of the same store.
func subject(t *testing.T, db kv.DB, opts kvlog.Options) logtest.Subject {
	neighbours := []kv.Key{kv.SpaceKey(7, 'q').Uint64(1 << 63), kv.SpaceKey(7, 's').Uint64(0), kv.SpaceKey(6, 'r').Uint64(9), kv.SpaceKey(8, 'r').Uint64(0)}
	err := db.Update(t.Context(), "others", kv.Durable, func(tx kv.Tx) error {
		for _, key := range neighbours {
			if err := tx.Set(key, []byte("not a block")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := db.View(context.Background(), func(r kv.Reader) error {
			for _, key := range neighbours {
				if value, err := r.Get(key); string(value) != "not a block" {
					t.Errorf("the key %x of another became %q, %v", key, value, err)
				}
			}
			return nil
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Error(err)
		}
	})
	return logtest.Subject{
		Log:    open(t, db, opts),
		Reopen: func(t *testing.T) commitlog.Log { return open(t, db, opts) },
		Update: func(ctx context.Context, fn func(kv.Tx) error) error { return db.Update(ctx, fence, kv.Durable, fn) },
	}
}

// plainDB hides what a store can do beyond kv.DB.
type plainDB struct{ kv.DB }

func TestConformance(t *testing.T) {
	t.Run("memkv", func(t *testing.T) {
		logtest.Run(t, func(t *testing.T) logtest.Subject {
			return subject(t, kvtest.Watch(memkv.New(), t.Errorf), kvlog.Options{})
		})
	})
	t.Run("without range deletes, a short queue, small commits", func(t *testing.T) {
		logtest.Run(t, func(t *testing.T) logtest.Subject {
			return subject(t, plainDB{memkv.New()}, kvlog.Options{Queue: 1, CommitBytes: 1})
		})
	})
	t.Run("transactions that run twice", func(t *testing.T) {
		logtest.Run(t, func(t *testing.T) logtest.Subject {
			return subject(t, memkv.NewWith(memkv.Options{Rerun: func(kv.Fence) bool { return true }}), kvlog.Options{})
		})
	})
	t.Run("pebblekv", func(t *testing.T) {
		logtest.Run(t, func(t *testing.T) logtest.Subject {
			db, err := pebblekv.Open(t.TempDir(), pebblekv.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return subject(t, db, kvlog.Options{})
		})
	})
}

// TestFaults lets commits fail, before and after they were made: the log stays
// a sequence, holds all that was acknowledged, and each append once.
func TestFaults(t *testing.T) {
	boom := fault.New(fault.Unavailable, "boom")
	var op atomic.Value
	op.Store("")
	db := memkv.NewWith(memkv.Options{Fault: func(at string) error {
		if op.CompareAndSwap(at, "") {
			return boom
		}
		return nil
	}})
	defer db.Close()
	l := open(t, db, kvlog.Options{})
	defer l.Close()
	points := []string{"", memkv.OpBegin, memkv.OpCommit, memkv.OpCommitted}
	for i := range 40 {
		at := points[i%4]
		op.Store(at)
		first, err := l.Append(t.Context(), commitlog.Payload{Count: 2, Data: []byte(fmt.Sprint(i))})
		if (err != nil) != (at != "") || err != nil && !errors.Is(err, boom) {
			t.Fatalf("append %d with a fault at %q: %v", i, at, err)
		}
		if err == nil && first+2 != l.End() {
			t.Errorf("append %d is at %d, the log ends at %d", i, first, l.End())
		}
	}
	if _, err := l.Append(t.Context(), commitlog.Payload{Count: 2, Data: []byte("last")}); err != nil {
		t.Fatal(err)
	}
	blocks, err := l.Read(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	got, want := "", ""
	for i, b := range blocks {
		if b.First != commitlog.Offset(2*i) {
			t.Errorf("block %d begins at %d", i, b.First)
		}
		got += string(b.Data) + " "
	}
	for i := range 40 {
		if i%4 == 0 || i%4 == 3 { // acknowledged, or made though the answer was lost
			want += fmt.Sprint(i, " ")
		}
	}
	if want += "last "; got != want {
		t.Errorf("the log holds %s\nwant %s", got, want)
	}
}

// TestCrash crashes the store while appends run: what was acknowledged is in
// the log that is left.
func TestCrash(t *testing.T) {
	db := memkv.New()
	defer db.Close()
	l := open(t, db, kvlog.Options{})
	defer l.Close()
	var acked atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := l.Append(context.Background(), commitlog.Payload{Count: 1, Data: []byte("x")}); err != nil {
					t.Error(err)
					return
				}
				acked.Add(1)
			}
		})
	}
	for i := range int64(20) {
		for acked.Load() < 10*i {
			runtime.Gosched()
		}
		before := acked.Load()
		left := db.Crash(0)
		again := open(t, left, kvlog.Options{})
		if end := again.End(); int64(end) < before {
			t.Errorf("the log that is left ends at %d, though %d records were acknowledged", end, before)
		}
		if blocks, err := again.Read(t.Context(), 0, 1<<20); err != nil || len(blocks) != int(again.End()) {
			t.Errorf("the log that is left has %d blocks and ends at %d, %v", len(blocks), again.End(), err)
		}
		if err := errors.Join(again.Close(), left.Close()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

// TestReadersSeeOnlyWhatIsDurable looks at the log at the moment when a commit
// is in the store but not answered yet.
func TestReadersSeeOnlyWhatIsDurable(t *testing.T) {
	var l *kvlog.Log
	looked := false
	db := memkv.NewWith(memkv.Options{Fault: func(op string) error {
		if op == memkv.OpCommitted && !looked {
			looked = true
			if end := l.End(); end != 0 {
				t.Errorf("the log ends at %d before the commit is durable", end)
			}
		}
		return nil
	}})
	defer db.Close()
	l = open(t, db, kvlog.Options{})
	defer l.Close()
	if _, err := l.Append(t.Context(), commitlog.Payload{Count: 1, Data: []byte("a")}); err != nil || !looked {
		t.Fatal(err, looked)
	}
	// A block beyond the end, as a commit of another Log value would show.
	other := open(t, db, kvlog.Options{})
	defer other.Close()
	if _, err := other.Append(t.Context(), commitlog.Payload{Count: 1, Data: []byte("b")}); err != nil {
		t.Fatal(err)
	}
	blocks, err := l.Read(t.Context(), 0, 1<<20)
	if err != nil || len(blocks) != 1 {
		t.Errorf("got %d blocks, %v, want the one before the end", len(blocks), err)
	}
}

// TestGroupCommit holds the first commit back until all others wait: they must
// share one.
func TestGroupCommit(t *testing.T) {
	const waiting = 50
	commits := 0
	holding, release := make(chan struct{}), make(chan struct{})
	db := memkv.NewWith(memkv.Options{Fault: func(op string) error {
		if op != memkv.OpCommit {
			return nil
		}
		if commits++; commits == 1 {
			close(holding)
			<-release
		}
		return nil
	}})
	defer db.Close()
	l := open(t, db, kvlog.Options{Queue: waiting})
	defer l.Close()
	var wg sync.WaitGroup
	add := func() {
		if _, err := l.Append(context.Background(), commitlog.Payload{Count: 1, Data: []byte("x")}); err != nil {
			t.Error(err)
		}
	}
	wg.Go(add)
	<-holding
	for range waiting {
		wg.Go(add)
	}
	for l.Waiting() < waiting {
		continue
	}
	close(release)
	wg.Wait()
	if commits != 2 || l.End() != waiting+1 {
		t.Errorf("%d commits for %d records, want 2", commits, l.End())
	}
}

// TestAppendGivesUp cancels an append that waits for the committer: it is not
// in the log.
func TestAppendGivesUp(t *testing.T) {
	holding, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	db := memkv.NewWith(memkv.Options{Fault: func(op string) error {
		if op == memkv.OpCommit {
			once.Do(func() { close(holding); <-release })
		}
		return nil
	}})
	defer db.Close()
	l := open(t, db, kvlog.Options{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := l.Append(context.Background(), commitlog.Payload{Count: 1, Data: []byte("held")}); err != nil {
			t.Error(err)
		}
	})
	<-holding
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		for l.Waiting() == 0 {
			continue
		}
		cancel()
	})
	if _, err := l.Append(ctx, commitlog.Payload{Count: 1, Data: []byte("given up")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	close(release)
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if end := open(t, db, kvlog.Options{}).End(); end != 1 {
		t.Errorf("the log ends at %d, want 1", end)
	}
}

func TestDamage(t *testing.T) {
	for name, value := range map[string]string{
		"empty":             "",
		"a format to come":  "\x09\x01x",
		"no count":          "\x01",
		"a count of none":   "\x01\x00x",
		"an immense count":  "\x01\xff\xff\xff\xff\xff\xff\xff\xff\x01x",
		"an endless varint": "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		db := memkv.New()
		err := db.Update(t.Context(), fence, kv.Durable, func(tx kv.Tx) error {
			return tx.Set(stem().Uint64(0), []byte(value))
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kvlog.Open(t.Context(), db, stem(), fence, kvlog.Options{}); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: got %v, want fault.Internal", name, err)
		}
	}
}
