package collect_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/clock"
	"kith/collect"
	"kith/event"
)

// bulk begins a session and returns its id.
func (f *front) bulk(t *testing.T, headers ...string) string {
	t.Helper()
	w := f.do(request("POST", "/v0/start", "", headers...))
	var told struct {
		ID string `json:"sync_id"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || w.Code != 201 || told.ID == "" {
		t.Fatalf("start answered %d %s", w.Code, w.Body)
	}
	return told.ID
}

func line(id string, n int) string {
	return fmt.Sprintf(`{"id":%q,"collection":"users","properties":{"n":%d}}`, id, n) + "\n"
}

func TestBulkSession(t *testing.T) {
	clk := clock.NewManual(now)
	f := newFront(t, func(c *collect.Config) { c.Clock = clk })
	id := f.bulk(t, basic)
	for i, body := range []string{line("1", 0) + "\r\n" + line("2", 1), zipped(t, line("3", 2)+strings.TrimSpace(line("4", 3)))} {
		w := f.do(request("POST", "/v0/upload/"+id, body, basic, "Content-Type: binary/octet-stream"))
		if w.Code != 201 || !strings.Contains(w.Body.String(), `"part_id":"`) {
			t.Errorf("upload %d answered %d %s", i, w.Code, w.Body)
		}
	}
	stored := f.stored(t)
	for i, r := range stored {
		want := fmt.Sprintf(`{"collection":"users","id":"%d","properties":{"n":%d},"receivedAt":"%s"}`, i+1, i, stamp)
		if string(r.Body) != want || r.Kind != event.KindObject || r.Name != "users" || r.Source != "src_web" {
			t.Errorf("stored %+v %s, want %s", r.Head, r.Body, want)
		}
	}
	if len(stored) != 4 {
		t.Errorf("stored %q", bodies(stored))
	}

	// Ten minutes of silence end a session; a sign of life does not let them pass.
	clk.Set(now.Add(9 * time.Minute))
	if w := f.do(request("POST", "/v0/keep-alive/"+id, "", basic)); w.Code != 200 {
		t.Errorf("keep-alive answered %d %s", w.Code, w.Body)
	}
	clk.Set(now.Add(18 * time.Minute))
	if w := f.do(request("POST", "/v0/upload/"+id, line("5", 5), basic)); w.Code != 201 {
		t.Errorf("upload answered %d %s", w.Code, w.Body)
	}
	if w := f.do(request("POST", "/v0/finish/"+id, `{"error":"the table was gone"}`, basic)); w.Code != 202 {
		t.Errorf("finish answered %d %s", w.Code, w.Body)
	}
	late := f.bulk(t, basic)
	clk.Set(now.Add(29 * time.Minute))
	for _, path := range []string{"/v0/upload/" + id, "/v0/finish/" + id, "/v0/keep-alive/" + late, "/v0/upload/none"} {
		if w := f.do(request("POST", path, "{}", basic)); w.Code != 400 || !strings.Contains(w.Body.String(), "no such session") {
			t.Errorf("%s answered %d %s", path, w.Code, w.Body)
		}
	}
}

