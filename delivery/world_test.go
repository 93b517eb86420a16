package delivery_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kith/clock"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/delivery"
	"kith/destination"
	"kith/destination/webhook"
	"kith/egress"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// world is everything around a delivery: a store, logs, bodies, a workspace
// and a clock that stands.
type world struct {
	t     testing.TB
	clock *clock.Manual
	db    *memkv.DB
	logMu sync.Mutex
	logs  map[uint32]*kvlog.Log
	conf  *config
	conns []destination.Connector

	bodies *bodies
	limits delivery.Limits
	tap    func([]delivery.Report)
	log    io.Writer

	retention time.Duration

	d    *delivery.Delivery
	stop func()
}

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, clock: clock.NewManual(start), db: memkv.New(), logs: map[uint32]*kvlog.Log{},
		bodies: &bodies{of: map[uint64][]byte{}}, conns: []destination.Connector{webhook.Connector()}, log: io.Discard,
	}
	w.conf = &config{watch: map[chan *workspace.Snapshot]bool{}}
	w.conf.set(func(s *workspace.Snapshot) { s.Spaces = []workspace.Space{{ID: "spa_1", Number: 1, Slug: "default"}} })
	w.openLogs()
	t.Cleanup(func() {
		if w.stop != nil {
			w.stop()
		}
	})
	return w
}

func (w *world) openLogs() {
	for _, sp := range w.conf.Current().Spaces {
		w.openLog(sp.Number)
	}
}

func (w *world) openLog(space uint32) {
	log, err := kvlog.Open(context.Background(), w.db, kv.SpaceKey(space, 'o'), kv.Fence(fmt.Sprintf("loop/%d/1", space)), kvlog.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.logMu.Lock()
	defer w.logMu.Unlock()
	w.logs[space] = log
}

func (w *world) resolved(space uint32) *kvlog.Log {
	w.logMu.Lock()
	defer w.logMu.Unlock()
	return w.logs[space]
}

// run starts a delivery.
func (w *world) run() {
	w.t.Helper()
	w.runAfter(func(*delivery.Delivery) {})
}

// runAfter starts a delivery after something else was done with it.
func (w *world) runAfter(before func(*delivery.Delivery)) {
	w.t.Helper()
	registry, err := destination.NewRegistry(w.conns...)
	if err != nil {
		w.t.Fatal(err)
	}
	guard := egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, nil)
	w.d = delivery.New(delivery.Config{
		DB: w.db, Clock: w.clock, Random: rand.NewChaCha8([32]byte{1}), Workspace: w.conf, Registry: registry, HTTP: guard.Client(),
		Unseal: func(s json.RawMessage) (json.RawMessage, error) {
			if string(s) == `"unreadable"` {
				return nil, fault.New(fault.Internal, "another key")
			}
			return s, nil
		},
		Logs: func(space uint32) (commitlog.Log, error) {
			if log := w.resolved(space); log != nil {
				return log, nil
			}
			return nil, fault.New(fault.NotFound, "no space %d", space)
		},
		Bodies: w.bodies, Logger: slog.New(slog.NewTextHandler(w.log, nil)), Tap: w.tap, Limits: w.limits,
		Retention: func(uint32) time.Duration { return w.retention },
	})
	before(w.d)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.d.Run(ctx) }()
	d := w.d
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Run: %v", err)
		}
		guard.Close()
	})
	w.eventually("delivery runs", func() bool { return d.Settled(ctx, nil) == nil })
}

// restart stops the delivery and starts another on the same store.
func (w *world) restart() {
	w.stop()
	w.run()
}

// crash leaves the delivery to itself and goes on with what the store would
// hold after a crash that keeps some of the lazy commits. between runs when
// nothing runs.
func (w *world) crash(keep int, between func()) {
	w.db = w.db.Crash(keep)
	w.stop()
	between()
	w.openLogs()
	w.run()
}

