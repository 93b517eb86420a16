package activation_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kith/activation"
	"kith/event"
	"kith/internal/sim/rowtest"
	"kith/pipeline"
	"kith/workspace"
)

// expectAll is expect where several first syncs tell side by side.
func (w *world) expectAll(want ...string) {
	w.t.Helper()
	got := w.told()
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("-want +told:\n%s", diff)
	}
}

// entry is what both destinations of connect are told of a user who is in.
func entry(user string) []string {
	track := ` track userId="` + user + `" event="Audience Entered" properties={"audience_key":"bookers","bookers":true}`
	return []string{state(user, "true"), "hook" + track, "mail" + track}
}

func state(user, member string) string {
	return `hook identify userId="` + user + `" traits={"bookers":` + member + `}`
}

func exit(user string) []string {
	return []string{state(user, "false"), `hook track userId="` + user + `" event="Audience Exited" properties={"audience_key":"bookers","bookers":false}`}
}

// connect connects bookers to hook in both forms, and to mail by an activation.
func connect(s *workspace.Snapshot) {
	s.Audiences[0].Connections = []workspace.AudienceConnection{
		{ID: "c", DestinationID: "hook"},
		{ID: "d", DestinationID: "mail", Activations: []workspace.Activation{{ID: "act", Type: workspace.AudienceEntered, Enabled: true}}},
	}
}

func switched(on bool) func(*workspace.Snapshot) {
	return func(s *workspace.Snapshot) { s.Destinations[0].Enabled = on }
}

func bookedBy(user string) string {
	return `{"type":"track","event":"Booking Completed","userId":"` + user + `"}`
}

func (w *world) sync(user string) {
	w.t.Helper()
	w.work(&pipeline.Record{Profile: w.lookup(userID(user)), Work: activation.Sync{Run: "reconcile"}})
}

func (w *world) deleteIdentifier(user string) {
	w.t.Helper()
	w.row.Order(&event.Command{DeleteIdentifier: &event.DeleteIdentifier{Identifier: event.ExternalIDOf(userID(user))}})
}

// TestReconcileOvertakesFirstSync: whoever comes first, after a swap or a
// revision, tells a connection whose first sync is not finished all that this
// would have told.
func TestReconcileOvertakesFirstSync(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) { s.Audiences = []workspace.Audience{bookers()} })
	w.send(bookedBy("u1"), bookedBy("u2"))
	w.held.Store(true)
	w.configure(connect)
	w.sync("u1")
	w.expect(entry("u1")...)
	// What this connection was told is corrected, also before its first sync
	// has ended.
	w.work(&pipeline.Record{Work: activation.Retract{Identifier: userID("u1"), Run: "reconcile"}})
	w.sync("u1")
	w.expect(state("u1", "false"), state("u1", "true"), entry("u1")[2])
	w.release()
	w.expectAll(entry("u2")...)
	w.sync("u2")
	w.expect()
}

// TestExitsWhileOff has two people leave while their destination is off, of whom
// a reconciliation tells the first.
func TestExitsWhileOff(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) { s.Audiences = []workspace.Audience{bookers()} })
	w.send(bookedBy("u1"), bookedBy("u2"))
	w.declare(connect)
	w.expectAll(append(entry("u1"), entry("u2")...)...)
	w.declare(switched(false))
	w.row.Clock.Set(rowtest.Start().Add(60 * 24 * time.Hour))
	w.send(`{"type":"track","event":"Anything","userId":"v"}`)
	w.expect()
	w.held.Store(true)
	w.configure(switched(true))
	w.sync("u1")
	w.expect(exit("u1")...)
	w.release()
	w.expect(exit("u2")...)
}

// TestNoHistory switches the destination of a connection without history off
// and on again: what has ended meanwhile is taken back, once, and whoever it
// never heard of stays unmentioned, also by a reconciliation.
func TestNoHistory(t *testing.T) {
	w := newWorld(t)
	no := false
	w.declare(func(s *workspace.Snapshot) {
		a := bookers()
		a.Options.IncludeHistoricalData = &no
		s.Audiences = []workspace.Audience{a}
	})
	w.send(bookedBy("before"))
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences[0].Connections = []workspace.AudienceConnection{{ID: "c", DestinationID: "hook"}}
	})
	w.expect()
	w.send(bookedBy("deleted"), bookedBy("leaves"))
	w.row.Clock.Set(rowtest.Start().Add(30 * 24 * time.Hour))
	w.send(bookedBy("before"), bookedBy("stays"))
	w.expect(slices.Concat(entry("deleted")[:2], entry("leaves")[:2], entry("stays")[:2])...)
	w.declare(switched(false))
	w.deleteIdentifier("deleted")
	w.row.Clock.Set(rowtest.Start().Add(61 * 24 * time.Hour))
	w.send(bookedBy("meanwhile"))
	w.expect()
	w.declare(switched(true))
	w.expectAll(append(exit("leaves"), state("deleted", "false"))...)
	for _, user := range []string{"before", "leaves", "stays", "meanwhile"} {
		w.sync(user)
	}
	w.declare(switched(false))
	w.declare(switched(true))
	w.expect()
	w.row.Clock.Set(rowtest.Start().Add(91 * 24 * time.Hour)) // the member of before leaves, unmentioned
	w.send(`{"type":"track","event":"Anything","userId":"v"}`)
	w.expect(exit("stays")...)
}

// TestAudienceAndDestinationComeBackTogether has people leave, and an identifier
// be deleted, while a destination is off, and the audience switched off and on
// with it: the first sync waits until it is known who is a member.
func TestAudienceAndDestinationComeBackTogether(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences = []workspace.Audience{bookers(workspace.AudienceConnection{ID: "c", DestinationID: "hook"})}
	})
	w.send(bookedBy("deleted"), bookedBy("leaves"))
	w.row.Clock.Set(rowtest.Start().Add(30 * 24 * time.Hour))
	w.send(bookedBy("stays"))
	w.told()
	w.declare(switched(false))
	w.row.Clock.Set(rowtest.Start().Add(61 * 24 * time.Hour))
	w.send(`{"type":"track","event":"Anything","userId":"v"}`)
	w.declare(func(s *workspace.Snapshot) { s.Audiences[0].Enabled = false })
	w.deleteIdentifier("deleted")
	w.expect()
	w.declare(func(s *workspace.Snapshot) {
		s.Destinations[0].Enabled = true
		s.Audiences[0].Enabled, s.Audiences[0].Version = true, 2
	})
	w.expectAll(append(exit("leaves"), state("deleted", "false"))...)
}
