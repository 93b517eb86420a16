package profile_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/profile"
	"kith/workspace"
)

// line is a space with identity and profile.
type line struct {
	*rowtest.Row
	t     testing.TB
	slot  pipeline.Slot[profile.View]
	space *workspace.Space
}

func newLine(t *testing.T, db kv.DB, behind ...pipeline.Stage) *line {
	layout := &pipeline.Layout{}
	who := identity.New(layout)
	traits := profile.New(layout, who.Slot())
	return &line{Row: rowtest.New(t, db, append([]pipeline.Stage{who, traits}, behind...)...), t: t, slot: traits.Slot(),
		space: &workspace.Space{ID: "spa_1", Slug: "default", Number: rowtest.Space}}
}

func (l *line) reader(c profile.Computations) *profile.Reader {
	return profile.NewReader(l.DB, l.Archive, c)
}

func (l *line) target(collection, id string) profile.Target {
	return profile.Target{Space: l.space, Epoch: rowtest.Epoch, Path: "default", Collection: collection, ID: id}
}

// traits returns the traits of a profile as the Profile API does, "name=value"
// in the order of names.
func (l *line) traits(collection, id string) string {
	l.t.Helper()
	page, err := l.reader(nil).Traits(context.Background(), l.target(collection, id), profile.TraitsQuery{Limit: profile.MaxLimit})
	if err != nil {
		l.t.Fatal(err)
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(page.Traits)) {
		list = append(list, name+"="+string(page.Traits[name]))
	}
	return strings.Join(list, " ")
}

func identify(user, traits string) rowtest.Call {
	return rowtest.Call{Body: fmt.Sprintf(`{"type":"identify","userId":%q,"traits":%s}`, user, traits), Source: "src"}
}

func at(c rowtest.Call, when time.Duration) rowtest.Call {
	c.Time = rowtest.Start().Add(-time.Hour).Add(when)
	return c
}

