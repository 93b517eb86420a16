package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kith/destination"
	"kith/fault"
	"kith/kv"
	"kith/kv/kvtest"
	"kith/kv/memkv"
	"kith/server"
)

const adminToken = "sim-admin-token"

// start is where the clock stands at first.
var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

var (
	errDead      = fault.New(fault.Unavailable, "the simulated process is dead")
	errSimulated = fault.New(fault.Unavailable, "a simulated failure of the store")
	errKilled    = fmt.Errorf("killed by the simulation")
)

// patience bounds every wait; nothing here takes that long. With a store that
// fails, something may have stopped for good: then impatience does.
const (
	patience   = 60 * time.Second
	impatience = 500 * time.Millisecond
)

// patience is how long a request may take as things stand.
func (h *house) patience() time.Duration {
	if h.faults.Load() > 0 || h.failed() {
		return impatience
	}
	return patience
}

// dice is a source of chance that goroutines share.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func newDice(seed, stream uint64) *dice { return &dice{r: rand.New(rand.NewPCG(seed, stream))} }

// n returns a number below n.
func (d *dice) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

// of reports true once in n times.
func (d *dice) of(n int) bool { return d.n(n) == 0 }

// Read makes dice a source of randomness for the server.
func (d *dice) Read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range p {
		p[i] = byte(d.r.Uint32())
	}
	return len(p), nil
}

// pick chooses one of a list.
func pick[T any](d *dice, list []T) T { return list[d.n(len(list))] }

// disk is the store beneath all processes of a seed, of which one is current.
type disk struct{ atomic.Pointer[memkv.DB] }

func (d *disk) View(ctx context.Context, fn func(kv.Reader) error) error {
	return d.Load().View(ctx, fn)
}

func (d *disk) Update(ctx context.Context, f kv.Fence, how kv.Durability, fn func(kv.Tx) error) error {
	return d.Load().Update(ctx, f, how, fn)
}

func (d *disk) Close() error { return nil } // a process that ends leaves it

// gate stands between a process and the disk. Once it is shut the process gets
// nothing done and is told of nothing that was done.
type gate struct {
	kv.DB
	shut atomic.Bool
}

func (g *gate) View(ctx context.Context, fn func(kv.Reader) error) error {
	return g.through(func() error { return g.DB.View(ctx, fn) })
}

func (g *gate) Update(ctx context.Context, f kv.Fence, how kv.Durability, fn func(kv.Tx) error) error {
	return g.through(func() error { return g.DB.Update(ctx, f, how, fn) })
}

func (g *gate) through(do func() error) error {
	if g.shut.Load() {
		return errDead
	}
	err := do()
	if g.shut.Load() {
		return errDead
	}
	return err
}

// house is one server through all its lives.
type house struct {
	t    *testing.T
	dice *dice // of the history; used by one goroutine
	disk *disk
	db   kv.DB // the disk, watched
	sink *sink
	now  time.Time // where the clock stands, or later

	chance   *dice        // of the server and the store
	faults   atomic.Int32 // how many calls of the store are still to fail
	late     atomic.Int32 // of the calls before the next one that fails
	fired    atomic.Int32 // how many have failed in this life
	failures atomic.Int32 // and in all

	lives  int
	server *server.Server // nil between two lives
	gate   *gate
	stop   context.CancelFunc
	ended  chan error
}

func newHouse(t *testing.T, seed uint64) *house {
	h := &house{t: t, dice: newDice(seed, 1), chance: newDice(seed, 2), disk: &disk{}, now: start}
	h.sink = newSink(newDice(seed, 3), seed)
	h.disk.Store(memkv.NewWith(memkv.Options{Fault: h.fault, Rerun: func(kv.Fence) bool { return h.chance.of(16) }}))
	h.db = kvtest.Watch(h.disk, t.Errorf)
	return h
}

// fault decides whether a call of the store fails.
func (h *house) fault(op string) error {
	if h.faults.Load() <= 0 || h.late.Add(-1) > 0 {
		return nil
	}
	if h.faults.Add(-1) < 0 {
		return nil
	}
	h.late.Store(int32(h.chance.n(20)))
	h.fired.Add(1)
	h.failures.Add(1)
	return fmt.Errorf("%s: %w", op, errSimulated)
}

