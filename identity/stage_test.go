package identity_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

func track(ids ...string) rowtest.Call {
	body := `{"type":"track","event":"Seen"`
	for i := 0; i < len(ids); i += 2 {
		body += fmt.Sprintf(`,%q:%q`, ids[i], ids[i+1])
	}
	return rowtest.Call{Body: body + "}", Source: "src"}
}

func config(row *rowtest.Row, number uint64, rules ...workspace.IdentifierRule) {
	s := &workspace.Snapshot{
		Number:  number,
		Spaces:  []workspace.Space{{ID: "spa_1", Slug: "default", Number: rowtest.Space, Identifiers: rules}},
		Sources: []workspace.Source{{ID: "src", SpaceID: "spa_1"}},
	}
	s.Seal()
	row.Config(s)
}

func lookup(t *testing.T, row *rowtest.Row, name, value string) (p event.ProfileID) {
	t.Helper()
	row.View(func(r kv.Reader) (err error) {
		p, err = identity.NewReader(r, rowtest.Space, rowtest.Epoch).Lookup(event.Users, name, value)
		return err
	})
	return p
}

func TestChangesLeaveTheRow(t *testing.T) {
	row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
	config(row, 1, workspace.IdentifierRule{Type: "user_id", Blocked: []string{"null"}}, workspace.IdentifierRule{Type: "anonymous_id"},
		workspace.IdentifierRule{Type: "group_id"})
	row.Send(track("userId", "u1"))
	first := lookup(t, row, "user_id", "u1")
	row.Send(track("anonymousId", "a1"), track("userId", "u1", "anonymousId", "a1"), track("userId", "u2", "anonymousId", "a1"), track("userId", "null"))
	row.Send(rowtest.Call{Body: `{"type":"group","groupId":"g"}`})

	names := map[event.ProfileID]string{{}: "-", first: "first", event.UserProfile(row.Sent[2].ID): "second", event.UserProfile(row.Sent[4].ID): "third",
		event.AccountProfile(row.Sent[6].ID): "account"}
	var got []string
	for _, o := range row.Changes() {
		if o.Change.Cause.IsZero() || o.At != rowtest.Start().UnixMilli() {
			t.Errorf("%+v has no cause or no instant", o.Change)
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", names[o.Profile], o.Change.Kind, names[o.Change.Other], o.Change.Subject, o.Change.Detail)))
	}
	want := []string{
		"first profile created -",
		"first identifier attached - user_id:u1",
		"second profile created -",
		"second identifier attached - anonymous_id:a1",
		"first profiles merged second",
		"third profile created -",
		"third identifier attached - user_id:u2",
		"third identifier refused - anonymous_id:a1 Identifier value limit exceeded",
		"- identifier refused - user_id:null ID value blocked",
		"- identifier refused -  No matching identifiers on event",
		"account profile created -  account",
		"account identifier attached - group_id:g",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestAsOfTheRecord holds the slot to its promise: what a room asks about a
// record is answered as of that record, also when identity has gone on to
// the end of the batch, and by many goroutines at once.
func TestAsOfTheRecord(t *testing.T) {
	layout := &pipeline.Layout{}
	stage := identity.New(layout)
	slot := stage.Slot()
	var seen []*identity.Resolution
	var got []string
	ask := func() {
		got = make([]string, len(seen))
		var wg sync.WaitGroup
		for i, res := range seen {
			wg.Go(func() { got[i] = describe(t, res, seen[1].Profile) })
		}
		wg.Wait()
	}
	row := rowtest.New(t, memkv.New(), stage, pass{
		begin:  func() { seen = nil },
		handle: func(r *pipeline.Record) { seen = append(seen, slot.Get(r)) },
		finish: ask,
	})
	row.Send(track("userId", "u"), track("anonymousId", "a"))
	want := []string{"[u] 1", "[a] 1 apart"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	row.Send(
		track("userId", "u"),
		track("anonymousId", "a"),
		track("userId", "u", "anonymousId", "b"),
		track("userId", "u", "anonymousId", "a"),
		track("anonymousId", "a"),
	)
	want = []string{"[u] 1", "[a] 1 apart", "[u b] 1", "[u b a] 2", "[u b a] 2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// describe returns what a Resolution says: the identifiers, the size of the
// family, and whether the profile is the one asked about.
func describe(t *testing.T, res *identity.Resolution, other event.ProfileID) string {
	ids, err := res.Identifiers()
	if err != nil {
		t.Error(err)
	}
	var values []string
	for _, id := range ids {
		values = append(values, id.Value)
	}
	family, err := res.Family()
	if err != nil {
		t.Error(err)
	}
	line := fmt.Sprint(values, len(family))
	of, err := res.Resolve(other)
	if err != nil {
		t.Error(err)
	}
	if of == other && of == res.Profile {
		line += " apart"
	}
	return line
}

// pass is a stage made of functions.
type pass struct {
	begin  func()
	handle func(*pipeline.Record)
	finish func()
}

func (p pass) Name() string { return "functions" }

func (p pass) Begin(*pipeline.Batch) (pipeline.Pass, error) {
	p.begin()
	return p, nil
}

func (p pass) Handle(r *pipeline.Record) error {
	p.handle(r)
	return nil
}

func (p pass) Finish() error {
	p.finish()
	return nil
}

// TestWorkFindsTheSurvivor leads a piece of work that names a profile which
// has been merged away.
func TestWorkFindsTheSurvivor(t *testing.T) {
	layout := &pipeline.Layout{}
	stage := identity.New(layout)
	row := rowtest.New(t, memkv.New(), stage)
	row.Send(track("userId", "u"), track("anonymousId", "a"))
	child := lookup(t, row, "anonymous_id", "a")
	row.Send(track("userId", "u", "anonymousId", "a"))
	survivor := lookup(t, row, "user_id", "u")
	if child == survivor || lookup(t, row, "anonymous_id", "a") != survivor {
		t.Fatal("the profiles were not merged")
	}
	err := row.Loop.Do(context.Background(), func(_ *pipeline.Batch, step func(*pipeline.Record) error) error {
		r := &pipeline.Record{Work: "look", Profile: child}
		if err := step(r); err != nil {
			return err
		}
		res := stage.Slot().Get(r)
		if r.Profile != survivor || res == nil || res.Profile != survivor {
			t.Errorf("the work went to %s, want %s", r.Profile, survivor)
		}
		ids, err := res.Identifiers()
		if err != nil || len(ids) != 2 {
			t.Errorf("identifiers %v, %v", ids, err)
		}
		unknown := &pipeline.Record{Work: "look", Profile: event.ProfileID{1}}
		if err := step(unknown); err != nil {
			return err
		}
		if ids, err := stage.Slot().Get(unknown).Identifiers(); unknown.Profile != (event.ProfileID{1}) || ids != nil || err != nil {
			t.Errorf("an unknown profile has %v, %v", ids, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// counting counts what is written under identity's room.
type counting struct {
	*memkv.DB
	writes atomic.Int64
}

func (c *counting) Update(ctx context.Context, f kv.Fence, d kv.Durability, fn func(kv.Tx) error) error {
	return c.DB.Update(ctx, f, d, func(tx kv.Tx) error { return fn(&countingTx{tx, c}) })
}

type countingTx struct {
	kv.Tx
	db *counting
}

func (t *countingTx) Set(key, value []byte) error {
	if bytes.HasPrefix(key, kv.EpochKey(rowtest.Space, rowtest.Epoch, identity.Room)) {
		t.db.writes.Add(1)
	}
	return t.Tx.Set(key, value)
}

func TestNothingNewIsNoWrite(t *testing.T) {
	db := &counting{DB: memkv.New()}
	row := rowtest.New(t, db, identity.New(&pipeline.Layout{}))
	group := rowtest.Call{Body: `{"type":"group","userId":"u","groupId":"g","context":{"externalIds":[{"id":"1","type":"card","collection":"users","encoding":"none"}]}}`}
	row.Send(group, track("userId", "u", "anonymousId", "a1"), track("userId", "v", "anonymousId", "a1"))
	if n := db.writes.Load(); n != 5+3+2+1+2+2 { // owners, graphs, both ends of a link, types, what was refused, both ends of a sighting
		t.Errorf("%d writes for what is new", n)
	}
	db.writes.Store(0)
	row.Send(group, track("userId", "u"), track("anonymousId", "a1"), track("userId", "u", "anonymousId", "a1"), track("anonymousId", "a1"))
	if n := db.writes.Load(); n != 0 {
		t.Errorf("%d writes for what is known", n)
	}
	for range 5 {
		row.Append(track("userId", "v", "anonymousId", "a1"))
	}
	row.Send(track("userId", "v", "anonymousId", "a1"))
	if n := db.writes.Load(); n > 2*6 {
		t.Errorf("%d writes for what is refused again", n)
	}
	db.writes.Store(0)
	var calls []rowtest.Call
	for i := range 100 {
		calls = append(calls, track("userId", "u", "anonymousId", fmt.Sprintf("b%d", i%4)))
	}
	row.Send(calls...)
	if n := db.writes.Load(); n != 4+1 {
		t.Errorf("%d writes for four identifiers on a hot profile", n)
	}
}

func TestTypesAreBounded(t *testing.T) {
	row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
	for i := range identity.MaxRegisteredTypes {
		row.Append(rowtest.Call{Body: fmt.Sprintf(`{"type":"track","userId":"u","context":{"externalIds":[{"id":"x","type":"t%d","collection":"users","encoding":"none"}]}}`, i)})
	}
	row.Send(rowtest.Call{Body: `{"type":"track","userId":"u","context":{"externalIds":[
		{"id":"x","type":"one_more","collection":"users","encoding":"none"},
		{"id":"y","type":"t7","collection":"users","encoding":"none"},
		{"id":"x","type":"and_another","collection":"users","encoding":"none"}]}}`})
	row.View(func(r kv.Reader) error {
		types, err := identity.NewReader(r, rowtest.Space, rowtest.Epoch).Types()
		if len(types) != identity.MaxRegisteredTypes || types[7].Type != "t7" || types[7].Offset != 7 {
			t.Errorf("%d types", len(types))
		}
		return err
	})
	var refused []string
	for _, o := range row.Changes(pipeline.IdentifierRefused) {
		refused = append(refused, o.Change.Subject+" "+o.Change.Detail)
	}
	if diff := cmp.Diff([]string{"one_more:x " + identity.TooManyTypes, "and_another:x " + identity.TooManyTypes}, refused); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if lookup(t, row, "t7", "y").IsZero() || !lookup(t, row, "one_more", "x").IsZero() {
		t.Error("the wrong identifiers were attached")
	}
}

func TestLongValues(t *testing.T) {
	row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
	config(row, 1, workspace.IdentifierRule{Type: "user_id"}, workspace.IdentifierRule{Type: "card", Keys: []string{"card"}})
	long := strings.Repeat("é", event.MaxIdentifierBytes)
	row.Send(rowtest.Call{Source: "src", Body: fmt.Sprintf(`{"type":"track","userId":"u","properties":{"card":%q}}`, long)})
	refused := row.Changes(pipeline.IdentifierRefused)
	if len(refused) != 1 || refused[0].Change.Detail != identity.ValueTooLong || refused[0].Change.Subject != fmt.Sprintf("card:(%d bytes)", len(long)) {
		t.Errorf("refused: %+v", refused)
	}
	if !lookup(t, row, "card", long).IsZero() {
		t.Error("the long value was attached")
	}
}

// TestIntakeChangesWhatIsFound has a stage before identity take the e-mail
// out of an event, as a tracking plan may.
func TestIntakeChangesWhatIsFound(t *testing.T) {
	layout := &pipeline.Layout{}
	stage := identity.New(layout)
	row := rowtest.New(t, memkv.NewWith(memkv.Options{Rerun: func(f kv.Fence) bool { return f == pipeline.Fence(rowtest.Space, rowtest.Epoch) }}),
		rowtest.Probe("plan", func(r *pipeline.Record) error {
			if r.Event == nil {
				return nil
			}
			changed, err := event.Parse([]byte(`{"type":"identify","userId":"u","traits":{"card":"2"}}`))
			r.Event, r.Verdict.Body = changed, changed.Body
			return err
		}), stage)
	config(row, 1, workspace.IdentifierRule{Type: "user_id"}, workspace.IdentifierRule{Type: "email"}, workspace.IdentifierRule{Type: "card", Keys: []string{"card"}})
	row.Send(rowtest.Call{Source: "src", Body: `{"type":"identify","userId":"u","traits":{"email":"x@example.com","card":"1"}}`})
	row.View(func(r kv.Reader) error {
		graph := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		ids, err := graph.Identifiers(lookup(t, row, "user_id", "u"))
		if len(ids) != 2 || ids[1].Type != "card" || ids[1].Value != "2" {
			t.Errorf("identifiers %+v", ids)
		}
		return err
	})
}

func TestLinksComeInPages(t *testing.T) {
	row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
	group := func(user, anonymous, id string) rowtest.Call {
		return rowtest.Call{Body: fmt.Sprintf(`{"type":"group","userId":%q,"anonymousId":%q,"groupId":%q}`, user, anonymous, id)}
	}
	for i := range 7 {
		row.Clock.Set(row.Clock.Now().Add(1e9))
		row.Send(group(fmt.Sprintf("u%d", i), "", "g"), group("", fmt.Sprintf("a%d", i), "g"))
	}
	for i := range 3 { // each pair becomes one person, linked twice
		row.Send(track("userId", fmt.Sprintf("u%d", i), "anonymousId", fmt.Sprintf("a%d", i)))
	}
	row.View(func(r kv.Reader) error {
		graph := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		account, err := graph.Lookup(event.Accounts, "group_id", "g")
		if err != nil {
			return err
		}
		all, err := graph.Links(account, identity.LinkMark{}, 0)
		if err != nil || len(all) != 7+4 {
			t.Fatalf("%d links, %v", len(all), err)
		}
		for size := 1; size < 12; size++ {
			var paged []identity.Member
			mark := identity.LinkMark{}
			for {
				page, err := graph.Links(account, mark, size)
				if err != nil {
					return err
				}
				paged = append(paged, page...)
				if len(page) < size {
					break
				}
				if mark, err = identity.ParseLinkMark(page[len(page)-1].Mark.String()); err != nil {
					return err
				}
			}
			if diff := cmp.Diff(all, paged, cmp.AllowUnexported(identity.LinkMark{})); diff != "" {
				t.Errorf("in pages of %d (-want +got):\n%s", size, diff)
			}
		}
		users := map[event.ProfileID]bool{}
		for _, m := range all {
			if users[m.Profile] {
				t.Errorf("%s is listed twice", m.Profile)
			}
			users[m.Profile] = true
		}
		return nil
	})
	for _, bad := range []string{"", "x", strings.Repeat("z", 44)} {
		if _, err := identity.ParseLinkMark(bad); err == nil {
			t.Errorf("%q is taken as a mark", bad)
		}
	}
}

// TestLargeProfilesAreReported: no number of identifiers and merges is refused,
// and a space is told when there are many.
func TestLargeProfilesAreReported(t *testing.T) {
	row := rowtest.New(t, memkv.New(), identity.New(&pipeline.Layout{}))
	s := &workspace.Snapshot{
		Number: 1, Sources: []workspace.Source{{ID: "src", SpaceID: "spa_1"}},
		Spaces: []workspace.Space{{ID: "spa_1", Slug: "default", Number: rowtest.Space, IdentityGuard: workspace.IdentityGuard{Identifiers: 700, Merges: 300},
			Identifiers: []workspace.IdentifierRule{{Type: "user_id"}, {Type: "anonymous_id", Limit: 1_000_000}}}},
	}
	s.Seal()
	row.Config(s)
	const merges = 1000
	row.Send(track("userId", "u"))
	var calls []rowtest.Call
	for i := range merges {
		a := fmt.Sprint("a", i)
		calls = append(calls, track("anonymousId", a), track("userId", "u", "anonymousId", a))
	}
	row.Send(calls...)
	if refused := row.Changes(pipeline.IdentifierRefused); len(refused) > 0 {
		t.Errorf("%d were refused: %+v", len(refused), refused[0].Change)
	}
	var told []string
	for _, o := range row.Changes(pipeline.ProfileSuspicious) {
		told = append(told, o.Change.Subject+": "+o.Change.Detail)
	}
	want := []string{
		"merges: the profile has 301, more than 300", "merges: the profile has 601, more than 300", "identifiers: the profile has 701, more than 700",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	row.View(func(r kv.Reader) error {
		read := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		id := lookup(t, row, "user_id", "u")
		ids, merged, err := read.Size(id)
		if err != nil || ids != 1+merges || merged != merges {
			t.Errorf("%d identifiers, %d merges, %v", ids, merged, err)
		}
		family, err := read.Family(id)
		if err != nil || len(family) != 1+merges || family[0] != id {
			t.Errorf("%d in the family, %v", len(family), err)
		}
		return nil
	})
}
