package profile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/profile"
	"kith/workspace"
)

// computed says that everybody is a member of one audience and has one trait.
type computed struct{}

func (computed) Computed(_ context.Context, _ kv.Reader, _ *workspace.Space, _ uint32, _ event.ProfileID) ([]profile.Computed, error) {
	at := rowtest.Start().UnixMilli()
	return []profile.Computed{
		{Name: "orders", Class: profile.ClassComputedTrait, Value: "3", UpdatedAt: at},
		{Name: "big_spender", Class: profile.ClassAudience, Value: "true", SourceID: "aud_1", UpdatedAt: at},
	}, nil
}

// shop is a space with two people and two accounts, whose ids are the same in
// every run.
func shop(t *testing.T) *line {
	l := newLine(t, memkv.New())
	l.Send(
		rowtest.Call{Source: "web", Body: `{"type":"page","name":"Home","anonymousId":"a1","messageId":"m-home","context":{"page":{"path":"/"}},"properties":{"path":"/","name":"Home"}}`},
		rowtest.Call{Source: "web", Body: `{"type":"identify","userId":"u1","anonymousId":"a1","messageId":"m-identify","traits":{"email":"jane@example.com","age":41,"big_spender":"was a trait"}}`},
	)
	l.Clock.Set(l.Clock.Now().Add(time.Minute))
	l.Send(
		rowtest.Call{Source: "app", Body: `{"type":"track","event":"Order Completed","userId":"u1","messageId":"m-order","properties":{"revenue":10.50,"items":[{"sku":"<1>"}]},"context":{"externalIds":[{"id":"card-7","type":"card","collection":"users","encoding":"none"}]}}`},
		rowtest.Call{Source: "app", Body: `{"type":"screen","name":"Cart","userId":"u1","messageId":"m-cart"}`},
		rowtest.Call{Source: "app", Body: `{"type":"group","userId":"u1","groupId":"g1","messageId":"m-group","traits":{"plan":"gold"}}`},
		rowtest.Call{Source: "app", Body: `{"type":"group","userId":"u1","groupId":"g2","messageId":"m-group2"}`},
		// A second person at the same browser: a1 is refused, and the event is theirs.
		rowtest.Call{Source: "web", Body: `{"type":"track","event":"Seen","userId":"u2","anonymousId":"a1","messageId":"m-seen"}`},
		// Late: it is older than what is there already.
		rowtest.Call{Source: "web", Time: rowtest.Start().Add(30 * time.Second), Body: `{"type":"track","event":"Searched","userId":"u1","messageId":"m-search"}`},
	)
	return l
}

