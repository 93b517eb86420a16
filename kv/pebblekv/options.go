package pebblekv

import (
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options tunes a store. The zero value is good for one machine with little
// memory to spare.
type Options struct {
	// CacheBytes is how much is kept in memory of what was read. Zero means
	// 128 MiB. Up to 32 MiB of single values that views have read come to it.
	CacheBytes int64
	// MemTableBytes is how much is gathered in memory before it is written out
	// sorted. Twice as much may be in memory while that happens. More means
	// fewer rewrites later. Zero means 64 MiB. It grows to this size from
	// 256 KiB as writes come.
	MemTableBytes uint64
	// KeepBytes is how much Keep keeps at most under all fences together: each
	// gets what it asks for, but no more than half of what is left. Zero means
	// 256 MiB.
	KeepBytes int
	// Logger hears of what an operator should know: write stalls, a slow disk,
	// errors in the background. Nil discards it.
	Logger *slog.Logger

	fs vfs.FS // nil: the machine's; tests crash another
}

// format is the version of Pebble's files; raising it is one-way. Pebble
// refuses files of a version it does not know.
const format = pebble.FormatValueSeparation

// maxManifest is from what size on Pebble begins a new list of its files, once
// as many have come and gone as the list holds. A list names keys, so Scrub
// must be able to bring about a new one.
const maxManifest = 16 << 10

// pebble returns the options in Pebble's words. stalls counts write stalls,
// gone hears of every file that was removed.
func (o Options) pebble(stalls *atomic.Uint64, gone func()) *pebble.Options {
	if o.CacheBytes <= 0 {
		o.CacheBytes = 128 << 20
	}
	if o.MemTableBytes <= 0 {
		o.MemTableBytes = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &pebble.Options{
		FS:                 o.fs,
		FormatMajorVersion: format,
		// Pebble takes the memory of pending writes out of the cache.
		CacheSize:                   o.CacheBytes + 2*int64(o.MemTableBytes),
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: 4,
		// A write costs less when few, large runs are merged rarely; point
		// reads do not suffer, because the filters skip most runs.
		L0CompactionThreshold: 4,
		L0StopWritesThreshold: 24,
		LBaseMaxBytes:         256 << 20,
		MaxOpenFiles:          1000,
		MaxManifestFileSize:   maxManifest,
		BytesPerSync:          1 << 20,
		// A dropped range frees its disk only once it is out of the memory of
		// pending writes, which a quiet store fills slowly.
		FlushDelayDeleteRange: 10 * time.Second,
		CompactionConcurrencyRange: func() (int, int) {
			return 1, max(1, runtime.GOMAXPROCS(0)/2)
		},
		Logger: logger{o.Logger},
	}
	p.TargetFileSizes[0] = 8 << 20
	for i := range p.Levels {
		p.Levels[i].BlockSize = 16 << 10
		p.Levels[i].IndexBlockSize = 64 << 10
		// Most looks are for one key, and many are for keys that are not
		// there.
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// Snappy above, zstd where most of the data comes to rest. Blocks that do
	// not get smaller are kept as they are: log blocks are compressed already.
	p.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionBalanced })
	events := watch(o.Logger, stalls, gone)
	p.EventListener = &events
	return p
}
