package collect_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/collect"
	"kith/event"
)

// tail is what every event ends with that has neither timestamp nor sentAt.
const tail = `"timestamp":"` + stamp + `","receivedAt":"` + stamp + `"}`

func TestRequests(t *testing.T) {
	deep := strings.Repeat("[", 300) + strings.Repeat("]", 300)
	tests := []struct {
		name     string
		path     string // without one: /v1/track
		headers  []string
		body     string
		status   int      // 0 means 200
		code     string   // of the answer
		stored   []string // bodies
		rejected []string // codes, with *n when it is not one
	}{
		// Single calls.
		{name: "track", headers: []string{basic},
			body:   `{"userId":"u","event":"E","messageId":"m","properties":{"revenue":12.50}}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"m","properties":{"revenue":12.50},"type":"track",` + tail}},
		{name: "order and text are kept", headers: []string{basic},
			body:   "{ \"messageId\":\"m\\u00e9\" ,\n\"event\" : \"E\", \"x\" : [ 1.0e3 , {\"a\":null} ], \"userId\":\"u\",\"type\":\"track\" }\n",
			stored: []string{`{"messageId":"m\u00e9","event":"E","x":[ 1.0e3 , {"a":null} ],"userId":"u","type":"track",` + tail}},
		{name: "write key is removed",
			body:   `{"writeKey":"key-web","userId":"u","event":"E","messageId":"m","receivedAt":"1999-01-01T00:00:00Z"}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "a type wins over the route", headers: []string{basic},
			body:   `{"type":"identify","userId":"u","messageId":"m","traits":{}}`,
			stored: []string{`{"type":"identify","userId":"u","messageId":"m","traits":{},` + tail}},
		{name: "an empty type is none", path: "/v1/alias", headers: []string{basic},
			body:   `{"type":"","userId":"u","previousId":"p","messageId":"m"}`,
			stored: []string{`{"type":"alias","userId":"u","previousId":"p","messageId":"m",` + tail}},
		{name: "another type", headers: []string{basic}, body: `{"type":"purchase","userId":"u"}`, rejected: []string{"unknown_type"}},
		{name: "a number as messageId", headers: []string{basic},
			body:   `{"userId":"u","event":"E","messageId":123}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"123","type":"track",` + tail}},
		{name: "repeated keys", headers: []string{basic},
			body:   `{"userId":"a","event":"E","userId":"b","messageId":"m","properties":{"x":1,"y":{"z":1,"z":2},"x":2}}`,
			stored: []string{`{"event":"E","userId":"b","messageId":"m","properties":{"y":{"z":2},"x":2},"type":"track",` + tail}},
		{name: "escaped key", headers: []string{basic},
			body:   `{"user\u0049d":"u","event":"E","messageId":"m","\u0074ype":"track"}`,
			stored: []string{`{"user\u0049d":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "bytes that are no UTF-8", headers: []string{basic},
			body:   "{\"userId\":\"a\xff\xfeb\",\"event\":\"E\",\"messageId\":\"m\"}",
			stored: []string{"{\"userId\":\"a\uFFFDb\",\"event\":\"E\",\"messageId\":\"m\",\"type\":\"track\"," + tail}},
		{name: "byte order mark", headers: []string{basic},
			body:   "\ufeff{\"userId\":\"u\",\"event\":\"E\",\"messageId\":\"m\"}",
			stored: []string{`{"userId":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "compressed without a header", headers: []string{basic},
			body:   zipped(t, `{"userId":"u","event":"E","messageId":"m"}`),
			stored: []string{`{"userId":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "a header and nothing compressed", headers: []string{basic, "Content-Encoding: gzip"},
			body:   `{"userId":"u","event":"E","messageId":"m"}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "an empty array is PHP's empty object", headers: []string{basic},
			body:   `{"userId":"u","event":"E","messageId":"m","context":[],"integrations":[]}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"m","context":{},"integrations":{},"type":"track",` + tail}},

		// What nobody can read.
		{name: "no JSON", headers: []string{basic}, body: `{"userId":`, status: 400, code: "invalid_json", rejected: []string{"invalid_json"}},
		{name: "empty", headers: []string{basic}, body: ``, status: 400, code: "invalid_json", rejected: []string{"invalid_json"}},
		{name: "form", headers: []string{basic}, body: `userId=u&event=E`, status: 400, code: "invalid_json", rejected: []string{"invalid_json"}},
		{name: "no object", headers: []string{basic}, body: `["x"]`, status: 400, code: "invalid_json", rejected: []string{"invalid_json"}},
		{name: "no object in a batch", path: "/v1/batch", headers: []string{basic}, body: `"x"`, status: 400, code: "invalid_json", rejected: []string{"invalid_json"}},
		{name: "too deep", headers: []string{basic}, body: `{"userId":"u","event":"E","properties":` + deep + `}`, status: 400, code: "invalid_json", rejected: []string{"invalid_json"}},
		{name: "a million brackets", headers: []string{basic}, body: strings.Repeat("[", 1<<20), status: 400, code: "invalid_json", rejected: []string{"invalid_json"}},
		{name: "damaged gzip", headers: []string{basic}, body: zipped(t, `{"userId":"u"}`)[:20], status: 400, code: "invalid_gzip", rejected: []string{"invalid_gzip"}},
		{name: "a bomb", headers: []string{basic}, body: zipped(t, strings.Repeat(" ", 64<<20)), status: 400, code: "body_too_large", rejected: []string{"body_too_large"}},
		{name: "a large body", path: "/v1/batch", headers: []string{basic}, body: strings.Repeat(" ", 1<<20) + "x", status: 400, code: "body_too_large", rejected: []string{"body_too_large"}},
		{name: "a large call", headers: []string{basic}, body: `{"userId":"u","event":"E","x":"` + strings.Repeat("x", 32<<10) + `"}`,
			status: 400, code: "event_too_large", rejected: []string{"event_too_large"}},
		{name: "the largest body", path: "/v1/b", headers: []string{basic}, body: spaced(`{"batch":[{"type":"track","event":"E","userId":"u","messageId":"m","context":{"ip":""}}]}`, 1<<20),
			stored: []string{`{"type":"track","event":"E","userId":"u","messageId":"m","context":{"ip":""},` + tail}},

		// Ids.
		{name: "nobody", headers: []string{basic}, body: `{"event":"E"}`, rejected: []string{"no_user_anon_id"}},
		{name: "nobody with empty and null ids", headers: []string{basic}, body: `{"event":"E","userId":"","anonymousId":null}`, rejected: []string{"no_user_anon_id"}},
		{name: "a number as id", headers: []string{basic}, body: `{"event":"E","userId":7}`, rejected: []string{"id_not_string"}},
		{name: "an object as id", headers: []string{basic}, body: `{"event":"E","userId":"u","anonymousId":{}}`, rejected: []string{"id_not_string"}},
		{name: "group without id", path: "/v1/group", headers: []string{basic}, body: `{"userId":"u","groupId":""}`, rejected: []string{"id_required"}},
		{name: "group with a number", path: "/v1/group", headers: []string{basic}, body: `{"userId":"u","groupId":5}`, rejected: []string{"id_not_string"}},
		{name: "alias without previousId", path: "/v1/alias", headers: []string{basic}, body: `{"userId":"u"}`, rejected: []string{"id_required"}},
		{name: "alias without userId", path: "/v1/alias", headers: []string{basic}, body: `{"anonymousId":"a","previousId":"p"}`, rejected: []string{"id_required"}},
		{name: "long messageId", headers: []string{basic}, body: `{"event":"E","userId":"u","messageId":"` + strings.Repeat("é", 101) + `"}`, rejected: []string{"message_id_too_long"}},
		{name: "longest messageId", headers: []string{basic}, body: `{"event":"E","userId":"u","messageId":"` + strings.Repeat("é", 100) + `"}`,
			stored: []string{`{"event":"E","userId":"u","messageId":"` + strings.Repeat("é", 100) + `","type":"track",` + tail}},
		{name: "odd messageId", headers: []string{basic}, body: `{"event":"E","userId":"u","messageId":["m"]}`, rejected: []string{"message_id_not_string"}},

		// Calls.
		{name: "track without event", headers: []string{basic}, body: `{"userId":"u"}`, rejected: []string{"event_not_defined"}},
		{name: "track with empty event", headers: []string{basic}, body: `{"userId":"u","event":""}`, rejected: []string{"event_not_defined"}},
		{name: "track with a number", headers: []string{basic}, body: `{"userId":"u","event":7}`, rejected: []string{"event_not_string"}},
		{name: "properties", headers: []string{basic}, body: `{"userId":"u","event":"E","properties":"p"}`, rejected: []string{"properties_not_object"}},
		{name: "array of properties", headers: []string{basic}, body: `{"userId":"u","event":"E","properties":[]}`, rejected: []string{"properties_not_object"}},
		{name: "traits", path: "/v1/identify", headers: []string{basic}, body: `{"userId":"u","traits":[1]}`, rejected: []string{"traits_not_object"}},
		{name: "null documents", path: "/v1/identify", headers: []string{basic}, body: `{"userId":"u","messageId":"m","traits":null,"properties":null,"context":null,"integrations":null}`,
			stored: []string{`{"userId":"u","messageId":"m","traits":null,"properties":null,"context":{},"integrations":{},"type":"identify",` + tail}},
		{name: "context", headers: []string{basic}, body: `{"userId":"u","event":"E","context":"c"}`, rejected: []string{"context_not_object"}},
		{name: "integrations", headers: []string{basic}, body: `{"userId":"u","event":"E","integrations":[1]}`, rejected: []string{"integrations_not_object"}},
		{name: "page name", path: "/v1/page", headers: []string{basic}, body: `{"userId":"u","name":7}`, rejected: []string{"name_not_string"}},
		{name: "screen category", path: "/v1/screen", headers: []string{basic}, body: `{"userId":"u","category":{}}`, rejected: []string{"category_not_string"}},
		{name: "kotlin's empty category", path: "/v1/screen", headers: []string{basic}, body: `{"userId":"u","category":"","name":null,"messageId":"m"}`,
			stored: []string{`{"userId":"u","category":"","name":null,"messageId":"m","type":"screen",` + tail}},
		{name: "page without a name", path: "/v1/page", headers: []string{basic}, body: `{"anonymousId":"a","messageId":"m"}`,
			stored: []string{`{"anonymousId":"a","messageId":"m","type":"page",` + tail}},
		{name: "consent without preferences", headers: []string{basic}, body: `{"userId":"u","event":"Segment Consent Preference Updated"}`,
			rejected: []string{"consent_categorypreferences_should_exist"}},
		{name: "consent with an array", headers: []string{basic}, body: `{"userId":"u","event":"Segment Consent Preference Updated","context":{"consent":{"categoryPreferences":[]}}}`,
			rejected: []string{"consent_categorypreferences_fields_should_be_object"}},
		{name: "consent with words", headers: []string{basic}, body: `{"userId":"u","event":"Segment Consent Preference Updated","context":{"consent":{"categoryPreferences":{"ads":"no"}}}}`,
			rejected: []string{"consent_categorypreferences_fields_should_be_bool"}},
		{name: "consent version", headers: []string{basic}, body: `{"userId":"u","event":"Segment Consent Preference Updated","context":{"consent":{"categoryPreferences":{},"version":"2"}}}`,
			rejected: []string{"consent_version_should_be_number"}},
		{name: "consent and advertising id", headers: []string{basic}, body: `{"userId":"u","event":"Segment Consent Preference Updated","context":{"device":{"advertisingId":1},"consent":{"categoryPreferences":{"ads":true}}}}`,
			rejected: []string{"device_advertisingid_should_be_string"}},

		// Batches.
		{name: "good and bad", path: "/v1/batch", headers: []string{basic},
			body: `{"batch":[{"type":"track","event":"A","userId":"u","messageId":"1"},{"type":"track","userId":"u"},7,{"event":"B","userId":"u"},` +
				`{"type":"page","anonymousId":"a","messageId":"2"},{"type":"track","event":"` + strings.Repeat("x", 32<<10) + `","userId":"u"}]}`,
			stored:   []string{`{"type":"track","event":"A","userId":"u","messageId":"1",` + tail, `{"type":"page","anonymousId":"a","messageId":"2",` + tail},
			rejected: []string{"event_not_defined", "event_not_object", "unknown_type", "event_too_large", "multi_user_error*4"}},
		{name: "nothing kept", path: "/v1/import", headers: []string{basic}, body: `{"batch":[{"type":"x"},null]}`, rejected: []string{"unknown_type", "event_not_object", "empty_batch_result*2"}},
		{name: "empty batch", path: "/v1/batch", headers: []string{basic}, body: `{"batch":[]}`, rejected: []string{"empty_batch"}},
		{name: "no batch", path: "/v1/batch", headers: []string{basic}, body: `{"type":"track","event":"E","userId":"u"}`, rejected: []string{"empty_batch"}},
		{name: "batch is no array", path: "/v1/batch", headers: []string{basic}, body: `{"batch":{"type":"track"}}`, rejected: []string{"empty_batch"}},
		{name: "2,501 events", path: "/v1/batch", headers: []string{basic}, body: `{"batch":[` + strings.Repeat(`{"type":"track","event":"A","userId":"u"},`, 2500) + `{}]}`,
			rejected: []string{"batch_too_large*2501"}},
		{name: "merged under the events", path: "/v1/batch", headers: []string{basic},
			body: `{"context":{"library":{"name":"analytics-go","version":"3.0.0"},"ip":"198.51.100.1"},"integrations":{"All":false,"Mail":true},"batch":[` +
				`{"type":"track","event":"A","userId":"u","messageId":"1","context":{"ip":"0.0.0.0","app":{}},"integrations":{"Mail":{"list":3}}},` +
				`{"type":"track","event":"B","userId":"u","messageId":"2"},{"type":"track","event":"C","userId":"u","messageId":"3","context":{}}]}`,
			stored: []string{
				`{"type":"track","event":"A","userId":"u","messageId":"1","context":{"ip":"0.0.0.0","app":{},"library":{"name":"analytics-go","version":"3.0.0"}},"integrations":{"Mail":{"list":3},"All":false},` + tail,
				`{"type":"track","event":"B","userId":"u","messageId":"2","context":{"library":{"name":"analytics-go","version":"3.0.0"},"ip":"198.51.100.1"},"integrations":{"All":false,"Mail":true},` + tail,
				`{"type":"track","event":"C","userId":"u","messageId":"3","context":{"library":{"name":"analytics-go","version":"3.0.0"},"ip":"198.51.100.1"},"integrations":{"All":false,"Mail":true},` + tail,
			}},
		{name: "a large context for all", path: "/v1/batch", headers: []string{basic},
			body:     `{"context":{"x":"` + strings.Repeat("x", 32<<10) + `"},"batch":[{"type":"track","event":"A","userId":"u"},{"type":"track","event":"A","userId":"u"}]}`,
			rejected: []string{"event_too_large*2"}},
		{name: "a long sentAt for all", path: "/v1/batch", headers: []string{basic},
			body:     `{"sentAt":"` + strings.Repeat("2", 100) + `","batch":[{"type":"page","userId":"u","messageId":"m"}]}`,
			stored:   []string{`{"type":"page","userId":"u","messageId":"m",` + tail},
			rejected: []string{"timestamp_unreadable"}},

		// Write keys.
		{name: "body only", body: `{"writeKey":" key-web-2 ","userId":"u","event":"E","messageId":"m"}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "basic without colon", headers: []string{"Authorization: Basic a2V5LXdlYg=="}, body: `{"userId":"u","event":"E","messageId":"m"}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "basic without padding, lower case", headers: []string{"Authorization: basic a2V5LXdlYg"}, body: `{"userId":"u","event":"E","messageId":"m"}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "basic wins", headers: []string{basic}, body: `{"writeKey":"key-off","userId":"u","event":"E","messageId":"m"}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "basic with an empty user", headers: []string{"Authorization: Basic Og=="}, body: `{"writeKey":"key-web","userId":"u","event":"E","messageId":"m"}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "bearer leaves it to the body", headers: []string{"Authorization: Bearer abc"}, body: `{"writeKey":"key-web","userId":"u","event":"E","messageId":"m"}`,
			stored: []string{`{"userId":"u","event":"E","messageId":"m","type":"track",` + tail}},
		{name: "the first event's", path: "/v1/batch", body: `{"batch":[{"writeKey":"key-web","type":"page","userId":"u","messageId":"m"},{"writeKey":"key-off","type":"page","userId":"u","messageId":"n"}]}`,
			stored: []string{`{"type":"page","userId":"u","messageId":"m",` + tail, `{"type":"page","userId":"u","messageId":"n",` + tail}},
		{name: "the batch's before the event's", path: "/v1/batch", body: `{"batch":[{"writeKey":"key-off","type":"page","userId":"u","messageId":"m"}],"writeKey":"key-web"}`,
			stored: []string{`{"type":"page","userId":"u","messageId":"m",` + tail}},
		{name: "unknown", body: `{"writeKey":"nobody-knows-me","userId":"u","event":"E"}`, rejected: []string{"project_not_found"}},
		{name: "unknown in a batch", path: "/v1/batch", body: `{"writeKey":"nobody-knows-me","batch":[{},{},{}]}`, rejected: []string{"project_not_found*3"}},
		{name: "none", body: `{"userId":"u","event":"E"}`, rejected: []string{"project_not_found"}},
		{name: "disabled", body: `{"writeKey":"key-off","userId":"u","event":"E"}`, rejected: []string{"source_disabled"}},
		{name: "disabled, in a batch", path: "/v1/batch", body: `{"writeKey":"key-off","batch":[{},{}]}`, rejected: []string{"source_disabled*2"}},
		{name: "a space that is not there", body: `{"writeKey":"key-lost","userId":"u","event":"E"}`, status: 503, code: "unavailable"},
	}
	f := newFront(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.path
			if path == "" {
				path = "/v1/track"
			}
			w := f.do(request("POST", path, tt.body, tt.headers...))
			checkAnswer(t, w.Code, w.Body.String(), w.Header(), tt.status, tt.code)
			records := f.stored(t)
			if diff := cmp.Diff(tt.stored, bodies(records)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			for _, r := range records {
				checkRecord(t, r)
			}
			var codes []string
			for _, x := range f.rejected.take() {
				code := x.Code
				if x.Count != 1 {
					code = fmt.Sprintf("%s*%d", code, x.Count)
				}
				codes = append(codes, code)
				if x.Message == "" || !x.At.Equal(now) || len(x.Sample) > 8<<10 {
					t.Errorf("rejection %+v", x)
				}
			}
			if diff := cmp.Diff(tt.rejected, codes); diff != "" {
				t.Errorf("rejected (-want +got):\n%s", diff)
			}
		})
	}
}

// checkAnswer holds an answer to what the SDKs read (sheet
// connections_protocols §1.3).
func checkAnswer(t *testing.T, status int, body string, h http.Header, wantStatus int, wantCode string) {
	t.Helper()
	if wantStatus == 0 {
		wantStatus = 200
	}
	if status != wantStatus {
		t.Fatalf("status %d, want %d: %s", status, wantStatus, body)
	}
	if h.Get("Content-Type") != "application/json" {
		t.Errorf("content type %q", h.Get("Content-Type"))
	}
	if status == 200 {
		if body != `{"success": true}` {
			t.Errorf("body %s", body)
		}
		return
	}
	var told struct {
		Success              *bool
		Code, Message, Error string
	}
	if err := json.Unmarshal([]byte(body), &told); err != nil || told.Success == nil || *told.Success || told.Code != wantCode || told.Message == "" || told.Error != told.Message {
		t.Errorf("body %s (%v), want code %s", body, err, wantCode)
	}
}

// checkRecord compares a record's head with its body.
func checkRecord(t *testing.T, r event.Record) {
	t.Helper()
	e, err := event.Parse(r.Body)
	if err != nil {
		t.Fatalf("%v: %s", err, r.Body)
	}
	want := event.Head{
		Kind: event.KindEvent, ID: r.ID, At: now.UnixMilli(), Time: e.Timestamp.UnixMilli(), Type: e.Type, Source: "src_web", MessageID: e.MessageID,
		IDs: event.StandardIdentifiers(e),
	}
	switch e.Type {
	case event.Track:
		want.Name = e.Event
	case event.Page, event.Screen:
		want.Name = e.Name
	}
	if diff := cmp.Diff(want, r.Head); diff != "" {
		t.Errorf("head (-of the body +got):\n%s", diff)
	}
	if r.ID.IsZero() || e.Type == event.None || e.MessageID == "" || !e.ReceivedAt.Equal(now) || r.Time > r.At {
		t.Errorf("record %+v: %s", r.Head, r.Body)
	}
}

// spaced makes s n bytes long with spaces at its end.
func spaced(s string, n int) string { return s + strings.Repeat(" ", n-len(s)) }

func TestRoutes(t *testing.T) {
	f := newFront(t, nil)
	single := map[string]string{"track": "track", "t": "track", "identify": "identify", "i": "identify", "page": "page", "p": "page",
		"screen": "screen", "s": "screen", "group": "group", "g": "group", "alias": "alias", "a": "alias"}
	const fields = `"userId":"u","previousId":"p","groupId":"g","event":"E","messageId":"m"`
	for name, typ := range single {
		for _, path := range []string{"/v1/" + name, "/v1/" + name + "/"} {
			w := f.do(request("POST", path, `{`+fields+`}`, basic))
			checkAnswer(t, w.Code, w.Body.String(), w.Header(), 200, "")
			records := f.stored(t)
			if len(records) != 1 || records[0].Type.String() != typ {
				t.Errorf("%s stored %v", path, records)
			}
		}
	}
	for _, name := range []string{"batch", "b", "import"} {
		for _, path := range []string{"/v1/" + name, "/v1/" + name + "/"} {
			w := f.do(request("POST", path, `{"batch":[{"type":"group",`+fields+`}]}`, basic))
			checkAnswer(t, w.Code, w.Body.String(), w.Header(), 200, "")
			if records := f.stored(t); len(records) != 1 || records[0].Type != event.Group {
				t.Errorf("%s stored %v", path, records)
			}
		}
	}
	w := f.do(request("POST", "/v1/m", `{"series":[]}`))
	checkAnswer(t, w.Code, w.Body.String(), w.Header(), 200, "")
	for _, path := range []string{"/v1/track/more", "/v1/tracks", "/track", "/v1/"} {
		if w := f.do(request("POST", path, `{}`, basic)); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		w := f.do(request(method, "/v1/track", ``))
		checkAnswer(t, w.Code, w.Body.String(), w.Header(), 405, "method_not_allowed")
		if w.Header().Get("Allow") != "POST, OPTIONS" {
			t.Error("no Allow")
		}
	}
	if got := f.stored(t); len(got) != 0 {
		t.Errorf("stored %v", got)
	}
}

func TestMissingMessageID(t *testing.T) {
	f := newFront(t, nil)
	f.do(request("POST", "/v1/batch", `{"batch":[{"type":"page","userId":"u"},{"type":"page","userId":"u","messageId":""},{"messageId":null,"type":"page","userId":"u"}]}`, basic))
	seen := map[string]bool{}
	for _, r := range f.stored(t) {
		checkRecord(t, r)
		id := r.MessageID
		if len(id) != 36 || id[14] != '4' || strings.Count(id, "-") != 4 || seen[id] || strings.Count(string(r.Body), `"messageId"`) != 1 {
			t.Errorf("messageId %q in %s", id, r.Body)
		}
		seen[id] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d ids", len(seen))
	}
}

func TestTwoSpaces(t *testing.T) {
	f := newFront(t, nil)
	f.do(request("POST", "/v1/track", `{"writeKey":"key-other","userId":"u","event":"E","messageId":"m"}`))
	if got := f.stored(t); len(got) != 0 {
		t.Errorf("space 7 has %v", got)
	}
	if got := f.logs.records(t, 8, 0); len(got) != 1 || got[0].Source != "src_other" {
		t.Errorf("space 8 has %v", got)
	}
}

func TestStrictWriteKeys(t *testing.T) {
	f := newFront(t, func(c *collect.Config) { c.StrictWriteKeys = true })
	for _, body := range []string{`{"userId":"u","event":"E"}`, `{"writeKey":"nobody-knows-me","userId":"u","event":"E"}`} {
		w := f.do(request("POST", "/v1/track", body))
		checkAnswer(t, w.Code, w.Body.String(), w.Header(), 401, "project_not_found")
		if strings.Contains(w.Body.String(), "knows-me") {
			t.Errorf("the key is told: %s", w.Body)
		}
	}
	w := f.do(request("POST", "/v1/track", `{"writeKey":"key-off","userId":"u","event":"E"}`))
	checkAnswer(t, w.Code, w.Body.String(), w.Header(), 200, "")
}

func TestRejectionsTellWhatIsNeeded(t *testing.T) {
	f := newFront(t, func(c *collect.Config) { c.Limits.SampleBytes = 60 })
	f.do(request("POST", "/v1/batch", `{"batch":[{"type":"track","messageId":"m1","userId":7,"event":"ééééééééééééééééééééééééééé"}]}`, basic))
	f.do(request("POST", "/v1/track", `{"writeKey":"nobody-knows-me","userId":"secret"}`))
	f.do(request("POST", "/v1/track", `nonsense`, basic))
	f.do(request("POST", "/v1/track", `nonsense`, "Content-Encoding: br"))
	want := []collect.Rejection{
		{At: now, SourceID: "src_web", WriteKey: "…", Code: "id_not_string", Message: "userId must be a string; send it in quotes", Field: "userId", Type: "track",
			MessageID: "m1", Count: 1, Sample: []byte(`{"type":"track","messageId":"m1","userId":7,"event":"éé`), Truncated: true},
		{At: now, WriteKey: "nobo…", Code: "project_not_found", Message: "no source has the write key nobo…", Type: "track", Count: 1, Sample: []byte{}},
		{At: now, SourceID: "src_web", WriteKey: "…", Code: "invalid_json", Message: "not valid JSON at byte 0: no value begins like this", Type: "track", Count: 1, Sample: []byte("nonsense")},
		{At: now, Code: "invalid_json", Message: `not valid JSON at byte 0: no value begins like this; its Content-Encoding is "br", only gzip is understood`, Type: "track", Count: 1, Sample: []byte{}},
	}
	got := f.rejected.take()
	if len(got) == len(want) {
		if n := len(got[0].Sample); n < 55 || n > 60 {
			t.Errorf("a sample of %d bytes", n)
		}
		got[0].Sample = got[0].Sample[:len(want[0].Sample)]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLimitsAreChecked(t *testing.T) {
	for _, l := range []collect.Limits{{EventBytes: -1}, {EventBytes: 5 << 20, BodyBytes: 100 << 20}, {BodyBytes: 1000}, {MessageIDLen: 5000}} {
		if _, err := collect.New(collect.Config{Limits: l}); err == nil || !strings.Contains(err.Error(), "limits.") {
			t.Errorf("%+v: %v", l, err)
		}
	}
}
