package model_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kith/archive"
	"kith/event"
	"kith/identity"
	"kith/internal/sim/model"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/kvtest"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/profile"
	"kith/workspace"
)

// TestRowIsTheModel leads random histories through identity and profile as a
// server does, in random batches, every transaction perhaps twice, and
// compares everybody there is with the model. rapid prints the seed of a
// history that fails.
func TestRowIsTheModel(t *testing.T) {
	seen := tally{}
	rapid.Check(t, func(t *rapid.T) {
		again := rapid.SliceOfN(rapid.Bool(), 7, 7).Draw(t, "transactions that run again")
		n := 0
		db := kvtest.Watch(memkv.NewWith(memkv.Options{Rerun: func(f kv.Fence) bool {
			if f != pipeline.Fence(rowtest.Space, rowtest.Epoch) {
				return false
			}
			n++
			return again[n%len(again)]
		}}), t.Errorf)
		layout := &pipeline.Layout{}
		who := identity.New(layout)
		row := rowtest.New(t, db, who, profile.New(layout, who.Slot()))
		h := &history{t: t, row: row}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			h.step()
		}
		h.compare(&seen)
	})
	// The histories must have gone where it is difficult.
	t.Logf("%+v", seen)
	if seen.merges == 0 || seen.refused == 0 || seen.links == 0 || seen.traits == 0 || seen.accountMerges == 0 {
		t.Errorf("the histories were too tame: %+v", seen)
	}
}

// tally counts what happened in all histories together.
type tally struct{ people, accounts, merges, accountMerges, refused, links, traits int }

// halfDay is the step of time, coarse so that instants fall on the very edge of
// a week or a month.
const halfDay = 12 * time.Hour

// history is one history, as it was sent and as the model reads it.
type history struct {
	t       *rapid.T
	row     *rowtest.Row
	records []model.Record
	config  uint64
}

func (h *history) step() {
	switch rapid.IntRange(0, 9).Draw(h.t, "step") {
	case 0:
		h.row.Clock.Set(h.row.Clock.Now().Add(time.Duration(rapid.IntRange(1, 20).Draw(h.t, "half days")) * halfDay))
	case 1:
		h.configure()
	default:
		var calls []rowtest.Call
		for range rapid.IntRange(1, 12).Draw(h.t, "events") {
			calls = append(calls, h.call())
		}
		first := len(h.row.Sent)
		if rapid.Bool().Draw(h.t, "wait") {
			h.row.Send(calls...)
		} else {
			h.row.Append(calls...)
		}
		for i, e := range h.row.Sent[first:] {
			h.records = append(h.records, model.Record{Offset: first + i, ID: e.ID, Time: e.Time, Body: e.Body, MessageID: e.MessageID})
		}
	}
}

// configure changes the space's rules.
func (h *history) configure() {
	var rules []workspace.IdentifierRule
	for _, name := range []string{"user_id", "anonymous_id", "email", "group_id", "card", "loyalty"} {
		if rapid.IntRange(0, 4).Draw(h.t, "left out") == 0 {
			continue
		}
		r := workspace.IdentifierRule{Type: name}
		if rapid.Bool().Draw(h.t, "limited") {
			r.Limit = rapid.IntRange(1, 3).Draw(h.t, "limit")
		}
		r.Window = rapid.SampledFrom([]string{"", "", "ever", "weekly", "monthly"}).Draw(h.t, "window")
		if rapid.IntRange(0, 3).Draw(h.t, "blocked") == 0 {
			r.Blocked = []string{rapid.SampledFrom(values[name]).Draw(h.t, "value")}
		}
		if rapid.IntRange(0, 5).Draw(h.t, "pattern") == 0 {
			r.BlockedPatterns = []string{"^.2$"}
		}
		if name == "loyalty" {
			r.Keys = []string{"loyaltyId"}
		}
		rules = append(rules, r)
	}
	if rapid.Bool().Draw(h.t, "ranked") {
		for place, i := range rapid.Permutation([]int{0, 1, 2, 3, 4, 5}).Draw(h.t, "ranks") {
			if i < len(rules) && rapid.IntRange(0, 3).Draw(h.t, "rank") > 0 {
				rules[i].Priority = place + 1
			}
		}
	}
	h.config++
	s := &workspace.Snapshot{
		Number:  h.config,
		Spaces:  []workspace.Space{{ID: "spa_1", Number: rowtest.Space, Identifiers: rules}},
		Sources: []workspace.Source{{ID: "src", SpaceID: "spa_1"}},
	}
	s.Seal()
	h.records = append(h.records, model.Record{Offset: len(h.row.Sent), Rules: rules})
	h.row.Config(s)
}

// values are few, so that they meet.
var values = map[string][]string{
	"user_id": {"u1", "u2", "u3"}, "anonymous_id": {"a1", "a2", "a3", "a4"}, "email": {"e1", "e2", "e3"},
	"group_id": {"g1", "g2"}, "card": {"c1", "c2", "c3", "c4"}, "loyalty": {"l1", "l2", "3"}, "crm": {"r1", "r2"},
}

