package destinationtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kith/clock"
	"kith/destination"
	"kith/egress"
	"kith/fault"
)

// Suite is what Run needs to know of a connector. The remote side is an HTTP
// server of the suite.
type Suite struct {
	Connector destination.Connector
	// Settings returns settings that send to a URL on this machine and hold
	// every one of Secrets.
	Settings func(url string) json.RawMessage
	// Secrets are texts that must not be found in what the connector says.
	Secrets []string
	// Items returns how many items a request carries.
	Items func(r *http.Request, body []byte) int
	// Answer makes the remote side answer a request so that its items come
	// out as want says, one a item. Where batches are Whole, all are equal.
	Answer func(w http.ResponseWriter, want []destination.Outcome)
}

// patience is how long a Send may take that ought to return at once.
const patience = 20 * time.Second

// Run runs the suite.
func Run(t *testing.T, s Suite) {
	t.Run("spec", s.spec)
	t.Run("settings", s.settings)
	t.Run("delivered", s.delivered)
	t.Run("outcomes", s.outcomes)
	t.Run("partial failure", s.partialFailure)
	t.Run("no answer", s.noAnswer)
	t.Run("cancel", s.cancel)
	t.Run("refused address", s.refusedAddress)
	t.Run("endless answer", s.endlessAnswer)
	t.Run("secrets", s.secrets)
	t.Run("concurrent", s.concurrent)
}

