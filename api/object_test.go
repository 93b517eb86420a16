package api_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"kith/fault"
	objects "kith/object"
)

// Collections and Objects play the room of the Objects API: two collections,
// of which "rooms" has three objects, read in pages of two.
func (p *played) Collections(_ context.Context, space uint32, _, _ string, _ int) ([]objects.Collection, string, error) {
	if space != 1 {
		return nil, "", nil
	}
	return []objects.Collection{{Name: "products", Objects: 1, LastAt: start}, {Name: "rooms", Objects: 3, LastAt: start.Add(time.Second)}}, "", nil
}

func (p *played) Objects(_ context.Context, _ uint32, _, collection, cursor string, limit int) ([]objects.Object, string, error) {
	if collection != "rooms" || limit != 200 {
		return nil, "", nil
	}
	all := []objects.Object{{ID: "a", Properties: []byte(`{"price":12.50}`), First: 3, Last: 9, FirstAt: start, LastAt: start.Add(time.Hour)}, {ID: "b", Properties: []byte(`{}`)}, {ID: "c", Properties: []byte(`{}`)}}
	switch cursor {
	case "":
		return all[:2], "two", nil
	case "two":
		return all[2:], "", nil
	}
	return nil, "", fault.Field("pagination.cursor", "is not one that a page returned")
}

func TestObjects(t *testing.T) {
	w := newWorld(t)
	at := "/api/sources/" + w.source("web") + "/objects"
	w.get(at).is(200, "data.collections.0.name", "products", "data.collections.1.name", "rooms", "data.collections.1.objects", 3,
		"data.collections.1.updatedAt", "2025-03-01T12:00:01.000Z", "data.collections.2", nil, "data.pagination.next", nil)
	page := w.get(at+"/rooms?pagination[count]=500").is(200, "data.objects.0.id", "a", "data.objects.0.first", 3, "data.objects.0.last", 9,
		"data.objects.0.createdAt", "2025-03-01T12:00:00.000Z", "data.objects.0.updatedAt", "2025-03-01T13:00:00.000Z", "data.objects.1.id", "b", "data.objects.2", nil, "data.pagination.next", "two")
	if !strings.Contains(page.body, `"price":12.50`) {
		t.Errorf("a number is not as it was sent: %s", page.body)
	}
	w.get(at+"/rooms?pagination[cursor]=two&pagination[count]=200").is(200, "data.objects.0.id", "c", "data.objects.1", nil, "data.pagination.next", nil)
	w.get(at+"/rooms?pagination[cursor]=three&pagination[count]=200").refused(422, "pagination.cursor", "not one")
	w.get(at+"/nothing").refused(404, "", "no objects")
	w.get("/api/sources/none/objects").refused(404, "", "no source")
	w.get("/api/sources/none/objects/rooms").refused(404, "", "no source")
}