func TestTheNewestHolds(t *testing.T) {
	const minute = time.Minute
	merge := rowtest.Call{Body: `{"type":"track","event":"Login","userId":"u","anonymousId":"a"}`}
	anonymous := func(traits string) rowtest.Call {
		return rowtest.Call{Body: fmt.Sprintf(`{"type":"identify","anonymousId":"a","traits":%s}`, traits)}
	}
	tests := []struct {
		name  string
		calls []rowtest.Call
		want  string
	}{
		{"values keep their text", []rowtest.Call{identify("u", `{"n":1.50,"big":12345678901234567890,"s":"\u00e9","o":{"a": [1, 2]},"empty":"","f":false}`)},
			`big=12345678901234567890 empty="" f=false n=1.50 o={"a": [1, 2]} s="\u00e9"`},
		{"a later call", []rowtest.Call{identify("u", `{"x":1,"y":1}`), identify("u", `{"x":2}`)}, `x=2 y=1`},
		{"a late call", []rowtest.Call{at(identify("u", `{"x":2}`), 2*minute), at(identify("u", `{"x":1,"y":1}`), minute)}, `x=2 y=1`},
		{"a late call between equal ones", []rowtest.Call{
			at(identify("u", `{"x":1}`), minute), at(identify("u", `{"x":1}`), 3*minute), at(identify("u", `{"x":2}`), 2*minute)}, `x=1`},
		{"of one instant the later record", []rowtest.Call{at(identify("u", `{"x":1}`), minute), at(identify("u", `{"x":2}`), minute)}, `x=2`},
		{"of one call the later key", []rowtest.Call{identify("u", `{"x":1,"x":2}`)}, `x=2`},
		{"null removes", []rowtest.Call{identify("u", `{"x":1,"y":1}`), identify("u", `{"x":null}`)}, `y=1`},
		{"what was removed stays removed", []rowtest.Call{
			at(identify("u", `{"x":1}`), minute), at(identify("u", `{"x":null}`), 3*minute), at(identify("u", `{"x":2}`), 2*minute)}, ``},
		{"until it is set again", []rowtest.Call{
			at(identify("u", `{"x":null}`), minute), at(identify("u", `{"x":1}`), 2*minute)}, `x=1`},
		{"names may be anything", []rowtest.Call{identify("u", `{"a.b":1,"Invited User?":2,"\u00e4":3,"":4}`)}, `Invited User?=2 a.b=1 ä=3`},
		{"a merge joins", []rowtest.Call{identify("u", `{"x":1}`), anonymous(`{"y":2}`), merge}, `x=1 y=2`},
		{"of both the newest", []rowtest.Call{at(identify("u", `{"x":1,"y":1}`), 2*minute), at(anonymous(`{"x":2,"y":2}`), minute), at(anonymous(`{"y":3}`), 3*minute), merge}, `x=1 y=3`},
		{"a tombstone merges too", []rowtest.Call{at(identify("u", `{"x":1}`), minute), at(anonymous(`{"x":null}`), 2*minute), merge}, ``},
		{"an older tombstone does not", []rowtest.Call{at(anonymous(`{"x":null}`), minute), at(identify("u", `{"x":1}`), 2*minute), merge}, `x=1`},
		{"late for one that was merged", []rowtest.Call{at(identify("u", `{"x":1}`), minute), at(anonymous(`{"x":2}`), 3*minute), merge, at(anonymous(`{"x":3}`), 2*minute)}, `x=2`},
		{"no traits of other calls", []rowtest.Call{identify("u", `{"x":1}`),
			{Body: `{"type":"track","event":"E","userId":"u","traits":{"x":2},"properties":{"x":3},"context":{"traits":{"x":4}}}`},
			{Body: `{"type":"group","groupId":"g","userId":"u","traits":{"x":5}}`}}, `x=1`},
		{"first and last name make the name", []rowtest.Call{identify("u", `{"firstName":"Jane","lastName":"\"Q\" Doe"}`)},
			`firstName="Jane" lastName="\"Q\" Doe" name="Jane \"Q\" Doe"`},
		{"not one of them", []rowtest.Call{identify("u", `{"firstName":"Jane"}`), identify("u", `{"lastName":"Doe"}`)}, `firstName="Jane" lastName="Doe"`},
		{"not when the name is sent", []rowtest.Call{identify("u", `{"firstName":"Jane","lastName":"Doe","name":"J"}`)}, `firstName="Jane" lastName="Doe" name="J"`},
		{"not over one that was sent", []rowtest.Call{identify("u", `{"name":"J"}`), identify("u", `{"firstName":"Jane","lastName":"Doe"}`)}, `firstName="Jane" lastName="Doe" name="J"`},
		{"nor when that comes late", []rowtest.Call{at(identify("u", `{"firstName":"Jane","lastName":"Doe"}`), 2*minute), at(identify("u", `{"name":"J"}`), minute)},
			`firstName="Jane" lastName="Doe" name="J"`},
		{"it follows a new last name", []rowtest.Call{identify("u", `{"firstName":"Jane","lastName":"Doe"}`), identify("u", `{"firstName":"Jane","lastName":"Roe"}`)},
			`firstName="Jane" lastName="Roe" name="Jane Roe"`},
	}
	for _, tt := range tests {
		for _, together := range []bool{false, true} {
			l := newLine(t, memkv.NewWith(memkv.Options{Rerun: func(f kv.Fence) bool { return f == pipeline.Fence(rowtest.Space, rowtest.Epoch) }}))
			l.Send(rowtest.Call{Body: `{"type":"page","userId":"u"}`})
			if together {
				l.Send(tt.calls...)
			} else {
				for _, c := range tt.calls {
					l.Send(c)
				}
			}
			if got := l.traits(event.Users, "user_id:u"); got != tt.want {
				t.Errorf("%s (in one batch: %v)\n got %s\nwant %s", tt.name, together, got, tt.want)
			}
		}
	}
}

