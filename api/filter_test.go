package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/pipeline"
	"kith/workspace"
)

func TestEventFilters(t *testing.T) {
	w := newWorld(t)
	space := w.store.Current().Space("default").ID
	r := w.post("/api/filters", object{"integrationId": space, "name": "No heartbeats", "if": "event = 'Heartbeat'"}).is(200,
		"data.filter.integrationId", space, "data.filter.workspaceId", w.store.Current().ID, "data.filter.enabled", true, "data.filter.drop", true,
		"data.filter.name", "No heartbeats", "data.filter.if", "event = 'Heartbeat'", "data.filter.createdAt", "2025-03-01T12:00:00.000Z")
	id := r.text("data.filter.id")
	if !strings.HasPrefix(id, "flt_") {
		t.Errorf("id %q", id)
	}
	w.post("/api/filters", object{"integrationId": "default", "name": "Tests", "description": "of ours", "enabled": false, "if": "all", "drop": true}).is(200,
		"data.filter.integrationId", space, "data.filter.enabled", false, "data.filter.description", "of ours")
	w.get("/api/filters?integrationId="+space).is(200, "data.filters.0.id", id, "data.filters.1.name", "Tests",
		"data.pagination.totalEntries", 2.0, "data.pagination.current", 0.0, "data.pagination.next", nil)
	// Segment's Go SDK reads both cursors as numbers.
	w.get("/api/filters?integrationId="+space+"&pagination[count]=1").is(200, "data.filters.0.id", id, "data.filters.1", nil, "data.pagination.next", 1.0)
	w.get("/api/filters?integrationId="+space+"&pagination.count=1&pagination.cursor=1").is(200, "data.filters.0.name", "Tests", "data.pagination.next", nil)

	at := "/api/filters/" + id
	w.get(at).is(200, "data.filter.name", "No heartbeats")
	w.patch(at, object{"integrationId": space, "name": "Noise", "enabled": false}).is(200, "data.filter.name", "Noise", "data.filter.enabled", false, "data.filter.if", "event = 'Heartbeat'")
	w.patch(at, object{"if": "type = 'screen'"}).is(200, "data.filter.if", "type = 'screen'", "data.filter.name", "Noise")

	w.patch(at, object{"if": "event = "}).refused(422, "if", "character 9: after = a value is expected")
	w.patch(at, object{"drop": false}).refused(422, "drop", "set enabled to false")
	w.patch(at, object{"integrationId": "other"}).refused(422, "integrationId", "cannot move")
	w.patch(at, object{"propertyRenames": object{}}).refused(422, "propertyRenames", "no such field")
	w.post("/api/filters", object{"integrationId": "nowhere", "name": "x", "if": "all"}).refused(422, "integrationId", "no space")
	w.post("/api/filters", object{"integrationId": space, "name": "x", "if": "length(event)"}).refused(422, "if", "is no condition")
	w.post("/api/filters", object{"integrationId": space, "name": "", "if": "all"}).refused(422, "name", "missing")
	w.post("/api/filters", object{"integrationId": space, "name": "x"}).refused(422, "if", "")
	w.post("/api/filters", object{"integrationId": space, "name": "x", "if": "all", "drop": false}).refused(422, "drop", "set enabled to false")
	w.get("/api/filters").refused(422, "integrationId", "")
	w.get("/api/filters/flt_none").refused(404, "", "no filter")

	w.delete(at).is(200, "data.deleted", true)
	w.delete(at).refused(404, "", "no filter")
	if list := w.store.Current().Space("default").Filters; len(list) != 1 || list[0].Name != "Tests" {
		t.Errorf("left: %+v", list)
	}
}

