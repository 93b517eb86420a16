package profile_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"kith/event"
	"kith/fault"
	"kith/internal/sim/rowtest"
	"kith/profile"
)

func TestEventsOfAllTypes(t *testing.T) {
	l := shop(t)
	l.Send(rowtest.Call{Source: "web", Body: `{"type":"alias","userId":"u1","previousId":"old","messageId":"m-alias"}`},
		rowtest.Call{Source: "web", Body: `{"type":"track","event":"Plan Changed","userId":"u1","properties":{"plan":"gold","to":{"a.b":1},"ok":true}}`})
	rd := l.reader(nil)
	ctx := context.Background()
	one := func(q profile.EventsQuery) string {
		t.Helper()
		q.Sort = "asc"
		page, err := rd.Events(ctx, l.target(event.Users, "user_id:u1"), q)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, e := range page.Data {
			list = append(list, strings.Join(strings.Fields(fmt.Sprint(e.Type, " ", e.Event, " ", e.Name, " ", string(e.Traits), " ", e.GroupID, " ", e.PreviousID)), " "))
		}
		return strings.Join(list, "; ")
	}
	identifyShown := `identify {"email":"jane@example.com","age":41,"big_spender":"was a trait"}`
	tests := []struct {
		name  string
		query profile.EventsQuery
		want  string
	}{
		{"Segment's answer", profile.EventsQuery{}, "track Page Viewed; track Searched; track Order Completed; track Screen Viewed; track Plan Changed"},
		{"all", profile.EventsQuery{Types: []string{"track", "page", "screen", "identify", "group", "alias"}},
			"page Page Viewed Home; " + identifyShown + `; track Searched; track Order Completed; screen Screen Viewed Cart; group {"plan":"gold"} g1; group g2; alias old; track Plan Changed`},
		{"some", profile.EventsQuery{Types: []string{"page", "alias"}}, "page Page Viewed Home; alias old"},
		{"those without a name are not included by name", profile.EventsQuery{Types: []string{"page", "identify"}, Include: []string{"Page Viewed"}}, "page Page Viewed Home"},
		{"nor excluded by it", profile.EventsQuery{Types: []string{"page", "identify"}, Exclude: []string{"Page Viewed"}}, identifyShown},
		{"of a source", profile.EventsQuery{Sources: []string{"app"}}, "track Order Completed; track Screen Viewed"},
		{"with a property", profile.EventsQuery{Properties: []profile.PropertyMatch{{Path: "plan", Value: "gold"}}}, "track Plan Changed"},
		{"with two", profile.EventsQuery{Properties: []profile.PropertyMatch{{Path: "plan", Value: "gold"}, {Path: "ok", Value: "false"}}}, ""},
		{"a path into it", profile.EventsQuery{Properties: []profile.PropertyMatch{{Path: "items.0.sku", Value: "<1>"}}}, "track Order Completed"},
		{"a number as it was sent", profile.EventsQuery{Properties: []profile.PropertyMatch{{Path: "revenue", Value: "10.50"}}}, "track Order Completed"},
		{"no query language", profile.EventsQuery{Properties: []profile.PropertyMatch{{Path: "items.#.sku", Value: "<1>"}}}, ""},
		{"a trait", profile.EventsQuery{Types: []string{"identify", "group"}, Properties: []profile.PropertyMatch{{Path: "plan", Value: "gold"}}}, `group {"plan":"gold"} g1`},
	}
	for _, tt := range tests {
		if got := one(tt.query); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
	for _, q := range []profile.EventsQuery{{Types: []string{"Track"}}, {Types: []string{"none"}}, {Types: []string{""}}, {Properties: make([]profile.PropertyMatch, 6)}, {Properties: make([]profile.PropertyMatch, 1)}} {
		if _, err := rd.Events(ctx, l.target(event.Users, "user_id:u1"), q); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func TestBatch(t *testing.T) {
	l := shop(t)
	rd := l.reader(computed{})
	ctx := context.Background()
	ask := func(q profile.BatchQuery) string {
		t.Helper()
		page, err := rd.Batch(ctx, l.target(event.Users, ""), q)
		return strings.NewReplacer("\n", "", " ", "", l.idOf("u1"), "ID1", l.idOf("u2"), "ID2").Replace(text(t, page, err))
	}
	ids := []string{"user_id:u2", "user_id:nobody", "anonymous_id:a1", "what", l.idOf("u1"), "user_id:u2"}
	missing := `{"id":"user_id:nobody","error":{"code":"not_found","message":"Profilewasnotfound."}}`
	odd := `{"id":"what","error":{"code":"validation_error","message":"id:\"what\"namesnoprofile:wanttype:value,asinuser_id:u1,oruse_…"}}`
	of := func(u2, u1 string) string {
		return fmt.Sprintf(`{"data":[{"id":"user_id:u2","profile_id":"ID2",%[1]s},%[3]s,{"id":"anonymous_id:a1","profile_id":"ID1",%[2]s},%[4]s,{"id":"ID1","profile_id":"ID1",%[2]s},{"id":"user_id:u2","profile_id":"ID2",%[1]s}]}`, u2, u1, missing, odd)
	}
	if got, want := ask(profile.BatchQuery{IDs: ids, Read: "traits", Include: []string{"age", "orders"}}), of(`"traits":{"orders":3}`, `"traits":{"age":41,"orders":3}`); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got, want := ask(profile.BatchQuery{IDs: ids, Read: "traits", Include: []string{"age"}}), of(`"traits":{}`, `"traits":{"age":41}`); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got, want := ask(profile.BatchQuery{IDs: ids[:1], Read: "traits", Limit: 1, Class: "audience"}), `{"data":[{"id":"user_id:u2","profile_id":"ID2","traits":{"big_spender":true}}]}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := ask(profile.BatchQuery{IDs: ids[:1], Read: "traits", Limit: 1}); !strings.Contains(got, `"has_more":true`) {
		t.Error(got)
	}
	if got := ask(profile.BatchQuery{IDs: ids[2:3], Read: "external_ids", Include: []string{"user_id"}}); !strings.Contains(got, `"external_ids":[{"source_id":"web","collection":"users","id":"u1",`) || strings.Contains(got, "card") {
		t.Error(got)
	}
	if got := ask(profile.BatchQuery{IDs: ids, Read: "metadata"}); strings.Count(got, `"last_message_id":"m-group2"`) != 2 || strings.Count(got, `"last_message_id":"m-seen"`) != 2 || !strings.Contains(got, missing) {
		t.Error(got)
	}
	many := make([]string, 1001)
	for i, q := range []profile.BatchQuery{{Read: "traits"}, {Read: "traits", IDs: many}, {Read: "metadata", IDs: many[:101]}, {Read: "events", IDs: ids}, {IDs: ids},
		{Read: "traits", IDs: ids, Class: "x"}, {Read: "traits", IDs: ids, Limit: 201}} {
		if _, err := rd.Batch(ctx, l.target(event.Users, ""), q); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestBatchHasABound asks for more than one answer holds: the rest is named.
func TestBatchHasABound(t *testing.T) {
	l := shop(t)
	l.Send(identify("u1", fmt.Sprintf(`{"note":%q}`, strings.Repeat("x", 900_000))))
	ids := make([]string, 40)
	for i := range ids {
		ids[i] = "user_id:u1"
	}
	page, err := l.reader(nil).Batch(t.Context(), l.target(event.Users, ""), profile.BatchQuery{IDs: ids, Read: "traits"})
	if err != nil || page.Data[0].Error != nil || page.Data[39].Error == nil || page.Data[39].Error.Code != "too_large" {
		t.Fatalf("%v, %+v, %+v", err, page.Data[0].Error, page.Data[39].Error)
	}
}

// TestOnly reads with the right to one profile alone: a second identifier of
// that profile is refused as a stranger's is, so that nothing can be learned by
// trying, and so is what that profile was once part of.
func TestOnly(t *testing.T) {
	l := shop(t)
	l.Send(rowtest.Call{Body: `{"type":"identify","anonymousId":"a5","traits":{"city":"Rome"}}`})
	rd := l.reader(nil)
	u1, u2, a5 := l.idOf("u1"), l.idOf("u2"), l.profileOf(event.Users, "anonymous_id:a5")
	ask := func(only, id string) error {
		target := l.target(event.Users, id)
		target.Only = only
		_, err := rd.Traits(t.Context(), target, profile.TraitsQuery{})
		for _, other := range []func() error{
			func() error { _, err := rd.ExternalIDs(t.Context(), target, profile.IdentifiersQuery{}); return err },
			func() error { _, err := rd.Events(t.Context(), target, profile.EventsQuery{}); return err },
			func() error { _, err := rd.Metadata(t.Context(), target); return err },
			func() error { _, err := rd.Links(t.Context(), target, profile.LinksQuery{}); return err },
		} {
			if x := other(); fault.KindOf(x) != fault.KindOf(err) || (x == nil) != (err == nil) {
				t.Errorf("%s may read some of %s: %v, %v", only, id, err, x)
			}
		}
		return err
	}
	check := func(only, id string, kind fault.Kind, ok bool) {
		t.Helper()
		if err := ask(only, id); (err == nil) != ok || (!ok && !fault.Is(err, kind)) {
			t.Errorf("%s may read %s: %v", only, id, err)
		}
	}
	check("user_id:u1", "user_id:u1", 0, true)
	check("user_id:u1", u1, 0, true)
	check(u1, u1, 0, true)
	check("user_id:u1", "email:jane@example.com", fault.Denied, false)
	check("user_id:u1", "email:nobody@example.com", fault.Denied, false)
	check("user_id:u1", "user_id:u2", fault.Denied, false)
	check("user_id:u1", u2, fault.Denied, false)
	check("user_id:u1", "use_0000000000000000000001", fault.Denied, false)
	check("user_id:u1", "what", fault.Denied, false)
	check("user_id:u1", "user_id:u1 ", fault.Denied, false)
	check("user_id:nobody", "user_id:nobody", fault.NotFound, false)
	check("user_id:nobody", u1, fault.Denied, false)
	check("anonymous_id:a5", "user_id:u1", fault.Denied, false)
	check("anonymous_id:a5", u1, fault.Denied, false)
	check("user_id:u1", a5, fault.Denied, false)

	l.Send(rowtest.Call{Body: `{"type":"track","event":"Login","userId":"u1","anonymousId":"a5"}`}) // the stranger is u1
	check("anonymous_id:a5", u1, 0, true)
	check("user_id:u1", a5, 0, true)
	check(a5, u1, 0, true)
	check("anonymous_id:a5", "user_id:u1", fault.Denied, false)
	check("anonymous_id:a5", u2, fault.Denied, false)
}

func (l *line) idOf(user string) string { return l.profileOf(event.Users, "user_id:"+user) }

func (l *line) profileOf(collection, id string) string {
	l.t.Helper()
	page, err := l.reader(nil).Traits(context.Background(), l.target(collection, id), profile.TraitsQuery{})
	if err != nil {
		l.t.Fatal(err)
	}
	return strings.Split(page.Cursor.URL, "/")[7]
}
