package computation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/event"
	"kith/internal/sim/model"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/kvtest"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/query"
	"kith/workspace"
)

// TestAudiencesAreTheModel leads random histories through the row: late
// events, merges, audiences that come, change, stand still and go while the
// Builder is at work, restarts, transactions that run twice. Whenever it looks,
// the members of every live audience are those that the model finds by counting
// whole histories, what was announced adds up to them, and what a timer
// announced was true from that millisecond on and not before.
func TestAudiencesAreTheModel(t *testing.T) {
	var seen struct{ members, timers, merges, versions, compared int }
	rapid.Check(t, func(t *rapid.T) {
		again := rapid.SliceOfN(rapid.Bool(), 5, 5).Draw(t, "transactions that run again")
		n := 0
		db := kvtest.Watch(memkv.NewWith(memkv.Options{Rerun: func(f kv.Fence) bool {
			if f != pipeline.Fence(rowtest.Space, rowtest.Epoch) {
				return false
			}
			n++
			return again[n%len(again)]
		}}), t.Errorf)
		h := &history{T: t, world: newWorld(t, db), versions: map[string][]*version{}, told: map[string]map[event.ProfileID]bool{}}
		h.instants, h.settled = map[int64]bool{}, map[string]int{}
		for range 3 {
			h.audience()
		}
		for range rapid.IntRange(10, 50).Draw(t, "steps") {
			h.step()
		}
		h.build()
		h.compare()
		h.checkTimers()
		seen.members += h.members
		seen.timers += h.timers
		seen.merges += h.merges
		seen.compared += h.compared
		for _, v := range h.versions {
			seen.versions += len(v)
		}
	})
	t.Logf("%+v", seen)
	if seen.members < 50 || seen.timers == 0 || seen.merges == 0 || seen.versions < 50 {
		t.Errorf("the histories were too tame: %+v", seen)
	}
}

type history struct {
	*rapid.T
	*world
	records  []model.Record
	at       []int64                             // when each was appended
	instants map[int64]bool                      // at which records or work were handled
	versions map[string][]*version               // by key
	gone     []string                            // keys of deleted audiences
	told     map[string]map[event.ProfileID]bool // by key: what the outputs add up to
	read     int                                 // outputs read into told
	settled  map[string]int                      // by key: how many outputs there were when all was announced

	members, timers, merges, compared int
}

// version is one version of an audience as it was declared.
type version struct {
	workspace.Audience
	offset int
	at     int64
	reads  []string // keys
}

const hour = time.Hour

func (h *history) step() {
	switch rapid.IntRange(0, 20).Draw(h.T, "step") {
	case 0, 1, 2:
		d := time.Duration(rapid.IntRange(0, 30).Draw(h.T, "hours")) * hour
		d += time.Duration(rapid.IntRange(1, 5000).Draw(h.T, "ms")) * time.Millisecond
		h.advance(d)
	case 3, 4:
		h.audience()
	case 5:
		h.toggle()
	case 6:
		h.compare()
	case 7:
		h.parts = rapid.IntRange(0, 4).Draw(h.T, "parts") // and in the middle of a segment another size
		h.restart()
	case 8:
		h.build()
	case 9:
		// The Builder dies between two of its transactions.
		h.builder.cfg.Loop = &mortal{Loop: h.row.Loop, left: rapid.IntRange(0, 3).Draw(h.T, "transactions")}
		if _, err := h.builder.work(h.T.Context()); err != nil && !errors.Is(err, errDied) {
			h.T.Fatal(err)
		}
		h.builder = h.newBuilder()
	case 10, 11, 12:
		h.buildStep()
	default:
		var calls []rowtest.Call
		for range rapid.IntRange(1, 6).Draw(h.T, "events") {
			calls = append(calls, h.call())
		}
		first := len(h.row.Sent)
		if rapid.Bool().Draw(h.T, "wait") {
			h.row.Send(calls...)
		} else {
			h.row.Append(calls...)
		}
		for i, e := range h.row.Sent {
			if i < first || e.Kind != event.KindEvent {
				continue // ticks in between
			}
			h.records = append(h.records, model.Record{Offset: i, ID: e.ID, Time: e.Time, Body: e.Body, Source: e.Source, MessageID: e.MessageID})
			h.at = append(h.at, e.At)
		}
	}
	h.instants[h.row.Clock.Now().UnixMilli()] = true
	for _, a := range h.snapshot.Audiences {
		if _, ok := h.settled[a.Key]; !ok && h.isLive(a.ID) && !h.status(a.Key).Announcing {
			h.settled[a.Key] = len(h.row.Outputs())
		}
	}
}

// mortal is a loop that takes only so much work.
type mortal struct {
	Loop
	left int
}

var errDied = errors.New("died")

