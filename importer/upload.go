package importer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"kith/fault"
	"kith/workspace"
)

// checked is how much of a file is held in memory to look at its header, which
// may have MaxRowBytes, before the rest is received.
const checked = 2*MaxRowBytes + readAhead

// SourceSlug and SourceMetadata name the source that a space gets when the
// first import comes that names none.
const (
	SourceSlug     = "csv-import"
	SourceMetadata = "csv-import"
)

// Create receives a file and starts its import. The file is read to its end
// unless something is wrong with the options, the header or the first row:
// fault.Invalid, and nothing is kept. fault.RetryAfter means that the files of
// imports have no room for it, or that too many imports wait.
func (m *Importer) Create(ctx context.Context, space *workspace.Space, options Options, file io.Reader) (*Status, error) {
	if m.cfg.Collector == nil {
		return nil, fault.New(fault.Unavailable, "this server takes no files: it runs without the role collect or pipeline; send the file to one that has both")
	}
	comma, encoding, err := options.check()
	if err != nil {
		return nil, err
	}
	i := &Import{Space: space.Number, Options: options, Created: m.cfg.Clock.Now()}
	source, err := m.existing(space, options.Source)
	if err != nil {
		return nil, err
	}
	leave, err := m.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()

	text, name, err := decoded(&connection{file}, encoding)
	if err != nil {
		return nil, broken(err)
	}
	i.Options.Encoding = name
	from := bufio.NewReaderSize(text, checked)
	begin, err := from.Peek(checked)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, broken(err)
	}
	if err := i.look(begin, comma, m.cfg.Identifiers(space)); err != nil {
		return nil, err
	}

	if i.ID, err = m.newID(); err != nil {
		return nil, err
	}
	path, err := m.path(i.ID, "")
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, fmt.Errorf("folder of an import: %w", err)
	}
	if err := m.start(ctx, i, space, source, from); err != nil {
		if gone := m.removeAll(i.ID); gone != nil {
			m.cfg.Logger.Error("the files of an import that was not begun cannot be deleted", "import", i.ID, "error", gone)
		}
		return nil, broken(err)
	}
	m.cfg.Logger.Info("import begun", "import", i.ID, "space", space.Slug, "bytes", i.Size, "dryRun", options.DryRun)
	return m.Get(ctx, space.Number, i.ID)
}

// start receives the file and makes the import durable.
func (m *Importer) start(ctx context.Context, i *Import, space *workspace.Space, source *workspace.Source, from io.Reader) (err error) {
	if i.Size, err = m.receive(i.ID, from); err != nil {
		return err
	}
	if source == nil && !i.Options.DryRun {
		if source, err = m.makeSource(ctx, space); err != nil {
			return err
		}
	}
	if source != nil {
		i.Source = source.ID
	}
	if err := m.add(ctx, i); err != nil {
		return err
	}
	if err := m.cfg.Jobs().Start(ctx, Kind, jobID(i.ID), params{i.Space, i.ID}); err != nil {
		return errors.Join(err, m.forget(context.WithoutCancel(ctx), i))
	}
	return nil
}

