package importer

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"kith/clock"
	"kith/commitlog"
	"kith/fault"
	"kith/job"
	"kith/kv"
	"kith/workspace"
)

// Kind is the name of the job that an import is.
const Kind = "import"

// The bounds of one row.
const (
	MaxRowBytes = 512 << 10 // as it stands in the file, in UTF-8
	maxColumns  = 10_000    // as many properties as collect keeps of an event
)

// How long what is left of an import is kept.
const (
	keepFiles  = 7 * 24 * time.Hour  // the report, from the end on; an upload that is paused
	keepRecord = 30 * 24 * time.Hour // the numbers, from the end on
	tidyEvery  = time.Hour
)

// Workspace is the configuration, with the methods Current and Update of
// workspace.Store.
type Workspace interface {
	Current() *workspace.Snapshot
	Update(ctx context.Context, fn func(*workspace.Draft) error) (*workspace.Snapshot, error)
}

// Collector takes the calls.
type Collector interface {
	// TakeCalls judges calls of a source, makes those that are right durable
	// unless it is a dry run, and returns the others. Errors: fault.RetryAfter
	// while there is no room, fault.Conflict when the source is disabled,
	// fault.Unavailable when the server stops.
	TakeCalls(ctx context.Context, source *workspace.Source, calls []string, dryRun bool) ([]Refused, error)
}

// Refused is a call that was not taken, and why.
type Refused struct {
	Index   int // in the calls that were handed over, from zero
	Code    string
	Message string
}

// Loop is how far the loop of a space is.
type Loop interface {
	// End returns the end of a space's raw log.
	End(space uint32) (commitlog.Offset, error)
	// Passed waits until the loop has passed the record at an offset.
	Passed(ctx context.Context, space uint32, at commitlog.Offset) error
}

// Jobs runs the imports, with the methods Start, Get, Pause, Resume and Cancel
// of job.Jobs.
type Jobs interface {
	Start(ctx context.Context, kind, id string, params any) error
	Get(ctx context.Context, id string) (job.Status, error)
	Pause(ctx context.Context, id string) error
	Resume(ctx context.Context, id string) error
	Cancel(ctx context.Context, id string) error
}

// Config is what an Importer is made of. All but Dir and Limits is required.
type Config struct {
	DB kv.DB
	// Dir is the folder of the files; it is made when the first file comes.
	// Empty: a temporary one, which Close removes.
	Dir       string
	Workspace Workspace
	Collector Collector // nil: no files are taken here
	Loop      Loop
	// Jobs returns the jobs that Kind is given to. It is asked when it is
	// needed, since one is made before the other.
	Jobs func() Jobs
	// Identifiers returns the identity rules that are in force in a space.
	Identifiers func(space *workspace.Space) []workspace.IdentifierRule
	Clock       clock.Clock
	Random      io.Reader // for the ids of imports
	Logger      *slog.Logger
	Limits      Limits
}

// Limits bound what imports take. Zero fields have the default.
type Limits struct {
	DiskBytes   int64 // of the files of all imports: 20 GiB
	ReportBytes int64 // of one report: 64 MiB; what is more is counted
	AtOnce      int   // imports that run at a time: 2
	Pending     int   // imports that have not ended: 100
}

// Importer keeps the imports. It is safe for concurrent use.
type Importer struct {
	cfg   Config
	slots chan struct{} // one for each that runs

	mu        sync.Mutex
	dir       string // empty until it is made
	temporary bool
	used      int64            // bytes on disk
	pending   int              // imports that are being received
	active    map[string]*live // by id, those that have a goroutine
	counts    Stats
}

// Stats are numbers of all imports since the start.
type Stats struct {
	Sent, Failed, LeftOut uint64 // rows; LeftOut of those that failed are in no report, since it was full
	Running               int    // imports
	DiskBytes             int64  // that the files have now
}

// Stats returns how imports are doing.
func (m *Importer) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.counts
	s.Running, s.DiskBytes = len(m.active), m.used
	return s
}

