package collect_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"kith/collect"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv/memkv"
)

// gated is a log whose appends wait until it is told what to do.
type gated struct {
	commitlog.Log
	begun  chan int   // the records of each append that has begun
	answer chan error // nil lets it happen
}

func (g *gated) Append(ctx context.Context, blocks ...commitlog.Payload) (commitlog.Offset, error) {
	n := 0
	for _, b := range blocks {
		n += b.Count
	}
	g.begun <- n
	select {
	case err := <-g.answer:
		if err != nil {
			return 0, err
		}
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return g.Log.Append(ctx, blocks...)
}

func newGated(t *testing.T, change func(*collect.Config)) (*front, *gated) {
	g := &gated{begun: make(chan int, 1000), answer: make(chan error, 1000)}
	f := newFront(t, change)
	f.logs.wrap = func(l commitlog.Log) commitlog.Log {
		g.Log = l
		return g
	}
	return f, g
}

// send makes a request whose answer comes later.
func (f *front) send(path, body string) <-chan *httptest.ResponseRecorder {
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() { done <- f.do(request("POST", path, body, basic)) }()
	return done
}

func (f *front) track(id string) <-chan *httptest.ResponseRecorder {
	return f.send("/v1/track", `{"userId":"u","event":"E","messageId":"`+id+`"}`)
}

// TestBodyTakesMemoryAsItComes has requests that say they are large and send
// nothing.
func TestBodyTakesMemoryAsItComes(t *testing.T) {
	f := newFront(t, nil)
	const n = 100
	var all sync.WaitGroup
	begun := make(chan bool)
	var ends []*io.PipeWriter
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		from, to := io.Pipe()
		ends = append(ends, to)
		r := request("POST", "/v1/batch", "", basic)
		r.Body, r.ContentLength = io.NopCloser(&announced{from: from, begun: begun}), 1<<20
		all.Go(func() {
			if w := f.do(r); w.Code != 503 {
				t.Errorf("answered %d %s", w.Code, w.Body)
			}
		})
		<-begun
	}
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) / n; took > 256<<10 {
		t.Errorf("each takes %d bytes", took)
	}
	for _, to := range ends {
		to.CloseWithError(io.ErrUnexpectedEOF)
	}
	all.Wait()
}

func TestAnswerComesAfterTheAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accepted := 0
		f, g := newGated(t, func(c *collect.Config) {
			c.Accepted = func(space uint32, records []event.Record) {
				if space != 7 || len(records) != 1 || records[0].MessageID != "1" {
					t.Errorf("accepted %d %+v", space, records)
				}
				accepted++
			}
		})
		answered := f.track("1")
		synctest.Wait()
		if len(answered) != 0 || len(g.begun) != 1 || accepted != 0 {
			t.Fatalf("%d answers, %d appends, %d accepted while it is not durable", len(answered), len(g.begun), accepted)
		}
		g.answer <- nil
		if w := <-answered; w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if got := f.logs.records(t, 7, 0); len(got) != 1 || accepted != 1 {
			t.Errorf("%d records, %d accepted", len(got), accepted)
		}
	})
}

// While an append runs the next group is encoded, and what comes after that
// goes into the log together.
func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := newGated(t, nil)
		body := `{"batch":[` + strings.Repeat(`{"type":"page","userId":"u"},`, 499) + `{"type":"page","userId":"u"}]}`
		answered := []<-chan *httptest.ResponseRecorder{f.track("0")}
		synctest.Wait()
		answered = append(answered, f.track("1"))
		synctest.Wait()
		for range 5 {
			answered = append(answered, f.send("/v1/batch", body))
		}
		synctest.Wait()
		for range 3 {
			g.answer <- nil
			synctest.Wait()
		}
		for _, done := range answered {
			if w := <-done; w.Code != 200 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		if a, b, c := <-g.begun, <-g.begun, <-g.begun; a != 1 || b != 1 || c != 2500 {
			t.Errorf("appends of %d, %d and %d records", a, b, c)
		}
		if got := f.logs.records(t, 7, 0); len(got) != 2502 {
			t.Errorf("%d records", len(got))
		}
	})
}

