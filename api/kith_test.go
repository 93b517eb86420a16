package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"kith/api"
	"kith/event"
	"kith/inspect"
	"kith/trackingplan"
)

func member(n byte) api.Member {
	return api.Member{Profile: event.ProfileID{n}, Since: start}
}

func TestWhatDidNotGetThrough(t *testing.T) {
	w := newWorld(t)
	src := w.source("web")
	w.rejections.Reject(inspect.Rejection{At: start, Source: src, Code: "too_large", Message: "the event is too large", Count: 1, Body: `{"type":"track"}`})
	w.rejections.Reject(inspect.Rejection{At: start, WriteKey: "nobo…", Code: "unknown_write_key", Message: "no such key", Count: 3})
	w.get("/api/sources/"+src+"/rejected-events").is(200, "data.rejectedEvents.0.code", "too_large", "data.rejectedEvents.0.body", `{"type":"track"}`, "data.rejectedEvents.1", nil, "data.pagination.next", nil)
	w.get("/api/rejected-events").is(200, "data.rejectedEvents.0.code", "unknown_write_key", "data.rejectedEvents.0.count", 3)
	w.rejections.Reject(inspect.Rejection{At: start, Source: src, Code: "timestamp_unreadable", Warning: true})
	w.get("/api/sources/"+src+"/rejected-events").is(200, "data.rejectedEvents.0.warning", true, "data.rejectedEvents.1.warning", nil)

	w.played.quarantine = []trackingplan.Quarantined{
		{Source: src, Offset: 7, ID: event.RecordID{1}, MessageID: "m1", At: start, Type: event.Track, Event: "Bought", Plan: "tp_1", Code: "schema_violation",
			Reason:     "properties.revenue: want a number",
			Violations: []trackingplan.Violation{{Type: "Invalid Type", Field: "properties.revenue", Description: "Invalid type. Expected: number, given: string"}}},
		{Source: src, Offset: 8, MessageID: "m2", Type: event.Identify},
		{Source: "other", Offset: 9},
	}
	w.get("/api/sources/"+src+"/quarantined-events").is(200, "data.quarantinedEvents.0.messageId", "m1", "data.quarantinedEvents.0.event", "Bought",
		"data.quarantinedEvents.0.violations.0.type", "Invalid Type", "data.quarantinedEvents.0.body.event", "Bought", "data.quarantinedEvents.0.receivedAt", "2025-03-01T12:00:00.000Z",
		"data.quarantinedEvents.1.type", "identify", "data.quarantinedEvents.1.body", nil, "data.quarantinedEvents.1.violations", "[]", "data.quarantinedEvents.2", nil)

	dest := "/api/destinations/" + w.post("/api/destinations", object{"metadataId": "webhook", "settings": object{"url": "https://example.com"}}).is(200).text("data.destination.id")
	w.played.dead = []api.DeadLetter{{ID: "d1", At: start, MessageID: "m1", Type: "track", Event: "Bought", Reason: "status 400", Attempts: 1, Profile: event.ProfileID{1}, Body: []byte(`{"a":1}`)}}
	w.get(dest+"/dead-letters").is(200, "data.deadLetters.0.reason", "status 400", "data.deadLetters.0.body.a", 1, "data.deadLetters.0.profileId", event.ProfileID{1}.String())
	w.post(dest+"/dead-letters/retry", object{"ids": []any{"d1"}}).is(200, "data.retried", 1)
	if len(w.played.retried) != 1 || w.played.retried[0] != "d1" {
		t.Errorf("retried %v", w.played.retried)
	}
	w.post(dest+"/dead-letters/retry", object{"all": true}).is(200, "data.retried", 1)
	w.post(dest+"/dead-letters/retry", object{}).refused(422, "ids", "all")
	w.post(dest+"/dead-letters/retry", object{"all": true, "ids": []any{"d1"}}).refused(422, "ids", "all")
	w.post(dest+"/dead-letters/retry", object{"ids": []any{"nobody"}}).refused(404, "", "no dead letter")
	w.get("/api/destinations/none/dead-letters").refused(404, "", "no destination")
	w.post("/api/destinations/none/dead-letters/retry", object{"all": true}).refused(404, "", "no destination")
}

// live opens the stream and returns its lines.
func (w *world) live(ctx context.Context, query string) (*http.Response, *bufio.Scanner) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/api/live"+query, nil)
	must(w.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := w.server.Client().Do(req)
	must(w.t, err)
	w.t.Cleanup(func() { resp.Body.Close() })
	return resp, bufio.NewScanner(resp.Body)
}

