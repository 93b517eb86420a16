package sim

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"kith/archive"
	"kith/commitlog"
	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/internal/sim/model"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
	"kith/workspace"
)

// atTheEnd is when there is time for what takes long.
const atTheEnd = "when all windows have ended"

// check waits until all is still and compares everything.
func (h *history) check(when string) {
	h.t.Helper()
	h.tell("checked %s", when)
	h.quiet()
	l := h.look()
	h.seen.Checked++
	h.checkFront(l)
	h.checkForgotten(l)
	world := model.Replay(l.history)
	h.checkPeople(l, world)
	h.checkAudiences(l, world, when)
	h.checkTold(l, world, when)
	for _, o := range h.outlets {
		h.checkDelivery(l, o)
	}
	if h.t.Failed() {
		h.t.FailNow()
	}
}

// checkFront holds the archive against what was sent: all that was
// acknowledged is there, once, and everything has a verdict.
func (h *history) checkFront(l *look) {
	h.mu.Lock()
	defer h.mu.Unlock()
	copies, admitted := map[string]int{}, map[string]int{}
	at := int64(0)
	for i, r := range l.raw {
		at = max(at, r.At)
		e, err := l.archive.Event(context.Background(), space, commitlog.Offset(i))
		if err != nil {
			h.t.Fatalf("record %d has no verdict: %v", i, err)
		}
		if e.Head.At != at {
			h.t.Errorf("record %d is of %d, and the row saw it at %d; want %d", i, r.At, e.Head.At, at)
		}
		if r.Kind != event.KindEvent {
			continue
		}
		first := copies[r.MessageID] == 0
		copies[r.MessageID]++
		switch e.Verdict.Code {
		case pipeline.Admitted:
			admitted[r.MessageID]++
			h.seen.Acknowledged++
		case pipeline.Duplicate:
			h.seen.Duplicates++
		default:
			h.t.Errorf("record %d (%s) has the verdict %+v", i, r.MessageID, e.Verdict)
		}
		if first != (e.Verdict.Code == pipeline.Admitted) {
			h.t.Errorf("record %d is the first with its id %s: %v; its verdict is %+v", i, r.MessageID, first, e.Verdict)
		}
		s := h.sent[r.MessageID]
		if s == nil {
			h.t.Errorf("record %d (%s) was never sent: %s", i, r.MessageID, r.Body)
		} else if !slices.ContainsFunc(s.bodies, func(sent string) bool { return says(r, sent) }) {
			h.t.Errorf("record %d is not what was sent:\n%s\n%v", i, r.Body, s.bodies)
		}
	}
	for id, s := range h.sent {
		if n := copies[id]; n < s.acks || n > s.tries {
			h.t.Errorf("%s was sent %d times and acknowledged %d times; it is there %d times", id, s.tries, s.acks, n)
		}
		if s.acks > 0 && admitted[id] != 1 {
			h.t.Errorf("%s was acknowledged and is admitted %d times", id, admitted[id])
		}
	}
}

// says reports whether a record says all that was sent.
func says(r event.Record, sent string) bool {
	same := true
	got := gjson.ParseBytes(r.Body)
	gjson.Parse(sent).ForEach(func(key, value gjson.Result) bool {
		if key.Str == "timestamp" {
			t, ok := event.ParseTime(value.Str)
			same = same && ok && r.Time == min(t.UnixMilli(), r.At)
			return true
		}
		same = same && got.Get(key.Str).Raw == value.Raw
		return true
	})
	return same
}