// enter makes sure that not too many imports wait; leave ends the receiving of
// one.
func (m *Importer) enter(ctx context.Context) (leave func(), err error) {
	all, err := m.readAll(ctx, nil)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, i := range all {
		if !i.State.Ended() {
			n++
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if n+m.pending >= m.cfg.Limits.Pending {
		return nil, fault.New(fault.RetryAfter, "%d imports have not ended, which is the most: wait for one, or cancel one", n+m.pending)
	}
	m.pending++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.pending--
	}, nil
}

// look reads the header of a file and finds out what its columns are.
func (i *Import) look(begin []byte, wanted rune, rules []workspace.IdentifierRule) error {
	if len(bytes.TrimSpace(begin)) == 0 {
		return fault.Field("file", "it is empty: want a header with the names of the columns, and a row for each profile")
	}
	comma, skip, err := dialect(begin, wanted)
	if err != nil {
		return err
	}
	i.Options.Delimiter = string(comma)
	line := uint64(1)
	if skip > 0 {
		line = 2
	}
	r := newRows(bytes.NewReader(begin), int64(len(begin)), comma, MaxRowBytes, int64(skip), line)
	header, err := r.next()
	if err != nil {
		return fmt.Errorf("read the header of an import: %w", err)
	}
	if header.bad != (flaw{}) {
		return fault.Field("columns", "the header cannot be read: %s (line %d); %s", header.bad.reason, header.line, header.bad.fix)
	}
	if len(header.cells) > maxColumns {
		return fault.Field("columns", "the file has %d columns; at most %d are read", len(header.cells), maxColumns)
	}
	if i.Columns, i.Notes, err = plan(header.cells, &i.Options, rules); err != nil {
		if len(header.cells) == 1 && wanted == 0 {
			i.Notes = nil
			return errors.Join(err, fault.Field("delimiter", "only one column was found, with the delimiter %s: if it is another, say so, as delimiter=semicolon", named(comma)))
		}
		return err
	}
	i.Begin = Progress{Offset: r.offset(), Line: r.line}
	if _, err := r.next(); errors.Is(err, io.EOF) {
		return fault.Field("file", "it has a header and no rows: add a row for each profile")
	}
	return nil
}

// existing returns the source that rows come from, nil when it has yet to be
// made.
func (m *Importer) existing(space *workspace.Space, wanted string) (*workspace.Source, error) {
	snapshot := m.cfg.Workspace.Current()
	for i := range snapshot.Sources {
		s := &snapshot.Sources[i]
		switch {
		case wanted == "" && s.SpaceID == space.ID && s.MetadataID == SourceMetadata:
		case wanted != "" && (s.ID == wanted || s.Slug == wanted):
			if s.SpaceID != space.ID {
				return nil, fault.Field("source", "the source %s feeds another space than %s", s.Slug, space.Slug)
			}
		default:
			continue
		}
		if !s.Enabled {
			return nil, fault.Field("source", "the source %s is disabled: enable it, or name another", s.Slug)
		}
		return s, nil
	}
	if wanted != "" {
		return nil, fault.Field("source", "there is no source %q", wanted)
	}
	return nil, nil
}

// makeSource adds the source of a space's imports. It has no write key: nobody
// else sends to it.
func (m *Importer) makeSource(ctx context.Context, space *workspace.Space) (*workspace.Source, error) {
	_, err := m.cfg.Workspace.Update(ctx, func(d *workspace.Draft) error {
		taken := map[string]bool{}
		for i := range d.Sources {
			s := &d.Sources[i]
			if taken[s.Slug] = true; s.SpaceID == space.ID && s.MetadataID == SourceMetadata {
				return nil // somebody was faster
			}
		}
		d.Sources = append(d.Sources, workspace.Source{
			ID: d.NewSourceID(), Name: "CSV import", MetadataID: SourceMetadata, Enabled: true, SpaceID: space.ID,
			Slug: workspace.FreeSlug(SourceSlug, func(slug string) bool { return taken[slug] }), Schema: workspace.DefaultSchema(), CreatedAt: d.At,
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make a source for imports: %w", err)
	}
	source, err := m.existing(space, "")
	if err == nil && source == nil {
		err = fault.New(fault.Conflict, "the source for imports was removed meanwhile; try again")
	}
	return source, err
}

func (m *Importer) newID() (string, error) {
	var b [12]byte
	if _, err := io.ReadFull(m.cfg.Random, b[:]); err != nil {
		return "", fmt.Errorf("id of an import: %w", err)
	}
	return "imp_" + hex.EncodeToString(b[:]), nil
}

// connection tells what is wrong with the sender's connection from what is
// wrong with the file or the disk.
type connection struct{ from io.Reader }

var errConnection = errors.New("the file did not come completely")

// Read reads on.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", errConnection, err)
	}
	return n, err
}

// broken makes an error of the sender's connection one that says so.
func broken(err error) error {
	if errors.Is(err, errConnection) {
		return fault.New(fault.Invalid, "%w; send it again", errConnection)
	}
	return err
}