// count adds what a batch of an import came to, unless it is a dry run.
func (m *Importer) count(before, now Progress) {
	m.mu.Lock()
	defer m.mu.Unlock()
	failed := now.Failed - before.Failed
	m.counts.Sent += now.Sent - before.Sent
	m.counts.Failed += failed
	m.counts.LeftOut += failed - (now.Reported - before.Reported)
}

// live is what is known of a running import and of no use after it.
type live struct {
	waiting string // why it does not go on right now
	since   time.Time
	rows    uint64 // read when it began
	offset  int64
}

// New returns the imports kept in cfg.DB. Open comes next, then Run.
func New(cfg Config) *Importer {
	l := &cfg.Limits
	l.DiskBytes, l.ReportBytes = cmp.Or(l.DiskBytes, 20<<30), cmp.Or(l.ReportBytes, 64<<20)
	l.AtOnce, l.Pending = cmp.Or(l.AtOnce, 2), cmp.Or(l.Pending, 100)
	return &Importer{cfg: cfg, slots: make(chan struct{}, l.AtOnce), active: map[string]*live{}}
}

// Kind returns the kind of job that an import is.
func (m *Importer) Kind() job.Kind { return job.Kind{Name: Kind, Run: m.run} }

// Close removes a temporary folder. Nothing runs any more.
func (m *Importer) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.temporary {
		return nil
	}
	return os.RemoveAll(m.dir)
}

// State is what an import is doing.
type State string

// The states. The last three are for good.
const (
	Queued   State = "queued"  // others run first
	Running  State = "running" // it may wait; see Status.Waiting
	Paused   State = "paused"  // until somebody resumes it, 7 days at most
	Finished State = "finished"
	Failed   State = "failed"
	Canceled State = "canceled"
)

// Ended reports whether nothing will happen to the import any more.
func (s State) Ended() bool { return s == Finished || s == Failed || s == Canceled }

// Import is an import, as it is kept.
type Import struct {
	ID        string    `json:"id"`
	Space     uint32    `json:"space"`
	Source    string    `json:"source,omitempty"` // its id; empty in a dry run for a source that is not there yet
	Options   Options   `json:"options"`
	Columns   []Column  `json:"columns"`
	Notes     []string  `json:"notes,omitempty"` // what was done to the file, for people
	Size      int64     `json:"size"`            // bytes of the file, in UTF-8
	Begin     Progress  `json:"begin"`           // where the first row is
	Created   time.Time `json:"created"`
	State     State     `json:"state,omitempty"` // how it ended; empty before
	Error     string    `json:"error,omitempty"` // why it failed
	Ended     time.Time `json:"ended,omitzero"`
	Progress  Progress  `json:"progress,omitzero"` // at the end
	FilesGone bool      `json:"filesGone,omitempty"`
}

// Progress is how far an import is.
type Progress struct {
	Offset   int64  `json:"offset"` // bytes of the file that are read
	Line     uint64 `json:"line"`   // of the file, the next one, from 1
	Rows     uint64 `json:"rows"`   // read, without the header and without blank lines
	Sent     uint64 `json:"sent"`   // rows that are durable; in a dry run those that would be
	Failed   uint64 `json:"failed"` // rows that were not sent; the report says why
	Empty    uint64 `json:"empty"`  // rows without any value, which are passed over
	Reported uint64 `json:"reported"`
	Report   int64  `json:"report"` // bytes of the report
}

// Status is an import as it stands.
type Status struct {
	Import
	// Waiting says why a running import does not go on right now.
	Waiting string
	// RowsPerSecond and Left are since it began, or went on after a restart;
	// zero while it does not run.
	RowsPerSecond float64
	Left          time.Duration
	Updated       time.Time
}

// Get returns an import of a space, or fault.NotFound.
func (m *Importer) Get(ctx context.Context, space uint32, id string) (*Status, error) {
	kept, err := m.read(ctx, space, id)
	if err != nil {
		return nil, err
	}
	return m.status(ctx, kept)
}

