package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/event"
	"kith/fault"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

type pathSnapshots map[uint64]*workspace.Snapshot

func (s pathSnapshots) At(_ kv.Reader, n uint64) (*workspace.Snapshot, error) {
	if s[n] == nil {
		return nil, fault.New(fault.NotFound, "there is no snapshot %d", n)
	}
	return s[n], nil
}

// carried are the identifiers on an event, found the plain way.
func carried(body []byte) []event.Identifier {
	var b struct {
		UserID, AnonymousID string
		Context             struct{ Traits struct{ Email string } }
	}
	if err := json.Unmarshal(body, &b); err != nil {
		panic(err)
	}
	var ids []event.Identifier
	for name, value := range map[string]string{"user_id": b.UserID, "anonymous_id": b.AnonymousID, "email": b.Context.Traits.Email} {
		if value != "" {
			ids = append(ids, event.Identifier{Collection: event.Users, Type: name, Value: value})
		}
	}
	return ids
}

// TestPathsAreSightings takes random histories, with rules that change on the
// way, and holds explanations to them: a path between two identifiers of one
// profile is a chain of events that each carried both of a step, and what the
// uses of all profiles join is exactly the profiles.
func TestPathsAreSightings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stage := New(&pipeline.Layout{})
		row := rowtest.New(t, memkv.New(), stage)
		snapshots := pathSnapshots{}
		var space *workspace.Space
		configure := func() {
			n := uint64(len(snapshots) + 1)
			s := &workspace.Snapshot{Number: n, Sources: []workspace.Source{{ID: "src", SpaceID: "spa_1"}}}
			rules := []workspace.IdentifierRule{
				{Type: "user_id", Limit: rapid.IntRange(1, 2).Draw(t, "user ids")},
				{Type: "email", Limit: rapid.IntRange(1, 3).Draw(t, "emails"), Window: rapid.SampledFrom([]string{"", "weekly"}).Draw(t, "window")},
				{Type: "anonymous_id", Limit: rapid.IntRange(1, 4).Draw(t, "anonymous ids")},
			}
			if rapid.Bool().Draw(t, "block") {
				rules[2].Blocked = []string{"a1"}
			}
			s.Spaces = []workspace.Space{{ID: "spa_1", Slug: "default", Number: rowtest.Space, Identifiers: rules}}
			s.Seal()
			snapshots[n], space = s, &s.Spaces[0]
			row.Config(s)
		}
		configure()
		pick := func(prefix string, n int) string {
			if i := rapid.IntRange(0, n).Draw(t, prefix); i > 0 {
				return fmt.Sprint(prefix, i)
			}
			return ""
		}
		for range rapid.IntRange(1, 25).Draw(t, "events") {
			switch rapid.IntRange(0, 15).Draw(t, "step") {
			case 0:
				configure()
			case 1:
				row.Clock.Set(row.Clock.Now().Add(5 * 24 * time.Hour))
			case 2:
				id := func(label string) event.ExternalID {
					return event.ExternalID{Type: "anonymous_id", ID: fmt.Sprint("a", rapid.IntRange(1, 5).Draw(t, label))}
				}
				left, right := id("left"), id("right")
				if left != right {
					row.Order(&event.Command{Separate: &event.Separate{Left: []event.ExternalID{left}, Right: []event.ExternalID{right}}})
				}
			}
			row.Send(rowtest.Call{Source: "src", Body: fmt.Sprintf(`{"type":"identify","userId":%q,"anonymousId":%q,"context":{"traits":{"email":%q}}}`,
				pick("u", 4), pick("a", 6), pick("e", 4))})
		}

		x := NewExplainer(row.DB, row.Archive, snapshots)
		var all []event.Identifier
		owner := map[event.Identifier]event.ProfileID{}
		for _, sent := range row.Sent {
			if sent.Kind != event.KindEvent {
				continue
			}
			for _, id := range carried(sent.Body) {
				row.View(func(r kv.Reader) error {
					p, err := NewReader(r, rowtest.Space, rowtest.Epoch).owner(id)
					if _, known := owner[id]; !known && !p.IsZero() {
						all = append(all, id)
						owner[id] = p
					}
					return err
				})
			}
		}
		refused := map[event.RecordID][]string{} // as it was told at the time
		for _, o := range row.Changes(pipeline.IdentifierRefused) {
			refused[o.Change.Cause] = append(refused[o.Change.Cause], o.Change.Subject)
		}
		joined := map[event.Identifier]event.Identifier{} // a forest of all uses
		var root func(id event.Identifier) event.Identifier
		root = func(id event.Identifier) event.Identifier {
			if up, ok := joined[id]; ok {
				return root(up)
			}
			return id
		}
		for _, id := range all {
			rs, err := compile(space)
			if err != nil {
				t.Fatal(err)
			}
			e := newExplaining(context.Background(), x, Question{Space: space, Epoch: rowtest.Epoch, ID: id}, rs)
			e.asked = id
			if err := e.load(event.ProfileID{}); err != nil {
				t.Fatal(err)
			}
			uses, err := e.uses()
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range uses {
				on := carried(row.Sent[u.at].Body)
				for _, used := range u.ids {
					if slices.Contains(refused[row.Sent[u.at].ID], name(used)) {
						t.Fatalf("%v is told to be used by event %d, which refused it", used, u.at)
					}
					if !slices.Contains(on, used) {
						t.Fatalf("%v is told to be used by event %d, which carried %v", used, u.at, on)
					}
					if a, b := root(u.ids[0]), root(used); a != b {
						joined[a] = b
					}
				}
			}
		}
		for _, a := range all {
			for _, b := range all {
				if (owner[a] == owner[b]) != (root(a) == root(b)) {
					t.Fatalf("%v is of %v and %v of %v; do uses join them? %v", a, owner[a], b, owner[b], root(a) == root(b))
				}
			}
			b := rapid.SampledFrom(all).Draw(t, "other")
			explained, err := x.Explain(context.Background(), Question{Space: space, Epoch: rowtest.Epoch, ID: a, With: &b})
			if err != nil {
				t.Fatal(err)
			}
			c := explained.With
			if c.Same != (owner[a] == owner[b]) || c.Same && a != b && len(c.Path) == 0 || !c.Same && len(c.Path) > 0 {
				t.Fatalf("%v and %v: %+v", a, b, c)
			}
			at := a
			for _, s := range c.Path {
				on := carried(row.Sent[s.Because.Offset].Body)
				if s.From.Identifier() != at || !slices.Contains(on, s.From.Identifier()) || !slices.Contains(on, s.To.Identifier()) {
					t.Fatalf("from %v to %v: the step %+v; the event carried %v", a, b, s, on)
				}
				at = s.To.Identifier()
			}
			if len(c.Path) > 0 && at != b {
				t.Fatalf("the path from %v to %v ends at %v", a, b, at)
			}
			for _, r := range c.Between { // really refused there
				on := carried(row.Sent[r.On.Offset].Body)
				if r.Identifier == nil || !slices.Contains(on, r.Identifier.Identifier()) {
					t.Fatalf("between %v and %v: %+v; the event carried %v", a, b, r, on)
				}
			}
		}
	})
}
