package identity_test

import (
	"slices"
	"testing"

	"kith/commitlog"
	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// TestSightings: from an identifier to all profiles whose events did not use
// it, however many, and back; events that a block makes nobody's are listed.
func TestSightings(t *testing.T) {
	var layout pipeline.Layout
	row := rowtest.New(t, memkv.New(), identity.New(&layout))
	id := func(name, value string) event.Identifier {
		return event.Identifier{Collection: event.Users, Type: name, Value: value}
	}
	sightings := func(x event.Identifier) (profiles []event.ProfileID, nobodys []commitlog.Offset) {
		row.View(func(r kv.Reader) (err error) {
			profiles, nobodys, err = identity.NewReader(r, rowtest.Space, rowtest.Epoch).Sightings(x)
			return err
		})
		return profiles, nobodys
	}
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x"}
	for range 2 { // again: nothing is added
		for _, n := range names {
			row.Send(track("userId", n, "anonymousId", "kiosk"))
		}
	}
	profiles, _ := sightings(id("anonymous_id", "kiosk"))
	if len(profiles) != len(names)-1 { // the first owns it
		t.Errorf("%d profiles have seen the kiosk, want %d", len(profiles), len(names)-1)
	}
	row.View(func(r kv.Reader) error {
		for _, p := range profiles {
			seen, err := identity.NewReader(r, rowtest.Space, rowtest.Epoch).Seen(p)
			if err != nil || !slices.Equal(seen, []event.Identifier{id("anonymous_id", "kiosk")}) {
				t.Errorf("%s has seen %v, %v", p, seen, err)
			}
		}
		return nil
	})
	row.Order(&event.Command{Block: &event.ExternalID{Type: "user_id", ID: "nobody"}})
	first := row.Send(track("userId", "nobody"))
	second := row.Send(track("userId", "nobody"))
	profiles, nobodys := sightings(id("user_id", "nobody"))
	if len(profiles) != 0 || !slices.Equal(nobodys, []commitlog.Offset{first, second}) {
		t.Errorf("a blocked value is on events of %v and of nobody at %v", profiles, nobodys)
	}
	// What the rules block is seen by nobody.
	s := &workspace.Snapshot{Number: 1, Spaces: []workspace.Space{{ID: "spa_1", Number: rowtest.Space, Identifiers: []workspace.IdentifierRule{
		{Type: "user_id", Blocked: []string{"null"}},
	}}}, Sources: []workspace.Source{{ID: "web", SpaceID: "spa_1", Enabled: true}}}
	s.Seal()
	row.Config(s)
	row.Send(track("userId", "null"))
	if profiles, nobodys = sightings(id("user_id", "null")); len(profiles)+len(nobodys) != 0 {
		t.Errorf("a value that the rules block is seen: %v, %v", profiles, nobodys)
	}
}
