package identity_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

func suspects(t *testing.T, row *rowtest.Row, epoch uint32, s identity.Suspicion, threshold, limit int) (list []identity.Suspect) {
	t.Helper()
	row.View(func(r kv.Reader) (err error) {
		list, _, err = identity.NewReader(r, rowtest.Space, epoch).Suspects(s, threshold, limit)
		return err
	})
	return list
}

// TestSuspects makes a kiosk, a blob that merges fast, a large profile, and a
// device that is ranked above people.
func TestSuspects(t *testing.T) {
	row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
	config(row, 1, workspace.IdentifierRule{Type: "user_id"}, workspace.IdentifierRule{Type: "anonymous_id", Limit: 1000})
	for i := range 30 { // a kiosk: everybody's anonymous id
		row.Send(track("userId", fmt.Sprint("guest", i), "anonymousId", "kiosk"))
		row.Send(track("userId", fmt.Sprint("guest", i), "anonymousId", "kiosk"))
	}
	var calls []rowtest.Call
	for i := range 40 { // a bot: forty visitors log in as one within an hour
		calls = append(calls, track("anonymousId", fmt.Sprint("bot", i)))
	}
	for i := range 40 {
		calls = append(calls, track("userId", "bot", "anonymousId", fmt.Sprint("bot", i)))
	}
	row.Send(calls...)
	for i := range 8 { // a guest with eight devices in eight weeks
		row.Clock.Set(row.Clock.Now().Add(7 * 24 * time.Hour))
		row.Send(track("anonymousId", fmt.Sprint("phone", i)), track("userId", "traveller", "anonymousId", fmt.Sprint("phone", i)))
	}
	of := func(s identity.Suspicion, threshold int) (got []string) {
		for _, x := range suspects(t, row, rowtest.Epoch, s, threshold, 10) {
			name := x.Identifier.Value
			for _, id := range x.Some {
				if id.Type == "user_id" {
					name = id.Value
				}
			}
			if name == "" {
				name = x.Some[0].Value
			}
			got = append(got, fmt.Sprint(name, " ", x.Figure))
		}
		return got
	}
	for _, c := range []struct {
		s         identity.Suspicion
		threshold int
		want      string
	}{
		{identity.ManyIdentifiers, 8, "bot 41, traveller 9"}, {identity.ManyIdentifiers, 20, "bot 41"}, {identity.ManyMerges, 10, "bot 39"},
		{identity.SharedValue, 10, "kiosk 29"}, {identity.SharedValue, 30, ""}, {identity.ManyRefused, 3, ""},
	} {
		got := strings.Join(of(c.s, c.threshold), ", ")
		if got != c.want {
			t.Errorf("%s of %d and more: %s, want %s", c.s, c.threshold, got, c.want)
		}
	}

	// Ranked above people, the device takes them all for refused.
	config(row, 2, workspace.IdentifierRule{Type: "user_id", Priority: 2}, workspace.IdentifierRule{Type: "anonymous_id", Priority: 1})
	for i := range 12 {
		row.Send(track("userId", fmt.Sprint("child", i), "anonymousId", "till"))
	}
	if got := strings.Join(of(identity.ManyRefused, 10), ", "); got != "child0 11" && got != "till 11" {
		t.Errorf("refused on one device: %s", got)
	}

	// What is erased is not listed, and leaves nothing of it.
	kiosk := lookup(t, row, "anonymous_id", "kiosk")
	bot := lookup(t, row, "user_id", "bot")
	row.View(func(r kv.Reader) error {
		read := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		family, err := read.Family(bot)
		if err != nil {
			return err
		}
		return row.DB.Update(t.Context(), pipeline.Fence(rowtest.Space, rowtest.Epoch), kv.Lazy, func(tx kv.Tx) error {
			return identity.Forget(tx, rowtest.Space, rowtest.Epoch, append(family, kiosk)...)
		})
	})
	if got := of(identity.ManyIdentifiers, 20); len(got) > 0 {
		t.Errorf("after it was erased: %v", got)
	}
	if got := of(identity.SharedValue, 3); slices.Contains(got, "kiosk 29") {
		t.Errorf("after it was erased: %v", got)
	}
	row.View(func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Prefix(kv.EpochKey(rowtest.Space, rowtest.Epoch, identity.Room).Byte('s'))) {
			if err != nil {
				return err
			}
			if key := string(pair.Key); strings.Contains(key, "kiosk") || strings.Contains(key, string(bot[:])) {
				t.Errorf("%q is left", key)
			}
		}
		return nil
	})
}