// breaks lets a few of the next calls of the store fail.
func (h *house) breaks(n, within int) {
	h.late.Store(int32(h.dice.n(within) + 1))
	h.faults.Store(int32(n))
}

// up starts a process, if none runs.
func (h *house) up() {
	h.t.Helper()
	if h.server != nil {
		return
	}
	h.faults.Store(0)
	h.lives++
	g := &gate{DB: h.db}
	s, err := server.New(h.t.Context(), server.Config{
		Listen: "127.0.0.1:0", TestClock: h.now, AdminToken: adminToken, Version: "sim",
		Store:        func(string, *slog.Logger) (kv.DB, error) { return g, nil },
		Destinations: []destination.Connector{h.sink.connector()},
		Random:       h.chance, Logger: slog.New(slog.DiscardHandler), Notes: io.Discard,
	})
	if err != nil {
		h.t.Fatalf("start %d: %v", h.lives, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	h.server, h.gate, h.stop, h.ended = s, g, stop, make(chan error, 1)
	go func() { h.ended <- s.Run(ctx) }()
	wait, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if _, err := s.Addr(wait); err != nil {
		h.t.Fatalf("start %d: %v", h.lives, err)
	}
}

// restart stops the process in an orderly way and starts the next.
func (h *house) restart() {
	h.t.Helper()
	if h.failed() {
		h.crash()
		h.up()
		return
	}
	h.stop()
	if err := h.end(); err != nil {
		h.t.Fatalf("an orderly stop ended with: %v", err)
	}
	h.disk.Store(h.disk.Load().Clone(false))
	h.up()
}

// failed reports whether the process has ended by itself, or has met a failure
// of the store that it may never get over by itself, since its clock stands.
func (h *house) failed() bool { return len(h.ended) > 0 || h.fired.Load() > 0 }

// crash kills the process. What is left on the disk is what was durable, and
// some of what came after.
func (h *house) crash() {
	h.gate.shut.Store(true)
	h.faults.Store(0)
	h.fired.Store(0)
	running := h.disk.Load()
	left := running.Crash(h.dice.n(running.AtRisk() + 1))
	h.server.Fail(errKilled)
	_ = h.end() // of the killing
	h.disk.Store(left)
}

func (h *house) end() error {
	h.t.Helper()
	var err error
	select {
	case err = <-h.ended:
	case <-time.After(patience):
		h.t.Fatal("the process does not end")
	}
	h.stop()
	if failed := h.server.Close(); failed != nil && err == nil {
		err = failed
	}
	h.server = nil
	return err
}

// mend sees to it that a process runs that the store has not failed.
func (h *house) mend() {
	h.t.Helper()
	if h.server != nil && h.failed() {
		h.crash()
	}
	h.up()
}

// call makes a request and returns the answer. Its server may be one that has
// been killed since.
func call(handler http.Handler, within time.Duration, method, path, auth, body string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if auth == adminToken {
		r.Header.Set("Authorization", "Bearer "+auth)
	} else {
		r.SetBasicAuth(auth, "")
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// api calls the control API and reads the answer's data into out. It reports
// whether it was told that all is well; only a store that fails may keep it
// from being so.
func (h *house) api(method, path string, body, out any) bool {
	h.t.Helper()
	var text []byte
	if body != nil {
		text = must(json.Marshal(body))
	}
	within := h.patience()
	code, answer := call(h.server.Handler(), within, method, "/api"+path, adminToken, string(text))
	if code/100 != 2 {
		if within == impatience && code >= 500 {
			h.fired.Add(1) // what it has done and what not is for the next process to find out
			return false
		}
		h.t.Fatalf("%s %s %s: %d %s", method, path, text, code, answer)
	}
	if out != nil {
		var envelope struct {
			Data json.RawMessage `json:"data"`
		}
		d := json.NewDecoder(bytes.NewReader([]byte(answer)))
		if err := d.Decode(&envelope); err != nil {
			h.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
		}
		if err := json.Unmarshal(envelope.Data, out); err != nil {
			h.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
		}
	}
	return true
}

// advance moves the clock, and waits until all that is due by then is done.
func (h *house) advance(by time.Duration) bool {
	h.t.Helper()
	h.now = h.now.Add(by)
	return h.api("POST", "/test-clock", map[string]string{"advance": by.String()}, nil)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
