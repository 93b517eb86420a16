package importer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/job"
	"kith/workspace"
)

// How rows are handed over: a batch at a time, which is durable before the
// cursor is saved, and never more than two stretches before the loop.
const (
	batchRows  = 2 * event.MaxBlockRecords
	batchBytes = 1 << 20
	stretch    = 20_000 // rows
	previewed  = 5      // calls
)

// params are the parameters of the job.
type params struct {
	Space uint32 `json:"space"`
	ID    string `json:"id"`
}

// run is the job: it waits for its turn, does the import from the cursor on, and
// notes how it ended.
func (m *Importer) run(ctx context.Context, h *job.Handle) error {
	var p params
	if err := h.Params(&p); err != nil {
		return err
	}
	kept, err := m.read(ctx, p.Space, p.ID)
	if err != nil || kept.State.Ended() {
		return err
	}
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	w, err := m.begin(kept, h)
	if err == nil {
		err = errors.Join(w.work(ctx), w.close())
	}
	switch {
	case err == nil:
		m.cfg.Logger.Info("import finished", "import", kept.ID, "rows", w.at.Rows, "sent", w.at.Sent, "failed", w.at.Failed)
		return m.conclude(ctx, p.Space, p.ID, Finished, "")
	case ctx.Err() != nil, fault.Is(err, fault.Unavailable):
		return err // it goes on from the cursor
	}
	if now, look := m.cfg.Jobs().Get(context.WithoutCancel(ctx), h.ID()); look == nil && now.State != job.Running {
		return err // paused or canceled, which whoever did it knows
	}
	return errors.Join(err, m.conclude(ctx, p.Space, p.ID, Failed, err.Error()))
}

// worker does an import.
type worker struct {
	m       *Importer
	h       *job.Handle
	kept    *Import
	at      Progress
	live    *live
	file    *os.File
	rows    *rows
	report  *report
	build   builder
	batch   []read
	size    int              // bytes of the calls of batch
	end     commitlog.Offset // of the raw log after the last stretch
	until   uint64           // rows of this stretch
	seen    bool             // there is a preview
	counted int64            // bytes of the report that Importer.used knows of
}

// read is a row that has been read.
type read struct {
	number   uint64
	line     uint64
	cells    []string
	calls    []string
	problems []problem
}

func (m *Importer) begin(kept *Import, h *job.Handle) (*worker, error) {
	w := &worker{m: m, h: h, kept: kept}
	var err error
	if w.at, err = progressOf(kept, h.Cursor()); err != nil {
		return nil, err
	}
	path, err := m.path(kept.ID, uploadFile)
	if err != nil {
		return nil, err
	}
	if w.file, err = os.Open(path); err != nil {
		return nil, fault.New(fault.Internal, "the uploaded file is gone; upload it again (%w)", err)
	}
	if path, err = m.path(kept.ID, reportFile); err == nil {
		if info, err := os.Stat(path); err == nil {
			w.counted = info.Size()
		}
		w.report, err = openReport(path, kept.Columns, w.at.Report, m.cfg.Limits.ReportBytes)
	}
	if err != nil {
		return nil, errors.Join(err, w.file.Close())
	}
	comma := []rune(kept.Options.Delimiter)[0]
	w.rows = newRows(w.file, kept.Size, comma, MaxRowBytes, w.at.Offset, w.at.Line)
	w.build = builder{id: kept.ID, options: &kept.Options, columns: kept.Columns, identifiers: map[string]string{}}
	w.live = &live{since: m.cfg.Clock.Now(), rows: w.at.Rows, offset: w.at.Offset}
	m.mu.Lock()
	m.active[kept.ID] = w.live
	m.mu.Unlock()
	return w, nil
}

func (w *worker) close() error {
	w.m.mu.Lock()
	delete(w.m.active, w.kept.ID)
	w.m.mu.Unlock()
	return errors.Join(w.file.Close(), w.report.file.Close())
}

// work reads to the end of the file.
func (w *worker) work(ctx context.Context) error {
	for {
		r, err := w.rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the uploaded file: %w", err)
		}
		w.take(r)
		if len(w.batch) < batchRows && w.size < batchBytes {
			continue
		}
		if err := w.flush(ctx); err != nil {
			return err
		}
		if w.at.Rows >= w.until {
			if err := w.letLoopCatchUp(ctx); err != nil {
				return err
			}
		}
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	if w.kept.Options.DryRun {
		return nil
	}
	// Whoever sees that it is finished finds the profiles.
	end, err := w.m.cfg.Loop.End(w.kept.Space)
	if err != nil {
		return err
	}
	return w.passed(ctx, end)
}

// take makes calls of a row.
func (w *worker) take(r row) {
	w.at.Rows++
	done := read{number: w.at.Rows, line: r.line}
	done.calls, done.problems = w.build.build(done.number, r)
	if len(done.calls)+len(done.problems) == 0 {
		w.at.Empty++
		return
	}
	for _, c := range done.calls {
		w.size += len(c)
	}
	w.size += 64 // so that bad rows fill a batch, too
	done.cells = slices.Clone(r.cells)
	w.batch = append(w.batch, done)
}