// Do implements Loop.
func (m *mortal) Do(ctx context.Context, fn pipeline.Work) error {
	if m.left--; m.left < 0 {
		return errDied
	}
	return m.Loop.Do(ctx, fn)
}

func (h *history) call() rowtest.Call {
	t := h.T
	var ids []string
	for _, kind := range []struct {
		name string
		odds int
	}{{"u", 60}, {"a:", 60}, {"e:", 15}} {
		if rapid.IntRange(1, 100).Draw(t, kind.name) <= kind.odds {
			ids = append(ids, kind.name+fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "who")))
		}
	}
	if len(ids) == 0 {
		ids = []string{"a:1"}
	}
	c := rowtest.Call{Source: rapid.SampledFrom([]string{"web", "app"}).Draw(t, "source")}
	switch rapid.IntRange(0, 5).Draw(t, "call") {
	case 0:
		var traits []string
		if rapid.Bool().Draw(t, "x?") {
			traits = append(traits, `"x":`+rapid.SampledFrom([]string{"null", "1", "2", "3.0", `"2"`, `"b"`}).Draw(t, "x"))
		}
		if rapid.Bool().Draw(t, "d?") {
			traits = append(traits, `"d":`+h.date())
		}
		c.Body = call("identify", strings.Join(ids, "+"), `"traits":{`+strings.Join(traits, ",")+`}`)
	case 1:
		c.Body = call("page", strings.Join(ids, "+"), `"name":"Home"`)
	default:
		c.Body = call("track", strings.Join(ids, "+"), fmt.Sprintf(`"event":%q,"properties":{"v":%d,"d":%s}`,
			rapid.SampledFrom([]string{"A", "B"}).Draw(t, "event"), rapid.IntRange(0, 3).Draw(t, "v"), h.date()))
	}
	if rapid.IntRange(0, 2).Draw(t, "late") == 0 {
		late := time.Duration(rapid.IntRange(0, 40).Draw(t, "late hours"))*hour + time.Duration(rapid.IntRange(0, 999).Draw(t, "late ms"))*time.Millisecond
		c.Time = h.row.Clock.Now().Add(-late)
	}
	return c
}

func (h *history) date() string {
	at := h.row.Clock.Now().Add(time.Duration(rapid.IntRange(-40, 40).Draw(h.T, "date")) * hour)
	return fmt.Sprintf("%q", at.Format(time.RFC3339Nano))
}

// query makes a condition; it may read the audiences given.
func (h *history) query(depth int, keys []string) string {
	t := h.T
	sign := rapid.SampledFrom([]string{">=", "=", "<", "!=", ">"})
	switch kind := rapid.IntRange(0, 9).Draw(t, "condition"); {
	case kind < 5:
		q := fmt.Sprintf("event('%s')", rapid.SampledFrom([]string{"A", "A", "B", "Page Viewed"}).Draw(t, "of"))
		switch rapid.IntRange(0, 6).Draw(t, "where") {
		case 0:
			q += fmt.Sprintf(".where(property('v') >= %d)", rapid.IntRange(0, 3).Draw(t, "than"))
		case 1:
			q += ".where(property('v') >= trait('x'))"
		case 2:
			q += fmt.Sprintf(".where(property('d').%s(%d hours) OR property('v') = 3)",
				rapid.SampledFrom([]string{"within_next", "within_last", "before_last", "after_next"}).Draw(t, "relative"), rapid.IntRange(1, 30).Draw(t, "span"))
		case 3:
			q += ".sources(exclude: 'app')"
		}
		switch from := rapid.IntRange(0, 20).Draw(t, "from"); rapid.IntRange(0, 4).Draw(t, "window") {
		case 0, 1, 2:
			q += fmt.Sprintf(".within(%d hours)", rapid.IntRange(1, 40).Draw(t, "within"))
		case 3:
			q += fmt.Sprintf(".between(%d hours, %d hours)", from, from+rapid.IntRange(1, 30).Draw(t, "length"))
		}
		q += ".count() "
		if rapid.IntRange(0, 9).Draw(t, "dynamic") == 0 {
			return q + "> trait('x')"
		}
		return q + fmt.Sprintf("%s %d", sign.Draw(t, "sign"), rapid.IntRange(0, 3).Draw(t, "n"))
	case kind == 5:
		return "trait('x') " + sign.Draw(t, "sign") + " " + rapid.SampledFrom([]string{"2", "'2'", "'b'"}).Draw(t, "literal")
	case kind == 6:
		return fmt.Sprintf("trait('d').%s(%d hours)", rapid.SampledFrom([]string{"within_next", "within_last", "before_last", "after_next"}).Draw(t, "relative"), rapid.IntRange(1, 30).Draw(t, "span"))
	case kind == 7 && len(keys) > 0:
		is := rapid.SampledFrom([]string{" = 'true'", " = true", " = false", " != true", ".exists()"}).Draw(t, "is")
		return fmt.Sprintf("trait('%s')%s", rapid.SampledFrom(keys).Draw(t, "reads"), is)
	case depth > 0:
		op := rapid.SampledFrom([]string{" AND ", " OR "}).Draw(t, "op")
		return rapid.SampledFrom([]string{"(", "NOT ("}).Draw(t, "not") + h.query(depth-1, keys) + op + h.query(depth-1, keys) + ")"
	}
	return "event('B').count() = 0"
}