// TestSuspectsAgainstAScan takes random histories, in batches of any size, and
// compares the index with all profiles and all sightings there are.
func TestSuspectsAgainstAScan(t *testing.T) {
	for seed := range uint64(5) {
		random := rand.New(rand.NewPCG(seed, 4))
		row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
		config(row, 1, workspace.IdentifierRule{Type: "user_id", Limit: 2}, workspace.IdentifierRule{Type: "anonymous_id", Limit: 12})
		for range 60 {
			var calls []rowtest.Call
			for range 1 + random.IntN(20) {
				ids := []string{"anonymousId", fmt.Sprint("a", random.IntN(120))}
				if random.IntN(2) == 0 {
					ids = append(ids, "userId", fmt.Sprint("u", random.IntN(25)))
				}
				calls = append(calls, track(ids...))
			}
			row.Send(calls...)
			if random.IntN(10) == 0 {
				row.Order(&event.Command{DeleteIdentifier: &event.DeleteIdentifier{Identifier: event.ExternalID{Type: "anonymous_id", ID: fmt.Sprint("a", random.IntN(120))}}})
			}
		}
		row.Replay(2, nil, identity.New(&pipeline.Layout{}))
		for _, epoch := range []uint32{rowtest.Epoch, 2} {
			sizes, shared := map[event.ProfileID]int{}, map[string]int{}
			row.View(func(r kv.Reader) error {
				read := identity.NewReader(r, rowtest.Space, epoch)
				people, err := read.People(event.ProfileID{}, 10_000)
				if err != nil {
					return err
				}
				for _, id := range people {
					if at, err := read.Resolve(id); err != nil || at != id {
						continue
					}
					p, err := read.Profile(id)
					if err != nil {
						return err
					}
					if n := len(p.Identifiers); n >= identity.ManyIdentifiers.Floor() {
						sizes[id] = n
					}
				}
				for i := range 120 {
					id := event.Identifier{Collection: event.Users, Type: "anonymous_id", Value: fmt.Sprint("a", i)}
					profiles, _, err := read.Sightings(id)
					if err != nil {
						return err
					}
					if len(profiles) >= identity.SharedValue.Floor() {
						shared[id.Value] = len(profiles)
					}
				}
				return nil
			})
			got := suspects(t, row, epoch, identity.ManyIdentifiers, identity.ManyIdentifiers.Floor(), 1000)
			for _, x := range got {
				if sizes[x.Profile] != x.Figure {
					t.Errorf("seed %d, epoch %d: %s has %d, not %d", seed, epoch, x.Profile, sizes[x.Profile], x.Figure)
				}
			}
			if len(got) != len(sizes) || len(sizes) < 3 {
				t.Errorf("seed %d, epoch %d: %d large profiles, %d are there", seed, epoch, len(got), len(sizes))
			}
			some := suspects(t, row, epoch, identity.SharedValue, identity.SharedValue.Floor(), 1000)
			for _, x := range some {
				if shared[x.Identifier.Value] != x.Figure {
					t.Errorf("seed %d, epoch %d: %s has %d, not %d", seed, epoch, x.Identifier.Value, shared[x.Identifier.Value], x.Figure)
				}
			}
			if len(some) != len(shared) || len(shared) < 3 {
				t.Errorf("seed %d, epoch %d: %d shared values, %d are there", seed, epoch, len(some), len(shared))
			}
			if !slices.IsSortedFunc(some, func(a, b identity.Suspect) int { return b.Figure - a.Figure }) {
				t.Errorf("seed %d: not by figure", seed)
			}
			if few := suspects(t, row, epoch, identity.SharedValue, 3, 2); len(few) != 2 || few[0].Figure != some[0].Figure {
				t.Errorf("seed %d: the first two %+v", seed, few)
			}
		}
	}
}
