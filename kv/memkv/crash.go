package memkv

// AtRisk returns how many Lazy commits a crash could lose now. It remembers
// at most 1,024; older ones count as having reached the disk by themselves.
func (db *DB) AtRisk() int {
	db.mu.Lock()
	defer db.mu.Unlock()
	return len(db.atRisk)
}

// Crash returns a new store that holds what a crash at this instant would
// leave: all Durable commits, what was committed before them, and the first
// keep of the AtRisk Lazy commits after them. db itself goes on unharmed, as
// does whatever still runs in it. The new store has db's options.
func (db *DB) Crash(keep int) *DB {
	db.mu.Lock()
	defer db.mu.Unlock()
	left := db.durable
	if keep = min(keep, len(db.atRisk)); keep > 0 {
		left = db.atRisk[keep-1]
	}
	return restore(left.Clone(), db.opts)
}

// Clone returns a new store with db's options: one that holds all of db, or,
// with dropLazy, only what a crash leaves in any case.
func (db *DB) Clone(dropLazy bool) *DB {
	if dropLazy {
		return db.Crash(0)
	}
	return restore(db.snapshot(), db.opts)
}
