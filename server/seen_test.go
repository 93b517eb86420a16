package server

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"kith/client"
	"kith/inspect"
)

// told asks the control API.
func told(t *testing.T, c *client.Client, path string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := c.Call(t.Context(), "GET", path, nil, &out); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return out
}

// at follows names and indexes into an answer.
func at(v any, path ...any) string {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			list, _ := v.([]any)
			if p >= len(list) {
				return "nothing"
			}
			v = list[p]
		}
	}
	return fmt.Sprint(v)
}

// TestWhatComesIsSeen sends real calls and finds them in schema and usage.
func TestWhatComesIsSeen(t *testing.T) {
	s, c, _ := onTestClock(t)
	call := func(kind string, body map[string]any) {
		t.Helper()
		if err := c.Send(t.Context(), "line-write-key", kind, body); err != nil {
			t.Fatal(err)
		}
	}
	properties := map[string]any{"hotel": "Harbour", "nights": 3, "rooms": []any{map[string]any{"type": "double"}}}
	call("track", map[string]any{"anonymousId": "a1", "event": "Booking Completed", "messageId": "m1", "properties": properties})
	call("track", map[string]any{"anonymousId": "a1", "event": "Booking Completed", "messageId": "m1", "properties": properties})
	call("identify", map[string]any{"anonymousId": "a1", "userId": "u1", "traits": map[string]any{"email": "ada@example.com", "age": 36}})
	call("page", map[string]any{"anonymousId": "a2", "properties": map[string]any{"path": "/"}})
	advance(t, c, "1d")
	call("track", map[string]any{"userId": "u2", "event": "Booking Completed", "context": map[string]any{"app": map[string]any{"version": "2.0"}}})
	advance(t, c, "0s")

	source := s.workspace.Current().Sources[0].ID
	usage := told(t, c, "/usage/api-calls/daily?period=2026-01-01")["dailyWorkspaceAPICallsUsage"]
	if at(usage, 0, "apiCalls") != "4" || at(usage, 1, "apiCalls") != "5" || at(usage, 2) != "nothing" {
		t.Errorf("calls: %v", usage)
	}
	usage = told(t, c, "/usage/api-calls/sources/daily?period=2026-01-15T00:00:00Z")["dailyPerSourceAPICallsUsage"]
	if at(usage, 1, "apiCalls") != "5" || at(usage, 1, "sourceId") != source || at(usage, 1, "timestamp") != "2026-01-02T00:00:00.000Z" {
		t.Errorf("calls by source: %v", usage)
	}
	for _, path := range []string{"/usage/mtu/daily", "/usage/mtu/sources/daily"} {
		answer := told(t, c, path+"?period=2026-01-01")
		usage := answer["dailyWorkspaceMTUUsage"]
		if strings.Contains(path, "sources") {
			usage = answer["dailyPerSourceMTUUsage"]
		}
		got := []string{at(usage, 0, "identified"), at(usage, 0, "anonymous"), at(usage, 0, "anonymousIdentified"), at(usage, 0, "neverIdentified"), at(usage, 1, "identified")}
		if !slices.Equal(got, []string{"1", "2", "1", "1", "2"}) {
			t.Errorf("%s: %v", path, usage)
		}
	}
	volume := told(t, c, "/events/volume?granularity=DAY&startTime=2026-01-01T00:00:00Z&endTime=2026-01-03T00:00:00Z&groupBy[0]=eventName&groupBy[1]=source&eventType[]=track")
	if result := volume["result"]; at(result, 0, "eventName") != "Booking Completed" || at(result, 0, "total") != "2" || at(result, 0, "series", 1, "count") != "1" ||
		at(result, 0, "source", "slug") != "web" || at(result, 1) != "nothing" {
		t.Errorf("volume: %v", result)
	}
	if volume = told(t, c, "/events/volume?granularity=HOUR&startTime=2026-01-01&endTime=2026-01-03&appVersion=2.0"); at(volume["result"], 0, "total") != "1" {
		t.Errorf("volume of an app version: %v", volume)
	}

	schema := told(t, c, "/sources/"+source+"/schema?sortBy=name")
	if events := schema["events"]; at(events, 0, "name") != "Booking Completed" || at(events, 0, "allowed") != "2" || at(events, 0, "daily", 1, "allowed") != "1" ||
		at(events, 0, "lastSeenAt") != "2026-01-02T12:00:00.000Z" || at(events, 1, "name") != "Page Viewed" || at(events, 2, "type") != "IDENTIFY" {
		t.Errorf("schema: %v", events)
	}
	found := told(t, c, "/sources/"+source+"/schema/properties?event=Booking%20Completed&sortBy=name&includeSampleValues=true")["properties"]
	if text := fmt.Sprint(found); at(found, 0, "allowed") == "nothing" || !strings.Contains(text, "rooms.$.type") || !strings.Contains(text, "Harbour") {
		t.Errorf("properties: %v", found)
	}
	if events := told(t, c, "/spaces/default/events?pagination[count]=1&search=booking"); at(events["events"], 0, "name") != "Booking Completed" || at(events["pagination"], "totalEntries") != "1" {
		t.Errorf("events of the space: %v", events)
	}
	if traits := told(t, c, "/spaces/default/traits?includeSampleValues=true")["traits"]; at(traits, 0, "trait") != "age" || at(traits, 0, "samples", 0) != "36" || at(traits, 1, "type") != "AUDIENCE" || at(traits, 2, "trait") != "email" {
		t.Errorf("traits: %v", traits)
	}
	if got := told(t, c, "/spaces/default/traits/email/sample-values"); fmt.Sprint(got["sampleValues"]) != "[ada@example.com]" {
		t.Errorf("samples of a trait: %v", got)
	}
	if got := told(t, c, "/spaces/default/events/Booking%20Completed/properties/nights/sample-values?propertyType=PROPERTY"); fmt.Sprint(got["sampleValues"]) != "[3]" {
		t.Errorf("samples of a property: %v", got)
	}
	if got := told(t, c, "/spaces/default/events/Booking%20Completed/properties?sortBy=name&sortDir=asc&pagination.count=1000"); !strings.Contains(fmt.Sprint(got), "app.version") {
		t.Errorf("properties in the space: %v", got)
	}

	response, err := http.Get("http://" + s.addr.Load().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	for _, want := range []string{`kith_inspect_lag_records{space="default"} 0`, `kith_source_info{name="Web",slug="web",source="` + source + `"} 1`, `kith_destination_info{connector="webhook"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no metric %s", want)
		}
	}
	for _, bad := range []string{"/usage/mtu/daily?period=x", "/usage/mtu/daily?period=2027-01-01", "/events/volume?granularity=DAY&startTime=a&endTime=b",
		"/events/volume?granularity=MINUTE&startTime=2026-01-01&endTime=2026-01-09", "/events/volume?granularity=DAY&startTime=2026-01-01&endTime=2026-01-09&groupBy=x",
		"/spaces/default/events/Nothing/properties", "/spaces/nowhere/traits", "/sources/none/schema", "/spaces/default/events?sortBy=x"} {
		if err := c.Call(t.Context(), "GET", bad, nil, nil); err == nil {
			t.Errorf("%s is answered", bad)
		}
	}
}

// TestDebugger sends what is taken and what is refused, and finds both.
func TestDebugger(t *testing.T) {
	s, c, _ := onTestClock(t)
	watch, err := s.feed.Watch(inspect.Filter{ID: "u1"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	for _, user := range []string{"u1", "u2"} {
		book(t, c, user)
	}
	bad, err := http.Post("http://"+s.addr.Load().String()+"/v1/track", "application/json", strings.NewReader(`{"writeKey":"line-write-key","userId":"u1","messageId":"bad-1"}`))
	if err != nil {
		t.Fatal(err)
	}
	bad.Body.Close()
	advance(t, c, "0s")

	source := s.workspace.Current().Sources[0].ID
	at1 := func(query string, n int) any {
		t.Helper()
		answer := told(t, c, "/sources/"+source+"/debugger"+query)
		list, _ := answer["debuggerEvents"].([]any)
		if len(list) != n {
			t.Fatalf("%q: %d entries, want %d: %v", query, len(list), n, list)
		}
		if text := fmt.Sprint(answer); strings.Contains(text, "line-write-key") {
			t.Errorf("a write key is shown: %s", text)
		}
		if n == 0 {
			return nil
		}
		return list[0]
	}
	at1("", 3)
	if e := at1("?id=u1&outcome=admitted", 1); at(e, "event") != "Booking Completed" || at(e, "raw", "userId") != "u1" || !strings.HasPrefix(at(e, "profileId"), "use_") ||
		at(e, "identifiers", 0, "value") != "u1" || at(e, "offset") == "<nil>" {
		t.Errorf("by user: %v", e)
	}
	if e := at1("?id=bad-1", 1); at(e, "outcome") != "rejected" || at(e, "code") != "event_not_defined" || !strings.Contains(at(e, "text"), "line…") {
		t.Errorf("refused: %v", e)
	}
	at1("?search=u2&type=track", 1)
	at1("?event=Nothing", 0)
	if err := c.Call(t.Context(), "GET", "/sources/"+source+"/debugger?outcome=odd", nil, nil); err == nil {
		t.Error("an odd outcome is taken")
	}

	stages := map[inspect.Stage]string{}
	for len(stages) < 3 {
		item := <-watch.Items()
		if item.Who != "user_id:u1" && item.Stage != inspect.Rejected {
			t.Errorf("watched %+v", item)
		}
		stages[item.Stage] = string(item.Body)
	}
	for _, stage := range []inspect.Stage{inspect.Accepted, inspect.Admitted, inspect.Rejected} {
		if !strings.Contains(stages[stage], `"userId":"u1"`) {
			t.Errorf("%s: body %s", stage, stages[stage])
		}
	}
}
