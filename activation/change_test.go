package activation_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"kith/internal/sim/rowtest"
	"kith/workspace"
)

// identifyOnly is a connection that sends each change as one identify call.
func identifyOnly(destination string) workspace.AudienceConnection {
	return workspace.AudienceConnection{ID: "c_" + destination, DestinationID: destination, Activations: []workspace.Activation{
		{ID: "act_" + destination, Type: workspace.AudienceMembershipChanged, Enabled: true},
	}}
}

// TestAudienceSwitchedOffAndOn switches an audience off and on again: while it
// is computed anew nobody knows who is a member, so nobody is said to have left.
func TestAudienceSwitchedOffAndOn(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) { s.Audiences = []workspace.Audience{bookers(identifyOnly("hook"))} })
	for i := range 40 {
		w.send(fmt.Sprintf(`{"type":"track","event":"Booking Completed","userId":"u%d"}`, i))
	}
	if n := len(w.told()); n != 40 {
		t.Fatalf("%d entries were told", n)
	}
	w.declare(func(s *workspace.Snapshot) { s.Audiences[0].Enabled = false })
	// A new identifier of a member has everything about it compared.
	w.send(`{"type":"identify","userId":"u1","traits":{"email":"jo@example.com"}}`)
	w.expect()
	w.declare(func(s *workspace.Snapshot) { s.Audiences[0].Enabled, s.Audiences[0].Version = true, 2 })
	w.expect(`hook identify userId="u1" traits={"bookers":true,"email":"jo@example.com"}`) // under its email
}

// TestActivationSwitchedOnLater connects an audience before anything is to be
// sent: what was not sent was not told.
func TestActivationSwitchedOnLater(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) {
		c := identifyOnly("hook")
		c.Activations[0].Enabled = false
		s.Audiences = []workspace.Audience{bookers(c)}
	})
	w.send(booked)
	w.expect()
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences[0].Connections = []workspace.AudienceConnection{identifyOnly("hook")}
	})
	w.expect(`hook identify userId="u1" traits={"bookers":true}`)
}

// TestMessageIDsDifferForEachChange has a person leave by an edit, come back,
// and leave because the audience is deleted.
func TestMessageIDsDifferForEachChange(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) { s.Audiences = []workspace.Audience{bookers(identifyOnly("hook"))} })
	w.send(booked)
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences[0].Version = 2
		s.Audiences[0].Query = "event('Booking Completed').within(60 days).count() >= 2"
	})
	w.send(booked)
	w.declare(func(s *workspace.Snapshot) { s.Audiences = nil })
	var ids, said []string
	for end := time.Now().Add(20 * time.Second); len(ids) < 4 && time.Now().Before(end); {
		ids, said = nil, nil
		for _, o := range w.row.Outputs() {
			if o.Message != nil {
				ids = append(ids, o.Message.MessageID)
				said = append(said, gjson.GetBytes(o.Message.Body, "traits.bookers").Raw)
			}
		}
	}
	if !slices.Equal(said, []string{"true", "false", "true", "false"}) {
		t.Fatalf("was told %v", said)
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 4 {
		t.Errorf("two messages have one id: %v", ids)
	}
}

// TestJobsHoldNoIdentifier looks into the jobs that first syncs leave behind:
// an erasure does not visit them.
func TestJobsHoldNoIdentifier(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) { s.Audiences = []workspace.Audience{bookers()} })
	w.row.Append(rowtest.Call{Source: "web", Body: `{"type":"identify","userId":"u1","traits":{"email":"jo@example.com"}}`})
	w.send(booked)
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences[0].Connections = []workspace.AudienceConnection{identifyOnly("hook")}
	})
	if len(w.told()) != 2 {
		t.Fatal("the first sync did not tell of both identifiers")
	}
	jobs, err := w.jobs.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, j := range jobs {
		found = found || len(j.Cursor) > 0
		gjson.ParseBytes(j.Cursor).ForEach(func(key, v gjson.Result) bool {
			plain, _ := base64.StdEncoding.DecodeString(v.Str)
			for _, text := range []string{v.Raw, string(plain)} {
				if strings.Contains(text, "example.com") || strings.Contains(text, "user_id") {
					t.Errorf("%s of the cursor of %s holds an identifier: %q", key.Str, j.ID, text)
				}
			}
			return true
		})
	}
	if !found {
		t.Error("no job has a cursor")
	}
}
