package server

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"kith/api"
	"kith/client"
	"kith/event"
	"kith/fault"
	"kith/workspace"
)

// traced asks what became of a message.
func traced(t *testing.T, c *client.Client, id, query string) *api.Traced {
	t.Helper()
	found := &api.Traced{}
	if err := c.Call(t.Context(), "GET", "/messages/"+url.PathEscape(id)+"?"+query, nil, found); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return found
}

func TestTrace(t *testing.T) {
	_, c, to := onTestClock(t)
	send := func(id, name string) {
		t.Helper()
		if err := c.Send(t.Context(), "line-write-key", "track", map[string]any{"userId": "u1", "event": name, "messageId": id}); err != nil {
			t.Fatal(err)
		}
	}
	advance(t, c, "0s") // the audience is live
	send("m/1 ü", "Booking Completed")
	send("m/1 ü", "Booking Completed")
	m := traced(t, c, "m/1 ü", "wait=10s&body=true").Message
	if m == nil || m.Status != "admitted" || m.Source != "web" || len(m.Copies) != 1 || !m.CopiesComplete {
		t.Fatalf("%+v", m)
	}
	if !strings.Contains(string(m.Body), `"event":"Booking Completed"`) {
		t.Errorf("body %s", m.Body)
	}
	var stages, deliveries []string
	for _, s := range m.Stages {
		stages = append(stages, s.Stage+": "+s.Outcome)
	}
	for _, d := range m.Deliveries {
		what := "itself"
		if d.Message != nil {
			what = strings.TrimSpace(d.Message.Type + " " + d.Message.Event)
		}
		deliveries = append(deliveries, d.Destination+" "+what+" "+d.State)
	}
	if got, want := strings.Join(stages, ", "), "collect: accepted, deduplication: first, tracking plan: let pass, identity: changed, profile: unchanged, audiences: changed, activation: messages made"; got != want {
		t.Errorf("stages %s", got)
	}
	if got, want := strings.Join(deliveries, ", "), "crm itself delivered, crm identify delivered, crm track Audience Entered delivered"; got != want {
		t.Errorf("deliveries %s", got)
	}

	// By its record, and the copy by its own, which leads to the first.
	if by := traced(t, c, m.RecordID, "").Message; by.Offset != m.Offset {
		t.Errorf("by its record: %+v", by)
	}
	twice := traced(t, c, m.Copies[0].RecordID, "").Message
	if twice.Status != "duplicate" || twice.First == nil || twice.First.RecordID != m.RecordID || len(twice.Deliveries) != 0 {
		t.Errorf("the copy: %+v", twice)
	}

	// A failure says what to do.
	to.answer(503)
	send("m2", "Another")
	d := traced(t, c, "m2", "wait=10s").Message.Deliveries[0]
	if d.State != "waiting" || d.Attempts != 1 || d.NextTryAt == "" || !strings.Contains(d.Reason, "503") || d.Next == "" {
		t.Errorf("waiting: %+v", d)
	}
	advance(t, c, "5h")
	d = traced(t, c, "m2", "").Message.Deliveries[0]
	if d.State != "dead" || d.Attempts < 10 || d.DeadLetterID == "" || d.Code != "503" || !strings.Contains(d.Next, d.DeadLetterID) {
		t.Errorf("dead: %+v", d)
	}

	// What cannot be asked, and what is not there.
	for query, kind := range map[string]fault.Kind{"wait=5": fault.Invalid, "wait=1h": fault.Invalid, "space=nowhere": fault.NotFound, "after=7.1": fault.Invalid, "": fault.NotFound} {
		if err := c.Call(t.Context(), "GET", "/messages/nobody?"+query, nil, &api.Traced{}); !fault.Is(err, kind) {
			t.Errorf("?%s: %v, want %v", query, err, kind)
		}
	}
}

