package pebblekv

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// logger passes on what Pebble logs.
type logger struct{ to *slog.Logger }

// Infof is Pebble's diary; it is for debugging.
func (l logger) Infof(format string, args ...any) {
	if l.to.Enabled(context.Background(), slog.LevelDebug) {
		l.to.Debug(fmt.Sprintf(format, args...))
	}
}

func (l logger) Errorf(format string, args ...any) { l.to.Error(fmt.Sprintf(format, args...)) }

// Fatalf must not return: Pebble's state cannot be trusted any more.
func (l logger) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	l.to.Error("the store cannot go on", "error", message)
	panic("pebblekv: " + message)
}

// watch returns the events that an operator should hear of, counts write
// stalls, and calls gone for every file that was removed.
func watch(to *slog.Logger, stalls *atomic.Uint64, gone func()) pebble.EventListener {
	return pebble.EventListener{
		TableDeleted:    func(pebble.TableDeleteInfo) { gone() },
		ManifestDeleted: func(pebble.ManifestDeleteInfo) { gone() },
		WALDeleted:      func(pebble.WALDeleteInfo) { gone() },
		BackgroundError: func(err error) {
			to.Error("the store failed in the background and will try again", "error", err)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			stalls.Add(1)
			to.Warn("writes wait for the disk to catch up", "reason", info.Reason)
		},
		WriteStallEnd: func() { to.Info("writes go on") },
		DiskSlow: func(info pebble.DiskSlowInfo) {
			to.Warn("the disk is slow", "operation", info.OpType.String(), "took", info.Duration)
		},
		LowDiskSpace: func(info pebble.LowDiskSpaceInfo) {
			to.Warn("the disk is nearly full", "available", info.AvailBytes, "total", info.TotalBytes)
		},
	}
}
