package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kith/clock"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/internal/sim/model"
	"kith/kv"
	"kith/kv/pebblekv"
	"kith/pipeline"
	"kith/profile"
	"kith/query"
	"kith/workspace"
)

// The space and epoch of a server that has only the default space.
const (
	defaultSpace = 1
	firstEpoch   = 1
)

// compareWithModel opens the store that a server has left, has the naive model
// live through what is in its raw log, and compares who is whom and who is in
// which audience at the instant where the loop of that epoch stands.
func compareWithModel(t *testing.T, data string, epoch uint32) {
	t.Helper()
	ctx := context.Background()
	db, err := pebblekv.Open(filepath.Join(data, "store"), pebblekv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	store, err := workspace.Open(ctx, db, workspace.Options{Clock: clock.System{}, Random: rand.NewChaCha8([32]byte{})})
	if err != nil {
		t.Fatal(err)
	}
	world := replay(t, db)
	var layout pipeline.Layout
	who := identity.New(&layout)
	engine := computation.New(&layout, who.Slot(), profile.New(&layout, who.Slot()).Slot()).Reader()
	members := 0
	err = db.View(ctx, func(r kv.Reader) error {
		pos, err := pipeline.ReadPosition(r, defaultSpace, epoch)
		if err != nil {
			return err
		}
		graph := identity.NewReader(r, defaultSpace, epoch)
		for _, p := range world.Users {
			got, err := graph.Profile(event.UserProfile(p.Created.ID))
			if err != nil {
				return fmt.Errorf("the profile that record %d made: %w", p.Created.Offset, err)
			}
			want, have := []string{}, []string{}
			for _, x := range p.Identifiers {
				want = append(want, x.Type+":"+x.Value)
			}
			for _, x := range got.Identifiers {
				have = append(have, x.Type+":"+x.Value)
			}
			slices.Sort(want)
			slices.Sort(have)
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("identifiers of %s, -model +server:\n%s", got.ID, diff)
			}
		}
		for i := range store.Current().Audiences {
			a := &store.Current().Audiences[i]
			program, err := query.ParseAudience(a.Query)
			if err != nil {
				return err
			}
			m := model.Audience{Query: program, Types: a.Options.FilterByExternalIDs, After: -1, Since: -1 << 62}
			var want []event.ProfileID
			for _, p := range world.Users {
				if m.Member(p, pos.At) {
					want = append(want, event.UserProfile(p.Created.ID))
				}
			}
			got, err := engine.Members(r, defaultSpace, epoch, a.ID, event.ProfileID{}, 1_000_000)
			if err != nil {
				return err
			}
			slices.SortFunc(want, func(x, y event.ProfileID) int { return slices.Compare(x[:], y[:]) })
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("members of %s, -model +server:\n%s", a.Key, diff)
			}
			members += len(want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if members == 0 {
		t.Error("the model has nobody in any audience: nothing was compared")
	}
	t.Logf("%d profiles and %d memberships equal the model's", len(world.Users), members)
}

// replay has the model live through a raw log.
func replay(t *testing.T, db kv.DB) *model.World {
	t.Helper()
	ctx := context.Background()
	log, err := kvlog.Open(ctx, db, kv.SpaceKey(defaultSpace, 'r'), "log/raw/1", kvlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var history []model.Record
	for next := commitlog.Offset(0); ; {
		blocks, err := log.Read(ctx, next, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(blocks) == 0 {
			return model.Replay(history)
		}
		for _, b := range blocks {
			records, err := event.DecodeBlock(b.Data)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range records {
				at := int(b.First) + i
				switch r.Kind {
				case event.KindEvent:
					history = append(history, model.Record{
						Offset: at, ID: r.ID, Time: r.Time, Body: r.Body, Source: r.Source, MessageID: r.MessageID,
					})
				case event.KindCommand:
					c, err := event.ParseCommand(r.Body)
					if err != nil {
						t.Fatal(err)
					}
					history = append(history, model.Record{Offset: at, Command: c})
				}
			}
			next = b.End()
		}
	}
}