// TestTraceScan looks through two spaces a few records at a time.
func TestTraceScan(t *testing.T) {
	s, c, _ := onTestClock(t)
	if err := c.Call(t.Context(), "POST", "/spaces", map[string]any{"slug": "second", "name": "Second"}, nil); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		if err := c.Send(t.Context(), "line-write-key", "track", map[string]any{"userId": "u1", "event": "E", "messageId": fmt.Sprint("m", i)}); err != nil {
			t.Fatal(err)
		}
	}
	advance(t, c, "0s")
	tr := s.tracer()
	tr.step = 3
	spaces := s.workspace.Current().Spaces
	all := uint64(0)
	for i := range spaces {
		all += uint64(s.space(spaces[i].Number).raw.End())
	}
	for _, test := range []struct {
		id    string
		found bool
	}{{"m0", true}, {"m6", true}, {"nobody", false}} {
		q := api.TraceQuery{ID: test.id, Spaces: spaces, Scan: true}
		looked, steps := uint64(0), 0
		for {
			where, found, far, err := tr.scan(t.Context(), &q)
			if err != nil {
				t.Fatal(err)
			}
			if found {
				if raw, err := s.archive.Raw(t.Context(), where.space.number, where.at); err != nil || raw.MessageID != test.id || raw.Kind != event.KindEvent {
					t.Errorf("%s: found %+v, %v", test.id, raw, err)
				}
			}
			if found != test.found && (found || far.Next == "") {
				t.Errorf("%s: found %v", test.id, found)
			}
			if found {
				break
			}
			steps++
			if looked += far.Looked; looked+far.Left != all || far.Looked > 3 {
				t.Fatalf("%s: looked at %d of %d, %d left", test.id, looked, all, far.Left)
			}
			if q.After = far.Next; q.After == "" {
				break
			}
		}
		if !test.found && (looked != all || steps < 3) {
			t.Errorf("looked at %d of %d in %d steps", looked, all, steps)
		}
	}
}