func text(t *testing.T, v any, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestProfileAPI(t *testing.T) {
	l := shop(t)
	rd := l.reader(computed{})
	ctx := context.Background()
	u1 := l.target(event.Users, "user_id:u1")
	var ids struct{ u1, u2, g1 string }
	l.View(func(r kv.Reader) error {
		graph := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		for _, x := range []struct {
			collection, name, value string
			id                      *string
		}{{event.Users, "user_id", "u1", &ids.u1}, {event.Users, "user_id", "u2", &ids.u2}, {event.Accounts, "group_id", "g1", &ids.g1}} {
			p, err := graph.Lookup(x.collection, x.name, x.value)
			if err != nil || p.IsZero() {
				t.Fatalf("%s is not there, %v", x.value, err)
			}
			*x.id = p.String()
		}
		return nil
	})
	traits := func(q profile.TraitsQuery) func() (any, error) {
		return func() (any, error) { return rd.Traits(ctx, u1, q) }
	}
	external := func(q profile.IdentifiersQuery) func() (any, error) {
		return func() (any, error) { return rd.ExternalIDs(ctx, u1, q) }
	}
	events := func(q profile.EventsQuery) func() (any, error) {
		return func() (any, error) {
			page, err := rd.Events(ctx, u1, q)
			if err != nil {
				return nil, err
			}
			list := []string{} // the whole shape is looked at once
			for _, e := range page.Data {
				list = append(list, e.Event+" "+e.Timestamp)
			}
			return list, nil
		}
	}
	cursor := func(read, next string, more bool, limit int) string {
		return fmt.Sprintf(`{"url":"/v1/spaces/default/collections/users/profiles/%s/%s","has_more":%v,"next":%q,"limit":%d}`, ids.u1, read, more, next, limit)
	}
	first, second := "2026-03-02T09:00:00.000Z", "2026-03-02T09:01:00.000Z"
	tests := []struct {
		name string
		ask  func() (any, error)
		want string
	}{
		{"traits", traits(profile.TraitsQuery{}),
			`{"traits":{"age":41,"big_spender":true,"email":"jane@example.com","orders":3},"cursor":` + cursor("traits", "", false, 10) + `}`},
		{"traits, a page", traits(profile.TraitsQuery{Limit: 2}), `{"traits":{"age":41,"big_spender":true},"cursor":` + cursor("traits", "email", true, 2) + `}`},
		{"traits, the next page", traits(profile.TraitsQuery{Limit: 2, Next: "email"}), `{"traits":{"email":"jane@example.com","orders":3},"cursor":` + cursor("traits", "", false, 2) + `}`},
		{"traits, some", traits(profile.TraitsQuery{Include: []string{"email", "nothing"}}), `{"traits":{"email":"jane@example.com"},"cursor":` + cursor("traits", "", false, 10) + `}`},
		{"traits, audiences", traits(profile.TraitsQuery{Class: "audience"}), `{"traits":{"big_spender":true},"cursor":` + cursor("traits", "", false, 10) + `}`},
		{"traits, computed", traits(profile.TraitsQuery{Class: "computed_trait", Verbose: true}),
			`{"traits":{"orders":{"value":3,"source_id":"","updated_at":"` + first + `"}},"cursor":` + cursor("traits", "", false, 10) + `}`},
		{"traits, verbose", traits(profile.TraitsQuery{Include: []string{"age", "big_spender"}, Verbose: true}),
			`{"traits":{"age":{"value":41,"source_id":"web","updated_at":"` + first + `"},"big_spender":{"value":true,"source_id":"aud_1","updated_at":"` + first + `"}},"cursor":` + cursor("traits", "", false, 10) + `}`},
		{"external ids", external(profile.IdentifiersQuery{}), `{"data":[
			{"source_id":"web","collection":"users","id":"a1","type":"anonymous_id","created_at":"` + first + `","encoding":"none","first_message_id":"m-home"},
			{"source_id":"web","collection":"users","id":"u1","type":"user_id","created_at":"` + first + `","encoding":"none","first_message_id":"m-identify"},
			{"source_id":"web","collection":"users","id":"jane@example.com","type":"email","created_at":"` + first + `","encoding":"none","first_message_id":"m-identify"},
			{"source_id":"app","collection":"users","id":"card-7","type":"card","created_at":"` + second + `","encoding":"none","first_message_id":"m-order"}],
			"cursor":` + cursor("external_ids", "", false, 10) + `}`},
		{"external ids, a page of some", external(profile.IdentifiersQuery{Limit: 1, Include: []string{"email", "card"}}), `{"data":[
			{"source_id":"web","collection":"users","id":"jane@example.com","type":"email","created_at":"` + first + `","encoding":"none","first_message_id":"m-identify"}],
			"cursor":` + cursor("external_ids", "map_2_0", true, 1) + `}`},
		{"external ids, the next page", external(profile.IdentifiersQuery{Limit: 1, Include: []string{"email", "card"}, Next: "map_2_0"}), `{"data":[
			{"source_id":"app","collection":"users","id":"card-7","type":"card","created_at":"` + second + `","encoding":"none","first_message_id":"m-order"}],
			"cursor":` + cursor("external_ids", "", false, 1) + `}`},
		{"events, one whole", func() (any, error) {
			return rd.Events(ctx, u1, profile.EventsQuery{Include: []string{"Order Completed"}})
		}, `{"data":[
			{"external_ids":[{"collection":"users","type":"user_id","id":"u1","encoding":"none"},{"collection":"users","type":"card","id":"card-7","encoding":"none"}],
			"context":{"externalIds":[{"id":"card-7","type":"card","collection":"users","encoding":"none"}]},"type":"track","message_id":"m-order","source_id":"app",
			"timestamp":"` + second + `","properties":{"revenue":10.50,"items":[{"sku":"<1>"}]},"event":"Order Completed","related":{"users":"` + ids.u1 + `"}}],
			"cursor":` + cursor("events", "", false, 10) + `}`},
		{"events, a page view", func() (any, error) { return rd.Events(ctx, u1, profile.EventsQuery{Include: []string{"Page Viewed"}}) }, `{"data":[
			{"external_ids":[{"collection":"users","type":"anonymous_id","id":"a1","encoding":"none"}],
			"context":{"page":{"path":"/"}},"type":"track","message_id":"m-home","source_id":"web",
			"timestamp":"` + first + `","properties":{"path":"/","name":"Home"},"event":"Page Viewed","related":{"users":"` + ids.u1 + `"}}],
			"cursor":` + cursor("events", "", false, 10) + `}`},
		{"events, what was refused is not among the ids", func() (any, error) {
			return rd.Events(ctx, l.target(event.Users, "user_id:u2"), profile.EventsQuery{})
		}, strings.ReplaceAll(`{"data":[
			{"external_ids":[{"collection":"users","type":"user_id","id":"u2","encoding":"none"}],"context":{},"type":"track","message_id":"m-seen","source_id":"web",
			"timestamp":"`+second+`","properties":{},"event":"Seen","related":{"users":"`+ids.u1+`"}}],
			"cursor":`+cursor("events", "", false, 10)+`}`, ids.u1, ids.u2)},
		{"events", events(profile.EventsQuery{}),
			`["Screen Viewed ` + second + `","Order Completed ` + second + `","Searched 2026-03-02T09:00:30.000Z","Page Viewed ` + first + `"]`},
		{"events, oldest first", events(profile.EventsQuery{Sort: "asc"}),
			`["Page Viewed ` + first + `","Searched 2026-03-02T09:00:30.000Z","Order Completed ` + second + `","Screen Viewed ` + second + `"]`},
		{"events, without some", events(profile.EventsQuery{Exclude: []string{"Page Viewed", "Order Completed"}, Sort: "desc"}),
			`["Screen Viewed ` + second + `","Searched 2026-03-02T09:00:30.000Z"]`},
		{"events, from and to", events(profile.EventsQuery{Start: "2026-03-02T10:00:30+01:00", End: "2026-03-02T09:01:00Z"}), `["Searched 2026-03-02T09:00:30.000Z"]`},
		{"events, until a date", events(profile.EventsQuery{End: "2026-03-02"}), `[]`},
		{"events, since a date", events(profile.EventsQuery{Start: "2026-03-02", Limit: 1}), `["Screen Viewed ` + second + `"]`},
		{"metadata", func() (any, error) { return rd.Metadata(ctx, u1) }, `{"metadata":{"created_at":"` + first + `","updated_at":"` + second + `","expires_at":null,
			"first_message_id":"m-home","first_source_id":"web","last_message_id":"m-group2","last_source_id":"app"}}`},
		{"links of an account", func() (any, error) {
			return rd.Links(ctx, l.target(event.Accounts, "group_id:g1"), profile.LinksQuery{})
		}, `{"data":[{"to_collection":"users","external_ids":[
			{"source_id":"web","collection":"users","id":"a1","type":"anonymous_id","created_at":"` + first + `","encoding":"none","first_message_id":"m-home"},
			{"source_id":"web","collection":"users","id":"u1","type":"user_id","created_at":"` + first + `","encoding":"none","first_message_id":"m-identify"},
			{"source_id":"web","collection":"users","id":"jane@example.com","type":"email","created_at":"` + first + `","encoding":"none","first_message_id":"m-identify"},
			{"source_id":"app","collection":"users","id":"card-7","type":"card","created_at":"` + second + `","encoding":"none","first_message_id":"m-order"}]}],
			"cursor":{"url":"/v1/spaces/default/collections/accounts/profiles/` + ids.g1 + `/links","has_more":false,"next":"","limit":10}}`},
		{"traits of an account by its id", func() (any, error) {
			return rd.Traits(ctx, l.target(event.Accounts, ids.g1), profile.TraitsQuery{Include: []string{"plan"}})
		},
			`{"traits":{"plan":"gold"},"cursor":{"url":"/v1/spaces/default/collections/accounts/profiles/` + ids.g1 + `/traits","has_more":false,"next":"","limit":10}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := tt.ask()
			got := text(t, v, err)
			var want any
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			var parsed any
			if err := json.Unmarshal([]byte(got), &parsed); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, parsed); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, got)
			}
		})
	}

	t.Run("numbers keep their text", func(t *testing.T) {
		page, err := rd.Events(ctx, u1, profile.EventsQuery{Include: []string{"Order Completed"}})
		if got := text(t, page, err); !strings.Contains(got, "10.50") {
			t.Error(got)
		}
	})
	t.Run("links in pages", func(t *testing.T) {
		one, err := rd.Links(ctx, u1, profile.LinksQuery{Limit: 1})
		if err != nil || len(one.Data) != 1 || !one.Cursor.HasMore || one.Data[0].ToCollection != "accounts" {
			t.Fatalf("%+v, %v", one, err)
		}
		two, err := rd.Links(ctx, u1, profile.LinksQuery{Limit: 1, Next: one.Cursor.Next})
		if err != nil || len(two.Data) != 1 || two.Cursor.HasMore || two.Data[0].ExternalIDs[0].ID == one.Data[0].ExternalIDs[0].ID {
			t.Fatalf("%+v, %v", two, err)
		}
	})
	t.Run("events in pages", func(t *testing.T) {
		for _, sort := range []string{"asc", "desc"} {
			all, err := rd.Events(ctx, u1, profile.EventsQuery{Sort: sort})
			if err != nil {
				t.Fatal(err)
			}
			var paged []profile.Event
			q := profile.EventsQuery{Sort: sort, Limit: 1}
			for {
				page, err := rd.Events(ctx, u1, q)
				if err != nil {
					t.Fatal(err)
				}
				paged = append(paged, page.Data...)
				if !page.Cursor.HasMore {
					break
				}
				q.Next = page.Cursor.Next
			}
			if diff := cmp.Diff(all.Data, paged); diff != "" {
				t.Errorf("%s (-want +got):\n%s", sort, diff)
			}
		}
	})
	t.Run("by the id that was merged away", func(t *testing.T) {
		l.Send(rowtest.Call{Body: `{"type":"identify","anonymousId":"a5","traits":{"city":"Rome"}}`})
		child := l.target(event.Users, "anonymous_id:a5")
		before, err := rd.Traits(ctx, child, profile.TraitsQuery{})
		if err != nil {
			t.Fatal(err)
		}
		child.ID = strings.Split(before.Cursor.URL, "/")[7]
		l.Send(rowtest.Call{Body: `{"type":"track","event":"Login","userId":"u1","anonymousId":"a5"}`})
		after, err := rd.Traits(ctx, child, profile.TraitsQuery{Include: []string{"city", "age"}})
		if err != nil || len(after.Traits) != 2 || !strings.Contains(after.Cursor.URL, ids.u1) {
			t.Errorf("%+v, %v", after, err)
		}
	})
}

func TestReadsThatCannotBe(t *testing.T) {
	l := shop(t)
	rd := l.reader(nil)
	ctx := context.Background()
	ask := func(collection, id string) error {
		_, err := rd.Traits(ctx, l.target(collection, id), profile.TraitsQuery{})
		return err
	}
	traits := func(q profile.TraitsQuery) error {
		_, err := rd.Traits(ctx, l.target(event.Users, "user_id:u1"), q)
		return err
	}
	events := func(q profile.EventsQuery) error {
		_, err := rd.Events(ctx, l.target(event.Users, "user_id:u1"), q)
		return err
	}
	external := func(next string) error {
		_, err := rd.ExternalIDs(ctx, l.target(event.Users, "user_id:u1"), profile.IdentifiersQuery{Next: next})
		return err
	}
	links := func(q profile.LinksQuery) error {
		_, err := rd.Links(ctx, l.target(event.Users, "user_id:u1"), q)
		return err
	}
	metadata := func(id string) error {
		_, err := rd.Metadata(ctx, l.target(event.Users, id))
		return err
	}
	tests := []struct {
		name string
		err  error
		kind fault.Kind
		text string
	}{
		{"unknown value", ask(event.Users, "user_id:nobody"), fault.NotFound, "Profile was not found."},
		{"other letters", ask(event.Users, "user_id:U1"), fault.NotFound, "Profile was not found."},
		{"a value longer than any", ask(event.Users, "user_id:"+strings.Repeat("x", 10_000)), fault.NotFound, "Profile was not found."},
		{"unknown id", ask(event.Users, "use_0000000000000000000001"), fault.NotFound, "Profile was not found."},
		{"an account's id among users", ask(event.Users, "group_id:g1"), fault.NotFound, "Profile was not found."},
		{"collection", ask("pets", "user_id:u1"), fault.Invalid, `collection: "pets" is not a collection`},
		{"no type", ask(event.Users, "u1"), fault.Invalid, "want type:value"},
		{"no value", ask(event.Users, "user_id:"), fault.Invalid, "want type:value"},
		{"limit", traits(profile.TraitsQuery{Limit: 201}), fault.Invalid, "want 1 to 200"},
		{"negative limit", traits(profile.TraitsQuery{Limit: -1}), fault.Invalid, "want 1 to 200"},
		{"class", traits(profile.TraitsQuery{Class: "x"}), fault.Invalid, "audience or computed_trait"},
		{"sort", events(profile.EventsQuery{Sort: "up"}), fault.Invalid, "asc or desc"},
		{"start", events(profile.EventsQuery{Start: "yesterday"}), fault.Invalid, "ISO 8601"},
		{"end", events(profile.EventsQuery{End: "2026-13-01"}), fault.Invalid, "ISO 8601"},
		{"events cursor", events(profile.EventsQuery{Next: "x"}), fault.Invalid, "not a cursor"},
		{"another events cursor", events(profile.EventsQuery{Next: "MTIzOjo0"}), fault.Invalid, "not a cursor"},
		{"ids cursor", external("map_x"), fault.Invalid, "not a cursor"},
		{"links cursor", links(profile.LinksQuery{Next: "x"}), fault.Invalid, "not a cursor"},
		{"links limit", links(profile.LinksQuery{Limit: 21}), fault.Invalid, "want 1 to 20"},
		{"metadata of nobody", metadata("user_id:nobody"), fault.NotFound, "Profile was not found."},
	}
	for _, tt := range tests {
		if !fault.Is(tt.err, tt.kind) || !strings.Contains(tt.err.Error(), tt.text) {
			t.Errorf("%s: %v", tt.name, tt.err)
		}
	}
	_, err := rd.Events(ctx, l.target(event.Users, "user_id:nobody"), profile.EventsQuery{})
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("events of nobody: %v", err)
	}
}
