package rowtest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"kith/archive"
	"kith/clock"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

// The space and epoch of every Row.
const (
	Space = 1
	Epoch = 0
)

// Start is where a Row's clock stands at first.
func Start() time.Time { return time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC) }

// T is what a Row needs of *testing.T, and has of *rapid.T: Helper, Cleanup,
// Error, Errorf, Fatal and Fatalf.
type T interface {
	Helper()
	Cleanup(func())
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Row is one space: a raw log, a loop over some stages, what comes out.
type Row struct {
	DB      kv.DB
	Clock   *clock.Manual
	Archive *archive.Archive
	Loop    *pipeline.Loop
	// Sent are the events appended, in order; their place is their offset in
	// the raw log, where config records and ticks leave a zero Head.
	Sent []event.Record

	t         T
	random    *rand.ChaCha8
	raw       *kvlog.Log
	resolved  *kvlog.Log
	snapshots *snapshots
	sent      int
	stop      func() // stops the loop and waits for it
}

// New starts a loop over the stages on db. It stops with the test.
func New(t T, db kv.DB, stages ...pipeline.Stage) *Row {
	t.Helper()
	r := &Row{DB: db, Clock: clock.NewManual(Start()), t: t, random: rand.NewChaCha8([32]byte{7}), snapshots: &snapshots{by: map[uint64]*workspace.Snapshot{}}}
	ctx, cancel := context.WithCancel(context.Background())
	open := func(stem kv.Key, fence kv.Fence) *kvlog.Log {
		l, err := kvlog.Open(ctx, db, stem, fence, kvlog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	r.raw = open(kv.SpaceKey(Space, 'r'), "log/raw/1")
	r.resolved = open(kv.SpaceKey(Space, 'o'), pipeline.Fence(Space, Epoch))
	r.Archive = archive.New(db, func(uint32) (commitlog.Log, error) { return r.raw, nil })
	r.start(stages)
	t.Cleanup(func() {
		r.stop()
		cancel()
		if err := r.raw.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// start runs a loop over the stages from where the last one left.
func (r *Row) start(stages []pipeline.Stage) {
	ctx, cancel := context.WithCancel(context.Background())
	loop, err := pipeline.NewLoop(ctx, pipeline.Config{
		DB: r.DB, Raw: r.raw, Resolved: r.resolved, Clock: r.Clock, Random: &guarded{chance: rand.NewChaCha8([32]byte{8})}, Snapshots: r.snapshots,
		Stages: stages, Recorder: r.Archive, Space: Space, Epoch: Epoch, Logger: slog.New(slog.DiscardHandler),
		DedupWindow: pipeline.DefaultDedupWindow,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.Loop = loop
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("the loop ended with: %v", err)
		}
	}
}

// guarded is chance that the loop and a test may both draw from.
type guarded struct {
	mu     sync.Mutex
	chance *rand.ChaCha8
}

// Read implements io.Reader.
func (g *guarded) Read(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.chance.Read(b)
}

// Restart stops the loop, whatever it is at, and starts another over the given
// stages, as a server does that was stopped and started.
func (r *Row) Restart(stages ...pipeline.Stage) {
	r.t.Helper()
	r.stop()
	r.start(stages)
}

// Call is an event to send.
type Call struct {
	Body string // JSON in Segment's shape; messageId is given when it has none
	// Time is the corrected timestamp; zero is the clock's instant. A later one
	// is cut back to it.
	Time time.Time
	// Source is the source's id.
	Source string
}

// Send appends calls as one block at the clock's instant and waits until the
// loop has passed them. It returns the offset of the last.
func (r *Row) Send(calls ...Call) commitlog.Offset {
	r.t.Helper()
	at := r.Append(calls...)
	r.Passed(at)
	return at
}

// Append appends calls as one block and does not wait.
func (r *Row) Append(calls ...Call) commitlog.Offset {
	r.t.Helper()
	now := r.Clock.Now()
	var block []event.Record
	for _, c := range calls {
		r.sent++
		e, err := event.Parse([]byte(c.Body))
		if err != nil {
			r.t.Fatalf("%s: %v", c.Body, err)
		}
		id := e.MessageID
		if id == "" {
			id = fmt.Sprintf("m%d", r.sent)
		}
		when := c.Time
		if when.IsZero() || when.After(now) {
			when = now
		}
		name := e.Event
		if e.Type == event.Page || e.Type == event.Screen {
			name = e.Name
		}
		block = append(block, event.Record{Body: []byte(c.Body), Head: event.Head{
			Kind: event.KindEvent, ID: r.newID(now), At: now.UnixMilli(), Time: when.UnixMilli(), Type: e.Type, Name: name,
			Source: c.Source, MessageID: id, IDs: event.StandardIdentifiers(e),
		}})
	}
	return r.append(block)
}

// Config puts a snapshot in force from here on and waits until it is. The
// snapshot must be sealed and have a number of its own.
func (r *Row) Config(s *workspace.Snapshot) {
	r.t.Helper()
	r.snapshots.add(s)
	now := r.Clock.Now()
	r.Passed(r.append([]event.Record{{Body: event.ConfigBody(s.Number), Head: event.Head{
		Kind: event.KindConfig, ID: r.newID(now), At: now.UnixMilli(), Time: now.UnixMilli(),
	}}}))
}

// Snapshots gives the snapshots that Config was given.
func (r *Row) Snapshots() pipeline.Snapshots { return r.snapshots }

// Order appends a command and waits until the loop has carried it out. It
// returns the command's offset.
func (r *Row) Order(c *event.Command) commitlog.Offset {
	r.t.Helper()
	body, err := c.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	now := r.Clock.Now()
	at := r.append([]event.Record{{Body: body, Head: event.Head{
		Kind: event.KindCommand, ID: r.newID(now), At: now.UnixMilli(), Time: now.UnixMilli(), Name: c.Name(),
	}}})
	r.Passed(at)
	return at
}

// Replay leads all that the loop has passed into another epoch, through stages
// of its own: those behind intake. prepare, which may be nil, writes what the
// epoch begins with.
func (r *Row) Replay(epoch uint32, prepare func(kv.Tx) error, stages ...pipeline.Stage) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if prepare != nil {
		if err := r.DB.Update(ctx, pipeline.Fence(Space, epoch), kv.Durable, prepare); err != nil {
			r.t.Fatal(err)
		}
	}
	loop, err := pipeline.NewLoop(ctx, pipeline.Config{
		DB: r.DB, Snapshots: r.snapshots, Stages: stages, Recorder: r.Archive, Space: Space, Epoch: epoch,
		Logger: slog.New(slog.DiscardHandler), Past: r.Archive.Past(Space, r.Loop.Passed),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(running) }()
	if next := r.Loop.Position().Next; next > 0 {
		err = loop.Passed(ctx, next-1)
	}
	stop()
	if failed := <-ended; failed != nil || err != nil {
		r.t.Fatalf("the replay ended with %v; %v", failed, err)
	}
}

func (r *Row) newID(at time.Time) event.RecordID {
	id, err := event.NewRecordID(at, r.random)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func (r *Row) append(block []event.Record) commitlog.Offset {
	r.t.Helper()
	first, err := r.raw.Append(context.Background(), event.EncodeBlock(block))
	if err != nil {
		r.t.Fatal(err)
	}
	for len(r.Sent) < int(first) { // ticks that the loop has appended
		r.Sent = append(r.Sent, event.Record{})
	}
	for _, e := range block {
		if e.Kind != event.KindEvent {
			e = event.Record{}
		}
		r.Sent = append(r.Sent, e)
	}
	return first + commitlog.Offset(len(block)) - 1
}

// Passed waits until the loop has passed the record at the offset.
func (r *Row) Passed(at commitlog.Offset) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.Loop.Passed(ctx, at); err != nil {
		r.t.Fatalf("the loop did not pass record %d: %v", at, err)
	}
}

// View reads the store.
func (r *Row) View(fn func(kv.Reader) error) {
	r.t.Helper()
	if err := r.DB.View(context.Background(), fn); err != nil {
		r.t.Fatal(err)
	}
}

// Outputs returns all that has left the row, from the resolved log.
func (r *Row) Outputs() []pipeline.Output {
	r.t.Helper()
	blocks, err := r.resolved.Read(context.Background(), 0, 1<<30)
	if err != nil {
		r.t.Fatal(err)
	}
	var list []pipeline.Output
	for _, b := range blocks {
		outputs, err := pipeline.DecodeOutputs(b.Data)
		if err != nil {
			r.t.Fatal(err)
		}
		list = append(list, outputs...)
	}
	return list
}

// Changes returns the changes among the outputs of the given kinds; of all
// kinds if none is given.
func (r *Row) Changes(kinds ...pipeline.ChangeKind) []pipeline.Output {
	r.t.Helper()
	var list []pipeline.Output
	for _, o := range r.Outputs() {
		if o.Change != nil && (len(kinds) == 0 || slices.Contains(kinds, o.Change.Kind)) {
			list = append(list, o)
		}
	}
	return list
}

// snapshots are those that Config was given.
type snapshots struct {
	mu sync.Mutex
	by map[uint64]*workspace.Snapshot
}

func (s *snapshots) add(n *workspace.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[n.Number] = n
}

// At returns a snapshot that Config was given.
func (s *snapshots) At(_ kv.Reader, n uint64) (*workspace.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.by[n]; found != nil {
		return found, nil
	}
	return nil, fault.New(fault.NotFound, "there is no snapshot %d", n)
}

// Probe is a stage that calls fn with every record that reaches it, also when
// a transaction runs again.
func Probe(name string, fn func(*pipeline.Record) error) pipeline.Stage { return probe{name, fn} }

type probe struct {
	name string
	fn   func(*pipeline.Record) error
}

// Name returns the name given.
func (p probe) Name() string { return p.name }

// Begin returns the probe itself, which keeps nothing.
func (p probe) Begin(*pipeline.Batch) (pipeline.Pass, error) { return p, nil }

// Handle calls the function.
func (p probe) Handle(r *pipeline.Record) error { return p.fn(r) }

// Finish does nothing.
func (p probe) Finish() error { return nil }