// append writes outputs to a space's resolved log as one block.
func (w *world) append(space uint32, outputs ...pipeline.Output) commitlog.Offset {
	w.t.Helper()
	first, err := w.resolved(space).Append(context.Background(), pipeline.EncodeOutputs(outputs)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return first
}

// event makes an event of a profile and keeps its body.
func (w *world) event(profile byte, body string) pipeline.Output {
	return w.eventOf(profile, "src_1", body)
}

func (w *world) eventOf(profile byte, source, body string) pipeline.Output {
	at := w.bodies.keep([]byte(body))
	o := pipeline.Output{At: w.clock.Now().UnixMilli(), Event: &pipeline.Resolved{Offset: at, Type: event.Track, Name: "E", Source: source, MessageID: fmt.Sprint("m", at)}}
	if profile > 0 {
		o.Profile = person(profile)
	}
	return o
}

func person(n byte) event.ProfileID { return event.ProfileID{15: n, 0: 1} }

func message(profile byte, dest, body string) pipeline.Output {
	return pipeline.Output{At: 1, Profile: person(profile), Message: &pipeline.Message{Destination: dest, Computation: "aud_1", MessageID: "msg", Body: []byte(body)}}
}

// settle waits until all that can be delivered now is.
func (w *world) settle() {
	w.t.Helper()
	upTo := map[uint32]commitlog.Offset{}
	for space, log := range w.logs {
		upTo[space] = log.End()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.d.Settled(ctx, upTo); err != nil {
		w.t.Fatalf("%v\nstats: %+v", err, w.d.Stats())
	}
}

// advance moves the clock, running every retry at its instant.
func (w *world) advance(by time.Duration) {
	w.t.Helper()
	to := w.clock.Now().Add(by)
	for {
		w.settle()
		due, ok := w.d.NextDue()
		if !ok || due.After(to) {
			break
		}
		w.clock.Set(due)
	}
	w.clock.Set(to)
	w.settle()
}

// finish advances until nothing waits any more.
func (w *world) finish() {
	w.t.Helper()
	for range 100_000 {
		w.settle()
		due, ok := w.d.NextDue()
		if !ok {
			return
		}
		w.clock.Set(due)
	}
	w.t.Fatal("retries never end")
}

// eventually waits for what other goroutines do.
func (w *world) eventually(what string, fn func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for !fn() {
		tick, stop := clock.System{}.Until(time.Now().Add(time.Millisecond))
		select {
		case <-tick:
		case <-ctx.Done():
			w.t.Fatalf("never: %s\nstats: %+v", what, w.d.Stats())
		}
		stop()
	}
}

func (w *world) status(id string) delivery.Status {
	w.t.Helper()
	for _, s := range w.d.Stats() {
		if s.Destination == id {
			return s
		}
	}
	w.t.Fatalf("no destination %s", id)
	return delivery.Status{}
}

// counts checks the numbers of a destination: delivered, filtered, dead,
// waiting.
func (w *world) counts(id string, delivered, filtered, dead, waiting uint64) {
	w.t.Helper()
	c := w.status(id).Counts
	if c.Delivered != delivered || c.AllFiltered() != filtered || c.Dead != dead || c.Waiting != waiting {
		w.t.Errorf("%s: delivered %d, filtered %d, dead %d, waiting %d; want %d, %d, %d, %d", id,
			c.Delivered, c.AllFiltered(), c.Dead, c.Waiting, delivered, filtered, dead, waiting)
	}
	if c.Accepted() != delivered+filtered+dead+waiting {
		w.t.Errorf("%s: accepted %d", id, c.Accepted())
	}
}

// audit holds the ledger of a destination against all else that is kept of it.
func (w *world) audit(id string) {
	w.t.Helper()
	err := w.db.View(context.Background(), func(r kv.Reader) error {
		for _, sp := range w.conf.Current().Spaces {
			if err := delivery.Audit(r, id, sp.Number); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatalf("%s: %v", id, err)
	}
}

// keys returns how many keys are kept of a destination.
func (w *world) keys(prefix kv.Key) (n int) {
	w.t.Helper()
	err := w.db.View(context.Background(), func(r kv.Reader) error {
		for _, err := range r.Scan(kv.Prefix(prefix)) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// bodies is an archive in memory.
type bodies struct {
	mu   sync.Mutex
	of   map[uint64][]byte
	fail error
}

func (b *bodies) keep(body []byte) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := uint64(len(b.of))
	b.of[at] = body
	return at
}

func (b *bodies) forget(at uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of[at] = nil
}

func (b *bodies) failWith(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

func (b *bodies) Body(_ context.Context, _ uint32, at commitlog.Offset) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return nil, b.fail
	}
	if body := b.of[uint64(at)]; body != nil {
		return body, nil
	}
	return nil, fault.New(fault.NotFound, "event %d is gone", at)
}

// config is a workspace in memory.
type config struct {
	mu      sync.Mutex
	current *workspace.Snapshot
	watch   map[chan *workspace.Snapshot]bool
}

func (c *config) Current() *workspace.Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current
}

func (c *config) Watch(ctx context.Context) <-chan *workspace.Snapshot {
	ch := make(chan *workspace.Snapshot, 1)
	c.mu.Lock()
	c.watch[ch] = true
	c.mu.Unlock()
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watch, ch)
		close(ch)
	})
	return ch
}

// draft returns the next snapshot without making it current.
func (c *config) draft(change func(*workspace.Snapshot)) *workspace.Snapshot {
	next := &workspace.Snapshot{}
	if had := c.Current(); had != nil {
		*next = *had
	}
	next.Number++
	next.Spaces, next.Destinations = slices.Clone(next.Spaces), slices.Clone(next.Destinations)
	change(next)
	next.Seal()
	return next
}

func (c *config) set(change func(*workspace.Snapshot)) { c.make(c.draft(change)) }

// make makes a snapshot current.
func (c *config) make(next *workspace.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = next
	for ch := range c.watch {
		select {
		case <-ch:
		default:
		}
		ch <- next
	}
}

// destination adds or replaces a destination.
func (w *world) destination(id, metadata, settings string, change ...func(*workspace.Destination)) {
	d := workspace.Destination{ID: id, Slug: id, Name: id, MetadataID: metadata, Enabled: true, SourceID: "src_1", Settings: json.RawMessage(settings)}
	for _, fn := range change {
		fn(&d)
	}
	w.conf.set(func(s *workspace.Snapshot) {
		s.Destinations = slices.DeleteFunc(s.Destinations, func(have workspace.Destination) bool { return have.ID == id })
		s.Destinations = append(s.Destinations, d)
	})
}

func (w *world) remove(id string) {
	w.conf.set(func(s *workspace.Snapshot) {
		s.Destinations = slices.DeleteFunc(s.Destinations, func(have workspace.Destination) bool { return have.ID == id })
	})
}

// sink is an HTTP server that takes webhooks. Its answer decides what it
// keeps: events that it answers with 2xx.
type sink struct {
	*httptest.Server
	mu       sync.Mutex
	requests []request
	taken    []string // bodies of events, in the order of their arrival
	answer   func(r request) (status int, header map[string]string)
}

type request struct {
	events []string
	header http.Header
	at     time.Time
}

func newSink(t testing.TB, now func() time.Time) *sink {
	s := &sink{answer: func(request) (int, map[string]string) { return 200, nil }}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		req := request{header: r.Header, at: now()}
		var list []json.RawMessage
		if body[0] == '[' {
			if err := json.Unmarshal(body, &list); err != nil {
				t.Errorf("%s: %v", body, err)
			}
		} else {
			list = []json.RawMessage{body}
		}
		for _, e := range list {
			req.events = append(req.events, string(e))
		}
		s.mu.Lock()
		answer := s.answer
		s.mu.Unlock()
		status, header := answer(req)
		s.mu.Lock()
		s.requests = append(s.requests, req)
		if status/100 == 2 {
			s.taken = append(s.taken, req.events...)
		}
		s.mu.Unlock()
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s
}

func (w *world) sink() *sink { return newSink(w.t, w.clock.Now) }

func (s *sink) settings(more string) string { return fmt.Sprintf(`{"url":%q%s}`, s.URL, more) }

func (s *sink) answers(fn func(r request) (int, map[string]string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = fn
}

// status makes the sink answer everything with one status.
func (s *sink) status(code int) {
	s.answers(func(request) (int, map[string]string) { return code, nil })
}

func (s *sink) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

func (s *sink) seen() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *sink) expect(t testing.TB, want ...string) {
	t.Helper()
	if got := s.got(); !slices.Equal(got, want) {
		t.Errorf("the sink has\n  %q, want\n  %q", got, want)
	}
}

// discard reads requests and counts them.
func discard(n *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n.Add(1)
	})
}
