package collect_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kith/collect"
	"kith/event"
)

// TestSDKs sends what the official SDKs send (sheet connections_protocols
// §1.1), over a real connection.
func TestSDKs(t *testing.T) {
	const sent = "2026-01-02T03:04:05.678Z" // the client's clock is right
	tests := []struct {
		sdk     string
		path    string
		headers []string
		body    string
		gzip    bool
		chunked bool
		stored  []string
		ids     []event.Identifier
	}{
		{sdk: "browser, standard", path: "/v1/t", headers: []string{"Content-Type: text/plain", basic, "Origin: https://www.example.com"},
			body: `{"timestamp":"2026-01-02T03:04:03.678Z","integrations":{},"event":"E","type":"track","properties":{},"context":{"page":{"path":"/"},"userAgent":"UA","library":{"name":"analytics.js","version":"next-1.84.0"}},` +
				`"messageId":"ajs-next-1-m","userId":null,"anonymousId":"a","writeKey":"key-web","sentAt":"` + sent + `","_metadata":{"bundled":["X"],"unbundled":[],"bundledIds":[]}}`,
			stored: []string{`{"originalTimestamp":"2026-01-02T03:04:03.678Z","timestamp":"2026-01-02T03:04:03.678Z","integrations":{},"event":"E","type":"track","properties":{},"context":{"page":{"path":"/"},"userAgent":"UA","library":{"name":"analytics.js","version":"next-1.84.0"},"ip":"127.0.0.1"},` +
				`"messageId":"ajs-next-1-m","userId":null,"anonymousId":"a","sentAt":"` + sent + `","_metadata":{"bundled":["X"],"unbundled":[],"bundledIds":[]},"receivedAt":"` + stamp + `"}`},
			ids: []event.Identifier{{Collection: "users", Type: "anonymous_id", Value: "a"}}},
		{sdk: "browser, batching", path: "/v1/b", headers: []string{"Content-Type: text/plain", basic},
			body:   `{"writeKey":"key-web","batch":[{"type":"identify","userId":"u","anonymousId":"a","traits":{"email":"ada@example.com"},"context":{"ip":"0.0.0.0"},"timestamp":"2026-01-02T04:04:03.678Z","messageId":"m","writeKey":"key-web"}],"sentAt":"2026-01-02T04:04:05.678Z"}`,
			stored: []string{`{"type":"identify","userId":"u","anonymousId":"a","traits":{"email":"ada@example.com"},"context":{"ip":"0.0.0.0"},"originalTimestamp":"2026-01-02T04:04:03.678Z","timestamp":"2026-01-02T03:04:03.678Z","messageId":"m","sentAt":"2026-01-02T04:04:05.678Z","receivedAt":"` + stamp + `"}`},
			ids:    []event.Identifier{{Collection: "users", Type: "user_id", Value: "u"}, {Collection: "users", Type: "anonymous_id", Value: "a"}, {Collection: "users", Type: "email", Value: "ada@example.com"}}},
		{sdk: "node", path: "/v1/batch", headers: []string{"Content-Type: application/json", "User-Agent: analytics-node-next/latest", basic},
			body:   `{"batch":[{"userId":"u","type":"page","name":"N","context":{"library":{"name":"@segment/analytics-node","version":"2.1.0"}},"timestamp":"2026-01-02T03:04:05.600Z","messageId":"node-next-1-m","_metadata":{"nodeVersion":"24.0.0","jsRuntime":"node"}}],"writeKey":"key-web","sentAt":"` + sent + `"}`,
			stored: []string{`{"userId":"u","type":"page","name":"N","context":{"library":{"name":"@segment/analytics-node","version":"2.1.0"}},"originalTimestamp":"2026-01-02T03:04:05.600Z","timestamp":"2026-01-02T03:04:05.600Z","messageId":"node-next-1-m","_metadata":{"nodeVersion":"24.0.0","jsRuntime":"node"},"sentAt":"` + sent + `","receivedAt":"` + stamp + `"}`},
			ids:    []event.Identifier{{Collection: "users", Type: "user_id", Value: "u"}}},
		{sdk: "go: the library is the batch's", path: "/v1/batch", headers: []string{"Content-Type: application/json", basic},
			body:   `{"messageId":"batch-1","sentAt":"` + sent + `","batch":[{"type":"group","messageId":"m","userId":"u","groupId":"g","timestamp":"2026-01-02T03:04:05Z","traits":{"email":"info@example.com"}}],"context":{"library":{"name":"analytics-go","version":"3.0.0"}}}`,
			stored: []string{`{"type":"group","messageId":"m","userId":"u","groupId":"g","originalTimestamp":"2026-01-02T03:04:05Z","timestamp":"2026-01-02T03:04:05.000Z","traits":{"email":"info@example.com"},"context":{"library":{"name":"analytics-go","version":"3.0.0"}},"sentAt":"` + sent + `","receivedAt":"` + stamp + `"}`},
			ids:    []event.Identifier{{Collection: "users", Type: "user_id", Value: "u"}, {Collection: "accounts", Type: "group_id", Value: "g"}}},
		{sdk: "python: key in the body, microseconds, an offset", path: "/v1/batch", headers: []string{"Content-Type: application/json"},
			body:   `{"batch": [{"integrations": {}, "timestamp": "2026-01-02T05:04:05.500123+02:00", "context": {"library": {"name": "analytics-python", "version": "2.3.4"}}, "type": "track", "anonymousId": null, "userId": "u", "event": "E", "properties": {}, "messageId": "m"}], "writeKey": "key-web", "sentAt": "2026-01-02T03:04:05.678000+00:00"}`,
			stored: []string{`{"integrations":{},"originalTimestamp":"2026-01-02T05:04:05.500123+02:00","timestamp":"2026-01-02T03:04:05.500Z","context":{"library": {"name": "analytics-python", "version": "2.3.4"}},"type":"track","anonymousId":null,"userId":"u","event":"E","properties":{},"messageId":"m","sentAt":"2026-01-02T03:04:05.678000+00:00","receivedAt":"` + stamp + `"}`},
			ids:    []event.Identifier{{Collection: "users", Type: "user_id", Value: "u"}}},
		{sdk: "ruby", path: "/v1/import", headers: []string{"Content-Type: application/json", "Accept: application/json", basic},
			body:   `{"sentAt":"` + sent + `","batch":[{"context":{"library":{"name":"analytics-ruby","version":"2.4.0"}},"messageId":"m","timestamp":"2026-01-02T03:04:05.000Z","userId":"u","type":"alias","previousId":"p"}]}`,
			stored: []string{`{"context":{"library":{"name":"analytics-ruby","version":"2.4.0"}},"messageId":"m","originalTimestamp":"2026-01-02T03:04:05.000Z","timestamp":"2026-01-02T03:04:05.000Z","userId":"u","type":"alias","previousId":"p","sentAt":"` + sent + `","receivedAt":"` + stamp + `"}`},
			ids:    []event.Identifier{{Collection: "users", Type: "user_id", Value: "u"}}},
		{sdk: "php: seconds and an offset", path: "/v1/batch", headers: []string{"Content-Type: application/json", basic},
			body:   `{"batch":[{"userId":"u","event":"E","properties":{},"context":{"library":{"name":"analytics-php","version":"3.8.0","consumer":"LibCurl"}},"timestamp":"2026-01-02T03:04:05+00:00","messageId":"m","type":"track"}],"sentAt":"2026-01-02T03:04:05+00:00"}`,
			stored: []string{`{"userId":"u","event":"E","properties":{},"context":{"library":{"name":"analytics-php","version":"3.8.0","consumer":"LibCurl"}},"originalTimestamp":"2026-01-02T03:04:05+00:00","timestamp":"2026-01-02T03:04:05.678Z","messageId":"m","type":"track","sentAt":"2026-01-02T03:04:05+00:00","receivedAt":"` + stamp + `"}`},
			ids:    []event.Identifier{{Collection: "users", Type: "user_id", Value: "u"}}},
		{sdk: "java: slash at the end, chunked", path: "/v1/import/", headers: []string{"Content-Type: application/json", basic}, chunked: true,
			body:   `{"batch":[{"messageId":"m","timestamp":"2026-01-02T03:04:05.678Z","userId":"u","event":"E","type":"track"}],"sentAt":"` + sent + `","context":{"library":{"name":"analytics-java","version":"3.5.0"}},"sequence":1,"writeKey":"key-web"}`,
			stored: []string{`{"messageId":"m","originalTimestamp":"2026-01-02T03:04:05.678Z","timestamp":"2026-01-02T03:04:05.678Z","userId":"u","event":"E","type":"track","context":{"library":{"name":"analytics-java","version":"3.5.0"}},"sentAt":"` + sent + `","receivedAt":"` + stamp + `"}`},
			ids:    []event.Identifier{{Collection: "users", Type: "user_id", Value: "u"}}},
		{sdk: "C#: compressed, no content type, seven digits", path: "/v1/b", headers: []string{"Accept: text/plain"}, gzip: true,
			body:   `{"batch":[{"type":"screen","name":"Home","category":"","anonymousId":"a","messageId":"m","timestamp":"2026-01-02T03:04:05.1234567Z","context":{"library":{"name":"Analytics-CSharp"}}}],"sentAt":"2026-01-02T03:04:05.6780000Z","writeKey":"key-web"}`,
			stored: []string{`{"type":"screen","name":"Home","category":"","anonymousId":"a","messageId":"m","originalTimestamp":"2026-01-02T03:04:05.1234567Z","timestamp":"2026-01-02T03:04:05.123Z","context":{"library":{"name":"Analytics-CSharp"},"ip":"127.0.0.1"},"sentAt":"2026-01-02T03:04:05.6780000Z","receivedAt":"` + stamp + `"}`},
			ids:    []event.Identifier{{Collection: "users", Type: "anonymous_id", Value: "a"}}},
		{sdk: "kotlin: compressed and chunked", path: "/v1/b", headers: []string{"Content-Type: text/plain", "User-Agent: analytics-kotlin/1.25"}, gzip: true, chunked: true,
			body: `{"batch":[{"type":"track","event":"Application Opened","anonymousId":"a","messageId":"m","userId":"","timestamp":"2026-01-02T03:04:05.678Z","context":{"library":{"name":"analytics-kotlin"},"device":{"id":"d","advertisingId":"i","adTrackingEnabled":true,"type":"android"}}}],"sentAt":"` + sent + `","writeKey":"key-web"}`,
			stored: []string{`{"type":"track","event":"Application Opened","anonymousId":"a","messageId":"m","userId":"","originalTimestamp":"2026-01-02T03:04:05.678Z","timestamp":"2026-01-02T03:04:05.678Z","context":{"library":{"name":"analytics-kotlin"},"device":{"id":"d","advertisingId":"i","adTrackingEnabled":true,"type":"android"},"ip":"127.0.0.1"},"sentAt":"` +
				sent + `","receivedAt":"` + stamp + `"}`},
			ids: []event.Identifier{{Collection: "users", Type: "anonymous_id", Value: "a"}, {Collection: "users", Type: "android.id", Value: "d"}, {Collection: "users", Type: "android.idfa", Value: "i"}}},
		{sdk: "legacy ios, on a server's route", path: "/v1/batch", headers: []string{"Content-Type: application/json"}, gzip: true,
			body:   `{"batch":[{"type":"track","event":"E","anonymousId":"a","messageId":"m","timestamp":"2026-01-02T03:04:05.678Z","context":{"library":{"name":"analytics-ios","version":"4.1"}}}],"sentAt":"` + sent + `","writeKey":"key-web"}`,
			stored: []string{`{"type":"track","event":"E","anonymousId":"a","messageId":"m","originalTimestamp":"2026-01-02T03:04:05.678Z","timestamp":"2026-01-02T03:04:05.678Z","context":{"library":{"name":"analytics-ios","version":"4.1"},"ip":"127.0.0.1"},"sentAt":"` + sent + `","receivedAt":"` + stamp + `"}`},
			ids:    []event.Identifier{{Collection: "users", Type: "anonymous_id", Value: "a"}}},
	}
	f := newFront(t, nil)
	server := httptest.NewServer(f.handler)
	defer server.Close()
	for _, tt := range tests {
		t.Run(tt.sdk, func(t *testing.T) {
			body := io.Reader(strings.NewReader(tt.body))
			if tt.gzip {
				body = strings.NewReader(zipped(t, tt.body))
			}
			if tt.chunked {
				body = struct{ io.Reader }{body} // of unknown length
			}
			r, err := http.NewRequest("POST", server.URL+tt.path, body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header["Content-Type"] = nil
			for _, h := range tt.headers {
				name, value, _ := strings.Cut(h, ": ")
				r.Header.Set(name, value)
			}
			if tt.gzip {
				r.Header.Set("Content-Encoding", "gzip")
			}
			answer, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			got, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			checkAnswer(t, answer.StatusCode, string(got), answer.Header, 200, "")
			records := f.stored(t)
			if diff := cmp.Diff(tt.stored, bodies(records)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			for _, r := range records {
				checkRecord(t, r)
				if diff := cmp.Diff(tt.ids, r.IDs); diff != "" {
					t.Errorf("identifiers (-want +got):\n%s", diff)
				}
			}
		})
	}
	if x := f.rejected.take(); len(x) != 0 {
		t.Errorf("rejected: %+v", x)
	}
}

func TestTimes(t *testing.T) {
	tests := []struct {
		name, timestamp, sentAt, original string // JSON; empty: not there
		want                              string
	}{
		{"nothing", ``, ``, ``, stamp},
		{"right clock", `"2026-01-02T03:04:00.000Z"`, `"2026-01-02T03:04:05.678Z"`, ``, "2026-01-02T03:04:00.000Z"},
		{"an hour ahead", `"2026-01-02T04:04:00.000Z"`, `"2026-01-02T04:04:05.678Z"`, ``, "2026-01-02T03:04:00.000Z"},
		{"a year behind", `"2025-01-02T03:04:00.000Z"`, `"2025-01-02T03:04:05.678Z"`, ``, "2026-01-02T03:04:00.000Z"},
		{"queued for a week", `"2025-12-26T03:04:05.678Z"`, `"2026-01-02T03:04:05.678Z"`, ``, "2025-12-26T03:04:05.678Z"},
		{"no sentAt", `"2025-06-01T00:00:00Z"`, ``, ``, "2025-06-01T00:00:00.000Z"},
		{"no sentAt, ahead", `"2026-01-02T04:04:00.000Z"`, ``, ``, stamp},
		{"later than sent", `"2026-01-02T03:05:05.678Z"`, `"2026-01-02T03:04:05.678Z"`, ``, stamp},
		{"unreadable", `"yesterday"`, `"2026-01-02T03:04:05.678Z"`, ``, stamp},
		{"no zone", `"2025-06-01T02:03:04"`, ``, ``, "2025-06-01T02:03:04.000Z"},
		{"a space and no zone", `"2025-06-01 02:03:04.5678"`, ``, ``, "2025-06-01T02:03:04.567Z"},
		{"a space and a zone", `"2025-06-01 02:03:04+02:00"`, ``, ``, "2025-06-01T00:03:04.000Z"},
		{"minutes", `"2025-06-01T02:03"`, ``, ``, "2025-06-01T02:03:00.000Z"},
		{"a day", `"2025-06-01"`, ``, ``, "2025-06-01T00:00:00.000Z"},
		{"no such day", `"2025-02-30"`, ``, ``, stamp},
		{"another order", `"06/01/2025 02:03"`, ``, ``, stamp},
		{"more than a day", `"2025-06-01x"`, ``, ``, stamp},
		{"a number", `1767323045678`, `1767323045678`, ``, stamp},
		{"unreadable sentAt", `"2025-06-01T00:00:00Z"`, `"now"`, ``, "2025-06-01T00:00:00.000Z"},
		{"sentAt of year 1", `"2025-06-01T00:00:00Z"`, `"0001-01-01T00:00:00Z"`, ``, "2025-06-01T00:00:00.000Z"},
		{"sentAt of year 9999", `"2025-06-01T00:00:00Z"`, `"9999-01-01T00:00:00Z"`, ``, "2025-06-01T00:00:00.000Z"},
		{"both of year 9999", `"9999-01-01T00:00:00Z"`, `"9999-01-01T00:00:01Z"`, ``, "2026-01-02T03:04:04.678Z"},
		{"timestamp of year 1", `"0001-01-01T00:00:00Z"`, `"2026-01-02T03:04:05.678Z"`, ``, stamp},
		{"before 1970", `"1969-12-31T23:59:59.999Z"`, ``, ``, stamp},
		{"1970", `"1970-01-01T00:00:00Z"`, ``, ``, "1970-01-01T00:00:00.000Z"},
		{"only original", ``, `"2026-01-02T04:04:05.678Z"`, `"2026-01-02T04:04:00.000Z"`, "2026-01-02T03:04:00.000Z"},
		{"both", `"2025-06-01T00:00:00Z"`, ``, `"2024-06-01T00:00:00Z"`, "2025-06-01T00:00:00.000Z"},
	}
	f := newFront(t, nil)
	for _, tt := range tests {
		body := `{"userId":"u","event":"E"`
		for _, m := range [][2]string{{"timestamp", tt.timestamp}, {"sentAt", tt.sentAt}, {"originalTimestamp", tt.original}} {
			if m[1] != "" {
				body += `,"` + m[0] + `":` + m[1]
			}
		}
		f.do(request("POST", "/v1/track", body+"}", basic))
		records := f.stored(t)
		if len(records) != 1 {
			t.Fatalf("%s: %d records", tt.name, len(records))
		}
		checkRecord(t, records[0])
		e, err := event.Parse(records[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		original := tt.timestamp
		if original == "" {
			original = tt.original
		}
		if got := event.FormatTime(e.Timestamp); got != tt.want || e.Get("originalTimestamp").Raw != original || e.Get("sentAt").Raw != tt.sentAt {
			t.Errorf("%s: timestamp %s, want %s: %s", tt.name, got, tt.want, e.Body)
		}
		if at := records[0].Time; event.FormatTime(time.UnixMilli(at)) != tt.want {
			t.Errorf("%s: the head says %d", tt.name, at)
		}
	}
}

func TestClientAddress(t *testing.T) {
	const own = `"userId":"u","event":"E","messageId":"m","type":"track"`
	batch := func(context string) string { return `{"batch":[{` + own + context + `}]}` }
	tests := []struct {
		name, path, body, peer, forwarded, want string
	}{
		{"device", "/v1/t", `{` + own + `}`, "203.0.113.9:1", "", `"203.0.113.9"`},
		{"device, IPv6", "/v1/t", `{` + own + `}`, "[2001:db8::1%eth0]:1", "", `"2001:db8::1"`},
		{"device, IPv4 in IPv6", "/v1/t", `{` + own + `}`, "[::ffff:203.0.113.9]:1", "", `"203.0.113.9"`},
		{"device, its own", "/v1/t", `{` + own + `,"context":{"ip":"0.0.0.0"}}`, "203.0.113.9:1", "", `"0.0.0.0"`},
		{"device, withheld", "/v1/t", `{` + own + `,"context":{"ip":null}}`, "203.0.113.9:1", "", `null`},
		{"server", "/v1/track", `{` + own + `}`, "203.0.113.9:1", "", ``},
		{"server, direct", "/v1/track", `{` + own + `,"context":{"direct":true}}`, "203.0.113.9:1", "", `"203.0.113.9"`},
		{"server, direct in disguise", "/v1/track", `{` + own + `,"context":{"d\u0069rect":true}}`, "203.0.113.9:1", "", `"203.0.113.9"`},
		{"server, not direct", "/v1/track", `{` + own + `,"context":{"direct":false}}`, "203.0.113.9:1", "", ``},
		{"batch of servers", "/v1/batch", batch(``), "203.0.113.9:1", "", ``},
		{"batch of devices", "/v1/b", batch(``), "203.0.113.9:1", "", `"203.0.113.9"`},
		{"old android", "/v1/import", batch(`,"context":{"library":{"name":"analytics-android"}}`), "203.0.113.9:1", "", `"203.0.113.9"`},
		{"java", "/v1/import", batch(`,"context":{"library":{"name":"analytics-java"}}`), "203.0.113.9:1", "", ``},
		{"a stranger's word", "/v1/t", `{` + own + `}`, "203.0.113.9:1", "198.51.100.7", `"203.0.113.9"`},
		{"a proxy's word", "/v1/t", `{` + own + `}`, "10.0.0.1:1", "198.51.100.7", `"198.51.100.7"`},
		{"two proxies", "/v1/t", `{` + own + `}`, "10.0.0.1:1", "192.0.2.1, 198.51.100.7 ,10.0.0.2", `"198.51.100.7"`},
		{"a proxy's nonsense", "/v1/t", `{` + own + `}`, "10.0.0.1:1", "198.51.100.7, unknown", `"10.0.0.1"`},
		{"a proxy's silence", "/v1/t", `{` + own + `}`, "10.0.0.1:1", "", `"10.0.0.1"`},
		{"no address", "/v1/t", `{` + own + `}`, "@", "", ``},
	}
	f := newFront(t, func(c *collect.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	for _, tt := range tests {
		r := request("POST", tt.path, tt.body, basic)
		r.RemoteAddr = tt.peer
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		f.do(r)
		records := f.stored(t)
		if len(records) != 1 {
			t.Fatalf("%s: %d records, %v", tt.name, len(records), f.rejected.take())
		}
		checkRecord(t, records[0])
		e, err := event.Parse(records[0].Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Get("context.ip").Raw; got != tt.want {
			t.Errorf("%s: ip %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestCORS(t *testing.T) {
	f := newFront(t, nil)
	w := f.do(request("OPTIONS", "/v1/t", "", "Origin: https://www.example.com", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,x-mine"))
	want := map[string]string{
		"Access-Control-Allow-Origin": "https://www.example.com", "Access-Control-Allow-Credentials": "true", "Access-Control-Allow-Methods": "POST, GET",
		"Access-Control-Allow-Headers": "authorization, content-type, x-retry-count, authorization,x-mine", "Access-Control-Max-Age": "86400",
	}
	for name, value := range want {
		if got := w.Header().Get(name); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
	if w.Code != 204 || strings.Join(w.Header().Values("Vary"), ",") != "Origin,Access-Control-Request-Headers" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	for _, body := range []string{`{"userId":"u","event":"E"}`, `{`} {
		w := f.do(request("POST", "/v1/t", body, basic, "Origin: null"))
		h := w.Header()
		if h.Get("Access-Control-Allow-Origin") != "null" || h.Get("Access-Control-Expose-Headers") != "Retry-After" || h.Get("Vary") != "Origin" {
			t.Errorf("%v", h)
		}
	}
	if w := f.do(request("POST", "/v1/t", `{"userId":"u","event":"E"}`, basic)); w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Error("an origin for nobody")
	}
}

// A client that writes a body that is too large gets to read why.
func TestLargeBodyIsAnswered(t *testing.T) {
	f := newFront(t, nil)
	server := httptest.NewServer(f.handler)
	defer server.Close()
	for name, body := range map[string]io.Reader{
		"with a length": strings.NewReader(strings.Repeat("x", 4<<20)),
		"chunked":       struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 4<<20))},
	} {
		answer, err := server.Client().Post(server.URL+"/v1/batch", "", body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		checkAnswer(t, answer.StatusCode, string(got), answer.Header, 400, "body_too_large")
	}

	// One that asks first is told at once.
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || line != "HTTP/1.1 400 Bad Request\r\n" {
		t.Errorf("%q, %v", line, err)
	}
}

// A connection that breaks within a body is no fault of the events.
func TestBrokenConnection(t *testing.T) {
	f := newFront(t, nil)
	r := request("POST", "/v1/track", "", basic)
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"userId":`), brokenReader{}))
	r.ContentLength = 100
	w := f.do(r)
	checkAnswer(t, w.Code, w.Body.String(), w.Header(), 503, "unavailable")
	if x := f.rejected.take(); len(x) != 0 {
		t.Errorf("rejected: %+v", x)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
