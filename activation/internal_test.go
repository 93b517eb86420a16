package activation

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"kith/clock"
	"kith/event"
	"kith/fault"
	"kith/job"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// TestNoWakeIsLost has one space connect often and then another once, before
// anybody listens.
func TestNoWakeIsLost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	db := memkv.New()
	err := db.Update(ctx, pipeline.Fence(2, 0), kv.Durable, func(tx kv.Tx) error {
		return tx.Set(pendingKey(2, pair{"aud", "dest"}), kv.Value{pendingFormat}.Uvarint(7))
	})
	if err != nil {
		t.Fatal(err)
	}
	syncs := NewSyncs(db, nil, func(uint32) (Loop, error) { return nil, errors.New("no loop") })
	jobs := job.New(db, clock.System{}, slog.New(slog.DiscardHandler), syncs.Kinds()...)
	for range 200 {
		syncs.Connected(1)
	}
	syncs.Connected(2)
	ended := make(chan error, 1)
	go func() { ended <- syncs.Run(ctx, jobs) }()
	for {
		all, err := jobs.List(ctx)
		if err != nil {
			t.Fatalf("no job was started for the second space: %v", err)
		}
		if len(all) == 1 && all[0].ID == "sync/2/aud/dest/7" {
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// narrow is a loop whose transactions take only so many profiles.
type narrow struct {
	most int
	seen []event.ProfileID
}

func (*narrow) Epoch() uint32 { return 0 }

func (n *narrow) Do(_ context.Context, fn pipeline.Work) error {
	var seen []event.ProfileID
	err := fn(nil, func(r *pipeline.Record) error {
		seen = append(seen, r.Profile)
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(seen) > n.most:
		return fault.New(fault.Invalid, "the transaction is too large")
	}
	n.seen = append(n.seen, seen...)
	return nil
}

// TestMoreThanATransactionTakes syncs profiles of which much is to be said.
func TestMoreThanATransactionTakes(t *testing.T) {
	people := make([]event.ProfileID, walkChunk)
	for i := range people {
		people[i] = event.ProfileID{byte(i >> 8), byte(i)}
	}
	s := &Syncs{}
	loop := &narrow{most: 60}
	if err := s.compare(t.Context(), loop, params{}, "run", people); err != nil {
		t.Fatal(err)
	}
	if len(loop.seen) != len(people) {
		t.Fatalf("%d profiles were reconciled, want %d", len(loop.seen), len(people))
	}
	for i := range people {
		if loop.seen[i] != people[i] {
			t.Fatalf("profile %d came out of order", i)
		}
	}
	if err := s.compare(t.Context(), &narrow{}, params{}, "run", people); !fault.Is(err, fault.Invalid) {
		t.Errorf("a profile that never fits: %v", err)
	}
}

// store is a loop that commits to a store, and lists nobody.
type store struct{ kv.DB }

func (store) Epoch() uint32 { return 0 }

func (s store) Do(ctx context.Context, fn pipeline.Work) error {
	return s.Update(ctx, pipeline.Fence(1, 0), kv.Durable, func(tx kv.Tx) error {
		snapshot := &workspace.Snapshot{
			Spaces:       []workspace.Space{{ID: "spa_1", Number: 1}},
			Destinations: []workspace.Destination{{ID: "dest", Enabled: true}},
			Audiences:    []workspace.Audience{{ID: "aud", SpaceID: "spa_1", Enabled: true, Connections: []workspace.AudienceConnection{{DestinationID: "dest"}}}},
		}
		snapshot.Seal()
		return fn(&pipeline.Batch{Tx: tx, Space: 1, Snapshot: snapshot}, func(*pipeline.Record) error { return nil })
	})
}

func (store) Computing(kv.Reader, uint32, uint32, string) (bool, error) { return false, nil }

func (store) Members(kv.Reader, uint32, uint32, string, event.ProfileID, int) ([]event.ProfileID, error) {
	return nil, nil
}

// TestSyncEndsWhatItBegan has a connection made anew, by a later snapshot,
// before the sync of the earlier one has ended: the later one still waits.
func TestSyncEndsWhatItBegan(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	db := memkv.New()
	syncs := NewSyncs(db, store{db}, func(uint32) (Loop, error) { return store{db}, nil })
	jobs := job.New(db, clock.System{}, slog.New(slog.DiscardHandler), syncs.Kinds()...)
	ended := make(chan error, 1)
	go func() { ended <- jobs.Run(ctx) }()
	connection := pair{"aud", "dest"}
	for _, snapshot := range []uint64{5, 7} {
		err := db.Update(ctx, pipeline.Fence(1, 0), kv.Durable, func(tx kv.Tx) error {
			return tx.Set(pendingKey(1, connection), kv.Value{pendingFormat}.Uvarint(7))
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := syncs.begin(ctx, jobs, 1, waiting{connection, snapshot}); err != nil {
			t.Fatal(err)
		}
		for {
			all, err := jobs.List(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(all, func(s job.Status) bool { return s.State == job.Running }) {
				break
			}
		}
		var left []waiting
		if err := db.View(ctx, func(r kv.Reader) (err error) {
			left, err = pending(r, 1)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if want := snapshot == 5; want != (len(left) == 1) {
			t.Errorf("after the sync of snapshot %d wait %v", snapshot, left)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// swapped is a store whose epoch is swapped when the first members have been
// listed: its loop is superseded then, and the next one has them all.
type swapped struct {
	store
	epoch  atomic.Uint32
	listed []uint32 // the epochs in which members were listed from the first on
}

func (s *swapped) Epoch() uint32 { return s.epoch.Load() }

func (s *swapped) Members(_ kv.Reader, _, epoch uint32, _ string, after event.ProfileID, _ int) ([]event.ProfileID, error) {
	if !after.IsZero() {
		return nil, nil
	}
	s.listed = append(s.listed, epoch)
	s.epoch.Store(1)
	return []event.ProfileID{{9}}, nil
}

// at is the loop of one epoch of it.
type at struct {
	*swapped
	epoch uint32
}

func (l at) Epoch() uint32 { return l.epoch }

func (l at) Do(ctx context.Context, fn pipeline.Work) error {
	if l.epoch != l.swapped.Epoch() {
		return fault.New(fault.Unavailable, "superseded")
	}
	return l.store.Do(ctx, fn)
}

// TestSyncBeginsAgainAfterASwap: the members of another epoch are others, and
// none of those that a first sync has passed is left to somebody else.
func TestSyncBeginsAgainAfterASwap(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	db := memkv.New()
	s := &swapped{store: store{db}}
	syncs := NewSyncs(db, s, func(uint32) (Loop, error) { return at{s, s.Epoch()}, nil })
	err := db.Update(ctx, pipeline.Fence(1, 0), kv.Durable, func(tx kv.Tx) error {
		return tx.Set(pendingKey(1, pair{"aud", "dest"}), kv.Value{pendingFormat}.Uvarint(7))
	})
	if err != nil {
		t.Fatal(err)
	}
	jobs := job.New(db, clock.NewManual(time.Unix(0, 0)), slog.New(slog.DiscardHandler), syncs.Kinds()...)
	ended := make(chan error, 2)
	go func() { ended <- jobs.Run(ctx) }()
	go func() { ended <- syncs.Run(ctx, jobs, 1) }()
	for left := 1; left > 0; {
		err := db.View(ctx, func(r kv.Reader) (err error) {
			left, err = Pending(r, 1)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(s.listed, []uint32{0, 1}) {
		t.Errorf("members were listed from the first on in the epochs %v, want 0 and 1", s.listed)
	}
}
