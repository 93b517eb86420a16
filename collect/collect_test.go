package collect_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/clock"
	"kith/collect"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/kv"
	"kith/kv/memkv"
	"kith/workspace"
)

// now is when everything is received: 2026-01-02T03:04:05.678Z.
var now = time.UnixMilli(1767323045678).UTC()

const stamp = "2026-01-02T03:04:05.678Z"

// fixed is a workspace that does not change: the source "web" with the keys
// "key-web" and "key-web-2", "off", which is disabled, and "lost", whose space
// is not there.
type fixed struct{ s *workspace.Snapshot }

func (f fixed) Current() *workspace.Snapshot { return f.s }

func someWorkspace() fixed {
	s := &workspace.Snapshot{
		Number: 1,
		Spaces: []workspace.Space{{ID: "spa_1", Number: 7, Slug: "default"}, {ID: "spa_2", Number: 8, Slug: "other"}},
		Sources: []workspace.Source{
			{ID: "src_web", Enabled: true, WriteKeys: []string{"key-web", "key-web-2"}, SpaceID: "spa_1"},
			{ID: "src_other", Enabled: true, WriteKeys: []string{"key-other"}, SpaceID: "spa_2"},
			{ID: "src_off", WriteKeys: []string{"key-off"}, SpaceID: "spa_1"},
			{ID: "src_lost", Enabled: true, WriteKeys: []string{"key-lost"}, SpaceID: "spa_9"},
		},
	}
	s.Seal()
	return fixed{s}
}

// logs are the raw logs of all spaces, in one store.
type logs struct {
	db   kv.DB
	mu   sync.Mutex
	open map[uint32]*kvlog.Log
	wrap func(commitlog.Log) commitlog.Log
}

func newLogs(db kv.DB) *logs { return &logs{db: db, open: map[uint32]*kvlog.Log{}} }

func (l *logs) Raw(space uint32) (commitlog.Log, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	log := l.open[space]
	if log == nil {
		var err error
		if log, err = kvlog.Open(context.Background(), l.db, kv.SpaceKey(space, 'r'), kv.Fence("log/raw/7"), kvlog.Options{}); err != nil {
			return nil, err
		}
		l.open[space] = log
	}
	if l.wrap != nil {
		return l.wrap(log), nil
	}
	return log, nil
}

func (l *logs) close(t testing.TB) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, log := range l.open {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}

// failing is what fails when something is wrong: a test, a fuzz target, a
// property.
type failing interface {
	Helper()
	Fatalf(format string, v ...any)
}

// records reads a raw log from an offset on.
func (l *logs) records(t failing, space uint32, at commitlog.Offset) []event.Record {
	t.Helper()
	log, err := l.Raw(space)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var all []event.Record
	for at < log.End() {
		blocks, err := log.Read(context.Background(), at, 1<<20)
		if err != nil {
			t.Fatalf("%v", err)
		}
		for _, b := range blocks {
			records, err := event.DecodeBlock(b.Data)
			if err != nil || len(records) != b.Count || b.Count > event.MaxBlockRecords {
				t.Fatalf("a block of %d has %d records: %v", b.Count, len(records), err)
			}
			all = append(all, records...)
			at = b.End()
		}
	}
	return all
}

// rejected keeps rejections.
type rejected struct {
	mu  sync.Mutex
	all []collect.Rejection
}

func (r *rejected) Reject(x collect.Rejection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, x)
}

func (r *rejected) take() []collect.Rejection {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

// front is a collector on a store in memory.
type front struct {
	*collect.Collector
	handler  http.Handler
	logs     *logs
	rejected *rejected
	seen     commitlog.Offset // records looked at so far
}

func newFront(t testing.TB, change func(*collect.Config)) *front {
	t.Helper()
	f := &front{logs: newLogs(memkv.New()), rejected: &rejected{}}
	config := collect.Config{
		Workspace: someWorkspace(), Logs: f.logs, Clock: clock.NewManual(now), Random: rand.New(rand.NewSource(1)), Rejections: f.rejected,
	}
	if change != nil {
		change(&config)
	}
	var err error
	if f.Collector, err = collect.New(config); err != nil {
		t.Fatal(err)
	}
	f.handler = f.Handler()
	t.Cleanup(func() {
		if err := f.Close(context.Background()); err != nil {
			t.Error(err)
		}
		f.logs.close(t)
	})
	return f
}

// request makes a request from 203.0.113.9. Headers are "Name: value".
func request(method, path, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr = "203.0.113.9:4711"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func (f *front) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

// stored returns the records that are new since it was last asked.
func (f *front) stored(t failing) []event.Record {
	t.Helper()
	fresh := f.logs.records(t, 7, f.seen)
	f.seen += commitlog.Offset(len(fresh))
	return fresh
}

func bodies(records []event.Record) (all []string) {
	for _, r := range records {
		all = append(all, string(r.Body))
	}
	return all
}

func zipped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, s); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const basic = "Authorization: Basic a2V5LXdlYjo=" // key-web:
