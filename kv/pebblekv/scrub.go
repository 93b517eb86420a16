package pebblekv

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"kith/fault"
	"kith/kv"
)

// Scrub makes old values and keys leave the files; see kv.Scrubber. Compacting
// a range meets every version of its keys and keeps the newest. What is left
// then are files that nobody reads any more: tables, write-ahead logs that wait
// to be used again, and lists of files, which name first and last keys. Small
// flushes have Pebble replace these. One scrub runs at a time.
func (db *DB) Scrub(ctx context.Context, ranges ...kv.Range) error {
	if err := db.guard.Enter(ctx); err != nil {
		return err
	}
	defer db.guard.Leave()
	select {
	case db.scrub <- struct{}{}:
		defer func() { <-db.scrub }()
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err())
	}
	// A compaction keeps what a view may still ask for.
	if err := db.moments.wait(ctx); err != nil {
		return err
	}
	db.recent.clear()
	db.keeps.clear()
	for _, r := range ranges {
		// Twice: a compaction of Pebble's own may have carried an old value
		// below the level at which the first one ended.
		for range 2 {
			if err := db.compact(ctx, r); err != nil {
				return fmt.Errorf("scrub: %w", err)
			}
		}
	}
	if err := db.shed(ctx); err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	return nil
}

func (db *DB) compact(ctx context.Context, r kv.Range) error {
	from, to := r.From, r.To
	if from == nil {
		from = []byte{}
	}
	if to == nil {
		to = beyond
	}
	if bytes.Compare(from, to) >= 0 {
		return nil
	}
	if err := db.pebble.Flush(); err != nil {
		return err
	}
	return db.pebble.Compact(ctx, from, to, false)
}

// maxShed bounds how many flushes a scrub makes. Pebble begins a new list of
// files when as many have come and gone as there are.
const maxShed = 1 << 20

// shed returns once the files are gone that are there now and are no live
// tables.
func (db *DB) shed(ctx context.Context) error {
	db.files.fresh.Store(true)
	defer db.files.fresh.Store(false)
	doomed, err := db.files.list()
	if err != nil {
		return err
	}
	for range maxShed {
		if err := ctx.Err(); err != nil {
			return err
		}
		hears := db.files.listen()
		there, err := db.files.list()
		if err != nil {
			return err
		}
		live, err := db.live()
		if err != nil {
			return err
		}
		maps.DeleteFunc(doomed, func(name string, _ bool) bool { return !there[name] || live[name] })
		if len(doomed) == 0 {
			return nil
		}
		if onlyTables(doomed) {
			// Somebody reads them; a flush would not help.
			select {
			case <-hears:
			case <-ctx.Done():
			}
			continue
		}
		// No key is as great: this writes something and changes nothing.
		if err := db.pebble.Delete(beyond, pebble.Sync); err != nil {
			return err
		}
		if err := db.pebble.Flush(); err != nil {
			return err
		}
	}
	return fault.New(fault.Internal, "%d files of the store do not go", len(doomed))
}

// live returns the names of the tables that hold the store.
func (db *DB) live() (map[string]bool, error) {
	levels, err := db.pebble.SSTables()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, level := range levels {
		for _, table := range level {
			names[fmt.Sprintf("%06d%s", uint64(table.BackingSSTNum), tableSuffix)] = true
		}
	}
	return names, nil
}

const tableSuffix = ".sst"

func onlyTables(names map[string]bool) bool {
	for name := range names {
		if !strings.HasSuffix(name, tableSuffix) {
			return false
		}
	}
	return true
}

// files is the file system under a store, seen by Scrub.
type files struct {
	vfs.FS
	dir   string
	fresh atomic.Bool // no write-ahead log is written over an old one

	mu    sync.Mutex
	hears chan struct{} // closed and replaced when a file was removed
}

func newFiles(fs vfs.FS, dir string) *files {
	return &files{FS: fs, dir: dir, hears: make(chan struct{})}
}

// ReuseForWrite gives Pebble a file to write a write-ahead log into: an old
// one, whose bytes stay behind the end of the new, or while a scrub runs an
// empty one.
func (f *files) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if !f.fresh.Load() {
		return f.FS.ReuseForWrite(old, name, category)
	}
	if err := f.FS.Remove(old); err != nil {
		return nil, err
	}
	f.changed()
	return f.FS.Create(name, category)
}

// Unwrap returns the file system beneath.
func (f *files) Unwrap() vfs.FS { return f.FS }

// list returns the names of the files that may hold keys or values.
func (f *files) list() (map[string]bool, error) {
	names, err := f.FS.List(f.dir)
	if err != nil {
		return nil, err
	}
	list := map[string]bool{}
	for _, name := range names {
		if strings.HasSuffix(name, tableSuffix) || strings.HasSuffix(name, ".log") || strings.HasPrefix(name, "MANIFEST-") {
			list[name] = true
		}
	}
	return list, nil
}

func (f *files) changed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.hears)
	f.hears = make(chan struct{})
}

// listen returns a channel that closes when the next file is removed.
func (f *files) listen() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hears
}