func TestLive(t *testing.T) {
	w := newWorld(t)
	src := w.source("web")
	w.feed.Publish(inspect.Item{At: start, Stage: inspect.Accepted, Source: src, Name: "before"})
	resp, lines := w.live(t.Context(), "?source=web&recent=10&stage=accepted&stage=blocked")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	w.feed.Publish(inspect.Item{At: start, Stage: inspect.Accepted, Source: "other", Name: "of another source"},
		inspect.Item{At: start, Stage: inspect.Admitted, Source: src, Name: "of another stage"},
		inspect.Item{At: start, Stage: inspect.Blocked, Source: src, Name: "now", Body: json.RawMessage(`{"a":"<&>"}`)})
	var got []string
	for len(got) < 2 && lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			got = append(got, data)
		}
	}
	if len(got) != 2 || !strings.Contains(got[0], `"before"`) || !strings.Contains(got[1], `"now"`) || !strings.Contains(got[1], `{"a":"<&>"}`) {
		t.Fatalf("stream: %v, %v", got, lines.Err())
	}
	if lines.Scan(); lines.Text() != "" {
		t.Errorf("after an item: %q", lines.Text())
	}
	// The stream waits for 15 s of the clock it was given, whenever that passes.
	alive := make(chan bool)
	go func() { alive <- lines.Scan() && lines.Text() == ": alive" }()
	for done := false; !done; {
		w.clock.Set(w.clock.Now().Add(15 * time.Second))
		select {
		case ok := <-alive:
			if done = true; !ok {
				t.Errorf("a quiet stream says %q", lines.Text())
			}
		default:
		}
	}
	w.feed.Close()
	for lines.Scan() { // ends when the feed does
	}
	w.get("/api/live?source=none").refused(404, "", "no source")
	w.get("/api/live?space=none").refused(404, "", "no space")
	w.get("/api/live?destination=none").refused(404, "", "no destination")
	w.get("/api/live?stage=acepted").refused(422, "stage", "accepted")
	w.get("/api/live?recent=x").refused(422, "recent", "")
	w.get("/api/live").refused(503, "", "")
}

func TestWorkspaceFile(t *testing.T) {
	w := newWorld(t)
	file := "sources: [{slug: web, writeKeys: [demo]}]\ndestinations: [{slug: crm, metadataId: webhook, source: web, settings: {url: 'https://example.com', sharedSecret: '${CRM}'}}]\n"
	yaml := func(path, text string) *reply { return w.do("POST", path, text, "Content-Type", "text/yaml") }
	w.post("/api/workspace/apply", object{"file": file, "variables": object{"CRM": "hush"}, "dryRun": true}).is(200, "data.dryRun", true, "data.snapshot", 1,
		"data.diff", "+ source web\n+ destination crm\n", "data.changes.0.op", "+")
	if w.store.Current().Number != 1 {
		t.Fatal("a dry run changed something")
	}
	yaml("/api/workspace/apply", file).refused(422, "destinations.0.settings", "line 2: the variable CRM is not set")
	w.post("/api/workspace/apply", object{"file": file, "variables": object{"CRM": "hush"}}).is(200, "data.dryRun", false, "data.snapshot", 2, "data.changes.1.resource", "destination")
	w.post("/api/workspace/apply", object{"file": file, "variables": object{"CRM": "hush"}}).is(200, "data.snapshot", 2, "data.changes", "[]", "data.diff", "")

	export := w.get("/api/workspace/export")
	if export.is(200); !strings.HasPrefix(export.header.Get("Content-Type"), "text/yaml") || !strings.Contains(export.body, "sharedSecret: ${CRM_SHARED_SECRET}") || strings.Contains(export.body, "hush") {
		t.Fatalf("export: %s\n%s", export.header.Get("Content-Type"), export.body)
	}
	if got := w.get("/api/workspace/export", "Accept", "application/json").is(200).text("data.file"); got != export.body {
		t.Errorf("the export as JSON: %s", got)
	}
	other := newWorld(t)
	other.post("/api/workspace/apply", object{"file": export.body, "variables": object{"CRM_SHARED_SECRET": "hush"}}).is(200)
	if again := other.get("/api/workspace/export"); again.body != export.body {
		t.Errorf("exported again:\n%s\nfirst:\n%s", again.body, export.body)
	}

	yaml("/api/workspace/apply?dryRun&prune", "sources: []").refused(422, "destinations.crm.sourceId", "no source")
	yaml("/api/workspace/apply?dryRun=true&prune=true", "sources: []\ndestinations: []").is(200, "data.diff", "- source web\n- destination crm\n", "data.dryRun", true)
	yaml("/api/workspace/apply?dryRun=false", "sources: [{slug: app}]").is(200, "data.diff", "+ source app\n", "data.snapshot", 3)
	yaml("/api/workspace/apply", "sources: [{slgu: app}]").refused(422, "sources.0.slgu", "line 1")
	yaml("/api/workspace/apply", "a: [").is(422)
	w.post("/api/workspace/apply", `{"fiel": ""}`).refused(400, "", "fiel")
	w.post("/api/workspace/apply", ``).refused(400, "", "required")
}
