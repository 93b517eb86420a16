package audience_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"kith/audience"
	"kith/computation"
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

// TestDesk runs the row and a Builder as a server does, and asks.
func TestDesk(t *testing.T) {
	layout := &pipeline.Layout{}
	who := identity.New(layout)
	people := profile.New(layout, who.Slot())
	engine := computation.New(layout, who.Slot(), people.Slot())
	row := rowtest.New(t, memkv.New(), who, people, engine)
	desk := audience.NewDesk(row.DB, engine.Reader(), func(uint32) uint32 { return rowtest.Epoch })

	for i := range 5 {
		row.Send(rowtest.Call{Source: "web", Body: fmt.Sprintf(`{"type":"track","event":"Booked","userId":"u%d"}`, i)})
		row.Clock.Set(row.Clock.Now().Add(time.Hour))
	}
	a := workspace.Audience{ID: "aud_1", SpaceID: "spa_1", Key: "booked", Enabled: true, Version: 1, Query: "event('Booked').within(1 day).count() >= 1"}
	s := &workspace.Snapshot{Number: 1, Spaces: []workspace.Space{{ID: "spa_1", Number: rowtest.Space}}, Audiences: []workspace.Audience{a}}
	s.Seal()
	row.Config(s)
	if got, err := desk.Status(t.Context(), rowtest.Space, &a); err != nil || got != (audience.Status{State: "Preparing", Detail: "waits to be computed"}) {
		t.Fatalf("%+v, %v", got, err)
	}

	b := computation.NewBuilder(computation.BuilderConfig{
		DB: row.DB, Loop: row.Loop, History: row.Archive, Engine: engine, Space: rowtest.Space, Epoch: rowtest.Epoch,
		Logger: slog.New(slog.DiscardHandler),
		Profiles: func(r kv.Reader, space, epoch uint32, after event.ProfileID, limit int) ([]event.ProfileID, error) {
			return identity.NewReader(r, space, epoch).People(after, limit)
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	want := audience.Status{State: "Live", Size: 5}
	for deadline := time.Now().Add(time.Minute); ; {
		got, err := desk.Status(t.Context(), rowtest.Space, &a)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%+v, %v", got, err)
		}
		if got == want {
			break
		}
	}

	var all []audience.Member
	for cursor := ""; ; {
		list, next, err := desk.Members(t.Context(), rowtest.Space, "aud_1", cursor, 2)
		if err != nil || len(list) == 0 || len(list) > 2 {
			t.Fatalf("%v, %v", list, err)
		}
		all = append(all, list...)
		if cursor = next; cursor == "" {
			break
		}
	}
	if len(all) != 5 {
		t.Fatalf("%d members", len(all))
	}
	for i, m := range all {
		standings, err := desk.Standings(t.Context(), rowtest.Space, m.Profile)
		booked := rowtest.Start().Add(time.Duration(i) * time.Hour)
		if err != nil || len(standings) != 1 || !standings[0].Member || standings[0].Audience.Key != "booked" || !standings[0].Next.Equal(booked.Add(24*time.Hour)) {
			t.Fatalf("%+v, %v", standings, err)
		}
	}
	for _, limit := range []int{0, audience.MaxMembers + 1} {
		if _, _, err := desk.Members(t.Context(), rowtest.Space, "aud_1", "", limit); !fault.Is(err, fault.Invalid) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	if _, _, err := desk.Members(t.Context(), rowtest.Space, "aud_1", "nowhere", 1); !fault.Is(err, fault.Invalid) {
		t.Error(err)
	}
}
