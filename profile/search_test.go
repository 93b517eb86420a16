package profile_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/profile"
	"kith/workspace"
)

// searched is a line whose space lists traits, and its Indexer.
type searched struct {
	*line
	stage    *profile.Profiles
	indexer  *profile.Indexer
	snapshot uint64
}

func newSearched(t testing.TB, traits ...string) *searched {
	layout := &pipeline.Layout{}
	who := identity.New(layout)
	stage := profile.New(layout, who.Slot())
	l := &line{Row: rowtest.New(t, memkv.New(), who, stage), t: t, slot: stage.Slot(),
		space: &workspace.Space{ID: "spa_1", Slug: "default", Number: rowtest.Space}}
	s := &searched{line: l, stage: stage, indexer: profile.NewIndexer(l.DB, l.Loop, stage, rowtest.Space, rowtest.Epoch)}
	s.list(traits...)
	return s
}

// list puts a configuration in force that lists these traits.
func (s *searched) list(traits ...string) {
	s.snapshot++
	space := *s.space
	space.SearchTraits = append([]string{}, traits...)
	snap := &workspace.Snapshot{Number: s.snapshot, Spaces: []workspace.Space{space}}
	snap.Seal()
	s.Config(snap)
}

func (s *searched) settle() {
	s.t.Helper()
	if err := s.indexer.Settle(context.Background(), 2); err != nil {
		s.t.Fatal(err)
	}
}

// entries returns what the index holds: "trait=text profile".
func (s *searched) entries() (list []string) {
	s.t.Helper()
	stem := kv.EpochKey(rowtest.Space, rowtest.Epoch, 'f').Byte('s')
	s.View(func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			list = append(list, fmt.Sprintf("%s=%s %s", parts.String(), parts.String(), event.ProfileID(parts.Fixed(16))))
		}
		return nil
	})
	slices.Sort(list)
	return list
}

// search returns the ids that a query finds, in all pages.
func (s *searched) search(q profile.SearchQuery) (ids []string) {
	s.t.Helper()
	for {
		page, err := s.reader(nil).Search(context.Background(), s.target(event.Users, ""), q)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, f := range page.Data {
			ids = append(ids, f.ID)
		}
		if !page.Cursor.HasMore {
			return ids
		}
		q.Next = page.Cursor.Next
	}
}

func (s *searched) id(user string) string {
	s.t.Helper()
	var id event.ProfileID
	s.View(func(r kv.Reader) (err error) {
		id, err = identity.NewReader(r, rowtest.Space, rowtest.Epoch).Lookup(event.Users, "user_id", user)
		return err
	})
	return id.String()
}

// TestIndexWhateverTheBatches: a profile from before a trait was listed has
// its entry once the trait was said again, be it in one batch or in two that
// it became another and the same again.
func TestIndexWhateverTheBatches(t *testing.T) {
	for _, together := range []bool{true, false} {
		s := newSearched(t)
		s.Send(identify("u1", `{"age":1}`))
		s.list("age")
		there, back := identify("u1", `{"age":2}`), identify("u1", `{"age":1}`)
		if together {
			s.Send(there, back)
		} else {
			s.Send(there)
			s.Send(back)
		}
		if got := s.entries(); len(got) != 1 || !strings.HasPrefix(got[0], "age=1 ") {
			t.Errorf("together %v: entries %q", together, got)
		}
	}
}

