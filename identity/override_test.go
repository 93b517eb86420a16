package identity_test

import (
	"testing"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// TestOverride: an epoch that was given the rules of a later snapshot goes by
// them from its start, and by the rules of their own time where records are
// later still.
func TestOverride(t *testing.T) {
	row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
	snapshot := func(number uint64, limit int) *workspace.Snapshot {
		s := &workspace.Snapshot{
			Number: number, Sources: []workspace.Source{{ID: "src", SpaceID: "spa_1"}},
			Spaces: []workspace.Space{{ID: "spa_1", Slug: "default", Number: rowtest.Space,
				Identifiers: []workspace.IdentifierRule{{Type: "user_id"}, {Type: "anonymous_id", Limit: limit}}}},
		}
		s.Seal()
		return s
	}
	row.Send(track("userId", "u"))
	row.Config(snapshot(1, 1))
	row.Send(track("userId", "u", "anonymousId", "a1"), track("userId", "u", "anonymousId", "a2"))
	row.Config(snapshot(2, 3))
	row.Send(track("userId", "u", "anonymousId", "a3"), track("userId", "u", "anonymousId", "a4"))
	row.Config(snapshot(3, 9))
	row.Send(track("userId", "u", "anonymousId", "a5"))

	has := func(epoch uint32) (list string) {
		row.View(func(r kv.Reader) error {
			read := identity.NewReader(r, rowtest.Space, epoch)
			id, err := read.Lookup(event.Users, "user_id", "u")
			if err != nil {
				return err
			}
			ids, err := read.Identifiers(id)
			for _, x := range ids {
				list += x.Value + " "
			}
			return err
		})
		return list
	}
	if got, want := has(rowtest.Epoch), "u a1 a3 a4 a5 "; got != want {
		t.Errorf("live: %q, want %q", got, want)
	}
	for epoch, tt := range map[uint32]struct {
		rules *workspace.Snapshot
		want  string
	}{
		1: {snapshot(2, 3), "u a1 a2 a3 a5 "},    // a4 came under rules 2, which are these
		2: {snapshot(3, 9), "u a1 a2 a3 a4 a5 "}, // all are older
		3: {snapshot(1<<40, 1), "u a1 "},         // what a simulation tries
		4: {nil, "u a1 a3 a4 a5 "},               // none
	} {
		row.Replay(epoch, func(tx kv.Tx) error {
			if tt.rules == nil {
				return nil
			}
			return identity.SetOverride(tx, rowtest.Space, epoch, tt.rules)
		}, identity.New(&pipeline.Layout{}))
		if got := has(epoch); got != tt.want {
			t.Errorf("epoch %d: %q, want %q", epoch, got, tt.want)
		}
		row.View(func(r kv.Reader) error {
			number, space, err := identity.NewReader(r, rowtest.Space, epoch).Override()
			if err != nil || (tt.rules == nil) != (space == nil) || tt.rules != nil && number != tt.rules.Number {
				t.Errorf("epoch %d: %d, %v, %v", epoch, number, space, err)
			}
			return nil
		})
	}
}