// remote is the other side: it answers with answer, and counts.
type remote struct {
	*httptest.Server
	items  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func (s *Suite) remote(t *testing.T) *remote {
	r := &remote{}
	s.answerAll(r, destination.Outcome{Status: destination.Delivered})
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		(*r.answer.Load())(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

// answerAll makes the remote side give every item the same outcome.
func (s *Suite) answerAll(r *remote, o destination.Outcome) {
	s.answerWith(r, func(n int) []destination.Outcome { return destination.All(n, o) })
}

func (s *Suite) answerWith(r *remote, want func(n int) []destination.Outcome) {
	r.handle(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		n := s.Items(req, body)
		r.items.Add(int64(n))
		s.Answer(w, want(n))
	})
}

func (r *remote) handle(h http.HandlerFunc) { r.answer.Store(&h) }

// output collects what is logged.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns all of it.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func env(t *testing.T, allow ...netip.Prefix) (destination.Env, *output) {
	guard := egress.New(allow, nil)
	t.Cleanup(guard.Close)
	log := &output{}
	return destination.Env{
		HTTP:   guard.Client(),
		Clock:  clock.NewManual(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)),
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, log
}

// open opens the connector on a URL of this machine.
func (s *Suite) open(t *testing.T, url string) destination.Destination {
	t.Helper()
	e, _ := env(t, netip.MustParsePrefix("127.0.0.0/8"))
	d, err := s.Connector.Open(s.Settings(url), e)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// items returns sample items for the first action.
func (s *Suite) items(n int) []destination.Item {
	items := make([]destination.Item, n)
	for i := range items {
		items[i] = destination.Item{
			Action: s.Connector.Spec.Actions[0].Slug,
			Body: fmt.Appendf(nil, `{"type":"track","event":"Order Completed","messageId":"m-%d","userId":"user-%d","timestamp":"2030-01-01T00:00:00.000Z",`+
				`"properties":{"revenue":%d.50,"note":"a \"quoted\" word, Zürich"}}`, i, i, i),
		}
	}
	return items
}

// send sends with a deadline and checks what holds for every Send.
func send(t *testing.T, ctx context.Context, d destination.Destination, items []destination.Item) []destination.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	before := make([]string, len(items))
	for i, item := range items {
		before[i] = string(item.Body)
	}
	out := d.Send(ctx, items)
	if len(out) != len(items) {
		t.Fatalf("%d outcomes for %d items", len(out), len(items))
	}
	for i, o := range out {
		if string(items[i].Body) != before[i] {
			t.Errorf("Send has changed body %d", i)
		}
		if o.Status != destination.Delivered && o.Reason == "" {
			t.Errorf("item %d: %v without a reason", i, o.Status)
		}
		if o.After < 0 || o.After > 0 && o.Status != destination.Retry {
			t.Errorf("item %d: %v after %v", i, o.Status, o.After)
		}
	}
	b := destination.BatchingOf(d)
	if b.Whole && slices.ContainsFunc(out, func(o destination.Outcome) bool { return o != out[0] }) {
		t.Errorf("batches are said to be whole, but the outcomes differ: %v", out)
	}
	return out
}

func expect(t *testing.T, out []destination.Outcome, want destination.Status, when string) {
	t.Helper()
	for i, o := range out {
		if o.Status != want {
			t.Errorf("%s: item %d is %v (%s), want %v", when, i, o.Status, o.Reason, want)
		}
	}
}

func (s *Suite) spec(t *testing.T) {
	spec := s.Connector.Spec
	if spec.ID == "" || spec.Slug == "" || spec.Name == "" || spec.Description == "" || len(spec.Integrations) == 0 {
		t.Error("id, slug, name, description and integrations are given")
	}
	if spec.Limits.Concurrency < 1 || spec.Limits.Timeout <= 0 {
		t.Errorf("limits are positive: %+v", spec.Limits)
	}
	if len(spec.Actions) == 0 {
		t.Fatal("there is no action")
	}
	for _, a := range spec.Actions {
		if a.ID == "" || a.Slug == "" || a.Name == "" || a.Description == "" {
			t.Errorf("action %+v: id, slug, name and description are given", a)
		}
		checkFields(t, a.Settings, false)
	}
	checkFields(t, spec.Settings, true)
	if text, err := json.Marshal(spec); err != nil || len(text) == 0 {
		t.Errorf("as JSON: %v", err)
	}
}

func checkFields(t *testing.T, fields []destination.Field, top bool) {
	seen := map[string]bool{}
	for _, f := range fields {
		if f.Name == "" || f.Label == "" || f.Help == "" || seen[f.Name] {
			t.Errorf("setting %q: name, label and help are given, and the name once", f.Name)
		}
		seen[f.Name] = true
		if f.Secret && (f.Type != destination.String && f.Type != destination.Texts || !top) {
			t.Errorf("setting %s: secrets are texts of the top level", f.Name)
		}
		if f.Default != nil {
			if err := destination.CheckSettings(fields, withOnly(t, fields, f), nil); err != nil {
				t.Errorf("setting %s: its default: %v", f.Name, err)
			}
		}
		checkFields(t, f.Fields, false)
	}
}

// withOnly returns a document in which f has its default.
func withOnly(t *testing.T, fields []destination.Field, f destination.Field) json.RawMessage {
	for _, other := range fields {
		if other.Required && other.Name != f.Name {
			t.Logf("the default of %s is not checked: %s is required", f.Name, other.Name)
			return nil
		}
	}
	doc, err := json.Marshal(map[string]json.RawMessage{f.Name: f.Default})
	if err != nil {
		t.Errorf("setting %s: its default is no JSON: %v", f.Name, err)
	}
	return doc
}

func (s *Suite) settings(t *testing.T) {
	good := s.Settings("https://example.com/")
	e, _ := env(t)
	if err := s.Connector.CheckSettings(good, nil); err != nil {
		t.Fatalf("the suite's settings: %v", err)
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(good, &values); err != nil {
		t.Fatal(err)
	}
	refuse := func(what string, doc map[string]json.RawMessage) {
		t.Helper()
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Connector.CheckSettings(raw, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: CheckSettings: %v", what, err)
		}
		d, err := s.Connector.Open(raw, e)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: Open: %v", what, err)
		}
		if d != nil {
			t.Errorf("%s: Open returned an error and a destination", what)
		}
		s.checkText(t, what, fmt.Sprint(err))
	}
	with := func(name string, value json.RawMessage) map[string]json.RawMessage {
		doc := map[string]json.RawMessage{}
		for k, v := range values {
			doc[k] = v
		}
		if doc[name] = value; value == nil {
			delete(doc, name)
		}
		return doc
	}
	for _, f := range s.Connector.Spec.Settings {
		if f.Required {
			refuse("without "+f.Name, with(f.Name, nil))
		}
		refuse("a list for "+f.Name, with(f.Name, json.RawMessage(`[[]]`)))
	}
	refuse("an unknown setting", with("noSuchSetting", json.RawMessage(`1`)))
	for _, raw := range []string{"[]", "5", "{", "\x00", `"text"`} {
		if err := s.Connector.CheckSettings(json.RawMessage(raw), nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: CheckSettings: %v", raw, err)
		}
		if _, err := s.Connector.Open(json.RawMessage(raw), e); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: Open: %v", raw, err)
		}
	}
}

