package webhook_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"kith/clock"
	"kith/destination"
	"kith/destination/destinationtest"
	"kith/destination/webhook"
	"kith/egress"
	"kith/fault"
)

func TestContract(t *testing.T) {
	for name, batch := range map[string]string{
		"single":  "",
		"batched": `,"batch":{"size":10,"maxAgeMs":50,"maxBytes":2000}`,
	} {
		t.Run(name, func(t *testing.T) {
			destinationtest.Run(t, destinationtest.Suite{
				Connector: webhook.Connector(),
				Settings: func(url string) json.RawMessage {
					url = strings.TrimSuffix(url, "/") + "/hooks/T0K3N-IN-THE-PATH?key=qu3ry-s3cret-value"
					url = strings.Replace(url, "://", "://someone:p4ss-w0rd-of-url@", 1)
					return fmt.Appendf(nil, `{"url":%q,"headers":{"Authorization":"Bearer h3ader-s3cret-value","X-Key":"with \"quotes\" in it"},`+
						`"sharedSecret":"sh4red-s3cret-value"%s}`, url, batch)
				},
				Secrets: []string{"sh4red-s3cret-value", "h3ader-s3cret-value", `with "quotes" in it`, "qu3ry-s3cret-value", "T0K3N-IN-THE-PATH", "p4ss-w0rd-of-url"},
				Items: func(_ *http.Request, body []byte) int {
					if batch == "" {
						return 1
					}
					var list []json.RawMessage
					if err := json.Unmarshal(body, &list); err != nil {
						t.Errorf("%s: %v", body, err)
					}
					return len(list)
				},
				Answer: func(w http.ResponseWriter, want []destination.Outcome) {
					switch o := want[0]; {
					case o.Status == destination.Delivered:
						w.WriteHeader(http.StatusNoContent)
					case o.Status == destination.Permanent:
						w.WriteHeader(http.StatusBadRequest)
					default:
						if o.After > 0 {
							w.Header().Set("Retry-After", strconv.Itoa(int(o.After/time.Second)))
						}
						w.WriteHeader(http.StatusServiceUnavailable)
					}
				},
			})
		})
	}
}

var now = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// sink is a server that keeps the last request.
type sink struct {
	*httptest.Server
	header http.Header
	method string
	body   string
	answer func(w http.ResponseWriter)
}

