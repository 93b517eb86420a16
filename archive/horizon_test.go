package archive_test

import (
	"math"
	"testing"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// again returns another archive over the same store, as after a restart.
func (p *past) again() *archive.Archive {
	return archive.New(p.db, func(uint32) (commitlog.Log, error) { return p.log, nil })
}

// moveHorizon moves the horizon of a past.
func (p *past) moveHorizon(t *testing.T, h archive.Horizon) error {
	t.Helper()
	return p.db.Update(t.Context(), pipeline.Fence(1, 0), kv.Durable, func(tx kv.Tx) error {
		return p.archive.MoveHorizon(&pipeline.Batch{Live: true, Tx: tx, Space: 1}, h)
	})
}

// TestHorizon reads what lies before a horizon, and after it.
func TestHorizon(t *testing.T) {
	p := newPast(t, 4, 25, 100)
	ctx := t.Context()
	if err := p.moveHorizon(t, archive.Horizon{Offset: 101, At: 7}); !fault.Is(err, fault.Conflict) {
		t.Fatalf("beyond what the loop has passed: %v, want a conflict", err)
	}
	err := p.db.Update(ctx, pipeline.Fence(1, 0), kv.Durable, func(tx kv.Tx) error {
		return tx.Set(kv.EpochKey(1, 0, pipeline.PositionRoom), []byte{1, 100, 0, 0})
	})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := p.archive.Horizon(ctx, 1); err != nil || !h.IsZero() {
		t.Fatalf("the horizon is %+v (%v), want none", h, err)
	}
	want := archive.Horizon{Offset: 60, At: p.records[60].At, Moved: 12}
	if err := p.moveHorizon(t, want); err != nil {
		t.Fatal(err)
	}
	if err := p.moveHorizon(t, archive.Horizon{Offset: 59, At: want.At}); !fault.Is(err, fault.Conflict) {
		t.Fatalf("back: %v, want a conflict", err)
	}
	a := p.again()
	if h, err := a.Horizon(ctx, 1); err != nil || h != want {
		t.Fatalf("the horizon is %+v (%v), want %+v", h, err, want)
	}
	if _, err := a.Follow(ctx, 1, 59, 1<<20, func(*pipeline.Judged) error { return nil }); !fault.Is(err, fault.Conflict) {
		t.Errorf("following from before the horizon: %v, want a conflict", err)
	}
	next := commitlog.Offset(60)
	end, err := a.Follow(ctx, 1, 60, 1<<20, func(j *pipeline.Judged) error {
		if j.Offset != next || len(j.Processed()) == 0 {
			t.Errorf("followed record %d with %d bytes, want %d with some", j.Offset, len(j.Processed()), next)
		}
		next++
		return nil
	})
	if err != nil || end != 100 {
		t.Errorf("followed to %d (%v), want 100", end, err)
	}
	heads := 0
	_, err = a.FollowHeads(ctx, 1, 0, 1<<20, func(j *pipeline.Judged) error {
		if trimmed := len(j.Processed()) == 0; trimmed != (j.Offset < 60) || j.Head.MessageID == "" {
			t.Errorf("record %d: %d bytes, head %+v", j.Offset, len(j.Processed()), j.Head)
		}
		heads++
		return nil
	})
	if err != nil || heads != 100 {
		t.Errorf("followed %d heads (%v), want 100", heads, err)
	}
	err = a.Scan(ctx, 1, 0, 0, 100, nil, func(e archive.Entry) error {
		if e.Offset < 60 || len(e.Body) == 0 {
			t.Errorf("the scan met record %d with %d bytes", e.Offset, len(e.Body))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	seen := 0
	err = a.History(ctx, 1, 0, []event.ProfileID{profile(1), profile(2)}, archive.Window{From: 0, To: math.MaxInt64}, func(e archive.Entry) (bool, error) {
		if e.Trimmed != (e.Offset < 60) || e.Trimmed != (len(e.Body) == 0) || e.Head.Name != "Seen" {
			t.Errorf("history has record %d: trimmed %v, %d bytes, name %q", e.Offset, e.Trimmed, len(e.Body), e.Head.Name)
		}
		seen++
		return true, nil
	})
	if err != nil || seen < 90 {
		t.Errorf("history has %d events (%v)", seen, err)
	}
	back := 0
	_, _, err = a.Back(ctx, 1, 0, 100, 1000, nil, func(r *archive.Recent) (bool, error) {
		if r.Trimmed != (r.Offset < 60) || r.Trimmed != (len(r.Processed()) == 0) {
			t.Errorf("backwards, record %d: trimmed %v, %d bytes", r.Offset, r.Trimmed, len(r.Processed()))
		}
		back++
		return true, nil
	})
	if err != nil || back != 100 {
		t.Errorf("backwards there are %d events (%v), want 100", back, err)
	}
}