func TestBulkRefusals(t *testing.T) {
	f := newFront(t, nil)
	tests := []struct {
		name, body, code, why string
		status, kept          int
	}{
		{"no JSON", line("1", 0) + "{\n" + line("2", 0), "invalid_json", "line 2: not valid JSON", 400, 1},
		{"no collection", `{"id":"1","properties":{}}`, "invalid_object", "line 1: object.collection is missing", 400, 0},
		{"no id", line("1", 0) + line("2", 0) + "\n" + `{"collection":"users","properties":{}}`, "invalid_object", "line 4: object.id is missing; the 2 objects before it are kept", 400, 2},
		{"a list", `{"id":"1","collection":"users","properties":{"x":[1]}}`, "invalid_object", "object.properties.x must be a string", 400, 0},
		{"a number", `7`, "invalid_object", "line 1: object must be an object", 400, 0},
		{"a long line", line("1", 0) + `{"id":"2","collection":"users","properties":{"x":"` + strings.Repeat("x", 400<<10) + `"}}`, "invalid_object", "line 2 is longer than 409600 bytes", 400, 1},
		{"nothing", "\n \n", "invalid_object", "no objects", 400, 0},
		{"damaged gzip", zipped(t, line("1", 0))[:40], "invalid_gzip", "damaged", 400, 0},
		{"only the beginning of gzip", "\x1f\x8b", "invalid_gzip", "damaged", 400, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := f.do(request("POST", "/v0/upload/"+f.bulk(t, basic), tt.body, basic))
			checkAnswer(t, w.Code, w.Body.String(), w.Header(), tt.status, tt.code)
			if !strings.Contains(w.Body.String(), tt.why) {
				t.Errorf("answered %s, want %q", w.Body, tt.why)
			}
			if got := len(f.stored(t)); got != tt.kept {
				t.Errorf("%d objects were kept, want %d", got, tt.kept)
			}
			if all := f.rejected.take(); len(all) != 1 || all[0].Code != tt.code || all[0].SourceID != "src_web" || all[0].Type != "object" {
				t.Errorf("rejected %+v", all)
			}
		})
	}
	for _, tt := range []struct {
		header string
		status int
		code   string
	}{{"Authorization: Basic bm9ib2R5Og==", 401, "project_not_found"}, {"X-None: 1", 401, "project_not_found"}, {"Authorization: Basic a2V5LW9mZjo=", 400, "source_disabled"}} {
		w := f.do(request("POST", "/v0/start", "", tt.header))
		checkAnswer(t, w.Code, w.Body.String(), w.Header(), tt.status, tt.code)
		if all := f.rejected.take(); len(all) != 1 || all[0].Code != tt.code {
			t.Errorf("rejected %+v", all)
		}
	}
	// Nobody writes into another's session.
	id := f.bulk(t, basic)
	if w := f.do(request("POST", "/v0/upload/"+id, line("1", 0), "Authorization: Basic a2V5LW90aGVyOg==")); w.Code != 400 {
		t.Errorf("another source: %d %s", w.Code, w.Body)
	}
	if w := f.do(request("POST", "/v0/finish/"+id, `{`, basic)); w.Code != 400 {
		t.Errorf("finish with no JSON: %d %s", w.Code, w.Body)
	}
}

func TestBulkLimits(t *testing.T) {
	f := newFront(t, nil)
	for range 50 {
		f.bulk(t, basic)
	}
	if w := f.do(request("POST", "/v0/start", "", basic)); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("the 51st session: %d %s", w.Code, w.Body)
	}
	f.bulk(t, "Authorization: Basic a2V5LW90aGVyOg==")

	// Twenty uploads at a time, and a twenty-first that has to wait.
	g := newFront(t, nil)
	id := g.bulk(t, basic)
	var ends []*io.PipeWriter
	var all sync.WaitGroup
	begun := make(chan bool)
	for range 20 {
		from, to := io.Pipe()
		ends = append(ends, to)
		all.Go(func() {
			r := request("POST", "/v0/upload/"+id, "", basic)
			r.Body = io.NopCloser(&announced{from: from, begun: begun})
			if w := g.do(r); w.Code != 201 {
				t.Errorf("answered %d %s", w.Code, w.Body)
			}
		})
		<-begun
	}
	if w := g.do(request("POST", "/v0/upload/"+id, line("x", 0), basic)); w.Code != 429 {
		t.Errorf("the 21st upload: %d %s", w.Code, w.Body)
	}
	for i, to := range ends {
		fmt.Fprint(to, line(fmt.Sprint(i), i))
		to.Close()
	}
	all.Wait()
	if got := len(g.stored(t)); got != 20 {
		t.Errorf("%d objects were kept", got)
	}
	if w := g.do(request("POST", "/v0/upload/"+id, line("x", 0), basic)); w.Code != 201 {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
}

// announced says when somebody begins to read.
type announced struct {
	from  io.Reader
	begun chan bool
	once  sync.Once
}

func (a *announced) Read(p []byte) (int, error) {
	a.once.Do(func() { a.begun <- true })
	return a.from.Read(p)
}