// TestFiltersInTheFile carries a filter out of the API into a file and back.
func TestFiltersInTheFile(t *testing.T) {
	w := newWorld(t)
	id := w.post("/api/filters", object{"integrationId": "default", "name": "No heartbeats", "if": `event = 'Heartbeat'`}).is(200).text("data.filter.id")
	text := string(workspace.Export(w.store.Current()))
	if !strings.Contains(text, "No heartbeats") {
		t.Fatal(text)
	}
	file, err := workspace.ParseFile([]byte(text))
	must(t, err)
	base, next, err := w.store.Try(t.Context(), func(d *workspace.Draft) error { return file.Apply(d, workspace.ApplyOptions{}) })
	must(t, err)
	if len(workspace.Diff(base, next)) != 0 || base != next {
		t.Errorf("%v", workspace.Diff(base, next))
	}
	file, err = workspace.ParseFile([]byte(strings.Replace(text, "'Heartbeat'", "'Ping'", 1)))
	must(t, err)
	base, next, err = w.store.Try(t.Context(), func(d *workspace.Draft) error { return file.Apply(d, workspace.ApplyOptions{}) })
	must(t, err)
	if _, f := next.Filter(id); f == nil || !strings.Contains(fmt.Sprint(workspace.Diff(base, next)), "filters[No heartbeats].if: ") {
		t.Errorf("%v", workspace.Diff(base, next))
	}
}

// Back plays the newest events of a log, 3,000 heartbeats and bookings by
// turns, of which every tenth was dropped.
func (p *played) Back(_ context.Context, space, epoch uint32, _ commitlog.Offset, most int, want func(*event.Head) bool, fn func(*archive.Recent) (bool, error)) (commitlog.Offset, int64, error) {
	if space != 1 || epoch != 3 {
		return 0, 0, fmt.Errorf("space %d, epoch %d", space, epoch)
	}
	for i := range min(most, 3000) {
		r := archive.Recent{Passed: true}
		r.Head = event.Head{Kind: event.KindEvent, At: start.UnixMilli() - int64(i), Type: event.Track, Name: "Heartbeat", MessageID: fmt.Sprint("m", i)}
		if i%2 == 1 {
			r.Head.Name, r.Profile = "Booked", event.ProfileID{byte(i % 10)}
		}
		body, err := json.Marshal(object{"type": "track", "event": r.Head.Name, "properties": object{"n": i}})
		if err != nil {
			return 0, 0, err
		}
		r.Raw = body
		if i%10 == 0 {
			r.Verdict.Code = pipeline.Dropped
		}
		if !want(&r.Head) {
			continue
		}
		if more, err := fn(&r); err != nil || !more {
			return 0, 0, err
		}
		copy(body, strings.Repeat(" ", len(body))) // what fn was handed is no longer valid
	}
	return 0, 0, nil
}

func TestFilterPreview(t *testing.T) {
	w := newWorld(t)
	at := "/api/spaces/default/filters/preview"
	w.post(at, object{"if": "event='Heartbeat'"}).is(200, "data.condition", "event = 'Heartbeat'", "data.looked", 1000.0, "data.matched", 444.0,
		"data.profiles", 0.0, "data.names.0.type", "track", "data.names.0.event", "Heartbeat", "data.names.0.count", 444.0, "data.names.1", nil,
		"data.samples.0.messageId", "m2", "data.samples.4.body.properties.n", 12.0, "data.samples.5", nil, "data.newest", "2025-03-01T11:59:59.999Z")
	w.post(at, object{"if": "event = 'Booked' and properties.n < 100", "count": 20000, "samples": 1}).is(200, "data.looked", 2700.0,
		"data.matched", 50.0, "data.profiles", 5.0, "data.samples.0.messageId", "m1", "data.samples.0.profileId", event.ProfileID{1}.String(), "data.samples.1", nil)
	w.post(at, object{"if": "all", "count": 20}).is(200, "data.matched", 20.0, "data.names.0.event", "Booked", "data.names.1.event", "Heartbeat")
	w.post(at, object{"if": "userId = 'u1'", "payload": object{"userId": "u1"}}).is(200, "data.looked", 1.0, "data.matched", 1.0, "data.samples", "[]")
	w.post(at, object{"if": "userId = 'u1'", "payload": object{"userId": "u2"}}).is(200, "data.looked", 1.0, "data.matched", 0.0)
	w.post(at, object{"if": "userId == 'u1'"}).refused(422, "if", `there is no "=="`)
	w.post(at, object{"if": ""}).refused(422, "if", "missing")
	w.post(at, object{"if": "all", "count": 30000}).refused(422, "count", "")
	w.post("/api/spaces/none/filters/preview", object{"if": "all"}).refused(404, "", "no space")
}
