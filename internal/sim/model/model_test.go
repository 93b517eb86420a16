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
	"kith/commitlog"
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
	rounds(t, func(t *rapid.T) {
		again := rapid.SliceOfN(rapid.Bool(), 7, 7).Draw(t, "transactions that run again")
		n := 0
		db := kvtest.Watch(memkv.NewWith(memkv.Options{Rerun: func(f kv.Fence) bool {
			if f != pipeline.Fence(rowtest.Space, rowtest.Epoch) {
				return false
			}
			n++
			return again[n%len(again)]
		}}), t.Errorf)
		row := rowtest.New(t, db, stages()...)
		h := &history{t: t, row: row}
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			h.step()
		}
		h.compare(&seen, model.Live(h.records), rowtest.Epoch)
		if t.Failed() || rapid.Bool().Draw(t, "no rebuild") {
			return
		}
		h.rebuild()
		h.compare(&seen, model.Replay(h.records), rowtest.Epoch+1)
	})
	// The histories must have gone where it is difficult.
	t.Logf("%+v", seen)
	if seen.merges == 0 || seen.refused == 0 || seen.links == 0 || seen.traits == 0 || seen.accountMerges == 0 || seen.apart == 0 || seen.blocked == 0 ||
		seen.removed == 0 || seen.left == 0 {
		t.Errorf("the histories were too tame: %+v", seen)
	}
}

// rounds checks a thousand random cases, a hundred with -short.
func rounds(t *testing.T, property func(*rapid.T)) {
	n := 10
	if testing.Short() {
		n = 1
	}
	for range n {
		rapid.Check(t, property)
	}
}

// step is one thing that was done to a row: one of its fields is set.
type step struct {
	now    time.Time
	calls  []rowtest.Call
	config *workspace.Snapshot
	order  *event.Command
}

// tally counts what happened in all histories together.
type tally struct {
	people, accounts, merges, accountMerges, refused, links, traits int
	apart, blocked, removed, left                                   int
}

// halfDay is the step of time, coarse so that instants fall on the very edge of
// a week or a month.
const halfDay = 12 * time.Hour

// history is one history, as it was sent and as the model reads it.
type history struct {
	t       *rapid.T
	row     *rowtest.Row
	records []model.Record
	steps   []step // what was done, so that it can be done again
	config  uint64
	orders  []commitlog.Offset // separates and blocks
	epoch   uint32             // that is compared
}