// checkPeople compares profiles, traits, histories and links.
func (h *history) checkPeople(l *look, world *model.World) {
	h.view(l.db, func(r kv.Reader) error {
		graph := identity.NewReader(r, space, l.epoch)
		want, got := []string{}, []string{}
		for _, p := range world.Users {
			want = append(want, event.UserProfile(p.Created.ID).String())
		}
		for _, id := range must(graph.People(event.ProfileID{}, 10_000)) {
			if must(graph.Resolve(id)) == id {
				got = append(got, id.String())
			}
		}
		h.same("the people", want, got)
		for _, p := range world.Users {
			h.seen.People++
			h.seen.Merges += len(p.From)
			h.checkProfile(l, graph, world, p, event.Users, event.UserProfile(p.Created.ID))
		}
		for _, p := range world.Accounts {
			h.checkProfile(l, graph, world, p, event.Accounts, event.AccountProfile(p.Created.ID))
		}
		return nil
	})
}

func (h *history) checkProfile(l *look, graph identity.Reader, world *model.World, want *model.Profile, collection string, id event.ProfileID) {
	who := fmt.Sprintf("the profile %s created at %d", id, want.Created.Offset)
	ids := func(list []model.Identified) (texts []string) {
		for _, x := range list {
			texts = append(texts, fmt.Sprintf("%s:%s of %d at %d", x.Type, x.Value, x.Offset, x.Time))
		}
		return texts
	}
	got, err := graph.Profile(id)
	if err != nil {
		h.t.Errorf("%s: %v", who, err)
		return
	}
	list := []model.Identified{}
	for _, x := range got.Identifiers {
		list = append(list, model.Identified{Identifier: x.Identifier, Time: x.At, Offset: int(x.Offset)})
	}
	h.same("the identifiers of "+who, ids(want.Identifiers), ids(list))

	wanted, found := []string{}, []string{}
	for _, e := range want.Events {
		wanted = append(wanted, fmt.Sprint(e.Offset))
	}
	err = l.archive.History(context.Background(), space, l.epoch, must(graph.Family(id)), archive.Window{From: math.MinInt64, To: math.MaxInt64},
		func(e archive.Entry) (bool, error) {
			found = append(found, fmt.Sprint(e.Offset))
			return true, nil
		})
	if err != nil {
		h.t.Fatal(err)
	}
	h.same("the events of "+who, wanted, found)

	kind := "identify"
	if collection == event.Accounts {
		kind = "group"
	}
	traits := map[string]string{}
	target := profile.Target{Space: l.now.SpaceByNumber(space), Epoch: l.epoch, Collection: collection, ID: id.String()}
	page, err := profile.NewReader(l.db, l.archive, nil).Traits(context.Background(), target, profile.TraitsQuery{Limit: profile.MaxLimit})
	if err != nil {
		h.t.Fatal(err)
	}
	for name, value := range page.Traits {
		traits[name] = string(value)
	}
	if diff := gocmp.Diff(want.Traits(kind), traits); diff != "" {
		h.t.Errorf("the traits of %s (-want +got):\n%s", who, diff)
	}

	linked, links := []string{}, []string{}
	for pair, offset := range world.Links {
		switch want {
		case pair[0]:
			linked = append(linked, fmt.Sprint(event.AccountProfile(pair[1].Created.ID), offset))
		case pair[1]:
			linked = append(linked, fmt.Sprint(event.UserProfile(pair[0].Created.ID), offset))
		}
	}
	for _, x := range must(graph.Links(id, identity.LinkMark{}, 0)) {
		links = append(links, fmt.Sprint(x.Profile, x.Offset))
	}
	h.same("the links of "+who, linked, links)
}

