package collect_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/event"
)

func TestObjects(t *testing.T) {
	object := func(id, properties string) string { return fmt.Sprintf(`{"id":%q,"properties":%s}`, id, properties) }
	set := func(collection string, objects ...string) string {
		return fmt.Sprintf(`{"collection":%q,"objects":[%s]}`, collection, strings.Join(objects, ","))
	}
	eleven := strings.Split(strings.Repeat(object("a", `{}`)+"\n", 11), "\n")[:11]
	tests := []struct {
		name, body string
		stored     []string
		why        string // of the 400
	}{
		{name: "one", body: set("rooms", `{"id":"2561341","properties":{"name":"Ocean","review_count":47,"price":12.50,"open":true,"closed":null},"more":1}`),
			stored: []string{`{"collection":"rooms","id":"2561341","properties":{"name":"Ocean","review_count":47,"price":12.50,"open":true,"closed":null},"receivedAt":"` + stamp + `"}`}},
		{name: "two, and the same twice", body: set("hotel_rooms", object("a", `{}`), object("a", `{"x":1,"x":2}`)),
			stored: []string{`{"collection":"hotel_rooms","id":"a","properties":{},"receivedAt":"` + stamp + `"}`, `{"collection":"hotel_rooms","id":"a","properties":{"x":2},"receivedAt":"` + stamp + `"}`}},
		{name: "the longest", body: set(strings.Repeat("r", 100), object(strings.Repeat("é", 100), `{}`)),
			stored: []string{`{"collection":"` + strings.Repeat("r", 100) + `","id":"` + strings.Repeat("é", 100) + `","properties":{},"receivedAt":"` + stamp + `"}`}},

		{name: "no collection", body: `{"objects":[` + object("a", `{}`) + `]}`, why: "collection is missing"},
		{name: "a number as collection", body: `{"collection":1,"objects":[]}`, why: "collection must be a string"},
		{name: "upper case", body: set("Rooms", object("a", `{}`)), why: "lower-case letters and underscores"},
		{name: "a digit", body: set("rooms2", object("a", `{}`)), why: "lower-case letters and underscores"},
		{name: "underscore first", body: set("_rooms", object("a", `{}`)), why: "neither begin nor end with an underscore"},
		{name: "underscore last", body: set("rooms_", object("a", `{}`)), why: "neither begin nor end with an underscore"},
		{name: "a long collection", body: set(strings.Repeat("r", 101), object("a", `{}`)), why: "collection has 101 characters, the most is 100"},
		{name: "no objects", body: `{"collection":"rooms"}`, why: "objects must be an array"},
		{name: "none", body: set("rooms"), why: "objects is empty"},
		{name: "eleven", body: set("rooms", eleven...), why: "more than 10 objects"},
		{name: "not an object", body: set("rooms", object("a", `{}`), `7`), why: "objects[1] must be an object"},
		{name: "no id", body: set("rooms", `{"properties":{}}`), why: "objects[0].id is missing"},
		{name: "a number as id", body: set("rooms", `{"id":1,"properties":{}}`), why: "objects[0].id must be a string"},
		{name: "a long id", body: set("rooms", object(strings.Repeat("x", 101), `{}`)), why: "objects[0].id has 101 characters, the most is 100"},
		{name: "no properties", body: set("rooms", `{"id":"a"}`), why: "objects[0].properties must be an object"},
		{name: "a list", body: set("rooms", object("a", `{"x":1,"tags":["a"]}`)), why: "objects[0].properties.tags must be a string"},
		{name: "an object in an object", body: set("rooms", object("a", `{"x":{}}`)), why: "objects[0].properties.x must be a string"},
		{name: "a large value", body: set("rooms", object("a", `{"x":"`+strings.Repeat("x", 32<<10)+`"}`)), why: "objects[0].properties.x has 32770 bytes, the most is 32768"},
		{name: "not JSON", body: `{`, why: "want a key"},
		{name: "an array", body: `[]`, why: "must be a JSON object"},
	}
	f := newFront(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := f.do(request("POST", "/v1/set", tt.body, basic))
			records, rejected := f.stored(t), f.rejected.take()
			if diff := cmp.Diff(tt.stored, bodies(records)); diff != "" {
				t.Errorf("stored (-want +got):\n%s", diff)
			}
			if tt.why == "" {
				checkAnswer(t, w.Code, w.Body.String(), w.Header(), 200, "")
				for _, r := range records {
					want := event.Head{Kind: event.KindObject, ID: r.ID, At: now.UnixMilli(), Time: now.UnixMilli(), Name: r.Name, Source: "src_web"}
					if diff := cmp.Diff(want, r.Head); diff != "" || !strings.Contains(tt.body, `"`+r.Name+`"`) {
						t.Errorf("head (-want +got):\n%s", diff)
					}
				}
				if len(rejected) > 0 {
					t.Errorf("rejected %+v", rejected)
				}
				return
			}
			if len(rejected) != 1 || rejected[0].Type != "object" || rejected[0].SourceID != "src_web" {
				t.Fatalf("rejected %+v", rejected)
			}
			checkAnswer(t, w.Code, w.Body.String(), w.Header(), 400, rejected[0].Code)
			if !strings.Contains(w.Body.String(), tt.why) {
				t.Errorf("answered %s, want %q", w.Body, tt.why)
			}
		})
	}
}

// What holds for the sources of events holds for those of objects.
func TestObjectsOfWhom(t *testing.T) {
	f := newFront(t, nil)
	const body = `{"collection":"rooms","objects":[{"id":"a","properties":{}}]}`
	for _, tt := range []struct{ header, code string }{
		{"Authorization: Basic bm9ib2R5Og==", "project_not_found"},
		{"Authorization: Basic a2V5LW9mZjo=", "source_disabled"}, // key-off
	} {
		if w := f.do(request("POST", "/v1/set/", body, tt.header)); w.Code != 200 {
			t.Errorf("%s: answered %d %s", tt.code, w.Code, w.Body)
		}
		if all := f.rejected.take(); len(all) != 1 || all[0].Code != tt.code || all[0].Count != 1 {
			t.Errorf("%s: rejected %+v", tt.code, all)
		}
	}
	if w := f.do(request("GET", "/v1/set", "")); w.Code != 405 {
		t.Errorf("GET answered %d", w.Code)
	}
	if got := f.stored(t); len(got) > 0 {
		t.Errorf("stored %q", bodies(got))
	}
}
