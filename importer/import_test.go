package importer

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"kith/clock"
	"kith/commitlog"
	"kith/fault"
	"kith/identity"
	"kith/job"
	"kith/kv/memkv"
	"kith/workspace"
)

var start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// desk is an Importer with everything around it: a store and jobs that are
// real, and a collector that keeps what it gets.
type desk struct {
	t     testing.TB
	db    *memkv.DB
	store *workspace.Store
	clock *clock.Manual
	dir   string
	taker *taker
	m     *Importer
	jobs  *job.Jobs
	stop  func()
	lives int64 // of servers at the desk
}

// taker takes calls as collect does: whole batches, or an error.
type taker struct {
	mu    sync.Mutex
	calls []string
	dry   int
	end   commitlog.Offset
	// passed are the ends that were waited for.
	passed []commitlog.Offset
	// before is asked before each batch, with how many calls were taken.
	before func(taken int) error
	refuse string // calls with this in them are refused
}

func (c *taker) TakeCalls(ctx context.Context, _ *workspace.Source, calls []string, dryRun bool) (refused []Refused, err error) {
	c.mu.Lock()
	before, taken := c.before, len(c.calls)
	c.mu.Unlock()
	if before != nil {
		if err := before(taken); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, call := range calls {
		switch {
		case c.refuse != "" && strings.Contains(call, c.refuse):
			refused = append(refused, Refused{Index: i, Code: "no_good", Message: "it is refused"})
		case dryRun:
			c.dry++
		default:
			c.calls, c.end = append(c.calls, call), c.end+1
		}
	}
	return refused, nil
}

func (c *taker) End(uint32) (commitlog.Offset, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end, nil
}

func (c *taker) Passed(_ context.Context, _ uint32, at commitlog.Offset) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at >= c.end {
		return fmt.Errorf("the loop never passes %d: the log ends at %d", at, c.end)
	}
	c.passed = append(c.passed, at+1)
	return nil
}

func (c *taker) taken() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.calls...)
}

