package pebblekv

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
)

// Stats are figures of a store since it was opened, for metrics and
// benchmarks. Sizes are in bytes.
type Stats struct {
	Disk    uint64 // what the files take now
	Written uint64 // what has gone to the disk: write-ahead log, flushes, compactions
	Debt    uint64 // an estimate of what compactions have yet to write
	Memory  uint64 // what the cache and pending writes take now
	ReadAmp int    // how many sorted runs a look may have to pass now
}

// Stats returns the store's figures; they are zero once it is closed.
func (db *DB) Stats() Stats {
	if err := db.guard.Enter(context.Background()); err != nil {
		return Stats{}
	}
	defer db.guard.Leave()
	return statsOf(db.pebble.Metrics())
}

func statsOf(m *pebble.Metrics) Stats {
	s := Stats{
		Disk:    m.DiskSpaceUsage(),
		Written: m.WAL.BytesWritten,
		Debt:    m.Compact.EstimatedDebt,
		Memory:  uint64(m.BlockCache.Size) + m.MemTable.Size,
		ReadAmp: m.ReadAmp(),
	}
	for _, level := range m.Levels {
		s.Written += level.TableBytesFlushed + level.TableBytesCompacted + level.BlobBytesFlushed + level.BlobBytesCompacted
	}
	return s
}
