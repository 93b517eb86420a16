package inspect

import (
	"testing"

	"kith/event"
	"kith/workspace"
)

func TestPlanned(t *testing.T) {
	schema := func(text string) []byte {
		return []byte(`{"type":"object","properties":{"properties":{"type":"object","properties":` + text + `}}}`)
	}
	p := PlannedBy(&workspace.TrackingPlan{Rules: []workspace.Rule{
		{Type: "TRACK", Key: "Booked", JSONSchema: schema(`{"price":{},"a.b":{},"guest":{"properties":{"name":{}}},"rooms":{"items":{"properties":{"type":{}}}},"any":{"anyOf":[{"properties":{"one":{}}},{"properties":{"two":{}}}]}}`)},
		{Type: "TRACK", Key: event.PageViewed, JSONSchema: schema(`{"path":{}}`)},
		{Type: "SCREEN", Key: "Home", JSONSchema: schema(`{"tab":{}}`)},
		{Type: "IDENTIFY", JSONSchema: []byte(`{"properties":{"traits":{"properties":{"email":{}}}}}`)},
		{Type: "COMMON", JSONSchema: []byte(`{"properties":{"context":{"properties":{"ip":{}}}}}`)},
	}})
	for _, tt := range []struct {
		kind          event.Type
		name          string
		planned       bool
		section, path string
		named         bool
	}{
		{event.Track, "Booked", true, "properties", "price", true},
		{event.Track, "Booked", true, "properties", "coupon", false},
		{event.Track, "Booked", true, "properties", `a\.b`, true},
		{event.Track, "Booked", true, "properties", "a.b", false},
		{event.Track, "Booked", true, "properties", "guest.name", true},
		{event.Track, "Booked", true, "properties", "guest.age", false},
		{event.Track, "Booked", true, "properties", "rooms.$", true},
		{event.Track, "Booked", true, "properties", "rooms.$.type", true},
		{event.Track, "Booked", true, "properties", "price.$", false},
		{event.Track, "Booked", true, "properties", "any.two", true},
		{event.Track, "Booked", true, "context", "ip", true},
		{event.Track, "Other", false, "properties", "price", false},
		{event.Track, "Other", false, "context", "ip", true},
		{event.Page, event.PageViewed, true, "properties", "path", true},
		{event.Screen, event.ScreenViewed, true, "properties", "tab", true},
		{event.Identify, "", true, "traits", "email", true},
		{event.Group, "", false, "traits", "email", false},
	} {
		e := &EventSeen{Type: tt.kind, Name: tt.name}
		if got := p.Event(e); got != tt.planned {
			t.Errorf("%v %q planned: %v", tt.kind, tt.name, got)
		}
		if got := p.Property(e, &PropertySeen{Section: tt.section, Path: tt.path}); got != tt.named {
			t.Errorf("%s.%s of %v %q planned: %v", tt.section, tt.path, tt.kind, tt.name, got)
		}
	}
	if none := PlannedBy(nil); none.Event(&EventSeen{Type: event.Track, Name: "Booked"}) {
		t.Error("no plan plans something")
	}
}