func newDesk(t testing.TB, limits Limits) *desk {
	t.Helper()
	d := &desk{t: t, db: memkv.New(), clock: clock.NewManual(start), dir: filepath.Join(t.TempDir(), "imports"), taker: &taker{}}
	var err error
	d.store, err = workspace.Open(t.Context(), d.db, workspace.Options{Clock: d.clock, Random: rand.New(rand.NewSource(1)),
		Announce: func(context.Context, *workspace.Snapshot) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	d.open(limits)
	t.Cleanup(func() { d.stop() })
	return d
}

// open begins a server's life with the desk.
func (d *desk) open(limits Limits) {
	d.t.Helper()
	d.lives++
	d.m = New(Config{
		DB: d.db, Dir: d.dir, Workspace: d.store, Collector: d.taker, Loop: d.taker, Jobs: func() Jobs { return d.jobs }, Clock: d.clock,
		Identifiers: func(space *workspace.Space) []workspace.IdentifierRule {
			if len(space.Identifiers) > 0 {
				return space.Identifiers
			}
			return identity.DefaultIdentifiers()
		},
		Random: rand.New(rand.NewSource(d.lives)), Logger: slog.New(slog.DiscardHandler), Limits: limits,
	})
	d.jobs = job.New(d.db, d.clock, slog.New(slog.DiscardHandler), d.m.Kind())
	if err := d.m.Open(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := d.jobs.Run(ctx); err != nil {
			d.t.Error(err)
		}
	})
	wg.Go(func() {
		if err := d.m.Run(ctx); err != nil {
			d.t.Error(err)
		}
	})
	d.stop = func() {
		cancel()
		wg.Wait()
	}
}

func (d *desk) space() *workspace.Space { return d.store.Current().Space(workspace.DefaultSpace) }

func (d *desk) create(options Options, file string) *Status {
	d.t.Helper()
	s, err := d.m.Create(d.t.Context(), d.space(), options, strings.NewReader(file))
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// until waits for an import to satisfy a condition.
func (d *desk) until(id string, ok func(*Status) bool) *Status {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	for {
		s, err := d.m.Get(ctx, d.space().Number, id)
		if err != nil {
			d.t.Fatal(err)
		}
		if ok(s) {
			return s
		}
		if ctx.Err() != nil {
			d.t.Fatalf("import %s is %s: %+v", id, s.State, s)
		}
	}
}

// ended waits for the end of an import, and for its upload to be gone.
func (d *desk) ended(id string) *Status {
	d.t.Helper()
	return d.until(id, func(s *Status) bool {
		_, err := os.Stat(filepath.Join(d.dir, id, uploadFile))
		return s.State.Ended() && os.IsNotExist(err)
	})
}

// report reads the report of an import, without its header.
func (d *desk) report(s *Status) [][]string {
	d.t.Helper()
	f, err := d.m.Report(&s.Import)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1 // rows with too many columns are reported as they are
	all, err := r.ReadAll()
	if err != nil || len(all) == 0 {
		d.t.Fatalf("%v: %v", all, err)
	}
	return all[1:]
}

// guests is a file of n rows.
func guests(n int) string {
	var b strings.Builder
	b.WriteString("user_id,email,nights\n")
	for i := range n {
		fmt.Fprintf(&b, "u%d,u%d@example.com,%d\n", i+1, i+1, i+1)
	}
	return b.String()
}

// once checks that the calls are those of rows 1 to n of an import, each at
// least once, and returns how often calls came twice.
func once(t testing.TB, calls []string, id string, n int) (twice int) {
	t.Helper()
	seen := map[string]string{}
	for _, c := range calls {
		m := gjson.Get(c, "messageId").Str
		if before, ok := seen[m]; ok {
			if twice++; before != c {
				t.Fatalf("%s was sent as %s and as %s", m, before, c)
			}
		}
		seen[m] = c
	}
	for i := range n {
		if c := seen[fmt.Sprintf("%s-%d", id, i+1)]; gjson.Get(c, "userId").Str != fmt.Sprintf("u%d", i+1) || gjson.Get(c, "traits.nights").Int() != int64(i+1) {
			t.Fatalf("row %d was sent as %q", i+1, c)
		}
	}
	if len(seen) != n {
		t.Fatalf("%d different calls, want %d", len(seen), n)
	}
	return twice
}

func TestImport(t *testing.T) {
	d := newDesk(t, Limits{})
	s := d.create(Options{Name: "guests.csv"}, guests(3000))
	s = d.ended(s.ID)
	want := Progress{Offset: s.Size, Line: 3002, Rows: 3000, Sent: 3000, Report: s.Progress.Report}
	if diff := cmp.Diff(want, s.Progress); diff != "" || s.State != Finished || s.Error != "" {
		t.Errorf("%s %s (-want +got):\n%s", s.State, s.Error, diff)
	}
	if twice := once(t, d.taker.taken(), s.ID, 3000); twice > 0 {
		t.Errorf("%d calls were sent twice", twice)
	}
	if diff := cmp.Diff([]commitlog.Offset{3000}, d.taker.passed); diff != "" {
		t.Errorf("waited for (-want +got):\n%s", diff)
	}
	source := d.store.Current().Source(s.Source)
	if source == nil || source.Slug != SourceSlug || source.MetadataID != SourceMetadata || !source.Enabled || len(source.WriteKeys) > 0 {
		t.Errorf("the source is %+v", source)
	}
	if again := d.create(Options{}, guests(1)); again.Source != s.Source {
		t.Errorf("the second import has the source %s, the first %s", again.Source, s.Source)
	}
	if _, err := d.m.Pause(t.Context(), d.space().Number, s.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("a finished import was paused: %v", err)
	}
	if _, err := d.m.Get(t.Context(), 99, s.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another space has the import: %v", err)
	}
}

func TestDryRun(t *testing.T) {
	d := newDesk(t, Limits{})
	d.taker.refuse = "u7@"
	s := d.ended(d.create(Options{DryRun: true}, guests(2000)).ID)
	if s.Progress.Sent != 1999 || s.Progress.Failed != 1 || s.Source != "" || d.taker.dry != 1999 || len(d.taker.taken()) > 0 {
		t.Errorf("%+v, %d judged, %d sent", s.Import, d.taker.dry, len(d.taker.taken()))
	}
	if len(d.store.Current().Sources) > 0 {
		t.Error("a dry run has made a source")
	}
	preview, err := d.m.Preview(&s.Import)
	var calls []json.RawMessage
	if err != nil || json.Unmarshal(preview, &calls) != nil || len(calls) != previewed || gjson.GetBytes(calls[1], "traits.email").Str != "u2@example.com" {
		t.Errorf("preview %s, %v", preview, err)
	}
	report := d.report(s)
	want := [][]string{{"7", "8", "", "", "it is refused (no_good)", "mend the row", "u7", "u7@example.com", "7"}}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestPauseResumeCancel(t *testing.T) {
	d := newDesk(t, Limits{})
	gate, reached := make(chan struct{}), make(chan int, 100)
	d.taker.before = func(taken int) error {
		reached <- taken
		<-gate
		return nil
	}
	ctx, space := t.Context(), d.space().Number
	s := d.create(Options{}, guests(5000))
	<-reached
	gate <- struct{}{} // the first batch
	<-reached
	paused, err := d.m.Pause(ctx, space, s.ID)
	if err != nil || paused.State != Paused || paused.RowsPerSecond != 0 {
		t.Fatalf("%+v, %v", paused, err)
	}
	gate <- struct{}{} // the batch that was on its way; its cursor is not saved
	at := d.until(s.ID, func(s *Status) bool { return d.running() == 0 })
	if at.State != Paused || at.Progress.Sent != batchRows {
		t.Fatalf("%+v", at)
	}
	if _, err := d.m.Resume(ctx, space, s.ID); err != nil {
		t.Fatal(err)
	}
	close(gate)
	if s := d.ended(s.ID); s.State != Finished || s.Progress.Sent != 5000 {
		t.Fatalf("%+v", s)
	}
	if twice := once(t, d.taker.taken(), s.ID, 5000); twice != batchRows {
		t.Errorf("%d calls were sent twice, want those of the batch whose cursor was not saved", twice)
	}

	// Canceled, the upload is gone and nothing more is sent.
	hold := make(chan struct{})
	d.taker.mu.Lock()
	d.taker.calls, d.taker.before = nil, func(taken int) error {
		if taken > 0 {
			reached <- taken
			<-hold
		}
		return nil
	}
	d.taker.mu.Unlock()
	for len(reached) > 0 {
		<-reached
	}
	s = d.create(Options{}, guests(5000))
	<-reached
	canceled, err := d.m.Cancel(ctx, space, s.ID)
	if err != nil || canceled.State != Canceled || canceled.Progress.Sent != batchRows {
		t.Fatalf("%+v, %v", canceled, err)
	}
	close(hold)
	d.until(s.ID, func(*Status) bool { return d.running() == 0 })
	if n := len(d.taker.taken()); n != 2*batchRows {
		t.Errorf("%d calls were sent, want those of two batches", n)
	}
	if _, err := os.Stat(filepath.Join(d.dir, s.ID, uploadFile)); !os.IsNotExist(err) {
		t.Errorf("the upload is still there: %v", err)
	}
	if _, err := d.m.Resume(ctx, space, s.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("a canceled import was resumed: %v", err)
	}
}

func (d *desk) running() int {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return len(d.m.active)
}

func (d *desk) used() int64 {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	return d.m.used
}

// TestStops ends the server again and again in the middle of an import with
// errors.
func TestStops(t *testing.T) {
	d := newDesk(t, Limits{})
	rows := strings.ReplaceAll(guests(20_000), "u17000,u17000@example.com,", `u17000,"u17000@exam`+"\n"+`ple.com",`)
	rows = strings.ReplaceAll(rows, "u5000,", "u5000,more,")
	rows = strings.ReplaceAll(rows, "u15000,u15000@example.com,15000", "u15000,\"u15000@example.com,15000")
	reached := make(chan struct{}, 1000)
	d.taker.before = func(int) error {
		reached <- struct{}{}
		return nil
	}
	s := d.create(Options{}, rows)
	stops := 0
	for ; stops < 15; stops++ {
		<-reached
		d.stop()
		// What the report got before the cursor was saved is cut off again.
		f, err := os.OpenFile(filepath.Join(d.dir, s.ID, reportFile), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, "half a li"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		d.open(Limits{})
	}
	s = d.ended(s.ID)
	if s.State != Finished || s.Progress.Rows != 20_000 || s.Progress.Sent != 19_998 || s.Progress.Failed != 2 {
		t.Fatalf("%+v", s)
	}
	var calls []string
	seen := map[string]bool{}
	for _, c := range d.taker.taken() {
		if id := gjson.Get(c, "messageId").Str; !seen[id] {
			seen[id] = true
			calls = append(calls, c)
		}
	}
	if len(calls) != 19_998 || !strings.Contains(calls[len(calls)-1], `"u20000"`) {
		t.Errorf("%d different calls", len(calls))
	}
	var lines []string
	for _, r := range d.report(s) {
		lines = append(lines, strings.Join(r[:2], " at "))
	}
	if diff := cmp.Diff([]string{"5000 at 5001", "15000 at 15001"}, lines); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	t.Logf("%d stops, %d calls more than needed", stops, len(d.taker.taken())-len(calls))
}

// TestLeavesRoom never sends more than two stretches ahead of the loop.
func TestLeavesRoom(t *testing.T) {
	d := newDesk(t, Limits{})
	most := commitlog.Offset(0)
	d.taker.before = func(taken int) error {
		d.taker.mu.Lock()
		defer d.taker.mu.Unlock()
		last := commitlog.Offset(0)
		if n := len(d.taker.passed); n > 0 {
			last = d.taker.passed[n-1]
		}
		most = max(most, commitlog.Offset(taken)-last)
		return nil
	}
	s := d.ended(d.create(Options{}, guests(10*stretch)).ID)
	if s.State != Finished || most > 2*stretch+2*batchRows || most < stretch || len(d.taker.passed) < 8 {
		t.Errorf("%s; %d calls before the loop at most, which was waited for at %v", s.State, most, d.taker.passed)
	}
}

// TestWaits has the collector full, and the source disabled, for a while.
func TestWaits(t *testing.T) {
	d := newDesk(t, Limits{})
	answers := make(chan error)
	d.taker.before = func(int) error { return <-answers }
	s := d.create(Options{}, guests(10))
	// again answers the next try, for which time has to pass.
	again := func(err error) {
		d.until(s.ID, func(*Status) bool {
			d.clock.Set(d.clock.Now().Add(time.Second))
			select {
			case answers <- err:
				return true
			default:
				return false
			}
		})
	}
	answers <- &fault.Error{Kind: fault.RetryAfter, Message: "too many events wait to be written", After: time.Second}
	d.until(s.ID, func(s *Status) bool { return s.State == Running && s.Waiting == "too many events wait to be written" })
	again(fault.New(fault.Conflict, "the source is disabled"))
	d.until(s.ID, func(s *Status) bool { return strings.HasPrefix(s.Waiting, "the source is disabled: enable it") })
	again(nil)
	if s := d.ended(s.ID); s.State != Finished || s.Progress.Sent != 10 || s.Waiting != "" {
		t.Errorf("%+v", s)
	}
}

// TestQueue runs one import at a time and has room for three.
func TestQueue(t *testing.T) {
	d := newDesk(t, Limits{AtOnce: 1, Pending: 3})
	gate := make(chan struct{})
	d.taker.before = func(int) error { <-gate; return nil }
	first := d.create(Options{}, guests(1))
	d.until(first.ID, func(s *Status) bool { return s.State == Running })
	second, third := d.create(Options{}, guests(1)), d.create(Options{}, guests(1))
	if s := d.until(second.ID, func(*Status) bool { return true }); s.State != Queued {
		t.Errorf("the second is %s", s.State)
	}
	if _, err := d.m.Create(t.Context(), d.space(), Options{}, strings.NewReader(guests(1))); !fault.Is(err, fault.RetryAfter) {
		t.Errorf("a fourth was taken: %v", err)
	}
	close(gate)
	for _, s := range []*Status{first, second, third} {
		if s := d.ended(s.ID); s.State != Finished {
			t.Errorf("%+v", s)
		}
	}
	list, err := d.m.List(t.Context(), d.space().Number)
	if err != nil || len(list) != 3 {
		t.Errorf("%d imports, %v", len(list), err)
	}
}

// TestDisk keeps the files of imports within their bound.
func TestDisk(t *testing.T) {
	file := guests(1000)
	d := newDesk(t, Limits{DiskBytes: int64(len(file)) * 3 / 2, ReportBytes: 1000})
	gate := make(chan struct{})
	d.taker.before = func(int) error { <-gate; return nil }
	s := d.create(Options{}, file)
	if _, err := d.m.Create(t.Context(), d.space(), Options{}, strings.NewReader(file)); !fault.Is(err, fault.RetryAfter) || !strings.Contains(err.Error(), "--import-disk") {
		t.Fatalf("a second file was taken: %v", err)
	}
	if entries, err := os.ReadDir(d.dir); err != nil || len(entries) != 1 {
		t.Errorf("what was refused is still there: %v, %v", entries, err)
	}
	close(gate)
	d.ended(s.ID)
	bad := d.ended(d.create(Options{}, "user_id,nights\n"+strings.Repeat("u1\n", 100)).ID)
	if got := d.m.Stats(); got.Sent != 1000 || got.Failed != 100 || got.LeftOut != 100-bad.Progress.Reported {
		t.Errorf("counted %+v", got)
	}
	if p := bad.Progress; p.Failed != 100 || p.Reported == 0 || p.Reported == 100 || p.Report > 1000 || len(d.report(bad)) != int(p.Reported) {
		t.Errorf("%+v, %d rows in the report", p, len(d.report(bad)))
	}
	size := int64(0)
	err := filepath.Walk(d.dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d.until(bad.ID, func(*Status) bool { return d.used() == size })
}

// TestAges lets the files and then the numbers go.
func TestAges(t *testing.T) {
	d := newDesk(t, Limits{})
	space := d.space().Number
	done := d.ended(d.create(Options{}, guests(3)).ID)
	d.taker.before = func(int) error { return &fault.Error{Kind: fault.RetryAfter, Message: "full"} }
	left := d.create(Options{}, guests(3))
	d.until(left.ID, func(s *Status) bool { return s.Waiting != "" })
	if _, err := d.m.Pause(t.Context(), space, left.ID); err != nil {
		t.Fatal(err)
	}
	d.until(left.ID, func(*Status) bool { return d.running() == 0 })

	d.clock.Set(start.Add(keepFiles - time.Hour))
	if err := d.m.tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := d.until(left.ID, func(*Status) bool { return true }); s.State != Paused || len(d.report(done)) != 0 {
		t.Errorf("%s before its time", s.State)
	}
	d.clock.Set(start.Add(keepFiles + time.Hour))
	if err := d.m.tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := d.until(left.ID, func(*Status) bool { return true }); s.State != Canceled {
		t.Errorf("what was paused for 7 days is %s", s.State)
	}
	done = d.ended(done.ID)
	if _, err := d.m.Report(&done.Import); !fault.Is(err, fault.NotFound) || !done.FilesGone {
		t.Errorf("the report is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(d.dir, done.ID)); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	d.clock.Set(start.Add(keepRecord + time.Hour))
	if err := d.m.tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.m.Get(t.Context(), space, done.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("the numbers are still there: %v", err)
	}
}

// TestOpen finds what a crash has left: files without an import, and an import
// without a job.
func TestOpen(t *testing.T) {
	d := newDesk(t, Limits{})
	d.stop()
	for _, id := range []string{"imp_half", "imp_lost"} {
		if err := os.MkdirAll(filepath.Join(d.dir, id), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d.dir, id, uploadFile), []byte(guests(1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.m.add(t.Context(), &Import{ID: "imp_lost", Space: d.space().Number, Created: start}); err != nil {
		t.Fatal(err)
	}
	d.open(Limits{})
	if s := d.until("imp_lost", func(*Status) bool { return true }); s.State != Failed || !strings.Contains(s.Error, "upload the file again") {
		t.Errorf("%+v", s)
	}
	for _, path := range []string{"imp_half", "imp_lost/" + uploadFile} {
		if _, err := os.Stat(filepath.Join(d.dir, path)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

// TestSourceGoes removes the source while its import waits.
func TestSourceGoes(t *testing.T) {
	d := newDesk(t, Limits{})
	d.stop()
	s := d.create(Options{}, guests(3))
	if _, err := d.store.Update(t.Context(), func(w *workspace.Draft) error { return w.RemoveSource(s.Source) }); err != nil {
		t.Fatal(err)
	}
	d.open(Limits{})
	if s := d.ended(s.ID); s.State != Failed || !strings.Contains(s.Error, "the source of the import was removed") {
		t.Errorf("%+v", s)
	}
}
