package collect_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/collect"
)

// Who asks is told of each event what became of it; who does not is told what
// the SDKs expect.
func TestReport(t *testing.T) {
	f := newFront(t, nil)
	const batch = `{"batch":[{"type":"page","userId":"u"},{"type":"page","messageId":"m1"},7,{"type":"track","userId":"u","event":"E","timestamp":"x"}]}`
	tests := []struct {
		name, path, body string
		headers          []string
		want             string
	}{
		{name: "all kept", path: "/v1/track", body: `{"userId":"u","event":"E"}`, headers: []string{basic}, want: `{"success":true,"accepted":1,"rejected":[]}`},
		{name: "a call", path: "/v1/track", body: `{"userId":"u","messageId":"m"}`, headers: []string{basic},
			want: `{"success":true,"accepted":0,"rejected":[{"index":0,"code":"event_not_defined","message":"a track call needs the name of its event","field":"event","messageId":"m","count":1}]}`},
		{name: "a batch", path: "/v1/batch", body: batch, headers: []string{basic},
			want: `{"success":true,"accepted":2,"rejected":[` +
				`{"index":1,"code":"no_user_anon_id","message":"an event needs a userId or an anonymousId","field":"userId","messageId":"m1","count":1},` +
				`{"index":2,"code":"event_not_object","message":"an event must be a JSON object","count":1}],` +
				`"warnings":[{"code":"timestamp_unreadable","message":"timestamp is no ISO 8601 instant since 1970, like 2026-01-02T03:04:05.678Z; the event was kept, as of when it was received","field":"timestamp","count":1},` +
				`{"code":"multi_user_error","message":"2 of the 4 events of the batch were kept; each of the others has a rejection of its own","field":"batch","count":2}]}`},
		{name: "an unknown key", path: "/v1/batch", body: `{"batch":[{},{}],"writeKey":"nobody-knows-me"}`,
			want: `{"success":true,"accepted":0,"rejected":[{"code":"project_not_found","message":"no source has the write key nobo…","count":2}]}`},
		{name: "an object", path: "/v1/set", body: `{"collection":"rooms","objects":[{"id":"a","properties":{}}]}`, headers: []string{basic}, want: `{"success":true,"accepted":1,"rejected":[]}`},
		{name: "telemetry", path: "/v1/m", body: `{}`, want: `{"success": true}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plain := f.do(request("POST", tt.path, tt.body, tt.headers...))
			checkAnswer(t, plain.Code, plain.Body.String(), plain.Header(), 200, "")
			w := f.do(request("POST", tt.path, tt.body, append(tt.headers, collect.ReportHeader+": 1")...))
			if diff := cmp.Diff(tt.want, w.Body.String()); w.Code != 200 || diff != "" {
				t.Errorf("answered %d (-want +got):\n%s", w.Code, diff)
			}
		})
	}

	var told struct {
		Rejected []json.RawMessage
		More     int
	}
	w := f.do(request("POST", "/v1/batch", `{"batch":[`+strings.Repeat(`{},`, 499)+`{}]}`, basic, "x-kith-report: yes"))
	if err := json.Unmarshal(w.Body.Bytes(), &told); err != nil || len(told.Rejected) != 100 || told.More != 401 {
		t.Errorf("%v: %d and %d more", err, len(told.Rejected), told.More)
	}
	if w := f.do(request("POST", "/v1/track", `{`, basic, "X-Kith-Report: 1")); w.Code != 400 || !strings.Contains(w.Body.String(), `"code":"invalid_json"`) {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
}

// What an event has more than 10,000 of is left out, of properties and traits.
func TestManyProperties(t *testing.T) {
	f := newFront(t, func(c *collect.Config) { c.Limits.EventBytes = 1 << 20 })
	for _, tt := range []struct {
		n, kept  int
		warnings int
	}{{9_999, 9_999, 0}, {10_000, 10_000, 0}, {10_001, 10_000, 1}, {12_345, 10_000, 1}} {
		f.do(request("POST", "/v1/track", `{"userId":"u","event":"E","properties": { `+manyJSON(tt.n)+` },"traits":{`+manyJSON(tt.n)+`}}`, basic))
		stored := f.stored(t)
		if len(stored) != 1 {
			t.Fatalf("stored %d", len(stored))
		}
		checkRecord(t, stored[0])
		var e struct{ Properties, Traits map[string]string }
		if err := json.Unmarshal(stored[0].Body, &e); err != nil || len(e.Properties) != tt.kept || len(e.Traits) != tt.kept {
			t.Errorf("%d properties: %d and %d were kept, %v", tt.n, len(e.Properties), len(e.Traits), err)
		}
		if last := fmt.Sprintf("p%d", tt.kept-1); e.Properties[last] != fmt.Sprint(tt.kept-1) {
			t.Errorf("%d properties: the last is %q", tt.n, e.Properties[last])
		}
		if all := f.rejected.take(); len(all) != tt.warnings || tt.warnings > 0 && all[0].Code != collect.CodePropertiesDropped {
			t.Errorf("%d properties: warned of %+v", tt.n, all)
		}
	}
}
