package pebblekv

import (
	"bytes"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"kith/fault"
	"kith/kv"
	"kith/kv/kvtest"
)

// small makes flushes and compactions happen within a test.
var small = Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10}

func open(t *testing.T, dir string, opts Options) *DB {
	t.Helper()
	db, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestConformance(t *testing.T) {
	dirs := make(map[kv.DB]string)
	inDir := func(t *testing.T, dir string) kv.DB {
		db := open(t, dir, Options{})
		dirs[db] = dir
		return db
	}
	kvtest.Run(t, func(t *testing.T) kv.DB { return inDir(t, t.TempDir()) }, kvtest.Options{
		Reopen: func(t *testing.T, db kv.DB) kv.DB {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return inDir(t, dirs[db])
		},
	})
}

// TestConformanceCrash runs the suite on a file system in memory that can lose
// what was not synced, with a store so small that it flushes and compacts all
// the time.
func TestConformanceCrash(t *testing.T) {
	disks := make(map[kv.DB]*vfs.MemFS)
	on := func(t *testing.T, disk *vfs.MemFS) kv.DB {
		opts := small
		opts.fs = disk
		db := open(t, "data", opts)
		disks[db] = disk
		return db
	}
	kvtest.Run(t, func(t *testing.T) kv.DB { return on(t, vfs.NewCrashableMem()) }, kvtest.Options{
		Crash: func(t *testing.T, db kv.DB) kv.DB {
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: rand.IntN(100), RNG: rand.New(rand.NewPCG(rand.Uint64(), 0))}
			if rand.IntN(3) == 0 {
				cfg = vfs.CrashCloneCfg{} // nothing that was not synced
			}
			return on(t, disks[db].CrashClone(cfg))
		},
	})
}

func TestOpenTwice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	db := open(t, dir, Options{})
	_, err := Open(dir, Options{})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "another kith is running on this directory") {
		t.Errorf("opening it twice: %v", err)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(wd, dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(rel, Options{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("opening it twice by another name: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if err := open(t, dir, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, Options{}); err == nil || fault.Is(err, fault.Conflict) {
		t.Errorf("a file as directory: %v", err)
	}
	// A store of a later version is refused, and the directory left alone.
	dir := t.TempDir()
	if err := open(t, dir, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	markers, err := filepath.Glob(filepath.Join(dir, "marker.format-version.*"))
	if err != nil || len(markers) != 1 {
		t.Fatal(markers, err)
	}
	later := filepath.Join(dir, "marker.format-version.000999.999")
	if err := os.Rename(markers[0], later); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("files of a version to come were opened")
	}
	if err := os.Rename(later, markers[0]); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, Options{}).Close(); err != nil {
		t.Error(err)
	}
}

func TestDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	db := open(t, dir, Options{})
	defer db.Close()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v", info.Mode())
	}
}

func TestLoggerKeepsDebugOut(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	db := open(t, t.TempDir(), Options{Logger: log})
	err := db.Update(t.Context(), "f", kv.Durable, func(tx kv.Tx) error { return tx.Set([]byte("k"), []byte("v")) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 0 {
		t.Errorf("an ordinary life is logged above debug: %s", &out)
	}
}