// Slow uploads, of however many sources, leave room for events.
func TestBulkUploadsOfAllSources(t *testing.T) {
	f := newFront(t, func(c *collect.Config) { c.Limits.InflightBytes = 24 << 20 })
	other := "Authorization: Basic a2V5LW90aGVyOg=="
	var all sync.WaitGroup
	begun := make(chan bool)
	var ends []*io.PipeWriter
	for _, key := range []string{basic, other} {
		from, to := io.Pipe()
		ends = append(ends, to)
		r := request("POST", "/v0/upload/"+f.bulk(t, key), "", key)
		r.Body = io.NopCloser(&announced{from: from, begun: begun})
		all.Go(func() { f.do(r) })
		<-begun
	}
	if w := f.do(request("POST", "/v0/upload/"+f.bulk(t, basic), line("x", 0), basic)); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("the third upload: %d %s", w.Code, w.Body)
	}
	if w := f.do(request("POST", "/v1/track", `{"userId":"u","event":"E"}`, basic)); w.Code != 200 {
		t.Errorf("an event: %d %s", w.Code, w.Body)
	}
	for _, to := range ends {
		to.Close()
	}
	all.Wait()
}

// An upload that takes longer than a session lasts keeps it, and what comes
// late says so.
func TestBulkLongUpload(t *testing.T) {
	clk := clock.NewManual(now)
	kept := make(chan bool)
	f := newFront(t, func(c *collect.Config) {
		c.Clock = clk
		c.Accepted = func(uint32, []event.Record) { kept <- true }
	})
	id := f.bulk(t, basic)
	from, to := io.Pipe()
	r := request("POST", "/v0/upload/"+id, "", basic)
	r.Body = io.NopCloser(from)
	answered := make(chan int)
	go func() { answered <- f.do(r).Code }()
	for _, after := range []time.Duration{0, 8 * time.Minute, 16 * time.Minute} {
		clk.Set(now.Add(after))
		for i := range event.MaxBlockRecords {
			fmt.Fprint(to, line(fmt.Sprint(after, i), i))
		}
		<-kept
		f.bulk(t, basic) // looks for sessions that have ended
	}
	clk.Set(now.Add(24 * time.Minute))
	fmt.Fprint(to, line("last", 1))
	to.Close()
	<-kept
	if code := <-answered; code != 201 {
		t.Errorf("answered %d", code)
	}
	if w := f.do(request("POST", "/v0/keep-alive/"+id, "", basic)); w.Code != 200 {
		t.Errorf("the session: %d %s", w.Code, w.Body)
	}
	stored := f.stored(t)
	first, last := stored[0], stored[len(stored)-1]
	if first.At != now.UnixMilli() || last.At-first.At < (16*time.Minute).Milliseconds() || !strings.Contains(string(last.Body), `"receivedAt":"`+event.FormatTime(time.UnixMilli(last.At))) {
		t.Errorf("the first at %d, the last at %d: %s", first.At, last.At, last.Body)
	}
}

// A large file is taken in pieces: what is held of it is small, and each piece
// is durable before the answer.
func TestBulkLargeFile(t *testing.T) {
	const n = 60_000
	pieces := 0
	f := newFront(t, func(c *collect.Config) {
		c.Limits.InflightBytes = 8 << 20
		c.Accepted = func(uint32, []event.Record) { pieces++ }
	})
	pad := strings.Repeat("x", 500)
	var file bytes.Buffer
	for i := range n {
		fmt.Fprintf(&file, `{"id":"%d","collection":"users","properties":{"pad":"%s"}}`+"\n", i, pad)
	}
	if w := f.do(request("POST", "/v0/upload/"+f.bulk(t, basic), zipped(t, file.String()), basic)); w.Code != 201 {
		t.Fatalf("answered %d %s", w.Code, w.Body)
	}
	if got := len(f.stored(t)); got != n || pieces < n/event.MaxBlockRecords {
		t.Errorf("%d objects were kept in %d pieces", got, pieces)
	}
}

// What the log does not take is not acknowledged.
func TestBulkBrokenLog(t *testing.T) {
	f, g := newGated(t, nil)
	g.answer <- errors.New("the disk is full")
	if w := f.do(request("POST", "/v0/upload/"+f.bulk(t, basic), line("1", 1), basic)); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
	r := request("POST", "/v0/upload/"+f.bulk(t, basic), "", basic)
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(line("1", 1)), &failingReader{}))
	g.answer <- nil
	if w := f.do(r); w.Code != 503 {
		t.Errorf("a broken connection: %d %s", w.Code, w.Body)
	}
	if all := f.rejected.take(); len(all) > 0 {
		t.Errorf("rejected %+v", all)
	}
}

type failingReader struct{}

func (*failingReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }
