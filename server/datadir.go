package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"kith/fault"
)

// dataFormat is the format of a data directory. It is raised whenever an older
// kith would get it wrong: by reading a value of a form it does not know, or by
// not reading a key that has taken the place of another. This one reads it and
// the one before:
//
//	2: messageIds are remembered by buckets, verdicts lead to outputs, there
//	   are objects in the raw log, a gate more is counted, a ledger is kept
//	1: the first
const (
	dataFormat = 2
	// dataNeeds is the first version of kith that reads dataFormat.
	dataNeeds = "0.2"
)

// dataDir is a data directory.
type dataDir struct {
	path   string
	format int // as it was found
}

// openDataDir makes the directory if it is not there, and refuses one that a
// newer version has written. raise is next for it, once no other server has it.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	d := &dataDir{path: path, format: dataFormat}
	text, err := os.ReadFile(d.file(fileFormat))
	if errors.Is(err, fs.ErrNotExist) {
		if entries, err := os.ReadDir(path); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		} else if len(entries) > 0 && !d.begun(entries) {
			return nil, fault.Field("data", "%s is not empty and not a data directory of kith: name another folder", path)
		}
		return d, d.writeFormat()
	}
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	number, needs, _ := strings.Cut(string(text), "\n")
	format, err := strconv.Atoi(number)
	if err != nil || format < 1 {
		return nil, fault.Field("data", "%s does not hold the number of a format: it is damaged, or the folder is not a data directory of kith", d.file(fileFormat))
	}
	if format > dataFormat {
		return nil, fault.Field("data", "%s was written by a newer version (format %d, this one reads up to %d): it %s or newer", path, format, dataFormat, strings.TrimSpace(needs))
	}
	d.format = format
	return d, nil
}

// raise gives a directory that an older version has written the format of now,
// before anything of that is written into it: from here on it is refused by
// the older version.
func (d *dataDir) raise() error {
	if d.format == dataFormat {
		return nil
	}
	return d.writeFormat()
}

func (d *dataDir) writeFormat() error {
	return d.write(fileFormat, fmt.Sprintf("%d\nneeds kith %s\n", dataFormat, dataNeeds), 0o644)
}

// begun says whether the only entries are those of a first start that was
// interrupted: an admin token put there beforehand is one.
func (d *dataDir) begun(entries []fs.DirEntry) bool {
	for _, e := range entries {
		if name := e.Name(); name != fileAdminToken && !strings.HasSuffix(name, ".new") {
			return false
		}
	}
	return true
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// write writes a small file whole or not at all.
func (d *dataDir) write(name, text string, mode fs.FileMode) error {
	temporary := d.file(name) + ".new"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temporary, d.file(name))
	}
	if err == nil {
		err = syncDir(d.path)
	}
	if err != nil {
		return fmt.Errorf("data directory: write %s: %w", name, err)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