func newSink(t *testing.T) *sink {
	s := &sink{answer: func(http.ResponseWriter) {}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.header, s.method, s.body = r.Header, r.Method, string(body)
		s.answer(w)
	}))
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T, settings string) destination.Destination {
	t.Helper()
	guard := egress.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, nil)
	t.Cleanup(guard.Close)
	d, err := webhook.Connector().Open(json.RawMessage(settings), destination.Env{
		HTTP: guard.Client(), Clock: clock.NewManual(now), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func items(bodies ...string) (list []destination.Item) {
	for _, b := range bodies {
		list = append(list, destination.Item{Action: "send", Body: []byte(b)})
	}
	return list
}

func TestRequest(t *testing.T) {
	s := newSink(t)
	d := open(t, fmt.Sprintf(`{"url":%q,"headers":{"x-team":"data"},"sharedSecret":"key"}`, s.URL))
	const body = `{"type":"track", "event":"Grüße","properties":{"n":1.10}}`
	if out := d.Send(context.Background(), items(body)); out[0].Status != destination.Delivered {
		t.Fatal(out)
	}
	if s.method != "POST" || s.body != body {
		t.Errorf("%s %s: the body is not the event as it is", s.method, s.body)
	}
	mac := hmac.New(sha1.New, []byte("key"))
	mac.Write([]byte(body))
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Team": "data", "X-Signature": hex.EncodeToString(mac.Sum(nil)), "X-Kith-Resent": "",
	} {
		if got := s.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	again := items(body)
	again[0].Resent = true
	d.Send(context.Background(), again)
	if got := s.header.Get("X-Kith-Resent"); got != "true" {
		t.Errorf("resent: X-Kith-Resent is %q", got)
	}
	plain := open(t, fmt.Sprintf(`{"url":%q}`, s.URL))
	plain.Send(context.Background(), items(body))
	if _, ok := s.header["X-Signature"]; ok {
		t.Error("signed without a shared secret")
	}
	if got := destination.BatchingOf(plain); got.Size != 1 {
		t.Errorf("without batch: %+v", got)
	}
}

func TestBatchRequest(t *testing.T) {
	s := newSink(t)
	d := open(t, fmt.Sprintf(`{"url":%q,"sharedSecret":"key","batch":{}}`, s.URL))
	if got, want := destination.BatchingOf(d), (destination.Batching{Size: 100, Bytes: 1 << 20, MaxAge: 100 * time.Millisecond, Whole: true}); got != want {
		t.Errorf("batching %+v, want %+v", got, want)
	}
	d.Send(context.Background(), items(`{"a":1}`, `{"b":2}`))
	if s.body != `[{"a":1},{"b":2}]` {
		t.Errorf("body %s", s.body)
	}
	mac := hmac.New(sha1.New, []byte("key"))
	mac.Write([]byte(s.body))
	if got := s.header.Get("X-Signature"); got != hex.EncodeToString(mac.Sum(nil)) {
		t.Errorf("signature %s is not of the body", got)
	}
	d.Send(context.Background(), items(`{"a":1}`))
	if s.body != `[{"a":1}]` {
		t.Errorf("one event: body %s", s.body)
	}
	d = open(t, fmt.Sprintf(`{"url":%q,"batch":{"size":7,"maxAgeMs":0,"maxBytes":2048}}`, s.URL))
	if got, want := destination.BatchingOf(d), (destination.Batching{Size: 7, Bytes: 2048, Whole: true}); got != want {
		t.Errorf("batching %+v, want %+v", got, want)
	}
}

func TestStatuses(t *testing.T) {
	s := newSink(t)
	d := open(t, fmt.Sprintf(`{"url":%q}`, s.URL))
	for code := 200; code < 600; code++ {
		if http.StatusText(code) == "" && code%100 > 5 {
			continue
		}
		s.answer = func(w http.ResponseWriter) { w.WriteHeader(code); fmt.Fprint(w, "the  words\nof it") }
		want := destination.Permanent
		switch {
		case code < 300:
			want = destination.Delivered
		case code == 408, code == 423, code == 429, code >= 500 && code != 501:
			want = destination.Retry
		}
		o := d.Send(context.Background(), items("{}"))[0]
		if o.Status != want {
			t.Errorf("%d: %+v, want %v", code, o, want)
		}
		if code >= 400 && !strings.HasPrefix(o.Reason, fmt.Sprintf("the server answered %d", code)) || code == 400 && !strings.HasSuffix(o.Reason, ": the words of it") {
			t.Errorf("%d: reason %q", code, o.Reason)
		}
		if code >= 300 && o.Code != strconv.Itoa(code) {
			t.Errorf("%d: code %q", code, o.Code)
		}
	}
	s.answer = func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	if o := d.Send(context.Background(), items("{}"))[0]; o.Status != destination.Retry || o.Code != destination.CodeReset {
		t.Errorf("the connection breaks: %+v", o)
	}
	s.Close()
	if o := d.Send(context.Background(), items("{}"))[0]; o.Status != destination.Retry || o.Code != destination.CodeRefused {
		t.Errorf("nobody listens: %+v", o)
	}
}

func TestRetryAfter(t *testing.T) {
	s := newSink(t)
	d := open(t, fmt.Sprintf(`{"url":%q}`, s.URL))
	for value, want := range map[string]time.Duration{
		"":                                0,
		"0":                               0,
		"120":                             2 * time.Minute,
		"-5":                              0,
		"1.5":                             0,
		"Tue, 01 Jan 2030 12:00:30 GMT":   30 * time.Second,
		"Tue, 01 Jan 2030 11:00:00 GMT":   0,
		"tomorrow":                        0,
		"99999999999999999999":            0,
		"2147483647":                      2147483647 * time.Second,
		"Tuesday, 01-Jan-30 12:01:00 GMT": time.Minute,
	} {
		s.answer = func(w http.ResponseWriter) { w.Header().Set("Retry-After", value); w.WriteHeader(429) }
		if o := d.Send(context.Background(), items("{}"))[0]; o.After != want || o.Status != destination.Retry {
			t.Errorf("Retry-After %q: %+v, want %v", value, o, want)
		}
	}
}

func TestSettings(t *testing.T) {
	guard := egress.New(nil, nil)
	check := func(url string) error { return guard.CheckURL(context.Background(), url) }
	c := webhook.Connector()
	for settings, want := range map[string]string{
		`{"url":"https://example.com/hook"}`: "",
		`{"url":"https://example.com/hook","headers":{"X-A":"b","Authorization":"Basic x"},"sharedSecret":"","batch":{"size":1,"maxAgeMs":0,"maxBytes":1024}}`: "",
		`{"url":"https://example.com/hook","headers":null,"batch":null,"sharedSecret":null}`:                                                                   "",
		``:                                 `url: is required: where events are sent, for example https://example.com/hook`,
		`{}`:                               `url: is required`,
		`{"url":""}`:                       `url: is required`,
		`{"url":5}`:                        `url: a string is expected`,
		`{"url":"example.com"}`:            `url: a URL like https://example.com/path is expected`,
		`{"url":"http://10.0.0.1/x"}`:      `url: 10.0.0.1 is no public address; to reach it, start the server with --egress-allow 10.0.0.1/32`,
		`{"url":"http://localhost:9000/"}`: `--egress-allow 127.0.0.1/32`,
		`{"url":"https://example.com","headers":["a"]}`:                       `headers: an object whose values are strings is expected`,
		`{"url":"https://example.com","headers":{"a":5}}`:                     `headers: an object whose values are strings is expected`,
		`{"url":"https://example.com","headers":{"a":null}}`:                  `headers.a: a string is expected`,
		`{"url":"https://example.com","headers":{"a b":"c"}}`:                 `headers: "a b" is no header name`,
		`{"url":"https://example.com","headers":{"":"c"}}`:                    `headers: "" is no header name`,
		`{"url":"https://example.com","headers":{"content-length":"5"}}`:      `headers.content-length: this header is set by Kith`,
		`{"url":"https://example.com","headers":{"x-signature":"5"}}`:         `headers.x-signature: this header is set by Kith`,
		`{"url":"https://example.com","headers":{"a":"b\r\nc: d"}}`:           `headers.a: a header holds no control characters`,
		`{"url":"https://example.com","sharedSecret":{}}`:                     `sharedSecret: a string is expected`,
		`{"url":"https://example.com","batch":5}`:                             `batch: a JSON object is expected`,
		`{"url":"https://example.com","batch":{"size":0}}`:                    `batch.size: a whole number from 1 to 5000 is expected`,
		`{"url":"https://example.com","batch":{"size":1.5}}`:                  `batch.size: a whole number`,
		`{"url":"https://example.com","batch":{"maxAgeMs":-1,"maxBytes":10}}`: "batch.maxAgeMs: a whole number from 0 to 60000 is expected\nbatch.maxBytes: a whole number from 1024",
		`{"url":"https://example.com","batch":{"sizes":5}}`:                   `batch.sizes: there is no such setting; there are: size, maxAgeMs, maxBytes`,
		`{"url":"https://example.com","secret":"x"}`:                          `secret: there is no such setting; there are: url, headers, sharedSecret, batch`,
		`{"url":"https://example.com/` + strings.Repeat("x", 5000) + `"}`:     `url: is 5020 bytes long; at most 4096 are allowed`,
	} {
		err := c.CheckSettings(json.RawMessage(settings), check)
		if want == "" && err != nil || want != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.100s\n  got  %v\n  want %s", settings, err, want)
		}
	}
}

func TestForWorkspace(t *testing.T) {
	registry, err := destination.NewRegistry(webhook.Connector())
	if err != nil {
		t.Fatal(err)
	}
	list := registry.ForWorkspace(nil)
	if len(list) != 1 || list[0].Slug != "webhook" || list[0].Action("send") == nil || !slices.Equal(list[0].Secrets, []string{"headers", "sharedSecret"}) {
		t.Fatalf("%+v", list)
	}
	if err := list[0].Check(json.RawMessage(`{}`)); !fault.Is(err, fault.Invalid) {
		t.Errorf("Check: %v", err)
	}
	if err := list[0].CheckAction("send", json.RawMessage(`{}`)); err != nil {
		t.Errorf("CheckAction: %v", err)
	}
	if err := list[0].CheckAction("send", json.RawMessage(`{"url":"x"}`)); !fault.Is(err, fault.Invalid) {
		t.Errorf("CheckAction with a setting: %v", err)
	}
	if _, err := registry.Find("webhook"); err != nil {
		t.Error(err)
	}
	if _, err := registry.Find("nothing"); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "there are: webhook") {
		t.Errorf("Find: %v", err)
	}
	if _, err := destination.NewRegistry(webhook.Connector(), webhook.Connector()); !fault.Is(err, fault.Conflict) {
		t.Errorf("twice: %v", err)
	}
}

func FuzzSettings(f *testing.F) {
	for _, s := range []string{
		`{"url":"https://example.com"}`, `{"url":"http://a:b@c/%20?d=e","headers":{"a":"b"},"batch":{"size":5}}`, `[]`, `{"batch":{"size":1e9}}`, `{"url":"http://[::1]:80"}`,
	} {
		f.Add([]byte(s))
	}
	c := webhook.Connector()
	env := destination.Env{HTTP: http.DefaultClient, Clock: clock.NewManual(now), Logger: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, settings []byte) {
		checked := c.CheckSettings(settings, func(string) error { return nil })
		if checked != nil && !fault.Is(checked, fault.Invalid) {
			t.Fatalf("CheckSettings: %v", checked)
		}
		d, err := c.Open(settings, env)
		switch {
		case err != nil && !fault.Is(err, fault.Invalid):
			t.Fatalf("Open: %v", err)
		case err == nil && checked != nil:
			t.Fatalf("opened what is refused: %v", checked)
		case err == nil && destination.BatchingOf(d).Size < 1:
			t.Fatalf("batching %+v", destination.BatchingOf(d))
		}
	})
}