// same compares two sets.
func (h *history) same(what string, want, got []string) {
	h.t.Helper()
	want, got = append([]string{}, want...), append([]string{}, got...)
	slices.Sort(want)
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		h.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// checkAudiences compares memberships, and what entries and exits add up to.
func (h *history) checkAudiences(l *look, world *model.World, when string) {
	announced := map[string]map[event.ProfileID]bool{}
	for _, o := range l.outputs {
		switch c := o.Change; {
		case c == nil:
		case c.Kind == pipeline.ProfileSplit:
			if when == atTheEnd {
				h.seen.Splits++
			}
		case c.Kind == pipeline.ProfilesMerged:
			for _, in := range announced {
				if in[c.Other] {
					delete(in, c.Other)
					in[o.Profile] = true
				}
			}
		case c.Kind == pipeline.AudienceEntered, c.Kind == pipeline.AudienceExited:
			in := announced[c.Subject]
			if in == nil {
				in = map[event.ProfileID]bool{}
				announced[c.Subject] = in
			}
			entered := c.Kind == pipeline.AudienceEntered
			if in[o.Profile] == entered && !l.corrected {
				h.t.Errorf("%s: %s of %s twice, at %d", o.Profile, c.Kind, c.Subject, o.At)
			}
			in[o.Profile] = entered
		}
	}
	now := h.now.UnixMilli()
	h.view(l.db, func(r kv.Reader) error {
		for i := range l.now.Audiences {
			a := &l.now.Audiences[i]
			status := must(l.engine.Status(r, space, l.epoch, a))
			members, sum := []string{}, []string{}
			for _, id := range must(l.engine.Members(r, space, l.epoch, a.ID, event.ProfileID{}, 1000)) {
				members = append(members, id.String())
			}
			for id, in := range announced[a.Key] {
				if in {
					sum = append(sum, id.String())
				}
			}
			// One that was disabled before it had been computed has members
			// after a rebuild, which waits for that, and nobody was told.
			if !l.corrected && (a.Enabled || h.seen.Rebuilds == 0) {
				h.same("what was announced of "+a.Key, members, sum)
			}
			if !a.Enabled {
				continue
			}
			if status.State != computation.Live || status.Version != a.Version || status.Announcing || int(status.Size) != len(members) {
				h.t.Errorf("audience %s, version %d, with %d members, stands at %+v", a.Key, a.Version, len(members), status)
			}
			if l.unsure(h, a) {
				continue
			}
			m := l.audience(h, a)
			want := []string{}
			for _, p := range world.Users {
				if m.Member(p, now) {
					want = append(want, event.UserProfile(p.Created.ID).String())
				}
			}
			h.seen.Members += len(want)
			h.same(fmt.Sprintf("the members of %s: %s", a.Key, a.Query), want, members)
		}
		for key, in := range announced {
			if !l.corrected && !slices.ContainsFunc(l.now.Audiences, func(a workspace.Audience) bool { return a.Key == key }) {
				for id, still := range in {
					if still {
						h.t.Errorf("%s has not left the deleted audience %s", id, key)
					}
				}
			}
		}
		return nil
	})
}

// announcement is a message as it is compared.
type announcement struct {
	at     int64
	member bool
}

// checkTold compares what destinations were told with what is so, and how they
// were told with the model.
func (h *history) checkTold(l *look, world *model.World, when string) {
	known := l.told(h)
	seen := map[string]bool{}
	balance := map[string]int{}              // "audience destination form" → entries less exits
	sequences := map[string][]announcement{} // "audience destination identifier", of identify calls; and of all identifiers together
	for _, o := range l.outputs {
		m := o.Message
		if m == nil {
			continue
		}
		h.seen.Announced++
		if seen[m.MessageID] {
			h.t.Errorf("two messages have the id %s", m.MessageID)
		}
		seen[m.MessageID] = true
		b := gjson.ParseBytes(m.Body)
		key := b.Get("context.personas.computation_key").String()
		form, at := b.Get("type").String(), "traits."
		if form == "track" {
			at = "properties."
		}
		value := b.Get(at + key)
		if !value.IsBool() || b.Get("messageId").String() != m.MessageID {
			h.t.Errorf("message %s: %s", m.MessageID, m.Body)
		}
		pair := m.Computation + " " + m.Destination
		if value.Bool() {
			balance[pair+" "+form]++
		} else {
			balance[pair+" "+form]--
		}
		if form == "identify" {
			sequences[pair] = append(sequences[pair], announcement{o.At, value.Bool()})
		}
		if id := announcedAs(b, h.typesOf(m.Computation)); id != "" && form == "identify" {
			s := sequences[pair+" "+id]
			if len(s) == 0 && !value.Bool() || len(s) > 0 && s[len(s)-1].member == value.Bool() {
				h.t.Errorf("%s was told %v of %s in %s once more, at %d", m.Destination, value.Bool(), id, key, o.At)
			}
			sequences[pair+" "+id] = append(s, announcement{o.At, value.Bool()})
		}
	}
	for id, pairs := range known {
		for pair, member := range pairs {
			if member {
				balance[pair+" identify"]--
				balance[pair+" track"]--
			}
			if s := sequences[pair+" "+id.Type+":"+id.Value]; len(s) > 0 && s[len(s)-1].member != member {
				h.t.Errorf("%s was last told %v of %v, and is said to know %v", pair, s[len(s)-1].member, id, member)
			}
		}
	}
	owned := map[event.Identifier]bool{}
	for _, p := range world.Users {
		for _, x := range p.Identifiers {
			owned[x.Identifier] = true
		}
	}
	for id, pairs := range known {
		for pair, member := range pairs {
			if member && !owned[id] && h.connected(l, pair) {
				h.t.Errorf("%s still knows %v, who is nobody any more, as a member", pair, id)
			}
		}
	}
	for what, n := range balance {
		// A correction is a state and not an event.
		if n != 0 && !(l.corrected && strings.HasSuffix(what, " track")) {
			h.t.Errorf("%s: %d more entries were announced than ended or stand", what, n)
		}
	}
	now := h.now.UnixMilli()
	for i := range l.now.Audiences {
		a := &l.now.Audiences[i]
		if all := a.Options.IncludeHistoricalData; !a.Enabled || all != nil && !*all {
			continue
		}
		types := a.Options.FilterByExternalIDs
		if len(types) == 0 {
			types = []string{"user_id", "email", "android.idfa", "ios.idfa"}
		}
		if l.unsure(h, a) {
			continue
		}
		m := l.audience(h, a)
		for _, c := range a.Connections {
			if !l.now.Destination(c.DestinationID).Enabled {
				continue
			}
			for _, p := range world.Users {
				member := m.Member(p, now)
				for _, x := range p.Identifiers {
					if got := known[x.Identifier][a.ID+" "+c.DestinationID]; slices.Contains(types, x.Type) && got != member {
						h.t.Errorf("%s was told %v of %s:%s in %s (%s), and it is %v", c.DestinationID, got, x.Type, x.Value, a.Key, a.Query, member)
					}
				}
			}
		}
	}
	if when == atTheEnd && !l.corrected {
		h.checkSequences(l, sequences)
	}
}

// connected reports whether an audience that is enabled is connected to a
// destination that is.
func (h *history) connected(l *look, pair string) bool {
	audience, destination, _ := strings.Cut(pair, " ")
	a, d := l.now.Audience(audience), l.now.Destination(destination)
	return a != nil && a.Enabled && d != nil && d.Enabled &&
		slices.ContainsFunc(a.Connections, func(c workspace.AudienceConnection) bool { return c.DestinationID == destination })
}

// typesOf returns the types of identifiers that an audience is announced
// under; nil for the default ones.
func (h *history) typesOf(id string) []string {
	for i := range h.made {
		if h.made[i].id == id {
			return h.made[i].types
		}
	}
	return nil
}

// announcedAs returns the identifier that a message is about, where it can be
// told: a message to a user's email names the user too.
func announcedAs(body gjson.Result, types []string) string {
	switch {
	case len(types) == 0:
		return ""
	case slices.Contains(types, "card"):
		return "card:" + body.Get("context.externalIds.0.id").String()
	case body.Get("anonymousId").Exists():
		return "anonymous_id:" + body.Get("anonymousId").String()
	}
	return "user_id:" + body.Get("userId").String()
}

// checkSequences compares what was announced, and when, of audiences that have
// stood unchanged since before the first event.
func (h *history) checkSequences(l *look, got map[string][]announcement) {
	for i := range h.made {
		a := &h.made[i]
		if !h.steady(a) {
			continue
		}
		x := l.now.Audience(a.id)
		types := a.types
		if len(types) == 0 {
			types = []string{"user_id", "email"}
		}
		want := h.expect(l, l.audience(h, x), types)
		all := []announcement{}
		for _, list := range want {
			all = append(all, list...)
		}
		for _, to := range a.to {
			h.sameSequence(a.id+" "+to, x, inOrder(all), inOrder(got[a.id+" "+to]))
			if len(a.types) == 0 {
				continue // whom a message is about cannot be told
			}
			for id, list := range want {
				h.sameSequence(a.id+" "+to+" "+id, x, list, got[a.id+" "+to+" "+id])
			}
		}
	}
}

// inOrder puts announcements about several identifiers in one order.
func inOrder(list []announcement) []announcement {
	list = append([]announcement{}, list...)
	slices.SortFunc(list, func(a, b announcement) int {
		if a.at != b.at || a.member == b.member {
			return cmp.Compare(a.at, b.at)
		}
		if a.member {
			return 1
		}
		return -1
	})
	return list
}

func (h *history) sameSequence(what string, a *workspace.Audience, want, got []announcement) {
	h.t.Helper()
	h.seen.Sequences++
	if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(announcement{})); diff != "" {
		h.t.Errorf("what was told of %s (%s: %s) (-want +got):\n%s", what, a.Key, a.Query, diff)
	}
}

