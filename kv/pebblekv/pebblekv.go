package pebblekv

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path/filepath"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"kith/fault"
	"kith/kv"
	"kith/kv/internal/guard"
)

// DB is a store in a directory. It implements kv.DB, kv.RangeDeleter,
// kv.Scrubber and kv.Keeper.
type DB struct {
	pebble *pebble.DB
	lock   *pebble.Lock
	guard  *guard.Guard
	lazy   atomic.Bool // Lazy commits may wait for an fsync
	stalls *atomic.Uint64
	files  *files
	recent *recent
	keeps  keeps
	scrub  chan struct{} // holds a token while a Scrub runs

	moments moments
}

// Open opens the store in dir, which it creates when it is not there (mode
// 0700, its parents too). It fails with fault.Conflict when another process has
// it open.
func Open(dir string, opts Options) (*DB, error) {
	if opts.fs == nil {
		opts.fs = vfs.Default
	}
	// One name a directory, for the lock.
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = create(opts.fs, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	lock, err := pebble.LockDirectory(dir, opts.fs)
	if err != nil {
		// The file could not be made; or it could, and somebody holds it.
		if path := (*fs.PathError)(nil); errors.As(err, &path) {
			return nil, fmt.Errorf("open the store: %w", err)
		}
		return nil, fault.New(fault.Conflict, "another kith is running on this directory: %s", dir)
	}
	stalls := new(atomic.Uint64)
	f := newFiles(opts.fs, dir)
	opts.fs = f
	p := opts.pebble(stalls, f.changed)
	p.Lock = lock
	db, err := pebble.Open(dir, p)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", errors.Join(err, lock.Close()))
	}
	return &DB{
		pebble: db, lock: lock, guard: guard.New(), stalls: stalls, files: f, recent: newRecent(recentMarks, recentBytes),
		keeps: keeps{left: cmp.Or(opts.KeepBytes, keepBytes), all: map[kv.Fence]*kept{}}, scrub: make(chan struct{}, 1),
	}, nil
}

// create makes dir, and the directories above it, and makes them last.
func create(on vfs.FS, dir string) error {
	parent := on.PathDir(dir)
	if _, err := on.Stat(dir); err == nil || parent == dir {
		return on.MkdirAll(dir, 0o700) // complains when dir is no directory
	}
	if err := create(on, parent); err != nil {
		return err
	}
	if err := on.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	d, err := on.OpenDir(parent)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// View calls fn with a moment of the store; see kv.DB.
func (db *DB) View(ctx context.Context, fn func(kv.Reader) error) error {
	if err := db.guard.Enter(ctx); err != nil {
		return err
	}
	defer db.guard.Leave()
	m := db.join()
	defer db.leave(m)
	return fn(view{reader{m.snapshot}, db.recent, m.commits})
}

// Update runs fn as a transaction under f; see kv.DB.
func (db *DB) Update(ctx context.Context, f kv.Fence, d kv.Durability, fn func(kv.Tx) error) error {
	if err := db.guard.Enter(ctx); err != nil {
		return err
	}
	defer db.guard.Leave()
	if err := db.guard.Lock(ctx, f); err != nil {
		return err
	}
	defer db.guard.Unlock(f)

	t := &tx{reader: reader{db.pebble}, kept: db.keeps.of(f)}
	defer t.guard.End()
	if err := fn(t); err != nil {
		return err
	}
	if err := t.guard.Err(); err != nil {
		return err
	}
	if err := db.commit(t, d); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (db *DB) commit(t *tx, d kv.Durability) error {
	if d == kv.Lazy {
		if len(t.list) == 0 {
			return nil
		}
		db.lazy.Store(true)
		return db.write(t, pebble.NoSync)
	}
	waiting := db.lazy.Swap(false)
	switch {
	case len(t.list) > 0:
		return db.write(t, pebble.Sync)
	case waiting:
		return db.pebble.LogData(nil, pebble.Sync)
	}
	return nil
}

// write commits what t wrote. In the order of the keys it goes faster into
// Pebble's memory.
func (db *DB) write(t *tx, opts *pebble.WriteOptions) error {
	batch := db.pebble.NewBatchWithSize(t.guard.Bytes() + 16*len(t.list) + 64)
	hashes := make([]uint64, 0, len(t.list))
	writes := t.writes()
	for i := range writes {
		w := &writes[i]
		hashes = append(hashes, maphash.String(db.recent.seed, w.key))
		if w.deleted {
			op := batch.DeleteDeferred(len(w.key))
			copy(op.Key, w.key)
			if err := op.Finish(); err != nil {
				return errors.Join(err, batch.Close())
			}
			continue
		}
		op := batch.SetDeferred(len(w.key), len(w.value))
		copy(op.Key, w.key)
		copy(op.Value, w.value)
		if err := op.Finish(); err != nil {
			return errors.Join(err, batch.Close())
		}
	}
	err := db.recent.writing(hashes, func() error { return batch.Commit(opts) })
	db.keeps.wrote(writes, err)
	db.moments.pass()
	return errors.Join(err, batch.Close())
}

// beyond is greater than every key.
var beyond = bytes.Repeat([]byte{0xff}, kv.MaxKeyBytes+1)

// DeleteRange drops all keys of a range at the cost of one write; see
// kv.RangeDeleter.
func (db *DB) DeleteRange(ctx context.Context, from, to []byte) error {
	if err := db.guard.Enter(ctx); err != nil {
		return err
	}
	defer db.guard.Leave()
	if to == nil {
		to = beyond
	}
	if bytes.Compare(from, to) >= 0 {
		return nil
	}
	err := db.recent.writingAny(func() error { return db.pebble.DeleteRange(from, to, pebble.Sync) })
	db.keeps.clear()
	db.moments.pass()
	if err != nil {
		return fmt.Errorf("delete a range: %w", err)
	}
	return nil
}

// Close waits for running calls and closes the files; see kv.DB. Every commit
// is on disk when it returns.
func (db *DB) Close() error {
	if !db.guard.Close() {
		return nil
	}
	db.moments.pass()
	if err := errors.Join(db.pebble.Close(), db.lock.Close()); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}
