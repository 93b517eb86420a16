package revision_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/revision"
	"kith/workspace"
)

func (w *world) expectPeople(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.people()); diff != "" {
		w.t.Errorf("people: -want +got:\n%s", diff)
	}
}

func (w *world) expectTold(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.told()); diff != "" {
		w.t.Errorf("-want +told:\n%s", diff)
	}
}

const buyers = `event('Bought').count() >= 2`

// TestMergeAndUnmerge: two people who shared a device are parted: each event
// goes where its identifiers go, the counters are theirs again, and the
// destination hears once what is different.
func TestMergeAndUnmerge(t *testing.T) {
	w := newWorld(t, memkv.New())
	w.audience("buyers", buyers)
	w.send("identify city=Ulm user_id:u", "track Bought user_id:u", "identify city=Bonn email:jo@example.com", "track Bought email:jo@example.com")
	u, jo := w.of("user_id:u"), w.of("email:jo@example.com")
	w.expectTold()
	w.send("track Login user_id:u email:jo@example.com")
	w.expectPeople("email:jo@example.com user_id:u")
	if n := len(w.told()); n != 4 { // identify and track, under both
		t.Fatalf("%d messages on the merge", n)
	}
	at := w.order(separate("user_id:u", "email:jo@example.com"))
	w.expectPeople("email:jo@example.com", "user_id:u")
	if w.of("user_id:u") != u || w.of("email:jo@example.com") != jo {
		t.Error("the parts have other ids than before the merge")
	}
	w.expectTold("identify buyers=false revision/0/6", "identify buyers=false u revision/0/6")
	state := w.revised(at)
	if want := (revision.State{Phase: revision.Done, Events: 5, Before: 1, After: 2, Changed: 2, Announced: 2}); !cmp.Equal(state, want) {
		t.Errorf("the state is %+v, want %+v", state, want)
	}
	splits := w.row.Changes(pipeline.ProfileSplit)
	if len(splits) != 1 || splits[0].Profile != jo || splits[0].Change.Other != u {
		t.Errorf("the splits are %+v", splits)
	}
	w.same()
	w.restart()
	w.same()
	w.expectTold()

	// What they do from now on is theirs, also together.
	w.send("track Bought user_id:u email:jo@example.com")
	w.expectPeople("email:jo@example.com", "user_id:u")
	w.told()
	w.same()

	// The command lifted, they are one again, as the events say.
	w.order(lift(at))
	w.expectPeople("email:jo@example.com user_id:u")
	w.same()
	if len(w.row.Changes(pipeline.ProfilesMerged)) != 2 {
		t.Error("the second merge was not announced")
	}
}

// TestNothingSharedNothingChanged: those who have nothing to do with a command
// are not looked at.
func TestNothingSharedNothingChanged(t *testing.T) {
	w := newWorld(t, memkv.New())
	w.audience("buyers", buyers)
	w.send("track Bought user_id:u anonymous_id:a", "track Bought user_id:v anonymous_id:b", "track Bought user_id:v")
	w.told()
	at := w.order(separate("user_id:u", "anonymous_id:a"))
	if s := w.revised(at); s.Events != 1 || s.Before != 1 || s.After != 1 {
		t.Errorf("the state is %+v", s)
	}
	w.expectPeople("anonymous_id:b user_id:v", "user_id:u")
	w.expectTold()
	w.same()
}

