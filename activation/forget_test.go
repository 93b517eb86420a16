package activation_test

import (
	"context"
	"testing"

	"kith/activation"
	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

func userID(value string) event.Identifier {
	return event.Identifier{Collection: event.Users, Type: "user_id", Value: value}
}

// work hands the loop a record.
func (w *world) work(r *pipeline.Record) {
	w.t.Helper()
	err := w.row.Loop.Do(context.Background(), func(_ *pipeline.Batch, step func(*pipeline.Record) error) error { return step(r) })
	if err != nil {
		w.t.Fatal(err)
	}
}

// lookup returns whose an identifier is.
func (w *world) lookup(id event.Identifier) (p event.ProfileID) {
	w.t.Helper()
	w.row.View(func(r kv.Reader) (err error) {
		p, err = identity.NewReader(r, rowtest.Space, rowtest.Epoch).Lookup(id.Collection, id.Type, id.Value)
		return err
	})
	return p
}

// TestCorrectionsAreStates: what was forgotten is told again, as a correction:
// as the state that it is, and as an event only where an activation asks for
// one.
func TestCorrectionsAreStates(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences = []workspace.Audience{bookers(
			workspace.AudienceConnection{ID: "c", DestinationID: "hook"},
			workspace.AudienceConnection{ID: "d", DestinationID: "mail", Activations: []workspace.Activation{
				{ID: "act", Type: workspace.AudienceEntered, Enabled: true},
			}},
		)}
	})
	w.send(booked)
	const (
		identify = ` identify userId="u1" traits={"bookers":true}`
		entered  = ` track userId="u1" event="Audience Entered" properties={"audience_key":"bookers","bookers":true}`
	)
	w.expect("hook"+identify, "hook"+entered, "mail"+entered)
	sync := func() *pipeline.Record {
		return &pipeline.Record{Profile: w.lookup(userID("u1")), Work: activation.Sync{Run: "revision/1"}}
	}
	w.work(sync())
	w.expect() // nothing differs
	err := w.row.Loop.Do(context.Background(), func(b *pipeline.Batch, step func(*pipeline.Record) error) error {
		if told, err := activation.Told(b.Tx, rowtest.Space, userID("u1")); err != nil || !told {
			t.Errorf("told: %v, %v", told, err)
		}
		return activation.Forget(b.Tx, rowtest.Space, userID("u1"))
	})
	if err != nil {
		t.Fatal(err)
	}
	w.work(sync())
	w.expect("hook"+identify, "mail"+entered)
	w.work(sync())
	w.expect()
}

// TestRetraction: who is told that an identifier is nobody's, and that once.
func TestRetraction(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences = []workspace.Audience{bookers(workspace.AudienceConnection{ID: "c", DestinationID: "hook"})}
	})
	w.send(booked)
	w.told()
	retract := &pipeline.Record{Work: activation.Retract{Identifier: userID("u1"), Run: "revision/1"}}
	w.work(retract)
	w.expect(`hook identify userId="u1" traits={"bookers":false}`)
	w.work(retract)
	w.expect()
	w.work(&pipeline.Record{Work: activation.Retract{Identifier: userID("u2"), Run: "revision/1"}})
	w.expect()
}

// TestDeletedIdentifier: what was told under an identifier that is deleted
// ends there, also while the person stays a member, and is told again when it
// comes back.
func TestDeletedIdentifier(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences = []workspace.Audience{bookers(workspace.AudienceConnection{ID: "c", DestinationID: "hook"})}
	})
	w.send(booked)
	w.told()
	order := &event.Command{DeleteIdentifier: &event.DeleteIdentifier{Identifier: event.ExternalIDOf(userID("u1"))}}
	w.row.Order(order)
	w.expect(`hook identify userId="u1" traits={"bookers":false}`)
	w.row.Order(order)
	w.expect()
}