func (h *history) steady(a *madeAudience) bool {
	if !a.steady || a.gone || !a.enabled {
		return false
	}
	for i := range h.made {
		if h.made[i].key == a.reads {
			return h.steady(&h.made[i])
		}
	}
	return true
}

// expect is what ought to be announced of every identifier: after each record,
// and at each instant at which time alone may change an answer, who is a
// member.
func (h *history) expect(l *look, m *model.Audience, types []string) map[string][]announcement {
	want := map[string][]announcement{}
	world := model.New()
	judge := func(at int64) {
		for _, p := range world.Users {
			member, asked := false, false
			for _, x := range p.Identifiers {
				if !slices.Contains(types, x.Type) {
					continue
				}
				if !asked {
					member, asked = m.Member(p, at), true
				}
				id := x.Type + ":" + x.Value
				if s := want[id]; len(s) == 0 && member || len(s) > 0 && s[len(s)-1].member != member {
					want[id] = append(s, announcement{at, member})
				}
			}
		}
	}
	var edges []int64 // still to come
	until := func(at int64) {
		slices.Sort(edges)
		for len(edges) > 0 && edges[0] <= at {
			judge(edges[0])
			edges = edges[1:]
		}
	}
	for i, r := range l.history {
		until(l.at[i])
		world.Add(r)
		judge(l.at[i])
		for _, e := range edgesOf(r, m) {
			if e > l.at[i] && !slices.Contains(edges, e) {
				edges = append(edges, e)
			}
		}
	}
	until(h.now.UnixMilli())
	return want
}

// edgesOf returns the instants at which an event begins or ceases to count.
func edgesOf(r model.Record, m *model.Audience) (edges []int64) {
	for _, a := range m.Query.Aggregates {
		for _, d := range []int64{a.Window.From, a.Window.To} {
			if d > 0 && d < math.MaxInt64/2 {
				edges = append(edges, r.Time+d)
			}
		}
	}
	if d, ok := event.ParseTime(gjson.GetBytes(r.Body, "traits.d").Str); ok {
		t := d.UnixMilli()
		const ahead = 20 * 60 * 60 * 1000
		edges = append(edges, t-ahead, t-ahead+1, t, t+1)
	}
	for _, other := range m.Reads {
		edges = append(edges, edgesOf(r, other)...)
	}
	return edges
}