// TestBlockedFamily: an address that a family shares made one of thirty
// people; blocked, they are thirty, and lifted one again.
func TestBlockedFamily(t *testing.T) {
	w := newWorld(t, memkv.New())
	w.declare(func(s *workspace.Snapshot) {
		s.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "user_id", Limit: 100}, {Type: "email"}}
	})
	w.audience("buyers", buyers)
	const family = 30
	var people []string
	for i := range family {
		w.send(fmt.Sprintf("track Bought user_id:u%02d email:all@example.com", i))
		people = append(people, fmt.Sprintf("user_id:u%02d", i))
	}
	w.send("track Bought user_id:u07", "track Bought email:all@example.com")
	one := "email:all@example.com " + strings.Join(people, " ")
	w.expectPeople(one)
	w.told()
	at := w.order(block("email:all@example.com"))
	w.expectPeople(people...)
	w.same()
	if s := w.revised(at); s.Events != family+2 || s.Before != 1 || s.After != family || s.Announced != family {
		t.Errorf("the state is %+v", s)
	}
	told := w.told() // all but u07 have left, and nobody has the address
	if len(told) != family || slices.Contains(told, "identify buyers=false u07 revision/0/34") ||
		!slices.Contains(told, "identify buyers=false revision/0/34") {
		t.Errorf("was told %q", told)
	}
	if removed := w.row.Changes(pipeline.IdentifierRemoved); len(removed) != 1 || removed[0].Change.Subject != "email:all@example.com" {
		t.Errorf("the identifiers removed are %+v", removed)
	}
	// What came under the address alone is nobody's, and comes back.
	w.send("track Bought email:all@example.com", "track Bought user_id:u08 email:all@example.com")
	w.told()
	w.order(lift(at))
	w.expectPeople(one)
	w.same()
	if told := w.told(); len(told) != family-1 { // u07 and u08 are members, the others enter, the address too
		t.Errorf("was told %q", told)
	}
}

// TestSecondMerge: what was parted and lifted can be parted again, and
// commands add up.
func TestSecondMerge(t *testing.T) {
	w := newWorld(t, memkv.New())
	w.audience("buyers", buyers)
	w.send("track Bought user_id:u", "track Bought anonymous_id:a", "track Bought anonymous_id:b",
		"track Login user_id:u anonymous_id:a", "track Login anonymous_id:b user_id:u")
	first := w.order(separate("user_id:u", "anonymous_id:a"))
	w.expectPeople("anonymous_id:a", "anonymous_id:b user_id:u")
	w.same()
	w.order(separate("user_id:u", "anonymous_id:b"))
	w.expectPeople("anonymous_id:a", "anonymous_id:b", "user_id:u")
	w.same()
	w.order(lift(first))
	w.expectPeople("anonymous_id:a user_id:u", "anonymous_id:b")
	w.same()
	w.order(separate("user_id:u", "anonymous_id:a"))
	w.expectPeople("anonymous_id:a", "anonymous_id:b", "user_id:u")
	w.same()
}

// TestOthersAreFreed: who was kept out by a limit of the one that is parted
// comes in.
func TestOthersAreFreed(t *testing.T) {
	w := newWorld(t, memkv.New())
	w.audience("buyers", buyers)
	// The address is u's, since it came first; v is refused it.
	w.send("track Bought user_id:u email:it@example.com", "track Bought user_id:v email:it@example.com",
		"track Bought user_id:v", "track Bought user_id:w anonymous_id:x")
	w.expectPeople("anonymous_id:x user_id:w", "email:it@example.com user_id:u", "user_id:v")
	at := w.order(separate("user_id:u", "email:it@example.com"))
	w.expectPeople("anonymous_id:x user_id:w", "email:it@example.com user_id:v", "user_id:u")
	w.same()
	if s := w.revised(at); s.Events != 3 {
		t.Errorf("the state is %+v", s)
	}
}

// TestFreedByWhatWasTakenAway: somebody who met an identifier that was refused
// to them then, and that a command took away since, belongs to the set when the
// one who had it becomes another.
func TestFreedByWhatWasTakenAway(t *testing.T) {
	w := newWorld(t, memkv.New())
	w.send("track A user_id:u email:e", "track A anonymous_id:a card:c email:e")
	w.send("track A user_id:v card:c") // u has it
	w.order(&event.Command{DeleteIdentifier: &event.DeleteIdentifier{Identifier: ext("card:c")}})
	w.send("track A anonymous_id:b card:c") // it is somebody else's now, who stays as he is
	w.expectPeople("anonymous_id:a email:e user_id:u", "anonymous_id:b card:c", "user_id:v")
	w.order(block("email:e"))
	w.expectPeople("anonymous_id:a user_id:v", "anonymous_id:b card:c", "user_id:u")
	w.same()
}