// List returns the imports of a space that have not ended, or ended in the last
// 30 days, the newest first.
func (m *Importer) List(ctx context.Context, space uint32) ([]Status, error) {
	kept, err := m.readAll(ctx, &space)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(kept, func(a, b *Import) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	})
	list := make([]Status, 0, len(kept))
	for _, i := range kept {
		s, err := m.status(ctx, i)
		if err != nil {
			return nil, err
		}
		list = append(list, *s)
	}
	return list, nil
}

// status joins what is kept of an import with its job.
func (m *Importer) status(ctx context.Context, kept *Import) (*Status, error) {
	s := &Status{Import: *kept, Updated: kept.Ended}
	if kept.State.Ended() {
		return s, nil
	}
	now, err := m.cfg.Jobs().Get(ctx, jobID(kept.ID))
	if err != nil && !fault.Is(err, fault.NotFound) { // it is being started
		return nil, err
	}
	s.Updated = now.Updated
	if s.Progress, err = progressOf(kept, now.Cursor); err != nil {
		return nil, err
	}
	switch now.State {
	case job.Paused:
		s.State = Paused
	case job.Canceled:
		s.State = Canceled
	case job.Failed:
		s.State, s.Error = Failed, now.Error
	case job.Finished:
		s.State = Finished
	default:
		m.running(s)
	}
	return s, nil
}

// running fills in what is known of an import whose job runs.
func (m *Importer) running(s *Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.State = Queued
	l := m.active[s.ID]
	if l == nil {
		return
	}
	s.State, s.Waiting = Running, l.waiting
	elapsed := m.cfg.Clock.Now().Sub(l.since).Seconds()
	if read := s.Progress.Offset - l.offset; elapsed > 0 && read > 0 {
		s.RowsPerSecond = float64(s.Progress.Rows-l.rows) / elapsed
		s.Left = time.Duration(float64(s.Size-s.Progress.Offset) / float64(read) * elapsed * float64(time.Second))
	}
}

// Pause stops an import where it is, until Resume; after 7 days it is canceled.
// One that has ended is fault.Conflict.
func (m *Importer) Pause(ctx context.Context, space uint32, id string) (*Status, error) {
	return m.set(ctx, space, id, m.cfg.Jobs().Pause)
}

// Resume lets a paused import go on. One that runs stays as it is.
func (m *Importer) Resume(ctx context.Context, space uint32, id string) (*Status, error) {
	return m.set(ctx, space, id, m.cfg.Jobs().Resume)
}

// Cancel stops an import for good and deletes the upload. The rows that were
// sent stay.
func (m *Importer) Cancel(ctx context.Context, space uint32, id string) (*Status, error) {
	return m.set(ctx, space, id, func(ctx context.Context, jobID string) error {
		if err := m.cfg.Jobs().Cancel(ctx, jobID); err != nil {
			return err
		}
		return m.conclude(ctx, space, id, Canceled, "")
	})
}

// set changes the job of an import.
func (m *Importer) set(ctx context.Context, space uint32, id string, change func(context.Context, string) error) (*Status, error) {
	kept, err := m.read(ctx, space, id)
	if err != nil {
		return nil, err
	}
	if kept.State.Ended() {
		return nil, fault.New(fault.Conflict, "the import is %s already", kept.State)
	}
	if err := change(ctx, jobID(id)); err != nil {
		if fault.Is(err, fault.Conflict) { // it has ended meanwhile
			return nil, fault.New(fault.Conflict, "the import has ended already")
		}
		return nil, err
	}
	return m.Get(ctx, space, id)
}

// conclude notes how an import ended, unless that is known already, and deletes
// the upload.
func (m *Importer) conclude(ctx context.Context, space uint32, id string, state State, why string) error {
	now, err := m.cfg.Jobs().Get(ctx, jobID(id))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	err = m.change(ctx, space, id, func(i *Import) error {
		if i.State.Ended() {
			return nil
		}
		at, err := progressOf(i, now.Cursor)
		if err != nil {
			return err
		}
		i.State, i.Error, i.Ended, i.Progress = state, why, m.cfg.Clock.Now(), at
		return nil
	})
	if err != nil {
		return err
	}
	if err := m.remove(id, uploadFile); err != nil {
		return fmt.Errorf("delete the upload of import %s: %w", id, err)
	}
	return nil
}