func TestSearch(t *testing.T) {
	s := newSearched(t, "lastName", "firstName", "age", "vip")
	s.Send(
		identify("u1", `{"firstName":"Ann","lastName":"Smith","age":41,"vip":true,"tier":"gold"}`),
		identify("u2", `{"firstName":"Bob","lastName":"smithers","age":4,"tier":"gold"}`),
		identify("u3", `{"firstName":"Zo\u00eb","lastName":"SMITH","age":"41","tags":["Smith"]}`),
		identify("u4", `{"firstName":"Zoe\u0308","lastName":{"a":"Smith"}}`),
		identify("u5", fmt.Sprintf(`{"lastName":%q}`, strings.Repeat("Long ", 100)+"A")),
		identify("u6", fmt.Sprintf(`{"lastName":%q}`, strings.Repeat("Long ", 100)+"B")),
		rowtest.Call{Body: `{"type":"group","userId":"u1","groupId":"g1","traits":{"lastName":"Smith"}}`},
	)
	by := func(pairs ...string) profile.SearchQuery {
		var q profile.SearchQuery
		for i := 0; i < len(pairs); i += 2 {
			q.Traits = append(q.Traits, profile.TraitMatch{Name: pairs[i], Value: pairs[i+1]})
		}
		return q
	}
	prefix := func(q profile.SearchQuery) profile.SearchQuery { q.Prefix = true; return q }
	fold := func(q profile.SearchQuery) profile.SearchQuery { q.IgnoreCase = true; return q }
	tests := []struct {
		name  string
		query profile.SearchQuery
		want  string
	}{
		{"a value", by("lastName", "Smith"), "u1"},
		{"letter case counts", by("lastName", "smith"), ""},
		{"unless it does not", fold(by("lastName", "smITH")), "u1 u3"},
		{"a beginning", prefix(by("lastName", "sm")), "u2"},
		{"a beginning, without case", prefix(fold(by("lastName", "Sm"))), "u1 u2 u3"},
		{"one letter written in two ways", fold(by("firstName", "zoë")), "u3 u4"},
		{"a number, or its text", by("age", "41"), "u1 u3"},
		{"a boolean", by("vip", "true"), "u1"},
		{"two traits", fold(by("lastName", "smith", "firstName", "ANN")), "u1"},
		{"a trait that is not listed beside one that is", prefix(fold(by("tier", "gold", "lastName", "s"))), "u1 u2"},
		{"longer than what is indexed", by("lastName", strings.Repeat("Long ", 100)+"B"), "u6"},
		{"a long beginning", prefix(by("lastName", strings.Repeat("Long ", 50))), "u5 u6"},
		{"nobody", by("lastName", "Jones"), ""},
		{"an identifier", profile.SearchQuery{ExternalID: "u1", Type: "user_id"}, "u1"},
		{"identifiers of all types", profile.SearchQuery{ExternalID: "u"}, "u1 u2 u3 u4 u5 u6"},
		{"an identifier and a trait", func() profile.SearchQuery { q := by("tier", "gold"); q.ExternalID = "u"; return q }(), "u1 u2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want []string
			for _, user := range strings.Fields(tt.want) {
				want = append(want, s.id(user))
			}
			for _, limit := range []int{0, 1, 2} {
				tt.query.Limit = limit
				got := s.search(tt.query)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("pages of %d: %v, want %v", limit, got, want)
				}
			}
		})
	}
	t.Run("shows traits and what matched", func(t *testing.T) {
		page, err := s.reader(nil).Search(t.Context(), s.target(event.Users, ""), profile.SearchQuery{ExternalID: "u1", Show: []string{"age", "none"}})
		want := fmt.Sprintf(`{"data":[{"id":%q,"matched":{"collection":"users","type":"user_id","id":"u1"},"traits":{"age":41}}],"complete":true,`+
			`"cursor":{"url":"/v1/spaces/default/collections/users/profiles","has_more":false,"next":"","limit":10}}`, s.id("u1"))
		if got := strings.ReplaceAll(strings.ReplaceAll(text(t, page, err), "\n", ""), " ", ""); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	})
	t.Run("accounts", func(t *testing.T) {
		page, err := s.reader(nil).Search(t.Context(), s.target(event.Accounts, ""), by("lastName", "Smith"))
		if err != nil || len(page.Data) != 1 {
			t.Errorf("%+v, %v", page, err)
		}
	})
	refusals := []struct {
		name       string
		collection string
		query      profile.SearchQuery
		text       string
	}{
		{"not listed", event.Users, by("tier", "gold"), "trait.tier: profiles are not searched by this trait: list it in searchTraits of the space, in the workspace file or with PATCH /api/spaces/default; there are age, firstName, lastName, vip"},
		{"nothing", event.Users, profile.SearchQuery{}, "nothing to search by"},
		{"a type alone", event.Users, profile.SearchQuery{Type: "email"}, "a type alone"},
		{"no value", event.Users, by("lastName", ""), "want a value"},
		{"many", event.Users, by("a", "1", "b", "1", "c", "1", "d", "1", "e", "1", "f", "1"), "at most 5"},
		{"limit", event.Users, profile.SearchQuery{ExternalID: "u", Limit: 201}, "1 to 200"},
		{"cursor", event.Users, profile.SearchQuery{ExternalID: "u", Next: "!"}, "not a cursor"},
		{"a cursor of another kind", event.Users, func() profile.SearchQuery { q := by("lastName", "Smith"); q.Next = "eyJ9"; return q }(), "not a cursor"},
		{"collection", "pets!", profile.SearchQuery{ExternalID: "u"}, "The parameter `collection` has invalid character(s) `!`"},
	}
	for _, tt := range refusals {
		_, err := s.reader(nil).Search(t.Context(), s.target(tt.collection, ""), tt.query)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestSearchLooksThroughABound has more entries than one page looks at, none of
// which match.
func TestSearchLooksThroughABound(t *testing.T) {
	s := newSearched(t, "name")
	var calls []rowtest.Call
	for i := range 2500 {
		calls = append(calls, identify(fmt.Sprint("u", i), `{"name":"same","n":1}`))
	}
	calls = append(calls, identify("z", `{"name":"same","n":2}`))
	s.Send(calls...)
	q := profile.SearchQuery{Traits: []profile.TraitMatch{{Name: "name", Value: "same"}, {Name: "n", Value: "2"}}}
	page, err := s.reader(nil).Search(t.Context(), s.target(event.Users, ""), q)
	if err != nil || len(page.Data) > 1 || !page.Cursor.HasMore {
		t.Fatalf("%d found, %+v, %v", len(page.Data), page.Cursor, err)
	}
	if got := s.search(q); len(got) != 1 || got[0] != s.id("z") {
		t.Errorf("%v", got)
	}
}

// TestSearchPagesAreBounded shows much of many profiles: a page ends when it is
// full, and the pages hold everybody once.
func TestSearchPagesAreBounded(t *testing.T) {
	s := newSearched(t, "name")
	long := strings.Repeat("x", 900_000)
	for i := range 40 {
		s.Send(identify(fmt.Sprint("u", i), `{"name":"same","notes":"`+long+`"}`))
	}
	for name, q := range map[string]profile.SearchQuery{
		"by trait":      {Traits: []profile.TraitMatch{{Name: "name", Value: "same"}}, Show: []string{"notes"}, Limit: 100},
		"by identifier": {ExternalID: "u", Show: []string{"notes"}, Limit: 100},
	} {
		page, err := s.reader(nil).Search(t.Context(), s.target(event.Users, ""), q)
		if err != nil {
			t.Fatal(name, err)
		}
		size := 0
		for _, f := range page.Data {
			size += len(f.Traits["notes"])
		}
		if size < 16<<20 || size > 17<<20 || !page.Cursor.HasMore {
			t.Errorf("%s: a page of %d profiles and %d bytes, more: %t", name, len(page.Data), size, page.Cursor.HasMore)
		}
		if got := s.search(q); len(got) != 40 || len(slices.Compact(slices.Sorted(slices.Values(got)))) != 40 {
			t.Errorf("%s: %d found in all pages", name, len(got))
		}
	}
}

// TestTheIndexIsWhatProfilesSay does what may happen to profiles in any order,
// and compares the index with the profiles, read one by one: nothing is
// missing, and nothing is left of what is no more.
func TestTheIndexIsWhatProfilesSay(t *testing.T) {
	lists := [][]string{{}, {"name"}, {"name", "city"}, {"city", "age"}}
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 3))
		s := newSearched(t, lists[random.IntN(len(lists))]...)
		var listed []string
		for step := range 60 {
			user := fmt.Sprint("u", random.IntN(6))
			switch random.IntN(9) {
			case 0: // a stranger, who may become somebody
				s.Send(rowtest.Call{Source: "src", Body: fmt.Sprintf(`{"type":"identify","anonymousId":"a%d","traits":{"name":"N%d","city":"C%d"}}`, random.IntN(4), random.IntN(3), random.IntN(3))})
			case 1:
				s.Send(rowtest.Call{Source: "src", Body: fmt.Sprintf(`{"type":"track","event":"E","userId":%q,"anonymousId":"a%d"}`, user, random.IntN(4))})
			case 2:
				listed = lists[random.IntN(len(lists))]
				s.list(listed...)
			case 3:
				if err := s.indexer.Step(t.Context(), 1+random.IntN(3)); err != nil {
					t.Fatal(err)
				}
			case 4:
				s.Send(identify(user, `{"name":null,"city":null}`))
			case 5: // several in one batch
				s.Send(identify(user, fmt.Sprintf(`{"name":"N%d"}`, random.IntN(3))), identify(user, fmt.Sprintf(`{"name":"n%d","age":%d}`, random.IntN(3), step)),
					rowtest.Call{Source: "src", Body: fmt.Sprintf(`{"type":"identify","userId":%q,"anonymousId":"b%d","traits":{"city":"x"}}`, user, step)})
			case 6:
				s.Clock.Set(s.Clock.Now().Add(time.Second))
			case 7: // what an erasure does to this room
				s.forget(user)
			default:
				s.Send(identify(user, fmt.Sprintf(`{"name":"N%d","city":"C%d","age":%d}`, random.IntN(3), random.IntN(3), random.IntN(3))))
			}
		}
		s.list("city", "age")
		s.settle()
		want := s.expected("city", "age")
		if got := s.entries(); !slices.Equal(got, want) {
			t.Fatalf("seed %d: the index holds\n%s\nwant\n%s", seed, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for _, age := range []string{"0", "1", "2"} {
			page, err := s.reader(nil).Search(t.Context(), s.target(event.Users, ""), profile.SearchQuery{Traits: []profile.TraitMatch{{Name: "age", Value: age}}})
			if err != nil || !page.Complete {
				t.Fatalf("seed %d: %+v, %v", seed, page, err)
			}
		}
	}
}

// forget removes a person from the room, as an erasure does.
func (s *searched) forget(user string) {
	s.t.Helper()
	err := s.Loop.Do(context.Background(), func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		graph := identity.NewReader(b.Tx, b.Space, b.Epoch)
		id, err := graph.Lookup(event.Users, "user_id", user)
		if err != nil || id.IsZero() {
			return err
		}
		family, err := graph.Family(id)
		if err != nil {
			return err
		}
		return profile.Forget(b.Tx, b.Space, b.Epoch, family...)
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// expected returns what the index of these traits must hold.
func (s *searched) expected(traits ...string) (list []string) {
	s.t.Helper()
	s.View(func(r kv.Reader) error {
		graph := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		people, err := graph.People(event.ProfileID{}, 10_000)
		if err != nil {
			return err
		}
		for _, p := range people {
			if link, err := graph.Link(p); err != nil || link != nil {
				continue
			}
			page, err := s.reader(nil).Traits(context.Background(), s.target(event.Users, p.String()), profile.TraitsQuery{Include: traits})
			if err != nil {
				return err
			}
			for name, value := range page.Traits {
				list = append(list, fmt.Sprintf("%s=%s %s", name, strings.ToLower(strings.Trim(string(value), `"`)), p))
			}
		}
		return nil
	})
	slices.Sort(list)
	return list
}

// TestIndexOfAnUpgrade has profiles from before there was an index.
func TestIndexOfAnUpgrade(t *testing.T) {
	s := newSearched(t, "name")
	s.Send(identify("u1", `{"name":"Ann"}`), identify("u2", `{"name":"Bob"}`), identify("u3", `{"name":"Cid"}`))
	err := s.DB.Update(t.Context(), pipeline.Fence(rowtest.Space, rowtest.Epoch), kv.Durable, func(tx kv.Tx) error {
		var old [][]byte
		for _, form := range []byte{'s', 't'} {
			for pair, err := range tx.Scan(kv.Prefix(kv.EpochKey(rowtest.Space, rowtest.Epoch, 'f').Byte(form))) {
				if err != nil {
					return err
				}
				old = append(old, slices.Clone(pair.Key))
			}
		}
		for _, key := range old {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	q := profile.SearchQuery{Traits: []profile.TraitMatch{{Name: "name", Value: "Bob"}}}
	if _, err := s.reader(nil).Search(t.Context(), s.target(event.Users, ""), q); !fault.Is(err, fault.Invalid) {
		t.Fatalf("before the first batch: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.indexer.Run(ctx) }() // it is woken by the batch
	s.Send(rowtest.Call{Body: `{"type":"track","event":"E","userId":"u9"}`})
	for {
		page, err := s.reader(nil).Search(t.Context(), s.target(event.Users, ""), q)
		if err != nil {
			t.Fatal(err)
		}
		if page.Complete {
			break
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got, want := s.entries(), s.expected("name"); !slices.Equal(got, want) || len(got) != 3 {
		t.Errorf("%v, want %v", got, want)
	}
}

// FuzzSearchNext gives back cursors that no page has given: they are refused or
// go on somewhere within the search, and nothing else is ever found.
func FuzzSearchNext(f *testing.F) {
	s := newSearched(f, "name")
	s.Send(identify("u1", `{"name":"Ann"}`), identify("u2", `{"name":"Anna"}`), identify("u3", `{"name":"Bob"}`))
	by := profile.SearchQuery{Traits: []profile.TraitMatch{{Name: "name", Value: "Ann"}}, Prefix: true, Limit: 1}
	for _, q := range []profile.SearchQuery{by, {ExternalID: "u", Limit: 1}} {
		page, err := s.reader(nil).Search(context.Background(), s.target(event.Users, ""), q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(page.Cursor.Next)
	}
	f.Add("!")
	f.Add("eyJ9")
	bob := s.id("u3")
	f.Fuzz(func(t *testing.T, next string) {
		by := by
		by.Next, by.Limit = next, 10
		page, err := s.reader(nil).Search(context.Background(), s.target(event.Users, ""), by)
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
		if err == nil && slices.ContainsFunc(page.Data, func(f profile.Found) bool { return f.ID == bob }) {
			t.Errorf("%q leads to somebody else", next)
		}
		_, err = s.reader(nil).Search(context.Background(), s.target(event.Users, ""), profile.SearchQuery{ExternalID: "u", Next: next})
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
	})
}
