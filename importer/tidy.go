package importer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kith/fault"
	"kith/job"
)

// Open makes the files and the imports agree, before any runs or comes: after a
// crash there may be files of an upload that was not finished, and an import
// whose job was not begun.
func (m *Importer) Open(ctx context.Context) error {
	kept, err := m.readAll(ctx, nil)
	if err != nil {
		return fmt.Errorf("imports: %w", err)
	}
	known := map[string]bool{}
	for _, i := range kept {
		known[i.ID] = true
		if i.State.Ended() {
			continue
		}
		_, err := m.cfg.Jobs().Get(ctx, jobID(i.ID))
		if fault.Is(err, fault.NotFound) {
			err = m.conclude(ctx, i.Space, i.ID, Failed, "the server stopped before the import began: upload the file again")
		}
		if err != nil {
			return err
		}
	}
	if m.cfg.Dir == "" {
		return nil
	}
	entries, err := os.ReadDir(m.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("folder of imports: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(m.cfg.Dir, e.Name())
		if !known[e.Name()] {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("folder of imports: %w", err)
			}
			continue
		}
		files, err := os.ReadDir(path)
		if err != nil {
			return fmt.Errorf("folder of imports: %w", err)
		}
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				m.grew(info.Size())
			}
		}
	}
	return nil
}

// Run deletes what is no longer kept, now and every hour, until ctx ends.
func (m *Importer) Run(ctx context.Context) error {
	for {
		if err := m.tidy(ctx); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Error("imports that ended cannot be deleted", "error", err)
		}
		reached, stop := m.cfg.Clock.Until(m.cfg.Clock.Now().Add(tidyEvery))
		select {
		case <-reached:
		case <-ctx.Done():
			stop()
			return nil
		}
	}
}

func (m *Importer) tidy(ctx context.Context) error {
	kept, err := m.readAll(ctx, nil)
	if err != nil {
		return err
	}
	var all []error
	for _, i := range kept {
		if err := m.tidyOne(ctx, i); err != nil {
			all = append(all, fmt.Errorf("import %s: %w", i.ID, err))
		}
	}
	return errors.Join(all...)
}

func (m *Importer) tidyOne(ctx context.Context, i *Import) error {
	now := m.cfg.Clock.Now()
	if !i.State.Ended() {
		s, err := m.cfg.Jobs().Get(ctx, jobID(i.ID))
		switch {
		case fault.Is(err, fault.NotFound): // it is being started
			return nil
		case err != nil:
			return err
		case s.State == job.Paused && now.Sub(s.Updated) > keepFiles:
			_, err := m.Cancel(ctx, i.Space, i.ID)
			return err
		case s.State == job.Failed: // by a defect
			return m.conclude(ctx, i.Space, i.ID, Failed, s.Error)
		case s.State == job.Canceled:
			return m.conclude(ctx, i.Space, i.ID, Canceled, "")
		}
		return nil
	}
	switch since := now.Sub(i.Ended); {
	case since > keepRecord:
		if err := m.removeAll(i.ID); err != nil {
			return err
		}
		return m.forget(ctx, i)
	case since > keepFiles && !i.FilesGone:
		if err := m.removeAll(i.ID); err != nil {
			return err
		}
		return m.change(ctx, i.Space, i.ID, func(i *Import) error {
			i.FilesGone = true
			return nil
		})
	}
	return m.remove(i.ID, uploadFile) // a crash may have come between
}