func (s *Suite) delivered(t *testing.T) {
	r := s.remote(t)
	d := s.open(t, r.URL)
	b := destination.BatchingOf(d)
	if b.Size < 1 || b.MaxAge < 0 || b.Bytes < 0 {
		t.Fatalf("batching %+v", b)
	}
	for _, n := range []int{1, 2, b.Size} {
		if n > b.Size {
			continue
		}
		before := r.items.Load()
		expect(t, send(t, context.Background(), d, s.items(n)), destination.Delivered, fmt.Sprintf("%d items", n))
		if got := r.items.Load() - before; got != int64(n) {
			t.Errorf("%d items: %d have arrived", n, got)
		}
	}
}

func (s *Suite) outcomes(t *testing.T) {
	r := s.remote(t)
	d := s.open(t, r.URL)
	n := min(3, destination.BatchingOf(d).Size)
	for _, want := range []destination.Outcome{
		{Status: destination.Retry}, {Status: destination.Permanent}, {Status: destination.Retry, After: 7 * time.Second}, {Status: destination.Delivered},
	} {
		s.answerAll(r, want)
		before := r.items.Load()
		out := send(t, context.Background(), d, s.items(n))
		expect(t, out, want.Status, fmt.Sprintf("answered %v", want))
		for i, o := range out {
			if o.After != want.After {
				t.Errorf("item %d: after %v, want %v", i, o.After, want.After)
			}
		}
		if got := r.items.Load() - before; got != int64(n) {
			t.Errorf("answered %v: %d items have arrived, want %d: Send tries once", want, got, n)
		}
	}
}

func (s *Suite) partialFailure(t *testing.T) {
	r := s.remote(t)
	d := s.open(t, r.URL)
	b := destination.BatchingOf(d)
	if b.Size < 3 || b.Whole {
		return // one outcome for the whole batch; send has checked that
	}
	want := []destination.Status{destination.Delivered, destination.Permanent, destination.Retry}
	s.answerWith(r, func(n int) []destination.Outcome {
		out := make([]destination.Outcome, n)
		for i := range out {
			out[i] = destination.Outcome{Status: want[i%3]}
		}
		return out
	})
	for i, o := range send(t, context.Background(), d, s.items(3)) {
		if o.Status != want[i] {
			t.Errorf("item %d is %v (%s), want %v", i, o.Status, o.Reason, want[i])
		}
	}
}