// TestBlockOfWhatHasLapsed: an identifier that was valid no more for those whom
// it had made one, and is another's, made them one still.
func TestBlockOfWhatHasLapsed(t *testing.T) {
	w := newWorld(t, memkv.New())
	w.declare(func(s *workspace.Snapshot) {
		s.Spaces[0].Identifiers = []workspace.IdentifierRule{{Type: "user_id"}, {Type: "anonymous_id"}, {Type: "card", ValidFor: "weekly"}}
	})
	w.send("track A user_id:u card:c", "track A anonymous_id:a card:c")
	w.row.Clock.Set(w.row.Clock.Now().Add(8 * 24 * time.Hour))
	w.send("track A user_id:v card:c")
	w.expectPeople("anonymous_id:a user_id:u", "card:c user_id:v")
	w.order(block("card:c"))
	w.expectPeople("anonymous_id:a", "user_id:u", "user_id:v")
	w.same()
}

// TestAccounts: accounts are parted as persons are, and memberships follow
// their events.
func TestAccounts(t *testing.T) {
	w := newWorld(t, memkv.New())
	w.audience("buyers", buyers)
	w.send("group g user_id:u", "group h user_id:v", "group g anonymous_id:a", "track Login user_id:u anonymous_id:a",
		"identify city=Ulm anonymous_id:a", "identify city=Bonn user_id:u")
	w.order(separate("user_id:u", "anonymous_id:a"))
	w.same()
	w.row.Order(&event.Command{Leave: &event.Leave{User: ext("user_id:u"), Account: ext("group_id:g")}})
	w.order(block("anonymous_id:a"))
	w.same()
	w.order(block("group_id:g"))
	if g := w.of("group_id:g"); !g.IsZero() {
		t.Errorf("the account is still %s's", g)
	}
	w.same()
}

// TestTooLarge: what is beyond the bounds is left to a rebuild, and says so;
// with larger bounds it is done after all.
func TestTooLarge(t *testing.T) {
	w := newWorld(t, memkv.New())
	w.stop()
	w.limits = revision.Limits{MaxEvents: 3}
	w.start()
	w.send("track Bought user_id:u", "track Bought anonymous_id:a", "track Login user_id:u anonymous_id:a", "track Bought user_id:u")
	at := w.order(separate("user_id:u", "anonymous_id:a"))
	if s := w.revised(at); s.Phase != revision.NeedsRebuild || s.Reason == "" {
		t.Errorf("the state is %+v", s)
	}
	w.expectPeople("anonymous_id:a user_id:u")
	w.send("track Bought user_id:v", "track Bought anonymous_id:b", "track Login user_id:v anonymous_id:b")
	w.order(separate("user_id:v", "anonymous_id:b"))
	w.expectPeople("anonymous_id:a user_id:u", "anonymous_id:b", "user_id:v")
	w.limits = revision.Limits{}
	w.restart()
	w.until("it was not done", func() bool {
		list, err := w.reviser.Commands(context.Background(), rowtest.Space)
		return err == nil && len(list) == 2 && list[0].State.Phase == revision.Done
	})
	w.expectPeople("anonymous_id:a", "anonymous_id:b", "user_id:u", "user_id:v")
	w.same()
}

// TestRulesFromTheStart: where rules hold from the start of an epoch, the values
// that a command names are compared in their form.
func TestRulesFromTheStart(t *testing.T) {
	db := memkv.New()
	w := newWorld(t, db)
	rules := &workspace.Snapshot{Number: 1 << 40, Spaces: []workspace.Space{{
		ID: "spa_1", Number: rowtest.Space, Slug: "default", Identifiers: []workspace.IdentifierRule{
			{Type: "user_id", Limit: 5}, {Type: "email", Limit: 5, Normalize: workspace.NormalizeEmail},
		},
	}}}
	rules.Seal()
	err := db.Update(t.Context(), pipeline.Fence(rowtest.Space, rowtest.Epoch), kv.Durable, func(tx kv.Tx) error {
		return identity.SetOverride(tx, rowtest.Space, rowtest.Epoch, rules)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.send("track Login user_id:u email:Jo@Example.com", "track Login user_id:v email:JO@example.com")
	w.expectPeople("email:jo@example.com user_id:u user_id:v")
	owners, err := w.reviser.Owners(t.Context(), rowtest.Space, block("email:jO@example.com"))
	if err != nil || len(owners) != 1 {
		t.Fatalf("owners %+v, %v", owners, err)
	}
	w.order(block("email:jO@example.com"))
	w.expectPeople("user_id:u", "user_id:v")
}
