package computation

import (
	"bytes"
	"context"
	"testing"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/pipeline"
	"kith/timer"
	"kith/workspace"
)

// TestForgottenComputations: of a family no key names it any more, the sizes
// of audiences count it no longer, and no timer fires for it.
func TestForgottenComputations(t *testing.T) {
	w := newWorld(t, memory())
	w.declare(workspace.Audience{Key: "bookers", Enabled: true, Query: "event('Booked').within(7 days).count() >= 1"})
	w.build()
	for _, who := range []string{`"userId":"u","anonymousId":"a"`, `"anonymousId":"b","userId":"w"`, `"userId":"v"`} {
		w.row.Send(rowtest.Call{Body: `{"type":"track","event":"Booked",` + who + `}`, Source: "web"})
	}
	w.row.Send(rowtest.Call{Body: `{"type":"track","event":"Login","userId":"u","anonymousId":"c"}`, Source: "web"},
		rowtest.Call{Body: `{"type":"identify","anonymousId":"d","traits":{"email":"jo@example.com"}}`, Source: "web"},
		rowtest.Call{Body: `{"type":"identify","userId":"u","traits":{"email":"jo@example.com"}}`, Source: "web"})
	audience := w.audience("bookers")
	sizes := func() (members int, size int64) {
		w.row.View(func(r kv.Reader) error {
			list, err := w.engine.Reader().Members(r, rowtest.Space, rowtest.Epoch, audience.ID, event.ProfileID{}, 100)
			if err != nil {
				return err
			}
			members = len(list)
			size, err = w.engine.Reader().Size(r, rowtest.Space, rowtest.Epoch, audience.ID)
			return err
		})
		return members, size
	}
	if n, size := sizes(); n != 3 || size != 3 {
		t.Fatalf("there are %d members, and the size is %d", n, size)
	}
	var family []event.ProfileID
	w.row.View(func(r kv.Reader) (err error) {
		read := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		id, err := read.Lookup(event.Users, "user_id", "u")
		if err != nil {
			return err
		}
		family, err = read.Family(id)
		return err
	})
	if len(family) != 2 {
		t.Fatalf("the family is %v", family)
	}
	err := w.row.Loop.Do(context.Background(), func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		return Forget(b, family...)
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, size := sizes(); n != 2 || size != 2 {
		t.Errorf("there are %d members left, and the size is %d, want 2", n, size)
	}
	w.row.View(func(r kv.Reader) error {
		for _, room := range []byte{Room, timer.Room} {
			for pair, err := range r.Scan(kv.Prefix(kv.EpochKey(rowtest.Space, rowtest.Epoch, room))) {
				if err != nil {
					return err
				}
				for _, p := range family {
					if bytes.Contains(pair.Key, p[:]) || bytes.Contains(pair.Value, p[:]) {
						t.Errorf("%s is still in %q", p, pair.Key)
					}
				}
			}
		}
		return nil
	})
}
