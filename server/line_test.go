package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/client"
	"kith/destination"
	"kith/destination/webhook"
)

// sink is a webhook that keeps what it gets, and answers with status.
type sink struct {
	mu     sync.Mutex
	got    []map[string]any
	status int
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status >= 300 {
		w.WriteHeader(s.status)
		return
	}
	var e map[string]any
	if json.Unmarshal(text, &e) == nil {
		s.got = append(s.got, e)
	}
}

func (s *sink) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// named returns how many events of a name have come.
func (s *sink) named(name string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.got {
		if e["event"] == name || name == "identify" && e["type"] == name {
			n++
		}
	}
	return n
}

// line is a workspace with a source that a webhook and an audience watch.
const line = `
sources:
  - slug: web
    name: Web
    metadataId: javascript
    writeKeys: [line-write-key]
destinations:
  - slug: crm
    name: CRM
    metadataId: webhook
    source: web
    settings:
      url: ${SINK}
audiences:
  - key: booked_recently
    name: Booked recently
    definition:
      query: event('Booking Completed').within(60 days).count() >= 1
    connections:
      - destination: crm
`

// onTestClock starts a server whose clock stands at noon on New Year's Day, with
// the workspace line.
func onTestClock(t *testing.T) (s *Server, c *client.Client, to *sink) {
	t.Helper()
	to = &sink{}
	web := httptest.NewServer(to)
	t.Cleanup(web.Close)
	cfg := inMemory()
	cfg.TestClock = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	cfg.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.Destinations = []destination.Connector{webhook.Connector()}
	s, base, _ := running(t, cfg)
	c, err := client.New(base, "test-token", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), []byte(line), map[string]string{"SINK": web.URL}, false, false); err != nil {
		t.Fatal(err)
	}
	return s, c, to
}

// advance moves the test clock and returns where it stands.
func advance(t *testing.T, c *client.Client, by string) time.Time {
	t.Helper()
	var out struct {
		Now time.Time `json:"now"`
	}
	if err := c.Call(t.Context(), "POST", "/test-clock", map[string]string{"advance": by}, &out); err != nil {
		t.Fatal(err)
	}
	return out.Now
}

func book(t *testing.T, c *client.Client, user string) {
	t.Helper()
	err := c.Send(t.Context(), "line-write-key", "track", map[string]any{"userId": user, "event": "Booking Completed"})
	if err != nil {
		t.Fatal(err)
	}
}

func member(t *testing.T, c *client.Client, user string) string {
	t.Helper()
	traits, _, err := c.Traits(t.Context(), client.Profile{Space: "default", ID: "user_id:" + user}, client.Page{})
	if err != nil {
		t.Fatal(err)
	}
	return string(traits["booked_recently"])
}

func TestTestClockRunsWhatIsDue(t *testing.T) {
	_, c, to := onTestClock(t)
	advance(t, c, "1d")
	book(t, c, "u1")
	if now := advance(t, c, "0s"); !now.Equal(time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("the clock stands at %v", now)
	}
	if member(t, c, "u1") != "true" || to.named("Booking Completed") != 1 || to.named("Audience Entered") != 1 {
		t.Errorf("after the booking: member %s, received %v", member(t, c, "u1"), to.got)
	}
	advance(t, c, "59d23h59m59s999ms")
	if member(t, c, "u1") != "true" || to.named("Audience Exited") != 0 {
		t.Error("the guest left too early")
	}
	advance(t, c, "1ms")
	if member(t, c, "u1") != "false" || to.named("Audience Exited") != 1 {
		t.Error("the guest did not leave after 60 days")
	}
}

// TestTestClockStopsAtEachInstant moves over several instants at once: each
// exit carries its own.
func TestTestClockStopsAtEachInstant(t *testing.T) {
	_, c, to := onTestClock(t)
	book(t, c, "u1")
	advance(t, c, "1h")
	book(t, c, "u2")
	advance(t, c, "1w53d")
	to.mu.Lock()
	defer to.mu.Unlock()
	var left []string
	for _, e := range to.got {
		if e["event"] == "Audience Exited" {
			left = append(left, e["userId"].(string)+" "+e["timestamp"].(string))
		}
	}
	want := "u1 2026-03-02T12:00:00.000Z, u2 2026-03-02T13:00:00.000Z"
	if got := strings.Join(left, ", "); got != want {
		t.Errorf("left: %s\nwant: %s", got, want)
	}
}

