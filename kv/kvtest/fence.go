package kvtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"kith/fault"
	"kith/kv"
)

// add reads a counter and writes it back one higher: lost when two do it at
// the same time.
func add(tx kv.Tx, key string) error {
	value, err := tx.Get([]byte(key))
	if err != nil {
		return err
	}
	runtime.Gosched()
	old := kv.FieldsOf(value)
	return tx.Set([]byte(key), kv.Value{}.Uvarint(old.Uvarint()+1))
}

func counter(t *testing.T, db kv.DB, key string) (n int) {
	t.Helper()
	view(t, db, func(r kv.Reader) error {
		value := kv.FieldsOf(get(t, r, key))
		n = int(value.Uvarint())
		return nil
	})
	return n
}

func oneFence(t *testing.T, db kv.DB) {
	const writers, each = 8, 50
	var inside atomic.Int32
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				err := db.Update(context.Background(), "counter", kv.Lazy, func(tx kv.Tx) error {
					if inside.Add(1) > 1 {
						t.Error("two updates under one fence run at the same time")
					}
					defer inside.Add(-1)
					return add(tx, "n")
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	equal(t, "counter", counter(t, db, "n"), writers*each)
}

func twoFences(t *testing.T, db kv.DB) {
	// Each goes on only when the other has begun.
	var begun [2]chan struct{}
	for i := range begun {
		begun[i] = make(chan struct{})
	}
	var wg sync.WaitGroup
	for i := range begun {
		wg.Go(func() {
			var once sync.Once
			err := db.Update(context.Background(), kv.Fence(fmt.Sprint("fence ", i)), kv.Durable, func(tx kv.Tx) error {
				once.Do(func() { close(begun[i]) })
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				select {
				case <-begun[1-i]:
				case <-ctx.Done():
					return errors.New("updates under different fences wait for each other")
				}
				return write(tx, fmt.Sprintf("%d=done", i))
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	equal(t, "the store", all(t, db), "0=done 1=done")
}

func fenceAfterFailure(t *testing.T, db kv.DB) {
	boom := errors.New("boom")
	if err := db.Update(t.Context(), "test", kv.Lazy, func(kv.Tx) error { return boom }); err != boom {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic of fn did not come through")
			}
		}()
		_ = db.Update(t.Context(), "test", kv.Lazy, func(tx kv.Tx) error {
			_ = write(tx, "a=1")
			panic(boom)
		})
	}()
	set(t, db, "b=2")
	equal(t, "the store", all(t, db), "b=2")
}

func contexts(t *testing.T, db kv.DB) {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	err := errors.Join(
		canceled(db.Update(done, "test", kv.Lazy, func(kv.Tx) error { t.Error("fn of Update ran"); return nil })),
		canceled(db.View(done, func(kv.Reader) error { t.Error("fn of View ran"); return nil })),
	)
	if err != nil {
		t.Error(err)
	}

	// Waiting for a fence can be given up.
	waiting, give := context.WithCancel(context.Background())
	update(t, db, func(kv.Tx) error {
		result := make(chan error)
		go func() {
			result <- db.Update(waiting, "test", kv.Lazy, func(kv.Tx) error { t.Error("fn ran under a held fence"); return nil })
		}()
		give()
		if err := canceled(<-result); err != nil {
			t.Error(err)
		}
		return nil
	})
	set(t, db, "a=1")
}

func canceled(err error) error {
	if !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Unavailable) {
		return fmt.Errorf("with a context that is done: got %v, want context.Canceled as fault.Unavailable", err)
	}
	return nil
}

func concurrentReaders(t *testing.T, db kv.DB) {
	set(t, db, "stored=1")
	update(t, db, func(tx kv.Tx) error {
		if err := write(tx, "written=2"); err != nil {
			return err
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					stored, err1 := tx.Get([]byte("stored"))
					many, err2 := tx.GetMany([][]byte{[]byte("written"), []byte("neither")})
					if err := errors.Join(err1, err2); err != nil || string(stored) != "1" || string(many[0]) != "2" || many[1] != nil {
						t.Errorf("read %q and %q, %v", stored, many, err)
						return
					}
				}
			})
		}
		wg.Wait()
		return nil
	})
}

func concurrentUse(t *testing.T, db kv.DB) {
	const fences, each = 4, 40
	ctx := context.Background()
	var writers, readers sync.WaitGroup
	over := make(chan struct{})
	for f := range fences {
		writers.Go(func() {
			fence := kv.Fence(fmt.Sprint("fence ", f))
			for i := range each {
				d := kv.Durability(i%8 == 0)
				err := db.Update(ctx, fence, d, func(tx kv.Tx) error {
					// Two counters that are always equal.
					return errors.Join(add(tx, fmt.Sprint(f, "/a")), add(tx, fmt.Sprint(f, "/b")))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				err := db.View(ctx, func(r kv.Reader) error {
					values := make(map[string]string)
					for pair, err := range r.Scan(kv.Range{}) {
						if err != nil {
							return err
						}
						values[string(pair.Key)] = string(pair.Value)
					}
					for f := range fences {
						if a, b := values[fmt.Sprint(f, "/a")], values[fmt.Sprint(f, "/b")]; a != b {
							t.Errorf("a view shows half of a transaction: %x, %x", a, b)
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(over)
	readers.Wait()
	for f := range fences {
		equal(t, "counter", counter(t, db, fmt.Sprint(f, "/a")), each)
	}
}

func closing(t *testing.T, db kv.DB) {
	set(t, db, "a=1")
	var ended atomic.Bool
	closed, running := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := db.Update(context.Background(), "test", kv.Durable, func(tx kv.Tx) error {
			close(running)
			// Until Close has begun, which shows in new calls being refused.
			for {
				err := db.View(context.Background(), func(kv.Reader) error { return nil })
				if fault.Is(err, fault.Unavailable) {
					break
				}
				if err != nil {
					t.Error(err)
				}
				runtime.Gosched()
			}
			ended.Store(true)
			return write(tx, "b=2")
		})
		if err != nil {
			t.Errorf("an update that ran when the store was closed: %v", err)
		}
	})
	<-running
	wg.Go(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if !ended.Load() {
			t.Error("Close did not wait for a running update")
		}
		close(closed)
	})
	soon(t, "the store closes", closed)
	wg.Wait()

	ctx := context.Background()
	errs := map[string]error{
		"View":   db.View(ctx, func(kv.Reader) error { return nil }),
		"Update": db.Update(ctx, "test", kv.Lazy, func(kv.Tx) error { return nil }),
	}
	if ranges, ok := db.(kv.RangeDeleter); ok {
		errs["DeleteRange"] = ranges.DeleteRange(ctx, []byte("a"), []byte("b"))
	}
	if scrubber, ok := db.(kv.Scrubber); ok {
		errs["Scrub"] = scrubber.Scrub(ctx)
	}
	for call, err := range errs {
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s of a closed store: got %v, want fault.Unavailable", call, err)
		}
	}
}
