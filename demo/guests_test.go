package demo

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"kith/event"
)

func run(seed uint64, n int) []Call {
	g := NewGuests(seed)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	calls := make([]Call, n)
	for i := range calls {
		calls[i] = g.Next(now.Add(time.Duration(i) * 10 * time.Millisecond))
	}
	return calls
}

func TestTheSameSeedGivesTheSameGuests(t *testing.T) {
	a, b := run(7, 3000), run(7, 3000)
	if !reflect.DeepEqual(a, b) {
		t.Error("two runs differ")
	}
	if reflect.DeepEqual(a[:10], run(8, 10)) {
		t.Error("another seed gives the same")
	}
}

// The demo shows something of everything only if its guests do something of
// everything.
func TestGuestsDoSomethingOfEverything(t *testing.T) {
	seen := map[string]int{}
	users := map[string]map[string]bool{} // the users of each browser
	ids := map[string]bool{}
	for _, c := range run(1, 20_000) {
		name, _ := c.Message["event"].(string)
		if name == "" {
			name, _ = c.Message["type"].(string)
		}
		seen[name]++
		seen[c.Source]++
		count := func(what string, is bool) {
			if is {
				seen[what]++
			}
		}
		count("again", c.Again)
		count("late", c.Late)
		count("odd", c.Odd)
		if device, ok := c.Message["anonymousId"].(string); ok {
			if user, ok := c.Message["userId"].(string); ok {
				if users[device] == nil {
					users[device] = map[string]bool{}
				}
				users[device][user] = true
			}
		}
		for _, id := range c.Identifiers() {
			ids[id] = true
		}
		// What is not odd on purpose is a call that any SDK might send.
		if !c.Odd && c.Message["userId"] == nil && c.Message["anonymousId"] == nil {
			t.Fatalf("%v is of nobody", c.Message)
		}
		body, err := json.Marshal(c.Message)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := event.Parse(body); err != nil || e.Type == event.None || e.Timestamp.IsZero() {
			t.Fatalf("%s: %v", body, err)
		}
	}
	for device, of := range users {
		if len(of) > 1 {
			seen["shared"]++
		}
		_ = device
	}
	for _, what := range []string{Website, BookingEngine, PropertySystem, GuestWiFi, "page", "identify", "Rooms Searched", "Booking Started",
		"Booking Completed", "Booking Cancelled", "WiFi Login", "again", "late", "odd", "shared"} {
		if seen[what] < 20 {
			t.Errorf("%s happened %d times", what, seen[what])
		}
	}
	if len(ids) < 4000 {
		t.Errorf("%d identifiers", len(ids))
	}
	t.Logf("%v, %d identifiers", seen, len(ids))
}
