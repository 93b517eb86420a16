package archive_test

import (
	"context"
	"testing"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// owners returns whose the admitted events are, by their offsets.
func (p *past) owners(t *testing.T) map[commitlog.Offset]event.ProfileID {
	t.Helper()
	by := map[commitlog.Offset]event.ProfileID{}
	err := p.archive.Scan(context.Background(), 1, 0, 0, commitlog.Offset(len(p.records)), nil, func(e archive.Entry) error {
		by[e.Offset] = e.Profile
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return by
}

func (p *past) update(t *testing.T, fn func(kv.Tx) error) {
	t.Helper()
	if err := p.db.Update(context.Background(), pipeline.Fence(1, 0), kv.Durable, fn); err != nil {
		t.Fatal(err)
	}
}

func (p *past) history(t *testing.T, of event.ProfileID) (n int) {
	t.Helper()
	w := archive.Window{From: -1 << 62, To: 1 << 62}
	err := p.archive.History(context.Background(), 1, 0, []event.ProfileID{of}, w, func(archive.Entry) (bool, error) {
		n++
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestForgottenEventsAreNobodys(t *testing.T) {
	p := newPast(t, 4, 25, 100)
	before := p.owners(t)
	other := p.history(t, profile(2))
	if p.history(t, profile(1)) == 0 || other == 0 {
		t.Fatal("there is nothing to forget")
	}
	p.update(t, func(tx kv.Tx) error { return archive.Forget(tx, 1, 0, profile(1)) })
	if n := p.history(t, profile(1)); n != 0 {
		t.Errorf("%d events are left in the history", n)
	}
	if n := p.history(t, profile(2)); n != other {
		t.Errorf("another's history has %d events, want %d", n, other)
	}
	for at, whose := range p.owners(t) {
		want := before[at]
		if want == profile(1) {
			want = event.ProfileID{}
		}
		if whose != want {
			t.Errorf("the event at %d is %s's, want %s", at, whose, want)
		}
	}
	var shown int
	_, _, err := p.archive.Back(context.Background(), 1, 0, 100, 100, nil, func(e *archive.Recent) (bool, error) {
		shown++
		if e.Profile == profile(1) {
			t.Errorf("going back, the event at %d is still somebody's", e.Offset)
		}
		return true, nil
	})
	if err != nil || shown != 100 {
		t.Errorf("going back over %d events: %v", shown, err)
	}
}

func TestEventsChangeHands(t *testing.T) {
	p := newPast(t, 4, 25, 100)
	to := map[commitlog.Offset]archive.Whose{0: {Profile: profile(9)}, 30: {Profile: profile(8), Account: profile(7)}, 98: {}}
	before := p.owners(t)
	p.update(t, func(tx kv.Tx) error { return archive.Reassign(tx, 1, 0, to) })
	for at, whose := range p.owners(t) {
		want := before[at]
		if w, moved := to[at]; moved {
			want = w.Profile
		}
		if whose != want {
			t.Errorf("the event at %d is %s's, want %s", at, whose, want)
		}
	}
}
