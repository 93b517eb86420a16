package pebblekv

import (
	"context"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"kith/fault"
)

// moment is the store after some commits, and perhaps others whose callers do
// not know it yet. Views that begin until the next commit has ended share one:
// a snapshot costs more than what most of them read.
type moment struct {
	snapshot *pebble.Snapshot
	commits  uint64 // those that had ended when the snapshot was taken, all of which it has
	users    int
	over     bool          // no view joins it any more
	ended    chan struct{} // closed with the snapshot
}

// moments are those of a store that are open.
type moments struct {
	mu      sync.Mutex
	current *moment
	old     map[*moment]bool // over, and still used
}

// join returns a moment that has all commits that have returned to their
// callers; leave must follow.
func (db *DB) join() *moment {
	db.moments.mu.Lock()
	defer db.moments.mu.Unlock()
	m := db.moments.current
	if m == nil {
		m = &moment{ended: make(chan struct{})}
		m.commits = db.recent.commits.Load() // first: what ends behind it may be in the snapshot
		m.snapshot = db.pebble.NewSnapshot()
		db.moments.current = m
	}
	m.users++
	return m
}

func (db *DB) leave(m *moment) {
	db.moments.mu.Lock()
	defer db.moments.mu.Unlock()
	if m.users--; m.users == 0 && m.over {
		db.moments.close(m)
	}
}

// pass lets the current moment go, behind each commit: views that begin take a
// new one.
func (v *moments) pass() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.retire()
}

// wait waits until no moment is open that is open now.
func (v *moments) wait(ctx context.Context) error {
	v.mu.Lock()
	v.retire()
	var open []*moment
	for m := range v.old {
		open = append(open, m)
	}
	v.mu.Unlock()
	for _, m := range open {
		select {
		case <-m.ended:
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, ctx.Err())
		}
	}
	return nil
}

// retire and close are called with mu held.
func (v *moments) retire() {
	m := v.current
	if m == nil {
		return
	}
	v.current, m.over = nil, true
	if m.users == 0 {
		v.close(m)
		return
	}
	if v.old == nil {
		v.old = map[*moment]bool{}
	}
	v.old[m] = true
}

func (v *moments) close(m *moment) {
	_ = m.snapshot.Close() // it only ever returns nil
	delete(v.old, m)
	close(m.ended)
}