func (s *Suite) noAnswer(t *testing.T) {
	r := s.remote(t)
	d := s.open(t, r.URL)
	r.handle(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	expect(t, send(t, context.Background(), d, s.items(1)), destination.Retry, "the connection breaks")
	r.Close()
	expect(t, send(t, context.Background(), d, s.items(1)), destination.Retry, "nobody listens")
}

func (s *Suite) cancel(t *testing.T) {
	r := s.remote(t)
	arrived := make(chan struct{}, 8)
	release := make(chan struct{})
	var once sync.Once
	free := func() { once.Do(func() { close(release) }) }
	t.Cleanup(free) // before the server's Close, which waits for its handlers
	r.handle(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	d := s.open(t, r.URL)

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan []destination.Outcome, 1)
	late, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	go func() { done <- d.Send(ctx, s.items(1)) }()
	<-arrived
	cancel()
	select {
	case out := <-done:
		expect(t, out, destination.Retry, "cancelled while the remote side hangs")
	case <-late.Done():
		t.Fatal("Send goes on after its context was cancelled")
	}

	expect(t, send(t, ctx, d, s.items(1)), destination.Retry, "cancelled before")

	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	expect(t, send(t, ctx, d, s.items(1)), destination.Retry, "the time is over")
	free()
}

func (s *Suite) refusedAddress(t *testing.T) {
	r := s.remote(t)
	e, _ := env(t) // nothing allowed
	d, err := s.Connector.Open(s.Settings(r.URL), e)
	if err != nil {
		t.Fatal(err)
	}
	out := send(t, context.Background(), d, s.items(1))
	expect(t, out, destination.Permanent, "egress refuses the address")
	if !strings.Contains(out[0].Reason, egress.Flag) {
		t.Errorf("the reason does not name the flag: %s", out[0].Reason)
	}
	if r.items.Load() != 0 {
		t.Error("the request has arrived: the connector does not use Env.HTTP")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func (s *Suite) endlessAnswer(t *testing.T) {
	r := s.remote(t)
	for _, status := range []int{http.StatusOK, http.StatusInternalServerError} {
		r.handle(func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(status)
			chunk := bytes.Repeat([]byte("x"), 32<<10)
			for req.Context().Err() == nil {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		})
		// Whatever it makes of it, Send returns without reading to the end.
		d := s.open(t, r.URL)
		out := send(t, context.Background(), d, s.items(1))
		if n := len(out[0].Reason); n > 4<<10 {
			t.Errorf("a reason of %d bytes", n)
		}
	}
}

// secrets has the remote side repeat all it was sent, in every kind of answer.
func (s *Suite) secrets(t *testing.T) {
	if len(s.Secrets) == 0 {
		t.Fatal("the suite names no secrets")
	}
	for _, secret := range s.Secrets {
		quoted, _ := json.Marshal(secret)
		if !bytes.Contains(s.Settings("http://127.0.0.1/"), bytes.Trim(quoted, `"`)) {
			t.Fatalf("secret %q is not in the settings", secret)
		}
	}
	r := s.remote(t)
	e, log := env(t, netip.MustParsePrefix("127.0.0.0/8"))
	d, err := s.Connector.Open(s.Settings(r.URL), e)
	if err != nil {
		t.Fatal(err)
	}
	for _, filler := range []int{0, 300, 390, 395, 399, 500} {
		for _, status := range []int{400, 401, 404, 408, 429, 500, 503, 302} {
			r.handle(func(w http.ResponseWriter, req *http.Request) {
				body, err := io.ReadAll(req.Body)
				w.Header().Set("Location", "http://127.0.0.1/"+strings.Join(s.Secrets, "/"))
				w.WriteHeader(status)
				fmt.Fprint(w, strings.Repeat("-", filler), strings.Join(s.Secrets, " "), req.RequestURI, req.Header, string(body), err)
			})
			for _, o := range send(t, context.Background(), d, s.items(1)) {
				s.checkText(t, fmt.Sprintf("answer %d", status), o.Reason)
			}
		}
	}
	r.Close()
	for _, o := range send(t, context.Background(), d, s.items(1)) {
		s.checkText(t, "nobody listens", o.Reason)
	}
	if err := errors.Join(d.Close()); err != nil {
		s.checkText(t, "Close", err.Error())
	}
	s.checkText(t, "the log", log.String())
}

// checkText looks for secrets, and for long pieces of them.
func (s *Suite) checkText(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range s.Secrets {
		if strings.Contains(text, secret) || len(secret) >= 12 && strings.Contains(text, secret[:len(secret)/2]) {
			t.Errorf("%s: %q shows secret %q", where, text, secret)
		}
	}
}

func (s *Suite) concurrent(t *testing.T) {
	r := s.remote(t)
	d := s.open(t, r.URL)
	size := min(5, destination.BatchingOf(d).Size)
	const senders, sends = 8, 20
	var wg sync.WaitGroup
	var wrong atomic.Int64
	for range senders {
		wg.Go(func() {
			for range sends {
				for _, o := range d.Send(context.Background(), s.items(size)) {
					if o.Status != destination.Delivered {
						wrong.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := r.items.Load(); got != int64(senders*sends*size) || wrong.Load() != 0 {
		t.Errorf("%d of %d items have arrived, %d were not delivered", got, senders*sends*size, wrong.Load())
	}
}