func TestAccountsHaveTraits(t *testing.T) {
	l := newLine(t, memkv.New())
	l.Send(
		rowtest.Call{Body: `{"type":"group","userId":"u","groupId":"g1","traits":{"name":"Hotel One","firstName":"x","lastName":"y"}}`},
		rowtest.Call{Body: `{"type":"group","groupId":"g2","traits":{"rooms":12},"context":{"externalIds":[{"id":"c","type":"crm","collection":"accounts","encoding":"none"}]}}`},
		rowtest.Call{Body: `{"type":"group","groupId":"g1","traits":{"stars":4},"context":{"externalIds":[{"id":"c","type":"crm","collection":"accounts","encoding":"none"}]}}`},
	)
	want := `firstName="x" lastName="y" name="Hotel One" rooms=12 stars=4`
	for _, id := range []string{"group_id:g1", "group_id:g2", "crm:c"} {
		if got := l.traits(event.Accounts, id); got != want {
			t.Errorf("%s: %s", id, got)
		}
	}
	if got := l.traits(event.Users, "user_id:u"); got != "" {
		t.Errorf("the user has %s", got)
	}
}

// TestChanges looks at what the rooms behind profile see, and what leaves.
func TestChanges(t *testing.T) {
	var slot pipeline.Slot[profile.View]
	var seen []string
	behind := rowtest.Probe("behind", func(r *pipeline.Record) error {
		v := slot.Get(r)
		if v == nil {
			return nil
		}
		line := ""
		for _, c := range v.Changed {
			line += fmt.Sprintf("%s: %s -> %s; ", c.Name, c.Old, c.New)
		}
		for _, c := range v.AccountChanged {
			line += fmt.Sprintf("account %s: %s -> %s; ", c.Name, c.Old, c.New)
		}
		all, err := v.Traits()
		if err != nil {
			return err
		}
		for _, x := range all {
			one, ok, err := v.Trait(x.Name)
			if err != nil || !ok || one.Raw != x.Value {
				t.Errorf("trait %s is %s alone and %s among all, %v", x.Name, one.Raw, x.Value, err)
			}
			line += x.Name + " "
		}
		if _, ok, err := v.Trait("nothing"); ok || err != nil {
			t.Errorf("there is a trait that nobody sent, %v", err)
		}
		if _, ok, err := v.TraitOf(v.Account, "stars"); err != nil || ok != (len(v.AccountChanged) > 0) {
			t.Errorf("the account has stars: %v, %v", ok, err)
		}
		seen = append(seen, line)
		return nil
	})
	l := newLine(t, memkv.New(), behind)
	slot = l.slot
	l.Send(
		identify("u", `{"x":1,"y":true}`),
		identify("u", `{"x":1,"y":null}`),
		rowtest.Call{Body: `{"type":"identify","anonymousId":"a","traits":{"x":3,"z":9}}`},
		rowtest.Call{Body: `{"type":"identify","userId":"u","anonymousId":"a","traits":{"x":1}}`},
		rowtest.Call{Body: `{"type":"group","groupId":"g","userId":"u","traits":{"stars":4}}`},
		rowtest.Call{Body: `{"type":"track","event":"E"}`},
		identify("u", `{"long":"`+strings.Repeat("é", 80)+`"}`),
	)
	want := []string{
		"x:  -> 1; y:  -> true; x y ",
		"y: true -> ; x ",
		"x:  -> 3; z:  -> 9; x z ",
		"z:  -> 9; x z ",
		"account stars:  -> 4; x z ",
		"",
		`long:  -> "` + strings.Repeat("é", 80) + `"; long x z `,
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
	var told []string
	for _, o := range l.Changes(pipeline.TraitChanged) {
		if o.Profile.IsZero() || o.Change.Cause.IsZero() {
			t.Errorf("%+v is nobody's or without cause", o.Change)
		}
		told = append(told, o.Change.Subject+" "+o.Change.Detail)
	}
	want = []string{"x 1", "y true", "y removed", "x 3", "z 9", "z 9", "stars 4", `long "` + strings.Repeat("é", 49) + "…"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

func TestLimits(t *testing.T) {
	l := newLine(t, memkv.New())
	var many []string
	for i := range 305 {
		many = append(many, fmt.Sprintf(`"t%03d":%d`, i, i))
	}
	l.Send(identify("u", "{"+strings.Join(many, ",")+"}"))
	l.Send(identify("u", `{"`+strings.Repeat("n", 501)+`":1,"":2,"ok":3}`))
	// Sixty traits of 20 KB, one a call: 52 find room beside what is there.
	for i := range 60 {
		l.Send(identify("u", fmt.Sprintf(`{"big%02d":"%s"}`, i, strings.Repeat("x", 20_000))))
	}
	// What is full can shrink, and grow again.
	l.Send(identify("u", `{"big00":1,"ok":4}`), identify("u", `{"late":5}`))
	var refused []string
	for _, o := range l.Changes(pipeline.TraitRefused) {
		refused = append(refused, fmt.Sprintf("%.10s: %s", o.Change.Subject, o.Change.Detail))
	}
	want := []string{
		"t300: 5 traits not taken: beyond the 300 that a call may set",
		"nnnnnnnnnn: 2 traits not taken: with an empty name or one of more than 500 bytes",
	}
	for i := 52; i < 60; i++ {
		want = append(want, fmt.Sprintf("big%02d: 1 trait not taken: for which the profile, which may hold 1 MiB of traits, has no room", i))
	}
	if diff := cmp.Diff(want, refused); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	page, err := l.reader(nil).Traits(context.Background(), l.target(event.Users, "user_id:u"), profile.TraitsQuery{Include: []string{"t299", "t300", "ok", "late", "big00", "big51", "big52"}})
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(page.Traits))
	if diff := cmp.Diff([]string{"big00", "big51", "late", "ok", "t299"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestManyTraits fills many pages in small and large batches and reads them
// back, one profile by one call a batch, one in batches of many.
func TestManyTraits(t *testing.T) {
	l := newLine(t, memkv.New())
	const calls, each = 40, 50
	var block []rowtest.Call
	want := map[string]string{}
	for i := range calls {
		var list []string
		for j := range each {
			name, value := fmt.Sprintf("trait_%d", (i*37+j*91)%1500), fmt.Sprintf(`"%d %s"`, i, strings.Repeat("v", 50))
			if (i+j)%11 == 0 {
				value = "null"
			}
			list = append(list, fmt.Sprintf("%q:%s", name, value))
			want[name] = value
		}
		c := "{" + strings.Join(list, ",") + "}"
		l.Send(identify("single", c))
		block = append(block, identify("many", c))
		if len(block) == 13 || i == calls-1 {
			l.Send(block...)
			block = nil
		}
	}
	maps.DeleteFunc(want, func(_, value string) bool { return value == "null" })
	if len(want) < 900 {
		t.Fatalf("only %d traits", len(want))
	}
	for _, user := range []string{"single", "many"} {
		got := map[string]string{}
		q := profile.TraitsQuery{Limit: 77}
		for {
			page, err := l.reader(nil).Traits(context.Background(), l.target(event.Users, "user_id:"+user), q)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range page.Traits {
				got[name] = string(value)
			}
			if !page.Cursor.HasMore {
				break
			}
			q.Next = page.Cursor.Next
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", user, diff)
		}
	}
	pages := 0
	l.View(func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix(kv.EpochKey(rowtest.Space, rowtest.Epoch, profile.Room))) {
			if err != nil {
				return err
			}
			if len(p.Value) > 10_000 {
				t.Errorf("a page has %d bytes", len(p.Value))
			}
			pages++
		}
		return nil
	})
	if pages < 2*8 {
		t.Errorf("%d pages for %d traits", pages, len(want))
	}
}

// counting counts what is written under profile's room.
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
	if bytes.HasPrefix(key, kv.EpochKey(rowtest.Space, rowtest.Epoch, profile.Room)) {
		t.db.writes.Add(1)
	}
	return t.Tx.Set(key, value)
}

func TestAHotProfileIsWrittenOnce(t *testing.T) {
	db := &counting{DB: memkv.New()}
	l := newLine(t, db)
	var calls []rowtest.Call
	for i := range 50 {
		calls = append(calls, identify("u", fmt.Sprintf(`{"x":%d}`, i)), rowtest.Call{Body: `{"type":"track","event":"E","userId":"u"}`})
	}
	l.Send(calls...)
	if n := db.writes.Load(); n != 1 {
		t.Errorf("%d writes", n)
	}
	l.Send(at(identify("u", `{"x":0}`), 0), rowtest.Call{Body: `{"type":"track","event":"E","userId":"u"}`})
	if n := db.writes.Load(); n != 1 {
		t.Errorf("a late value that does not hold makes %d writes", n-1)
	}
}