func (h *history) step() {
	switch rapid.IntRange(0, 13).Draw(h.t, "step") {
	case 10, 11, 12:
		h.order()
	case 13:
		if rapid.Bool().Draw(h.t, "restart") {
			h.row.Restart(stages()...)
		} else {
			h.order()
		}
	case 0:
		now := h.row.Clock.Now().Add(time.Duration(rapid.IntRange(1, 20).Draw(h.t, "half days")) * halfDay)
		h.row.Clock.Set(now)
		h.steps = append(h.steps, step{now: now})
	case 1:
		h.configure()
	default:
		var calls []rowtest.Call
		for range rapid.IntRange(1, 12).Draw(h.t, "events") {
			calls = append(calls, h.call())
		}
		first := len(h.row.Sent)
		h.steps = append(h.steps, step{calls: calls})
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

// stages makes a row of identity and profile.
func stages() []pipeline.Stage {
	layout := &pipeline.Layout{}
	who := identity.New(layout)
	return []pipeline.Stage{who, profile.New(layout, who.Slot())}
}

// rebuild leads the history into the next epoch, as a rebuild does.
func (h *history) rebuild() {
	var standing []identity.Standing
	h.row.View(func(r kv.Reader) (err error) {
		standing, err = identity.NewReader(r, rowtest.Space, rowtest.Epoch).Standing()
		return err
	})
	h.row.Replay(rowtest.Epoch+1, func(tx kv.Tx) error {
		return identity.Preload(tx, rowtest.Space, rowtest.Epoch+1, standing)
	}, stages()...)
}

// order gives a command.
func (h *history) order() {
	t := h.t
	who := func(types ...string) event.ExternalID {
		name := rapid.SampledFrom(types).Draw(t, "type")
		x := event.ExternalID{Type: name, ID: rapid.SampledFrom(values[name]).Draw(t, name)}
		if name == "mac" && rapid.Bool().Draw(t, "of a network") {
			x.ID = "Lobby/" + x.ID
		}
		if name == "group_id" || name == "crm" {
			x.Collection = event.Accounts
		}
		return x
	}
	users := []string{"user_id", "anonymous_id", "anonymous_id", "email", "card", "mac"}
	c := &event.Command{}
	switch rapid.IntRange(0, 9).Draw(t, "command") {
	case 0, 1, 2:
		c.Separate = &event.Separate{Left: []event.ExternalID{who(users...)}, Right: []event.ExternalID{who(users...)}}
		if rapid.Bool().Draw(t, "more") {
			c.Separate.Right = append(c.Separate.Right, who(users...))
		}
	case 3:
		c.Separate = &event.Separate{Left: []event.ExternalID{who("group_id")}, Right: []event.ExternalID{who("crm")}}
	case 4:
		x := who(append(users, "group_id")...)
		c.Block = &x
	case 5:
		if len(h.orders) == 0 {
			return
		}
		c.Lift = &event.Lift{Offset: uint64(rapid.SampledFrom(h.orders).Draw(t, "lifted"))}
	case 6, 7:
		c.DeleteIdentifier = &event.DeleteIdentifier{Identifier: who(append(users, "crm", "group_id")...)}
	default:
		c.Leave = &event.Leave{User: who("user_id", "anonymous_id"), Account: who("group_id", "crm")}
	}
	if c.Check() != nil {
		return // the same on both sides
	}
	at := h.row.Order(c)
	h.steps = append(h.steps, step{order: c})
	if c.Separate != nil || c.Block != nil {
		h.orders = append(h.orders, at)
	}
	h.records = append(h.records, model.Record{Offset: int(at), Command: c})
}

// configure changes the space's rules.
func (h *history) configure() {
	var rules []workspace.IdentifierRule
	for _, name := range []string{"user_id", "anonymous_id", "email", "group_id", "card", "loyalty", "mac"} {
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
		if name == "email" && rapid.Bool().Draw(h.t, "normalised") {
			r.Normalize, r.EmailProvider = workspace.NormalizeEmail, rapid.Bool().Draw(h.t, "by provider")
		}
		if rapid.IntRange(0, 2).Draw(h.t, "valid for a time") == 0 {
			r.ValidFor = rapid.SampledFrom([]string{"ever", "weekly", "monthly"}).Draw(h.t, "span")
		}
		if name == "loyalty" {
			r.Keys = []string{"loyaltyId"}
		}
		rules = append(rules, r)
	}
	if rapid.Bool().Draw(h.t, "ranked") {
		for place, i := range rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6}).Draw(h.t, "ranks") {
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
	h.steps = append(h.steps, step{config: s})
}

// values are few, so that they meet.
var values = map[string][]string{
	"user_id": {"u1", "u2", "u3"}, "anonymous_id": {"a1", "a2", "a3", "a4"}, "email": {"e1", "E1", " e1", "a.b@gmail.com", "ab+c@gmail.com", "e3"},
	"group_id": {"g1", "g2"}, "card": {"c1", "c2", "c3", "c4"}, "loyalty": {"l1", "l2", "3"}, "crm": {"r1", "r2"},
	"mac": {"00:1b:63:84:45:e6", "001B638445E6", "da:a1:19:00:00:01", "DAA119-000001", "01:1b:63:84:45:e6", "none"},
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
	if v, ok := value("mac", 25); ok {
		traits["mac"] = v
		if rapid.IntRange(0, 4).Draw(t, "network?") > 0 {
			ctx["network"] = map[string]any{"ssid": rapid.SampledFrom([]string{"Lobby", "a/b"}).Draw(t, "network")}
			body["context"] = ctx
		}
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
func (h *history) compare(seen *tally, want *model.World, epoch uint32) {
	h.epoch = epoch
	if len(h.row.Sent) == 0 {
		return
	}
	h.row.Send(rowtest.Call{Body: `{"type":"track","integrations":{"Personas":false}}`}) // wait for the last
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
	if epoch == rowtest.Epoch {
		h.compareChanges(want, seen)
	}
}

func (h *history) compareProfile(world *model.World, want *model.Profile, id event.ProfileID, collection, call string) {
	t := h.t
	h.row.View(func(r kv.Reader) error {
		graph := identity.NewReader(r, rowtest.Space, h.epoch)
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
	target := profile.Target{Space: &workspace.Space{Number: rowtest.Space}, Epoch: h.epoch, Collection: collection, ID: id.String()}
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
		family, err = identity.NewReader(r, rowtest.Space, h.epoch).Family(id)
		return err
	})
	got := []int{}
	w := archive.Window{From: math.MinInt64, To: math.MaxInt64}
	err := h.row.Archive.History(context.Background(), rowtest.Space, h.epoch, family, w, func(e archive.Entry) (bool, error) {
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
		}
	}
	for id, n := range want.Attached {
		expected[id.Type+":"+id.Value] += n
	}
	for id, n := range want.Removed {
		expected["not "+id.Type+":"+id.Value] += n
		seen.removed += n
	}
	expected["joined"], expected["left"] = want.Joined, want.Left
	seen.left += want.Left
	for _, o := range h.row.Changes() {
		switch c := o.Change; c.Kind {
		case pipeline.ProfileCreated:
			got["created"]++
		case pipeline.ProfilesMerged:
			got["merged"]++
		case pipeline.IdentifierAttached:
			got[c.Subject]++
		case pipeline.IdentifierRemoved:
			got["not "+c.Subject]++
		case pipeline.AccountJoined:
			got["joined"]++
		case pipeline.AccountLeft:
			got["left"]++
		case pipeline.IdentifierRefused:
			switch c.Detail {
			case identity.Separated:
				seen.apart++
			case identity.ValueBlocked:
				seen.blocked++
			}
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