// flush hands the batch over, writes what is wrong into the report, and saves
// how far that is.
func (w *worker) flush(ctx context.Context) error {
	if err := w.send(ctx); err != nil {
		return err
	}
	before := w.at
	for i := range w.batch {
		r := &w.batch[i]
		if len(r.problems) == 0 {
			w.at.Sent++
			continue
		}
		w.at.Failed++
		fits, err := w.report.add(r.number, r.line, r.cells, r.problems)
		if err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		if fits {
			w.at.Reported++
		}
	}
	if err := w.report.sync(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	w.m.grew(w.report.bytes - w.counted)
	w.counted = w.report.bytes
	if !w.kept.Options.DryRun {
		w.m.count(before, w.at)
	}
	clear(w.batch)
	w.batch, w.size = w.batch[:0], 0
	w.at.Offset, w.at.Line, w.at.Report = w.rows.offset(), w.rows.line, w.report.bytes
	cursor, err := json.Marshal(w.at)
	if err != nil {
		return fmt.Errorf("cursor of import %s: %w", w.kept.ID, err)
	}
	return w.h.Save(ctx, cursor, uint64(w.at.Offset), uint64(w.kept.Size))
}

// send makes the calls of the batch durable, waiting while there is no room for
// them, and notes those that were refused.
func (w *worker) send(ctx context.Context) error {
	var calls []string
	var from []int // the row of each call
	for i := range w.batch {
		for _, c := range w.batch[i].calls {
			calls, from = append(calls, c), append(from, i)
		}
	}
	if len(calls) == 0 {
		return nil
	}
	if err := w.preview(calls); err != nil {
		return err
	}
	for {
		source, err := w.source()
		if err != nil {
			return err
		}
		refused, err := w.m.cfg.Collector.TakeCalls(ctx, source, calls, w.kept.Options.DryRun)
		if err == nil {
			w.waits("")
			for _, x := range refused {
				r := &w.batch[from[x.Index]]
				r.problems = append(r.problems, problem{flaw: flaw{x.Message + " (" + x.Code + ")", "mend the row"}})
			}
			return nil
		}
		var f *fault.Error
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &f) && f.Kind == fault.RetryAfter:
			w.waits(f.Message)
			if err := w.pause(ctx, max(f.After, 100*time.Millisecond)); err != nil {
				return err
			}
		case fault.Is(err, fault.Conflict):
			w.waits(err.Error() + ": enable it, or cancel the import")
			if err := w.pause(ctx, time.Second); err != nil {
				return err
			}
		case fault.Is(err, fault.Internal):
			return fault.Wrap(fault.Unavailable, fmt.Errorf("send rows: %w", err)) // the log does not take them right now
		default:
			return fmt.Errorf("send rows: %w", err)
		}
	}
}

// source returns the source as it is now. A dry run may have one that is not
// there yet.
func (w *worker) source() (*workspace.Source, error) {
	snapshot := w.m.cfg.Workspace.Current()
	if w.kept.Source != "" {
		if s := snapshot.Source(w.kept.Source); s != nil {
			return s, nil
		}
		return nil, fault.New(fault.NotFound, "the source of the import was removed; upload the file again for another one")
	}
	space := snapshot.SpaceByNumber(w.kept.Space)
	if space == nil {
		return nil, fault.New(fault.NotFound, "there is no space %d", w.kept.Space)
	}
	return &workspace.Source{Slug: SourceSlug, MetadataID: SourceMetadata, Enabled: true, SpaceID: space.ID}, nil
}

// letLoopCatchUp waits until the loop has passed what was sent before the last
// stretch, so that what comes from elsewhere does not wait behind a
// whole file.
func (w *worker) letLoopCatchUp(ctx context.Context) error {
	w.until = w.at.Rows + stretch
	if w.kept.Options.DryRun {
		return nil
	}
	end, err := w.m.cfg.Loop.End(w.kept.Space)
	if err != nil {
		return err
	}
	behind := w.end
	w.end = end
	return w.passed(ctx, behind)
}

// passed waits until the loop has passed everything before an end of the log.
func (w *worker) passed(ctx context.Context, end commitlog.Offset) error {
	if end == 0 {
		return nil
	}
	w.waits("the events before are being processed")
	defer w.waits("")
	return w.m.cfg.Loop.Passed(ctx, w.kept.Space, end-1)
}

// waits notes why the import does not go on; empty: it does.
func (w *worker) waits(why string) {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.live.waiting = why
}

func (w *worker) pause(ctx context.Context, d time.Duration) error {
	reached, stop := w.m.cfg.Clock.Until(w.m.cfg.Clock.Now().Add(d))
	defer stop()
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// preview keeps the first calls of a dry run.
func (w *worker) preview(calls []string) error {
	if !w.kept.Options.DryRun || w.seen {
		return nil
	}
	w.seen = true
	path, err := w.m.path(w.kept.ID, previewFile)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil {
		return nil // from before a restart
	}
	text := bytes.NewBufferString("[")
	for i, c := range calls[:min(previewed, len(calls))] {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString(c)
	}
	text.WriteByte(']')
	if err := os.WriteFile(path+".new", text.Bytes(), 0o600); err != nil {
		return err
	}
	w.m.grew(int64(text.Len()))
	return os.Rename(path+".new", path)
}