// TestTestClockWaitsForLeaving: letting go of the members of a deleted audience
// is work like any other.
func TestTestClockWaitsForLeaving(t *testing.T) {
	s, c, to := onTestClock(t)
	const guests = 200
	for i := range guests {
		book(t, c, fmt.Sprintf("u%d", i))
	}
	advance(t, c, "0s")
	a := s.workspace.Current().Audiences[0]
	if err := c.Call(t.Context(), "DELETE", "/spaces/default/audiences/"+a.ID, nil, nil); err != nil {
		t.Fatal(err)
	}
	advance(t, c, "0s")
	if n := to.named("Audience Exited"); n != guests {
		t.Errorf("%d of %d have left when the clock had moved", n, guests)
	}
}

func TestTestClockRunsRetries(t *testing.T) {
	_, c, to := onTestClock(t)
	to.answer(503)
	book(t, c, "u1")
	advance(t, c, "0s")
	to.answer(200)
	if n := to.named("Booking Completed"); n != 0 {
		t.Fatalf("%d arrived at a tool that is down", n)
	}
	advance(t, c, "1h")
	if n := to.named("Booking Completed"); n != 1 {
		t.Errorf("%d arrived after the retries", n)
	}
}

func TestTestClockIsForTheAdministratorAndOnlyWithTheFlag(t *testing.T) {
	s, c, _ := onTestClock(t)
	if text := s.cfg.Notes.(*notes).String(); !strings.Contains(text, "THE CLOCK STANDS at 2026-01-01T12:00:00Z") {
		t.Errorf("the start-up text does not say it: %s", text)
	}
	stranger, err := client.New(c.Base(), "guess", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Call(t.Context(), "POST", "/test-clock", map[string]string{"advance": "1d"}, nil); err == nil {
		t.Error("a stranger may move the clock")
	}
	for _, bad := range []any{map[string]string{"advance": "soon"}, map[string]string{"advance": "-1d"}, map[string]string{}, "1d",
		map[string]string{"advance": "99999999w"}, map[string]string{"advance": "876001h"}} {
		if err := c.Call(t.Context(), "POST", "/test-clock", bad, nil); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
	_, base, _ := running(t, inMemory())
	plain, err := client.New(base, "test-token", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Call(t.Context(), "POST", "/test-clock", map[string]string{"advance": "1d"}, nil); err == nil {
		t.Error("the path exists without the flag")
	}
}

func TestParseAdvance(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "60d": 60 * 24 * time.Hour, "1d12h": 36 * time.Hour, "1w": 7 * 24 * time.Hour, "90s": 90 * time.Second,
		"250ms": 250 * time.Millisecond, "1.5s": 1500 * time.Millisecond, "1440h0m0s": 60 * 24 * time.Hour,
	} {
		if got, err := parseAdvance(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "d", "60", "1d2", "1x", "-1d", "1d-1h", "36501d", "999999999w"} {
		if got, err := parseAdvance(bad); err == nil {
			t.Errorf("%q is read as %v", bad, got)
		}
	}
}

// TestStopEndsStreams stops a server while somebody watches: the stream ends at
// once, instead of holding the stop up until its time is over.
func TestStopEndsStreams(t *testing.T) {
	cfg := inMemory()
	_, base, stop := running(t, cfg)
	c, err := client.New(base, "test-token", nil)
	if err != nil {
		t.Fatal(err)
	}
	opened, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- c.Stream(t.Context(), "/live?recent=1", func(client.Message) error {
			close(opened)
			return nil
		})
	}()
	if err := c.Send(t.Context(), "nobody's key", "track", map[string]string{"userId": "u1", "event": "Hello"}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-opened:
	case err := <-ended:
		t.Fatal(err)
	}
	began := time.Now()
	stop()
	// A connection that never sent a request holds a stop for five seconds.
	if took := time.Since(began); took > stopRequests-time.Second {
		t.Errorf("the stop took %v", took)
	}
	if err := <-ended; err == nil {
		t.Error("the watcher was not told")
	}
}