func (h *history) call() rowtest.Call {
	t := h.t
	kind := rapid.SampledFrom([]string{"track", "identify", "identify", "page", "group"}).Draw(t, "call")
	body := map[string]any{"type": kind}
	value := func(name string, odds int) (string, bool) {
		if rapid.IntRange(1, 100).Draw(t, name+"?") > odds {
			return "", false
		}
		return rapid.SampledFrom(values[name]).Draw(t, name), true
	}
	if v, ok := value("user_id", 50); ok {
		body["userId"] = v
	}
	if v, ok := value("anonymous_id", 60); ok {
		body["anonymousId"] = v
	}
	if v, ok := value("group_id", 15); ok || kind == "group" {
		body["groupId"] = v
	}
	ctx := map[string]any{}
	if v, ok := value("email", 20); ok {
		ctx["traits"] = map[string]any{"email": v}
	}
	var external []any
	entry := func(collection, kind, value string) {
		external = append(external, map[string]any{"collection": collection, "type": kind, "id": value, "encoding": "none"})
	}
	for range 2 {
		if v, ok := value("card", 20); ok {
			entry("users", "card", v)
		}
	}
	if v, ok := value("crm", 15); ok {
		entry("accounts", "crm", v)
	}
	if v, ok := value("user_id", 4); ok {
		entry("users", "user_id", v)
	}
	if external != nil {
		ctx["externalIds"] = external
	}
	if len(ctx) > 0 {
		body["context"] = ctx
	}
	traits := map[string]any{}
	for _, name := range []string{"x", "y", "firstName", "lastName", "name"} {
		if rapid.IntRange(0, 3).Draw(t, name) == 0 {
			traits[name] = rapid.SampledFrom([]any{nil, 1, 2, "three", true}).Draw(t, "value")
		}
	}
	if v, ok := value("email", 20); ok {
		traits["email"] = v
	}
	switch v, ok := value("loyalty", 20); {
	case !ok:
	case v == "3":
		traits["loyalty_id"] = 3
	default:
		traits["loyaltyId"] = v
	}
	if len(traits) > 0 {
		body["traits"] = traits
		if kind == "track" || kind == "page" {
			delete(body, "traits")
			body["properties"] = traits
		}
	}
	if rapid.IntRange(0, 30).Draw(t, "opted out") == 0 {
		body["integrations"] = map[string]any{"Personas": false}
	}
	if rapid.IntRange(0, 20).Draw(t, "twin") == 0 {
		body["messageId"] = rapid.SampledFrom([]string{"twin1", "twin2", "twin3"}).Draw(t, "messageId")
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	c := rowtest.Call{Body: string(text), Source: "src"}
	if rapid.IntRange(0, 3).Draw(t, "late") == 0 {
		c.Time = h.row.Clock.Now().Add(-time.Duration(rapid.IntRange(0, 33).Draw(t, "half days")) * halfDay)
	}
	return c
}

// compare holds what the rooms keep against the model.
func (h *history) compare(seen *tally) {
	if len(h.row.Sent) == 0 {
		return
	}
	h.row.Send(rowtest.Call{Body: `{"type":"track","integrations":{"Personas":false}}`}) // wait for the last
	want := model.Replay(h.records)
	for _, side := range []struct {
		collection string
		people     []*model.Profile
		id         func(event.RecordID) event.ProfileID
		call       string
	}{
		{event.Users, want.Users, event.UserProfile, "identify"},
		{event.Accounts, want.Accounts, event.AccountProfile, "group"},
	} {
		for _, p := range side.people {
			id := side.id(p.Created.ID)
			h.compareProfile(want, p, id, side.collection, side.call)
			seen.traits += len(p.Traits(side.call))
			if side.collection == event.Users {
				seen.people++
				seen.merges += len(p.From)
			} else {
				seen.accounts++
				seen.accountMerges += len(p.From)
			}
		}
	}
	seen.links += len(want.Links)
	h.compareChanges(want, seen)
}

func (h *history) compareProfile(world *model.World, want *model.Profile, id event.ProfileID, collection, call string) {
	t := h.t
	h.row.View(func(r kv.Reader) error {
		graph := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		got, err := graph.Profile(id)
		if err != nil {
			t.Fatalf("profile created at %d: %v", want.Created.Offset, err)
		}
		if got.ID != id || got.Collection != collection || int(got.Created.Offset) != want.Created.Offset || got.Created.MessageID != want.Created.MessageID {
			t.Errorf("profile created at %d is %+v", want.Created.Offset, got)
		}
		ids := []model.Identified{}
		for _, x := range got.Identifiers {
			ids = append(ids, model.Identified{Identifier: x.Identifier, Time: x.At, Offset: int(x.Offset)})
			if owner, err := graph.Lookup(collection, x.Type, x.Value); err != nil || owner != id {
				t.Errorf("%s:%s is %s's, not %s's, %v", x.Type, x.Value, owner, id, err)
			}
		}
		if diff := cmp.Diff(sorted(want.Identifiers), sorted(ids)); diff != "" {
			t.Errorf("identifiers of the profile created at %d (-want +got):\n%s", want.Created.Offset, diff)
		}
		from := []int{}
		for _, m := range got.Merged {
			frozen, err := graph.Frozen(m)
			if err != nil || frozen == nil {
				t.Fatalf("no graph of the merged %s, %v", m, err)
			}
			from = append(from, int(frozen.Created.Offset))
			if of, err := graph.Resolve(m); err != nil || of != id {
				t.Errorf("the merged %s is part of %s, want %s, %v", m, of, id, err)
			}
		}
		slices.Sort(from)
		slices.Sort(want.From)
		if !slices.Equal(from, want.From) {
			t.Errorf("merged into the profile created at %d: %v, want %v", want.Created.Offset, from, want.From)
		}
		h.compareLinks(world, want, graph, id)
		return nil
	})
	h.compareEvents(want, id)
	reader := profile.NewReader(h.row.DB, h.row.Archive, nil)
	target := profile.Target{Space: &workspace.Space{Number: rowtest.Space}, Collection: collection, ID: id.String()}
	page, err := reader.Traits(context.Background(), target, profile.TraitsQuery{Limit: profile.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	traits := map[string]string{}
	for name, value := range page.Traits {
		traits[name] = string(value)
	}
	if diff := cmp.Diff(want.Traits(call), traits); diff != "" {
		t.Errorf("traits of the profile created at %d (-want +got):\n%s", want.Created.Offset, diff)
	}
}

func (h *history) compareLinks(world *model.World, p *model.Profile, graph identity.Reader, id event.ProfileID) {
	want, got := []string{}, []string{}
	for pair, offset := range world.Links {
		switch p {
		case pair[0]:
			want = append(want, fmt.Sprint(event.AccountProfile(pair[1].Created.ID), offset))
		case pair[1]:
			want = append(want, fmt.Sprint(event.UserProfile(pair[0].Created.ID), offset))
		}
	}
	links, err := graph.Links(id, identity.LinkMark{}, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, l := range links {
		got = append(got, fmt.Sprint(l.Profile, l.Offset))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		h.t.Errorf("links of the profile created at %d (-want +got):\n%s", p.Created.Offset, diff)
	}
}

func (h *history) compareEvents(want *model.Profile, id event.ProfileID) {
	var family []event.ProfileID
	h.row.View(func(r kv.Reader) (err error) {
		family, err = identity.NewReader(r, rowtest.Space, rowtest.Epoch).Family(id)
		return err
	})
	got := []int{}
	w := archive.Window{From: math.MinInt64, To: math.MaxInt64}
	err := h.row.Archive.History(context.Background(), rowtest.Space, rowtest.Epoch, family, w, func(e archive.Entry) (bool, error) {
		got = append(got, int(e.Offset))
		return true, nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	slices.SortFunc(want.Events, func(a, b model.Record) int {
		if a.Time != b.Time {
			return int(a.Time - b.Time)
		}
		return a.Offset - b.Offset
	})
	offsets := []int{}
	for _, e := range want.Events {
		offsets = append(offsets, e.Offset)
	}
	if diff := cmp.Diff(offsets, got); diff != "" {
		h.t.Errorf("events of the profile created at %d (-want +got):\n%s", want.Created.Offset, diff)
	}
}

// compareChanges holds what left the row against the model: who was created,
// merged and identified, each once.
func (h *history) compareChanges(want *model.World, seen *tally) {
	expected, got := map[string]int{}, map[string]int{}
	for _, list := range [][]*model.Profile{want.Users, want.Accounts} {
		for _, p := range list {
			expected["created"] += 1 + len(p.From)
			expected["merged"] += len(p.From)
			for _, x := range p.Identifiers {
				expected[x.Type+":"+x.Value]++
			}
		}
	}
	for _, o := range h.row.Changes() {
		switch c := o.Change; c.Kind {
		case pipeline.ProfileCreated:
			got["created"]++
		case pipeline.ProfilesMerged:
			got["merged"]++
		case pipeline.IdentifierAttached:
			got[c.Subject]++
		case pipeline.IdentifierRefused:
			if c.Detail == identity.LimitExceeded || c.Detail == identity.TimeLimitExceeded {
				seen.refused++
			}
		}
	}
	for _, m := range []map[string]int{expected, got} {
		for k, n := range m {
			if n == 0 {
				delete(m, k)
			}
		}
	}
	if diff := cmp.Diff(expected, got); diff != "" {
		h.t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func sorted(ids []model.Identified) []model.Identified {
	ids = slices.Clone(ids)
	slices.SortFunc(ids, func(a, b model.Identified) int {
		return strings.Compare(a.Type+":"+a.Value, b.Type+":"+b.Value)
	})
	return ids
}
