package collect_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"kith/event"
)

// check sends bytes and holds the outcome to what is promised whatever comes:
// no panic, an answer an SDK can read, and records that read back.
func (f *front) check(t failing, path string, body []byte) {
	t.Helper()
	r := request("POST", path, "", basic)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	if w.Code != 200 && w.Code != 400 || !json.Valid(w.Body.Bytes()) {
		t.Fatalf("answered %d %s", w.Code, w.Body)
	}
	records, rejected := f.stored(t), f.rejected.take()
	if w.Code == 400 && (len(records) > 0 || len(rejected) != 1) || w.Code == 200 && len(records)+len(rejected) == 0 {
		t.Fatalf("answered %d; stored %q, rejected %v", w.Code, bodies(records), rejected)
	}
	checkStored(t, records)
}

// checkStored holds stored events to what later rooms take for granted.
func checkStored(t failing, records []event.Record) {
	t.Helper()
	for _, r := range records {
		e, err := event.Parse(r.Body)
		if err != nil {
			t.Fatalf("stored %q: %v", r.Body, err)
		}
		if !json.Valid(r.Body) || string(event.LastWins(r.Body)) != string(r.Body) {
			t.Fatalf("stored %q", r.Body)
		}
		if e.Type != r.Type || e.MessageID != r.MessageID || e.MessageID == "" || !e.ReceivedAt.Equal(now) || e.Timestamp.UnixMilli() != r.Time || r.Time > r.At {
			t.Fatalf("head %+v of %s", r.Head, r.Body)
		}
		ids := event.StandardIdentifiers(e)
		if len(ids) != len(r.IDs) {
			t.Fatalf("identifiers %v, in the body %v", r.IDs, ids)
		}
		for i := range ids {
			if ids[i] != r.IDs[i] {
				t.Fatalf("identifiers %v, in the body %v", r.IDs, ids)
			}
		}
		if e.Get("writeKey").Exists() {
			t.Fatalf("a write key in %s", r.Body)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{"userId":"u","event":"E","properties":{"a":[1,2,{"b":null}]},"timestamp":"2026-01-02T03:04:05Z","sentAt":"2026-01-02T03:04:05Z"}`,
		`{"batch":[{"type":"track","event":"E","userId":"u","context":{"ip":1}},{"type":"page","anonymousId":"a","messageId":5},{"type":"group"},7],"context":{"library":{"name":"x"}},"integrations":{"All":true},"sentAt":"x"}`,
		`{"batch":[{"type":"alias","userId":"\u0000","previousId":"p","user\u0049d":"b","context":[],"integrations":{}}],"writeKey":"key-web"}`,
		"\x1f\x8b\x08\x00", "{\"userId\":\"\xff\"}", `{"userId":"u","event":"\ud800","messageId":1e99}`, "\ufeff{}",
		`{"userId":"u","event":"E","context":{"device":{"type":"ios","id":"i"},"externalIds":[{"id":"1","type":"t","collection":"users","encoding":"none"}]}}`,
	} {
		f.Add([]byte(s))
	}
	front := newFront(f, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{"/v1/track", "/v1/i", "/v1/b", "/v1/batch"} {
			front.check(t, path, body)
		}
	})
}

// FuzzGzip damages compressed bodies: at is turned over, and what comes behind
// cut is missing.
func FuzzGzip(f *testing.F) {
	whole := []byte(zipped(f, `{"userId":"u","event":"E"}`))
	f.Add(whole, uint(0), uint(len(whole)))
	f.Add(whole, uint(12), uint(len(whole)))
	f.Add(whole, uint(0), uint(15))
	f.Add([]byte(zipped(f, strings.Repeat("[", 3<<20))), uint(2000), uint(1<<20))
	front := newFront(f, nil)
	f.Fuzz(func(t *testing.T, packed []byte, at, cut uint) {
		body := append([]byte("\x1f\x8b"), packed...)
		if bytes.HasPrefix(packed, body[:2]) {
			body = bytes.Clone(packed)
		}
		body = body[:min(cut, uint(len(body)))]
		if at > 1 && at < uint(len(body)) {
			body[at] ^= 0xff
		}
		front.check(t, "/v1/track", body)
	})
}

// FuzzBatch merges what a batch says for all into its events.
func FuzzBatch(f *testing.F) {
	f.Add(`{"library":{"name":"x"}}`, `{"All":false}`, `"2026-01-02T03:04:05Z"`, `{"ip":"1.2.3.4"}`, `{"Mail":{}}`)
	f.Add(`[]`, `null`, `1`, `{"a\u0062":1,"ab":2}`, `""`)
	f.Add(`{"ab":1}`, `{"":0}`, `"x"`, `{"a\u0062":1}`, `{"":{"":0}}`)
	front := newFront(f, nil)
	f.Fuzz(func(t *testing.T, context, integrations, sentAt, own, ownIntegrations string) {
		body := `{"context":` + context + `,"batch":[{"type":"page","userId":"u","context":` + own + `,"integrations":` + ownIntegrations + `},` +
			`{"type":"page","userId":"u"}],"integrations":` + integrations + `,"sentAt":` + sentAt + `}`
		front.check(t, "/v1/batch", []byte(body))
		front.check(t, "/v1/b", []byte(body))
	})
}

// FuzzPixel fetches images with any query.
func FuzzPixel(f *testing.F) {
	for _, query := range []string{
		"data=eyJ3cml0ZUtleSI6ImtleS13ZWIiLCJ1c2VySWQiOiJ1IiwiZXZlbnQiOiJFIn0", "writeKey=key-web&userId=u&event=E&properties.a.b=1&properties.a=2", "data=%7B%7D",
		"writeKey=key-web&userId=u&event=E&a..b=1&.=2&=3&a&&%00=%ff&integrations.All=true", "data=+/-_==&x=%", "writeKey=key-web&user%49d=u&" + strings.Repeat("a.", 250) + "=1",
	} {
		f.Add(query)
	}
	front := newFront(f, nil)
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/v1/pixel/track", "/v1/pixel/page/"} {
			r := request("GET", path, "", "User-Agent: \xffagent")
			r.URL.RawQuery = query
			checkPixel(t, front.do(r))
			records, rejected := front.stored(t), front.rejected.take()
			if len(records) > 1 || len(records) == 0 && len(rejected) != 1 {
				t.Fatalf("stored %q, rejected %v", bodies(records), rejected)
			}
			checkStored(t, records)
		}
	})
}

// FuzzObjects sends any body to the Objects API: all of its objects are kept,
// or none and the answer says why.
func FuzzObjects(f *testing.F) {
	for _, body := range []string{
		`{"collection":"rooms","objects":[{"id":"a","properties":{"x":1,"y":"z","n":null}},{"id":"\u0000é","properties":{}}]}`,
		`{"collection":"rooms","objects":[{"id":"a","properties":{"x":[]}}]}`, `{"objects":{}}`, `{"collection":"_","objects":[]}`,
		`{"collection":"r","objects":[{"i\u0064":"a","id":"b","properties":{"a":1,"\u0061":2}}]}`,
	} {
		f.Add([]byte(body))
	}
	front := newFront(f, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		r := request("POST", "/v1/set", "", basic)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		w := front.do(r)
		records, rejected := front.stored(t), front.rejected.take()
		good := w.Code == 200 && len(records) > 0 && len(rejected) == 0
		if !good && (w.Code != 400 || len(records) > 0 || len(rejected) != 1) || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("answered %d %s; stored %q, rejected %v", w.Code, w.Body, bodies(records), rejected)
		}
		for _, r := range records {
			var o struct {
				Collection, ID string
				Properties     map[string]any
			}
			if err := json.Unmarshal(r.Body, &o); err != nil && !strings.Contains(err.Error(), "float64") {
				t.Fatalf("stored %q: %v", r.Body, err)
			}
			if r.Kind != event.KindObject || o.Collection != r.Name || r.Name == "" || o.ID == "" || string(event.LastWins(r.Body)) != string(r.Body) {
				t.Fatalf("stored %+v %q", r.Head, r.Body)
			}
		}
	})
}

// FuzzBulk uploads any file: the lines before the first wrong one are kept.
func FuzzBulk(f *testing.F) {
	for _, file := range []string{line("1", 1) + line("2", 2), "\n\r\n" + line("é", 1) + "{", `{"id":"1","collection":"a_b","properties":{"x":[]}}`, "\x1f\x8b\x08", zipped(f, line("1", 1)), "\xff\n7"} {
		f.Add([]byte(file))
	}
	front := newFront(f, nil)
	session := front.do(request("POST", "/v0/start", "", basic)).Body.String()
	path := "/v0/upload/" + strings.Split(session, `"`)[3]
	f.Fuzz(func(t *testing.T, file []byte) {
		r := request("POST", path, "", basic)
		r.Body = io.NopCloser(bytes.NewReader(file))
		w := front.do(r)
		records, rejected := front.stored(t), front.rejected.take()
		good := w.Code == 201 && len(records) > 0 && len(rejected) == 0
		if !good && (w.Code != 400 || len(rejected) != 1) || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("answered %d %s; stored %q, rejected %v", w.Code, w.Body, bodies(records), rejected)
		}
		for _, r := range records {
			if !json.Valid(r.Body) || r.Kind != event.KindObject || r.Name == "" {
				t.Fatalf("stored %+v %q", r.Head, r.Body)
			}
		}
	})
}

// FuzzTimes sends any times: an event is never lost by one, and never lies in
// the future or before 1970.
func FuzzTimes(f *testing.F) {
	f.Add("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.1234567+02:00", "analytics-kotlin", true)
	f.Add("2026-01-02", "2026-01-02 03:04", "Analytics-CSharp", false)
	f.Add("9999-12-31T23:59:60Z", "0001-01-01T00:00:00Z", "analytics-java", true)
	f.Add("1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "analytics-swift", false)
	front := newFront(f, nil)
	f.Fuzz(func(t *testing.T, timestamp, sentAt, library string, retried bool) {
		body, err := json.Marshal(map[string]any{
			"userId": "u", "event": "E", "timestamp": timestamp, "sentAt": sentAt, "context": map[string]any{"library": map[string]any{"name": library}},
		})
		if err != nil || len(body) > 16<<10 {
			return
		}
		r := request("POST", "/v1/track", string(body), basic)
		if retried {
			r.Header.Set("X-Retry-Count", "1")
		}
		front.do(r)
		records := front.stored(t)
		front.rejected.take()
		if len(records) != 1 || records[0].Time < 0 || records[0].Time > now.UnixMilli() {
			t.Fatalf("stored %+v of %s", records, body)
		}
		checkStored(t, records)
	})
}

// drawJSON draws a value of any shape, with repeated and odd keys.
func drawJSON(t *rapid.T, depth int) string {
	text := func() string {
		b, err := json.Marshal(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "u", "track", "2026-01-02T03:04:05Z", "key-web"})).Draw(t, "text"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return rapid.SampledFrom([]string{"null", "true", "false", "0", "-1.5e300", "1e999", " 7 "}).Draw(t, "literal")
	case 4:
		items := make([]string, rapid.IntRange(0, 3).Draw(t, "items"))
		for i := range items {
			items[i] = drawJSON(t, depth-1)
		}
		return "[" + strings.Join(items, ",") + "]"
	case 5:
		return drawObject(t, depth-1, "")
	default:
		return text()
	}
}

// drawObject draws an object whose keys are mostly ones that mean something.
func drawObject(t *rapid.T, depth int, more string) string {
	keys := []string{"type", "messageId", "userId", "anonymousId", "previousId", "groupId", "event", "name", "category", "timestamp", "originalTimestamp",
		"sentAt", "receivedAt", "context", "integrations", "properties", "traits", "writeKey", "device", "externalIds", "id", "ip", "email", "x", "", `a\"b`, `user\u0049d`}
	var members []string
	if more != "" {
		members = append(members, more)
	}
	for range rapid.IntRange(0, 6).Draw(t, "members") {
		members = append(members, `"`+rapid.SampledFrom(keys).Draw(t, "key")+`": `+drawJSON(t, depth))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func TestWhateverComes(t *testing.T) {
	f := newFront(t, nil)
	rapid.Check(t, func(t *rapid.T) {
		item := func() string {
			typ := rapid.SampledFrom([]string{"track", "identify", "page", "group", "alias"}).Draw(t, "type")
			return drawObject(t, 3, `"type":"`+typ+`","userId":"u","previousId":"p","groupId":"g","event":"E"`)
		}
		var body, path string
		if rapid.Bool().Draw(t, "batch") {
			items := make([]string, rapid.IntRange(0, 4).Draw(t, "events"))
			for i := range items {
				items[i] = item()
			}
			path, body = rapid.SampledFrom([]string{"/v1/b", "/v1/batch"}).Draw(t, "route"), drawObject(t, 3, `"batch":[`+strings.Join(items, ",")+`]`)
		} else {
			path, body = rapid.SampledFrom([]string{"/v1/t", "/v1/identify"}).Draw(t, "route"), item()
		}
		f.check(t, path, []byte(body))
	})
}