// A request that is larger than one append goes into the log all the same.
func TestHugeRequest(t *testing.T) {
	f := newFront(t, func(c *collect.Config) {
		c.Limits = collect.Limits{EventBytes: 4 << 20, BodyBytes: 64 << 20, QueueBytes: 1}
		c.Random = rand.New(rand.NewSource(5))
	})
	random := make([]byte, 2<<20)
	items := make([]string, 20)
	for i := range items {
		if _, err := rand.New(rand.NewSource(int64(i))).Read(random); err != nil {
			t.Fatal(err)
		}
		items[i] = `{"type":"page","userId":"u","properties":{"noise":"` + base64.StdEncoding.EncodeToString(random) + `"}}`
	}
	w := f.do(request("POST", "/v1/batch", `{"batch":[`+strings.Join(items, ",")+`]}`, basic))
	checkAnswer(t, w.Code, w.Body.String(), w.Header(), 200, "")
	if got := f.stored(t); len(got) != len(items) {
		t.Errorf("%d records", len(got))
	}
}

func TestFailingLog(t *testing.T) {
	f, g := newGated(t, nil)
	for _, err := range []error{errors.New("disk on fire"), fault.New(fault.Unavailable, "closed"), fault.New(fault.Invalid, "odd")} {
		g.answer <- err
		w := <-f.track("1")
		checkAnswer(t, w.Code, w.Body.String(), w.Header(), 503, "unavailable")
		if strings.Contains(w.Body.String(), "fire") || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%v %s", w.Header(), w.Body)
		}
	}
	g.answer <- nil
	if w := <-f.track("2"); w.Code != 200 {
		t.Errorf("after the fault: %d", w.Code)
	}
	if x := f.rejected.take(); len(x) != 0 {
		t.Errorf("a fault of ours is told as a rejection: %+v", x)
	}
}

func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := newGated(t, func(c *collect.Config) { c.Limits.QueueBytes = 1000 })
		var answered []<-chan *httptest.ResponseRecorder
		var full *httptest.ResponseRecorder
		for i := 0; full == nil && i < 20; i++ {
			done := f.track(fmt.Sprint(i))
			synctest.Wait()
			if len(done) > 0 {
				full = <-done
			} else {
				answered = append(answered, done)
			}
		}
		// One event has 136 bytes: seven fit.
		if full == nil || len(answered) != 7 {
			t.Fatalf("%d events wait", len(answered))
		}
		checkAnswer(t, full.Code, full.Body.String(), full.Header(), 429, "too_many_requests")
		if full.Header().Get("Retry-After") != "1" || full.Header().Get("X-RateLimit-Reset") != "1" {
			t.Errorf("%v", full.Header())
		}
		// With the key in the header nothing of a body is read that has no room.
		unread := request("POST", "/v1/track", "", basic)
		unread.Body, unread.ContentLength = io.NopCloser(iotest.ErrReader(errors.New("the body was read"))), 200
		w := f.do(unread)
		checkAnswer(t, w.Code, w.Body.String(), w.Header(), 429, "too_many_requests")
		for range 20 {
			g.answer <- nil
		}
		for _, done := range answered {
			if w := <-done; w.Code != 200 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		if w := <-f.track("again"); w.Code != 200 {
			t.Errorf("when there is room again: %d", w.Code)
		}
		if got := f.logs.records(t, 7, 0); len(got) != len(answered)+1 {
			t.Errorf("%d records, want %d", len(got), len(answered)+1)
		}
	})
}

func TestNoRoomForBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := newGated(t, func(c *collect.Config) { c.Limits.InflightBytes = 4000 })
		first := f.track("0")
		synctest.Wait()
		for _, body := range []string{strings.Repeat(" ", 5000), zipped(t, strings.Repeat(" ", 5000)), `{"batch":[` + strings.Repeat(`{},`, 500) + `{}]}`} {
			w := f.do(request("POST", "/v1/batch", body, basic))
			checkAnswer(t, w.Code, w.Body.String(), w.Header(), 429, "too_many_requests")
		}
		g.answer <- nil
		g.answer <- nil
		if w := <-first; w.Code != 200 {
			t.Errorf("%d", w.Code)
		}
		// All that was held has been given back.
		if w := <-f.track("1"); w.Code != 200 {
			t.Errorf("%d", w.Code)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := newGated(t, nil)
		answered := []<-chan *httptest.ResponseRecorder{f.track("0"), f.track("1")}
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- f.Close(t.Context()) }()
		synctest.Wait()
		if len(closed) > 0 {
			t.Fatalf("closed (%v) while two events wait", <-closed)
		}
		w := <-f.track("2")
		checkAnswer(t, w.Code, w.Body.String(), w.Header(), 503, "unavailable")
		if w.Header().Get("Retry-After") == "" || w.Header().Get("Connection") != "close" {
			t.Errorf("%v", w.Header())
		}
		g.answer <- nil
		g.answer <- nil
		if err := <-closed; err != nil {
			t.Error(err)
		}
		for _, done := range answered {
			if w := <-done; w.Code != 200 {
				t.Errorf("%d", w.Code)
			}
		}
		if got := f.logs.records(t, 7, 0); len(got) != 2 {
			t.Errorf("%d records", len(got))
		}
	})
}

func TestCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := newGated(t, nil)
		answered := f.track("0")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		synctest.Wait()
		if err := f.Close(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Close: %v", err)
		}
		if w := <-answered; w.Code != 503 {
			t.Errorf("%d", w.Code)
		}
	})
}

// TestNothingAcknowledgedIsLost closes the collector under load, crashes the
// store at the same time, and looks for every event that was answered 200.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	db := memkv.New()
	f := newFront(t, func(c *collect.Config) {
		c.Logs = newLogs(db)
		c.Random = rand.New(rand.NewSource(3))
	})
	server := httptest.NewServer(f.handler)
	defer server.Close()

	const clients, enough = 8, 400
	var sent atomic.Int64
	plenty := make(chan struct{})
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	var crashed *memkv.DB
	var before map[string]bool // acknowledged before the crash
	var work sync.WaitGroup
	for client := range clients {
		work.Go(func() {
			random := rand.New(rand.NewSource(int64(client)))
			for i := 0; ; i++ {
				var ids, items []string
				for j := range 1 + random.Intn(20) {
					id := fmt.Sprintf("%d-%d-%d", client, i, j)
					ids, items = append(ids, id), append(items, `{"type":"page","userId":"u","messageId":"`+id+`"}`)
				}
				r, err := http.NewRequest("POST", server.URL+"/v1/b", strings.NewReader(`{"batch":[`+strings.Join(items, ",")+`]}`))
				if err != nil {
					t.Error(err)
					return
				}
				r.SetBasicAuth("key-web", "")
				answer, err := server.Client().Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if answer.StatusCode == 503 {
					return
				}
				if answer.StatusCode != 200 {
					t.Errorf("status %d", answer.StatusCode)
					return
				}
				mu.Lock()
				for _, id := range ids {
					acknowledged[id] = true
				}
				if crashed == nil && len(acknowledged) > 1000 {
					before = map[string]bool{}
					for id := range acknowledged {
						before[id] = true
					}
					crashed = db.Crash(0)
				}
				mu.Unlock()
				if sent.Add(1) == enough {
					close(plenty)
				}
			}
		})
	}
	<-plenty
	if err := f.Close(context.Background()); err != nil {
		t.Error(err)
	}
	work.Wait()

	for name, at := range map[string]struct {
		db   *memkv.DB
		want map[string]bool
	}{"at the crash": {crashed, before}, "at the end": {db, acknowledged}} {
		found := map[string]int{}
		for _, r := range newLogs(at.db).records(t, 7, 0) {
			found[r.MessageID]++
		}
		for id := range at.want {
			if found[id] != 1 {
				t.Errorf("%s: event %s is there %d times", name, id, found[id])
			}
		}
	}
}
