package importer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"kith/fault"
)

// The files in the folder of an import.
const (
	uploadFile  = "upload.csv"
	reportFile  = "errors.csv"
	previewFile = "preview.json"
)

// folder returns the folder of all imports, and makes it the first time.
func (m *Importer) folder() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dir != "" {
		return m.dir, nil
	}
	if m.cfg.Dir == "" {
		dir, err := os.MkdirTemp("", "kith-imports-")
		if err != nil {
			return "", fmt.Errorf("folder of imports: %w", err)
		}
		m.dir, m.temporary = dir, true
		return dir, nil
	}
	if err := os.MkdirAll(m.cfg.Dir, 0o700); err != nil {
		return "", fmt.Errorf("folder of imports: %w", err)
	}
	m.dir = m.cfg.Dir
	return m.dir, nil
}

func (m *Importer) path(id, name string) (string, error) {
	dir, err := m.folder()
	return filepath.Join(dir, id, name), err
}

// reserve takes n bytes of what imports may have on disk; less than zero gives
// them back.
func (m *Importer) reserve(n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n > 0 && m.used+n > m.cfg.Limits.DiskBytes {
		return fault.New(fault.RetryAfter, "the files of imports have %d MiB of the %d MiB that they may have on disk (--import-disk): wait for an import to end, cancel one, or send a smaller file",
			m.used>>20, m.cfg.Limits.DiskBytes>>20)
	}
	m.used += n
	return nil
}

// grew counts what was written beside uploads, which has bounds of its own.
func (m *Importer) grew(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used += n
}

// remove deletes a file of an import; one that is not there is no error.
func (m *Importer) remove(id, name string) error {
	path, err := m.path(id, name)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err == nil {
		err = os.Remove(path) // of two who look at the same time, one finds it gone
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.reserve(-info.Size())
}

// removeAll deletes the folder of an import.
func (m *Importer) removeAll(id string) error {
	for _, name := range []string{uploadFile, reportFile, previewFile} {
		if err := m.remove(id, name); err != nil {
			return err
		}
	}
	path, err := m.path(id, "")
	if err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// metered is a file that is being received: each piece is reserved before it
// is written.
type metered struct {
	m    *Importer
	to   *os.File
	size int64
}

// Write writes p if there is room.
func (w *metered) Write(p []byte) (int, error) {
	if err := w.m.reserve(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := w.to.Write(p)
	w.size += int64(n)
	return n, errors.Join(err, w.m.reserve(int64(n-len(p))))
}

// receive writes a file to the end and to the disk, and returns its size.
func (m *Importer) receive(id string, from io.Reader) (int64, error) {
	path, err := m.path(id, uploadFile)
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	w := &metered{m: m, to: f}
	_, err = io.CopyBuffer(w, from, make([]byte, 256<<10))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return w.size, err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Report opens the report of an import, which the caller closes. Once the
// import's files are gone it is fault.NotFound.
func (m *Importer) Report(kept *Import) (io.ReadCloser, error) {
	path, err := m.path(kept.ID, reportFile)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if kept.FilesGone {
			return nil, fault.New(fault.NotFound, "the report was deleted 7 days after the import had ended")
		}
		return nil, fault.New(fault.NotFound, "there is no report yet: the import has not begun")
	}
	if err != nil {
		return nil, fmt.Errorf("report of import %s: %w", kept.ID, err)
	}
	return f, nil
}

// Preview returns the first calls of a dry run, as a JSON array; nil while, and
// once, there are none.
func (m *Importer) Preview(kept *Import) ([]byte, error) {
	if !kept.Options.DryRun {
		return nil, nil
	}
	path, err := m.path(kept.ID, previewFile)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}
