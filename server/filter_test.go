package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"kith/client"
	"kith/inspect"
)

// TestEventFilter: an event that is filtered makes no profile, trait or member
// of an audience, and goes to destinations all the same; a trace, the feed and
// a preview say so.
func TestEventFilter(t *testing.T) {
	s, c, to := onTestClock(t)
	var made struct {
		Filter struct {
			ID string `json:"id"`
		} `json:"filter"`
	}
	if err := c.Call(t.Context(), "POST", "/filters", map[string]any{
		"integrationId": "default", "name": "No tests", "if": "context.traits.test or traits.test or properties.test",
	}, &made); err != nil {
		t.Fatal(err)
	}
	watch, err := s.feed.Watch(inspect.Filter{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	book(t, c, "u1")
	for _, call := range []map[string]any{
		{"userId": "u2", "event": "Booking Completed", "messageId": "test-1", "properties": map[string]any{"test": true}},
		{"userId": "u1", "event": "Booking Completed", "properties": map[string]any{"test": true}},
	} {
		if err := c.Send(t.Context(), "line-write-key", "track", call); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Send(t.Context(), "line-write-key", "identify", map[string]any{"userId": "u1", "traits": map[string]any{"test": true, "plan": "gold"}}); err != nil {
		t.Fatal(err)
	}
	advance(t, c, "0s")

	if n := to.named("Booking Completed"); n != 3 {
		t.Errorf("%d of 3 bookings were delivered", n)
	}
	if n := to.named("Audience Entered"); n != 1 {
		t.Errorf("%d have entered the audience", n)
	}
	if _, _, err := c.Traits(t.Context(), client.Profile{Space: "default", ID: "user_id:u2"}, client.Page{}); err == nil {
		t.Error("u2 has a profile")
	}
	traits, _, err := c.Traits(t.Context(), client.Profile{Space: "default", ID: "user_id:u1"}, client.Page{})
	if err != nil || traits["plan"] != nil || string(traits["booked_recently"]) != "true" {
		t.Errorf("u1 has %s, %v", traits, err)
	}

	trace := fmt.Sprintf("%+v", traced(t, c, "test-1", "").Message)
	if !strings.Contains(trace, "event filtered No tests ("+made.Filter.ID+")") || !strings.Contains(trace, "State:delivered") {
		t.Errorf("the trace says %s", trace)
	}
	for {
		item := <-watch.Items()
		if item.Name == "event filtered" && item.Detail == "No tests ("+made.Filter.ID+")" {
			break
		}
	}

	preview := previewed(t, c, map[string]any{"if": "properties.test", "count": 10})
	if at(preview, "looked") != "4" || at(preview, "matched") != "2" || at(preview, "profiles") != "0" || at(preview, "names", 0, "event") != "Booking Completed" ||
		at(preview, "samples", 0, "source") != "web" || at(preview, "samples", 1, "body", "userId") != "u2" {
		t.Errorf("the preview says %v", preview)
	}
	if text := fmt.Sprint(preview); strings.Contains(text, "line-write-key") {
		t.Errorf("a write key is shown: %s", text)
	}

	response, err := http.Get(c.Base() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(text), `kith_filtered_events_total{space="default"} 3`) {
		t.Errorf("the metric is missing: %v", err)
	}

	// Taken away, the filter no longer keeps anything out.
	if err := c.Call(t.Context(), "DELETE", "/filters/"+made.Filter.ID, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), "line-write-key", "track", map[string]any{"userId": "u2", "event": "Seen", "properties": map[string]any{"test": true}}); err != nil {
		t.Fatal(err)
	}
	advance(t, c, "0s")
	if member(t, c, "u2") != "" {
		t.Error("what was filtered counts for the audience")
	}
}

// previewed asks for a preview.
func previewed(t *testing.T, c *client.Client, body any) (answer map[string]any) {
	t.Helper()
	if err := c.Call(t.Context(), "POST", "/spaces/default/filters/preview", body, &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}