// audience declares an audience or changes one. It reads only audiences of
// lower numbers, so that there are no cycles.
func (h *history) audience() {
	i := rapid.IntRange(0, 5).Draw(h.T, "audience")
	key := fmt.Sprintf("aud%d", i)
	if slices.Contains(h.gone, key) {
		return
	}
	var readable []string
	for _, a := range h.snapshot.Audiences {
		if a.Enabled && a.Key < key {
			readable = append(readable, a.Key)
		}
	}
	a := workspace.Audience{Key: key, Name: key, Enabled: true, Query: h.query(2, readable)}
	if rapid.IntRange(0, 3).Draw(h.T, "types") == 0 {
		a.Options.FilterByExternalIDs = []string{"anonymous_id", "user_id"}
	}
	switch rapid.IntRange(0, 7).Draw(h.T, "options") {
	case 0:
		no := false
		a.Options.IncludeHistoricalData = &no
	case 1:
		days := rapid.IntRange(0, 2).Draw(h.T, "days")
		a.Options.BackfillEventDataDays = &days
	}
	h.declare(a)
	h.note(key)
}

// note remembers the version of an audience that a config record brought on.
func (h *history) note(key string) {
	a := h.world.audience(key)
	if had := h.versions[key]; len(had) > 0 && had[len(had)-1].Version == a.Version {
		return
	}
	v := &version{Audience: a, offset: len(h.row.Sent) - 1, at: h.row.Clock.Now().UnixMilli()}
	prog := must(query.ParseAudience(a.Query))
	for _, tr := range prog.Traits {
		if strings.HasPrefix(tr.Name, "aud") {
			v.reads = append(v.reads, tr.Name)
		}
	}
	h.versions[key] = append(h.versions[key], v)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// toggle disables, enables or deletes an audience that nobody reads.
func (h *history) toggle() {
	if len(h.snapshot.Audiences) == 0 {
		return
	}
	a := rapid.SampledFrom(h.snapshot.Audiences).Draw(h.T, "toggled")
	for _, other := range h.snapshot.Audiences {
		if strings.Contains(other.Query, "'"+a.Key+"'") {
			return
		}
	}
	if rapid.IntRange(0, 2).Draw(h.T, "delete") == 0 {
		h.remove(a.Key)
		h.gone = append(h.gone, a.Key)
		return
	}
	a.Enabled = !a.Enabled
	if a.Enabled { // what it reads may be disabled or gone by now
		for _, key := range h.versions[a.Key][len(h.versions[a.Key])-1].reads {
			i := slices.IndexFunc(h.snapshot.Audiences, func(x workspace.Audience) bool { return x.Key == key })
			if i < 0 || !h.snapshot.Audiences[i].Enabled {
				return
			}
		}
	}
	h.declare(a)
	h.note(a.Key)
}

// live returns the version of an audience that answers now, as the model reads
// it; nil when none does.
func (h *history) live(key string) *model.Audience {
	st := h.status(key)
	for _, v := range h.versions[key] {
		if v.Version != st.Version {
			continue
		}
		m := &model.Audience{Query: must(query.ParseAudience(v.Query)), Types: v.Options.FilterByExternalIDs, After: -1, Since: -1 << 62, Reads: map[string]*model.Audience{}}
		if o := v.Options; o.IncludeHistoricalData != nil && !*o.IncludeHistoricalData {
			m.After = v.offset
		} else if o.BackfillEventDataDays != nil {
			m.Since = v.at - int64(*o.BackfillEventDataDays)*24*hour.Milliseconds()
		}
		for _, key := range v.reads {
			if slices.Contains(h.gone, key) || !h.isLive("aud_"+key) {
				return nil // its successor, which no longer reads it, is on its way
			}
			m.Reads[key] = h.live(key)
		}
		return m
	}
	return nil
}

func (h *history) compare() {
	h.advance(0)
	h.readOutputs()
	people := model.Replay(h.records).Users
	now := h.row.Clock.Now().UnixMilli()
	announcing := slices.ContainsFunc(h.snapshot.Audiences, func(a workspace.Audience) bool { return h.status(a.Key).Announcing })
	for _, a := range h.snapshot.Audiences {
		st := h.status(a.Key)
		got := h.ids(a.Key)
		if int64(len(got)) != st.Size {
			h.T.Fatalf("%s has the size %d and the members %v", a.Key, st.Size, got)
		}
		if !announcing && h.isLive(a.ID) {
			if told := h.toldOf(a.Key); !slices.Equal(told, got) {
				h.T.Fatalf("%s: announced %v, members %v", a.Key, told, got)
			}
		}
		m := h.live(a.Key)
		if m == nil || !h.isLive(a.ID) || announcing && len(m.Reads) > 0 {
			continue
		}
		h.compared++
		want := []string{}
		for _, p := range people {
			if m.Member(p, now) {
				want = append(want, event.UserProfile(p.Created.ID).String())
			}
		}
		slices.Sort(want)
		h.members += len(want)
		if !slices.Equal(got, want) {
			h.T.Fatalf("%s at %s: %s\nhas %v\nwant %v", a.Key, h.row.Clock.Now().Format(time.RFC3339Nano), m.Query, got, want)
		}
	}
	if st, err := h.busy(); err == nil && !st {
		for _, key := range h.gone {
			if told := h.toldOf(key); len(told) > 0 {
				h.T.Fatalf("%s is deleted, and still told: %v", key, told)
			}
		}
	}
}

// isLive reports whether an audience is followed: not one that stands still,
// nor one that was enabled again and is being computed.
func (h *history) isLive(id string) bool {
	reg, _, err := h.builder.look(h.T.Context())
	if err != nil {
		h.T.Fatal(err)
	}
	b := reg.standing(id)
	return b != nil && b.State == live
}

// busy reports whether the Builder has something to do.
func (h *history) busy() (bool, error) {
	reg, at, err := h.builder.look(h.T.Context())
	return at.Task != "" || len(reg.in(leaving, waiting)) > 0, err
}

func (h *history) ids(key string) []string {
	list := []string{}
	h.row.View(func(r kv.Reader) error {
		ids, err := h.engine.Reader().Members(r, rowtest.Space, rowtest.Epoch, "aud_"+key, event.ProfileID{}, 1000)
		for _, id := range ids {
			list = append(list, id.String())
		}
		return err
	})
	slices.Sort(list)
	return list
}

// readOutputs follows what was announced, and what merges make of it.
func (h *history) readOutputs() {
	outputs := h.row.Outputs()
	for _, o := range outputs[h.read:] {
		switch c := o.Change; {
		case c == nil:
		case c.Kind == pipeline.ProfilesMerged:
			h.merges++
			for _, told := range h.told {
				if told[c.Other] {
					delete(told, c.Other)
					told[o.Profile] = true
				}
			}
		case c.Kind == pipeline.AudienceEntered || c.Kind == pipeline.AudienceExited:
			if h.told[c.Subject] == nil {
				h.told[c.Subject] = map[event.ProfileID]bool{}
			}
			entered := c.Kind == pipeline.AudienceEntered
			if h.told[c.Subject][o.Profile] == entered {
				h.T.Fatalf("%s %s %s twice, at %d", o.Profile, c.Kind, c.Subject, o.At)
			}
			h.told[c.Subject][o.Profile] = entered
		}
	}
	h.read = len(outputs)
}

func (h *history) toldOf(key string) []string {
	list := []string{}
	for id, told := range h.told[key] {
		if told {
			list = append(list, id.String())
		}
	}
	slices.Sort(list)
	return list
}

// checkTimers holds what timers announced against the model: it became true
// at that millisecond. It looks at audiences that never changed and read no
// other.
func (h *history) checkTimers() {
	for n, o := range h.row.Outputs() {
		c := o.Change
		if c == nil || c.Kind != pipeline.AudienceEntered && c.Kind != pipeline.AudienceExited || !c.Cause.IsZero() || h.instants[o.At] {
			continue
		}
		v, settled := h.versions[c.Subject], h.settled[c.Subject]
		if settled == 0 || n < settled || len(v) != 1 || len(v[0].reads) > 0 || slices.Contains(h.gone, c.Subject) {
			continue
		}
		var before []model.Record
		for i, r := range h.records {
			if h.at[i] < o.At {
				before = append(before, r)
			}
		}
		m := h.live(c.Subject)
		i := -1
		people := model.Replay(before).Users
		for j, p := range people {
			if event.UserProfile(p.Created.ID) == o.Profile {
				i = j
			}
		}
		if i < 0 {
			h.T.Fatalf("a timer of %s, who was nobody at %d", o.Profile, o.At)
		}
		h.timers++
		entered := c.Kind == pipeline.AudienceEntered
		if m.Member(people[i], o.At) != entered || m.Member(people[i], o.At-1) == entered {
			h.T.Fatalf("%s %s %s at %d: %s: it was %v a millisecond before and is %v", o.Profile, c.Kind, c.Subject, o.At, m.Query,
				m.Member(people[i], o.At-1), m.Member(people[i], o.At))
		}
	}
}