func TestDeliveryOverview(t *testing.T) {
	s, c, to := onTestClock(t)
	send := func(name string, more map[string]any) {
		t.Helper()
		body := map[string]any{"userId": "u1", "event": name}
		for k, v := range more {
			body[k] = v
		}
		if err := c.Send(t.Context(), "line-write-key", "track", body); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		send("Booking Completed", nil)
	}
	send("Seen", map[string]any{"integrations": map[string]any{"All": false}})
	advance(t, c, "1h")
	to.answer(400)
	send("Seen", map[string]any{"context": map[string]any{"app": map[string]any{"version": "2.0"}}})
	advance(t, c, "1h")

	snap := s.workspace.Current()
	source, space, dest := snap.Sources[0].ID, snap.Spaces[0].ID, snap.Destinations[0].ID
	ask := func(path, of, more string) map[string]any {
		return told(t, c, fmt.Sprintf("/delivery-overview/%s?sourceId=%s&destinationConfigId=%s&startTime=2026-01-01T12:00:00Z&endTime=2026-01-01T13:30:00Z%s", path, of, dest, more))
	}
	for _, test := range []struct {
		path, of, more string
		total          string
		first          []string // the first data set's total, buckets and a field of it
	}{
		{"successfully-received", source, "&granularity=hour", "5", []string{"5", "2", "<nil>"}},
		{"successfully-received", source, "&granularity=hour&groupBy=eventName", "5", []string{"3", "1", "Booking Completed"}},
		{"successfully-received", source, "&granularity=minute&groupBy=appVersion&filter[appVersion][0]=2.0", "1", []string{"1", "1", "2.0"}},
		{"failed-on-ingest", source, "&granularity=day", "0", nil},
		{"filtered-at-source", source, "&granularity=hour", "0", nil},
		{"filtered-at-destination", source, "&granularity=hour&groupBy=discardReason", "1", []string{"1", "1", "FILTERED_BY_INTEGRATIONS_OBJECT"}},
		{"successful-delivery", source, "&granularity=hour", "3", []string{"3", "1", "<nil>"}},
		{"successful-delivery", source, "&granularity=hour&groupBy[0]=eventName&groupBy[1]=eventType", "3", []string{"3", "1", "Booking Completed"}},
		{"successful-delivery", source, "&granularity=hour&filter[eventName]=Seen", "0", nil},
		{"successful-delivery", space, "&granularity=hour&groupBy=eventName,eventType", "2", []string{"1", "1", ""}},
		{"failed-delivery", source, "&granularity=hour&groupBy=discardReason", "1", []string{"1", "1", "400"}},
		{"failed-delivery", source, "&granularity=day&subscriptionId=another", "0", nil},
	} {
		got := ask(test.path, test.of, test.more)
		name := test.path + test.more
		if at(got, "total") != test.total {
			t.Errorf("%s: %v", name, got)
		}
		if test.first == nil {
			if at(got, "dataset", 0) != "nothing" {
				t.Errorf("%s: %v", name, got)
			}
			continue
		}
		series, _ := got["dataset"].([]any)[0].(map[string]any)["series"].([]any)
		field := ""
		for _, f := range []string{"discardReason", "appVersion", "eventName"} {
			if v := at(got, "dataset", 0, f); v != "<nil>" || field == "" {
				field = v
			}
		}
		if at(got, "dataset", 0, "total") != test.first[0] || fmt.Sprint(len(series)) != test.first[1] || field != test.first[2] {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := ask("successful-delivery", source, "&granularity=hour"); at(got, "dataset", 0, "series", 0, "time") != "2026-01-01T12:00:00.000Z" {
		t.Errorf("series: %v", got)
	}
	page := ask("successfully-received", source, "&granularity=hour&groupBy=eventName&pagination[count]=1")
	next, _ := page["pagination"].(map[string]any)["next"].(string)
	if at(page, "dataset", 1) != "nothing" || next == "" {
		t.Errorf("a page: %v", page)
	}
	if rest := ask("successfully-received", source, "&granularity=hour&groupBy=eventName&pagination[count]=1&pagination[cursor]="+url.QueryEscape(next)); at(rest, "dataset", 0, "eventName") != "Seen" || at(rest, "total") != "5" {
		t.Errorf("the page after: %v", rest)
	}

	metrics := told(t, c, fmt.Sprintf("/destinations/%s/delivery-metrics?sourceId=%s&granularity=HOUR", dest, source))["deliveryMetricsSummary"]
	if at(metrics, "metrics", 0, "total") != "3" || at(metrics, "metrics", 1, "total") != "1" || at(metrics, "metrics", 2, "breakdown", 0, "metricName") != "failures.400" || at(metrics, "sourceId") != source {
		t.Errorf("metrics: %v", metrics)
	}
	failures := told(t, c, "/destinations/"+dest+"/failures")
	if at(failures, "failures", 0, "code") != "400" || at(failures, "failures", 0, "newest", 0, "permanent") != "true" {
		t.Errorf("failures: %v", failures)
	}

	good := "sourceId=" + source + "&destinationConfigId=" + dest + "&startTime=2026-01-01T12:00:00Z&endTime=2026-01-01T13:30:00Z&granularity=hour"
	for change, kind := range map[string]fault.Kind{
		"granularity=week": fault.Invalid, "startTime=yesterday": fault.Invalid, "endTime=2026-01-01T10:00:00Z": fault.Invalid,
		"startTime=2025-06-01T00:00:00Z": fault.Invalid, "groupBy=color": fault.Invalid, "groupBy=appVersion": fault.Invalid,
		"filter[color]=red": fault.Invalid, "destinationConfigId=nobody": fault.NotFound, "sourceId=nobody": fault.Invalid,
	} {
		name, value, _ := strings.Cut(change, "=")
		q, err := url.ParseQuery(good)
		if err != nil {
			t.Fatal(err)
		}
		q.Set(name, value)
		if err := c.Call(t.Context(), "GET", "/delivery-overview/failed-delivery?"+q.Encode(), nil, nil); !fault.Is(err, kind) {
			t.Errorf("%s: %v, want %v", change, err, kind)
		}
	}
	if err := c.Call(t.Context(), "GET", "/delivery-overview/successfully-received?"+strings.ReplaceAll(good, source, "nobody"), nil, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("an unknown source: %v", err)
	}
}

// TestTraceInTwoSpaces: a messageId counts once in each space, and who finds one
// is told of the other.
func TestTraceInTwoSpaces(t *testing.T) {
	_, c, _ := onTestClock(t)
	file := "spaces: [{slug: second, name: Second}]\nsources: [{slug: other, name: Other, space: second, writeKeys: [other-write-key]}]"
	if _, err := c.Apply(t.Context(), []byte(file), nil, false, false); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"line-write-key", "other-write-key"} {
		if err := c.Send(t.Context(), key, "track", map[string]any{"userId": "u1", "event": "E", "messageId": "m"}); err != nil {
			t.Fatal(err)
		}
	}
	advance(t, c, "0s")
	other := map[string]string{"default": "second", "second": "default"}
	for _, space := range []string{"", "default", "second"} {
		m := traced(t, c, "m", "space="+space).Message
		told := strings.Contains(strings.Join(m.Notes, " "), "look for it with space="+other[m.Space])
		if m.Status != "admitted" || space != "" && m.Space != space || told != (space == "") {
			t.Errorf("in %q: %s in %s, %q", space, m.Status, m.Space, m.Notes)
		}
	}
}

// TestTraceOfAMovedDestination: what happened at a destination while it was
// connected to the source is told after it was connected to another, and what
// never came to one is not.
func TestTraceOfAMovedDestination(t *testing.T) {
	_, c, to := onTestClock(t)
	apply := func(file string) {
		t.Helper()
		if _, err := c.Apply(t.Context(), []byte(file), nil, false, false); err != nil {
			t.Fatal(err)
		}
	}
	send := func(id string) (where []string) {
		t.Helper()
		if err := c.Send(t.Context(), "line-write-key", "track", map[string]any{"userId": "u1", "event": "E", "messageId": id}); err != nil {
			t.Fatal(err)
		}
		advance(t, c, "0s")
		for _, d := range traced(t, c, id, "").Message.Deliveries {
			where = append(where, d.Destination+" "+d.State)
		}
		return where
	}
	if got := send("before"); !slices.Equal(got, []string{"crm delivered"}) || to.named("E") != 1 {
		t.Fatalf("before: %v", got)
	}
	settings := fmt.Sprintf("metadataId: webhook, settings: {url: %q}", "http://127.0.0.1:9")
	apply("sources: [{slug: app, name: App}]\ndestinations: [{slug: crm, source: app, " + settings + "}]")
	if got := send("after"); len(got) != 0 {
		t.Errorf("sent after the move: %v", got)
	}
	if m := traced(t, c, "before", "").Message; len(m.Deliveries) != 1 || m.Deliveries[0].State != "delivered" {
		t.Errorf("sent before the move: %+v", m.Deliveries)
	}
}

// TestTellsWhatIsNotKnown: of a record that passed before there were links,
// nobody knows whether it made messages.
func TestTellsWhatIsNotKnown(t *testing.T) {
	for linked, want := range map[bool]string{true: "nothing to tell", false: "unknown"} {
		told := telling{trace: &api.Trace{}, snap: &workspace.Snapshot{}}
		told.changes(nil, linked)
		if last := told.trace.Stages[len(told.trace.Stages)-1]; last.Stage != "activation" || last.Outcome != want {
			t.Errorf("with links %v: %+v, want %q", linked, last, want)
		}
	}
}
