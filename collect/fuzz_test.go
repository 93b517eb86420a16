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
