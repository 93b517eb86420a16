package inspect

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
)

// track is a track call of the source "web".
func track(at time.Time, name string, properties map[string]any, version string) call {
	body, err := json.Marshal(map[string]any{"properties": properties, "context": map[string]any{"app": map[string]any{"version": version}}})
	if err != nil {
		panic(err)
	}
	return call{body: string(body), head: event.Head{
		Kind: event.KindEvent, At: at.UnixMilli(), Time: at.UnixMilli(), Type: event.Track, Name: name, Source: "web", MessageID: name,
		IDs: []event.Identifier{{Collection: event.Users, Type: "user_id", Value: "u"}},
	}}
}

func (w *world) source() SourceSeen {
	w.t.Helper()
	seen, err := NewSchema(w.db).Source(context.Background(), "web")
	if err != nil {
		w.t.Fatal(err)
	}
	return seen
}

func (w *world) properties(e *EventSeen, samples int) []PropertySeen {
	w.t.Helper()
	list, err := NewSchema(w.db).Properties(context.Background(), e, samples, w.clock.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// TestLimitsLeaveOutAndCount sends more than there is room for, with a restart
// between: what is left out is counted, nothing is lost in the sums.
func TestLimitsLeaveOutAndCount(t *testing.T) {
	w := newWorld(t, memkv.New(), Limits{Events: 3, Properties: 4, Versions: 2, PathBytes: 20})
	for round := range 3 {
		var calls []call
		for n := range 5 { // of 5 events 3 are known
			calls = append(calls, track(start, fmt.Sprint("E", n), map[string]any{"p": 1}, fmt.Sprint("v", n)))
		}
		wide := map[string]any{strings.Repeat("x", 30): 1}
		for n := range 6 {
			wide[fmt.Sprint("q", n)] = n
		}
		calls = append(calls, track(start, "E0", wide, "v0"))
		w.pass(1, 100, calls...)
		w.catchUp()
		if round == 1 {
			w.open(w.db)
		}
	}
	seen := w.source()
	if len(seen.Events) != 3 || seen.EventsLeftOut != 6 || seen.VersionsLeftOut != 9 {
		t.Errorf("%d events, %d calls and %d versions left out", len(seen.Events), seen.EventsLeftOut, seen.VersionsLeftOut)
	}
	if left, err := NewSchema(w.db).LeftOut(t.Context()); err != nil || len(left) != 1 || left["web"].EventsLeftOut != 6 {
		t.Errorf("left out: %v, %v", left, err)
	}
	e := &seen.Events[0]
	list := w.properties(e, 0)
	kept := uint64(0)
	for _, p := range list {
		if p.Section == "properties" {
			kept += p.Allowed
		}
	}
	// Three calls with one property, three with seven, of which one path is too
	// long.
	if e.Name != "E0" || e.Allowed != 6 || kept+e.PropertiesLeftOut != 3*1+3*7 || len(list) != 4+2 {
		t.Errorf("%+v: %d properties, %d sightings", e, len(list), kept)
	}
	volumes, err := NewMeter(w.db).Counts(t.Context(), VolumeQuery{From: start, To: start.Add(time.Hour), Grain: Hour})
	if err != nil {
		t.Fatal(err)
	}
	total, left, versionless := uint64(0), uint64(0), uint64(0)
	for _, v := range volumes {
		total += v.Count
		if v.LeftOut {
			left += v.Count
		}
		if v.AppVersion == "" {
			versionless += v.Count
		}
	}
	if total != 18 || left != 6 || versionless != 9 {
		t.Errorf("volume %d, %d without a name, %d without a version", total, left, versionless)
	}
}

// TestLongNamesAreLeftOut: names come from outside and all of a source are in
// memory, so they have a length, too.
func TestLongNamesAreLeftOut(t *testing.T) {
	w := newWorld(t, memkv.New(), Limits{})
	w.pass(1, 5, track(start, strings.Repeat("x", DefaultPathBytes), nil, ""), track(start, strings.Repeat("y", DefaultPathBytes+1), nil, ""))
	w.catchUp()
	if seen := w.source(); len(seen.Events) != 1 || seen.Events[0].Name[0] != 'x' || seen.EventsLeftOut != 1 {
		t.Errorf("%d events, %d calls left out", len(seen.Events), seen.EventsLeftOut)
	}
}

// TestWhatIsKnownIsBounded sends many long names, as nobody would but somebody
// who wants the memory: what is in memory is let go, and nothing is counted
// wrong.
func TestWhatIsKnownIsBounded(t *testing.T) {
	w := newWorld(t, memkv.New(), Limits{})
	const events, each = 160, DefaultProperties
	long := strings.Repeat("x", DefaultPathBytes-20)
	for e := range events {
		wide := map[string]any{}
		for n := range each {
			wide[fmt.Sprint(long, n)] = n
		}
		w.pass(1, 10, track(start, fmt.Sprint("E", e), wide, ""))
		w.catchUp()
		if w.seen.seen.kept > maxKnownBytes {
			t.Fatalf("%d bytes are held", w.seen.seen.kept)
		}
	}
	held := 0
	for _, s := range w.seen.seen.sources {
		for _, e := range s.events {
			for _, f := range e.fields {
				held += len(f.path)
			}
		}
	}
	if held > maxKnownBytes {
		t.Errorf("%d bytes of names are held", held)
	}
	for _, e := range w.source().Events {
		if e.Allowed != 1 || e.Properties != each+2 { // context.app, and the version in it
			t.Fatalf("%+v", e)
		}
	}
}

// tightDB is a store whose transactions take few keys of what is counted.
type tightDB struct {
	kv.DB
	most    int
	refused int
}

func (d *tightDB) Update(ctx context.Context, f kv.Fence, durability kv.Durability, fn func(kv.Tx) error) error {
	n := 0
	err := d.DB.Update(ctx, f, durability, func(tx kv.Tx) error {
		counted := &countedTx{Tx: tx}
		if err := fn(counted); err != nil {
			return err
		}
		if n = counted.n; f == usageFence && n > d.most {
			return fault.New(fault.Invalid, "%d keys in one transaction", n)
		}
		return nil
	})
	if f == usageFence && n > d.most {
		d.refused++
	}
	return err
}

type countedTx struct {
	kv.Tx
	n int
}

func (t *countedTx) Set(key, value []byte) error {
	t.n++
	return t.Tx.Set(key, value)
}

// TestMoreThanATransactionTakes: what is too much for one is counted in several,
// each call once.
func TestMoreThanATransactionTakes(t *testing.T) {
	db := &tightDB{DB: memkv.New(), most: 60}
	w := newWorld(t, db, Limits{})
	var calls []call
	for n := range 100 {
		calls = append(calls, track(start, fmt.Sprint("E", n), map[string]any{"n": n}, ""))
	}
	w.pass(1, 10, calls...)
	w.catchUp()
	seen := w.source()
	for _, e := range seen.Events {
		if e.Allowed != 1 {
			t.Errorf("%s was counted %d times", e.Name, e.Allowed)
		}
	}
	if lag, err := w.seen.Lag(t.Context(), 1); len(seen.Events) != 100 || db.refused == 0 || lag != 0 || err != nil {
		t.Errorf("%d events, %d transactions refused, %d behind, %v", len(seen.Events), db.refused, lag, err)
	}
}

// TestCountsAddUpWhatIsNotAskedFor: a month of calls has a row for each day and
// source, however many events and versions there were.
func TestCountsAddUpWhatIsNotAskedFor(t *testing.T) {
	w := newWorld(t, memkv.New(), Limits{})
	var calls []call
	for n := range 60 {
		calls = append(calls, track(start, fmt.Sprint("E", n%5), nil, fmt.Sprint("v", n%3)))
	}
	w.pass(1, 10, calls...)
	w.catchUp()
	q := VolumeQuery{From: start, To: start.Add(24 * time.Hour), Grain: Day}
	for _, test := range []struct {
		noEvents, noVersions bool
		rows                 int
	}{{false, false, 15}, {true, false, 3}, {false, true, 5}, {true, true, 1}} {
		q.NoEvents, q.NoVersions = test.noEvents, test.noVersions
		list, err := NewMeter(w.db).Counts(t.Context(), q)
		sum := uint64(0)
		for _, v := range list {
			sum += v.Count
			if (v.Event == "") != test.noEvents || (v.AppVersion == "") != test.noVersions || v.LeftOut {
				t.Errorf("%+v: a row %+v", test, v)
			}
		}
		if err != nil || len(list) != test.rows || sum != 60 {
			t.Errorf("%+v: %d rows of %d calls, %v", test, len(list), sum, err)
		}
	}
}

func TestSamplesAreFewAndExpire(t *testing.T) {
	w := newWorld(t, memkv.New(), Limits{})
	at := start
	for day := range 9 {
		at = start.AddDate(0, 0, day)
		w.clock.Set(at)
		var calls []call
		for n := range 12 {
			calls = append(calls, track(at, "E", map[string]any{"n": fmt.Sprintf("%d-%d", day, n), "none": nil}, ""))
		}
		w.pass(1, 5, calls...)
		w.catchUp()
		if day == 4 {
			w.open(w.db) // a restart takes no more of a day than it may
			w.pass(1, 5, track(at, "E", map[string]any{"n": "after the restart", "none": nil}, ""))
			w.catchUp()
		}
	}
	var got []string
	for _, p := range w.properties(&w.source().Events[0], 1000) {
		if p.Path == "n" {
			got = p.Samples
		} else if p.Samples != nil && p.Path != "app.version" {
			t.Errorf("%s has samples %q", p.Path, p.Samples)
		}
	}
	if len(got) != MaxSamples || got[0] != "8-0" || slices.Contains(got, "after the restart") || slices.ContainsFunc(got, func(s string) bool { return s < "3" }) {
		t.Errorf("samples %q", got)
	}
	stored := func() (n int) {
		err := w.db.View(t.Context(), func(r kv.Reader) error {
			for range r.Scan(kv.Prefix(sampleDayStem())) {
				n++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := stored(); n != 9 {
		t.Errorf("%d days are stored before they are swept", n)
	}
	if err := w.seen.sweep(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if n := stored(); n != sampleDays {
		t.Errorf("%d days are stored, want %d", n, sampleDays)
	}

	w = newWorld(t, memkv.New(), Limits{})
	w.seen.cfg.NoSamples = true
	w.pass(1, 5, track(start, "E", map[string]any{"n": 1}, ""))
	w.catchUp()
	if n := stored(); n != 0 {
		t.Errorf("%d samples though none are wanted", n)
	}
}

// TestSweep removes what is too old and leaves the rest.
func TestSweep(t *testing.T) {
	w := newWorld(t, memkv.New(), Limits{})
	w.pass(1, 5, track(start, "E", nil, ""))
	w.catchUp()
	count := func(g Grain) int {
		list, err := NewMeter(w.db).Counts(t.Context(), VolumeQuery{From: start, To: start.Add(time.Minute), Grain: g})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	identified := func() (n int) {
		err := w.db.View(t.Context(), func(r kv.Reader) error {
			for range r.Scan(kv.Prefix(identityStem())) {
				n++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, step := range []struct {
		after                   time.Duration
		minute, hour, day, user int
	}{{48 * time.Hour, 1, 1, 1, 1}, {50 * time.Hour, 0, 1, 1, 1}, {33 * 24 * time.Hour, 0, 0, 1, 1}, {60 * 24 * time.Hour, 0, 0, 1, 0}, {402 * 24 * time.Hour, 0, 0, 0, 0}} {
		if err := w.seen.sweep(t.Context(), start.Add(step.after)); err != nil {
			t.Fatal(err)
		}
		if m, h, d, u := count(Minute), count(Hour), count(Day), identified(); m != step.minute || h != step.hour || d != step.day || u != step.user {
			t.Errorf("after %v: %d minutes, %d hours, %d days, %d ids", step.after, m, h, d, u)
		}
	}
	if mtu, err := NewMeter(w.db).MTU(t.Context(), start, false); err != nil || len(mtu) != 1 || mtu[0].Users != 1 {
		t.Errorf("the month's users: %v, %v", mtu, err)
	}
}

// TestObserverRuns lets it run by itself: it catches up when it is told, and
// Settle waits for it.
func TestObserverRuns(t *testing.T) {
	w := newWorld(t, memkv.New(), Limits{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.seen.Run(ctx) }()
	for n := range 3 {
		w.pass(1, 5, track(start, "E", map[string]any{"n": n}, ""))
		w.seen.Nudge()
		w.seen.Settle(t.Context())
		if e := w.source().Events; len(e) != 1 || e[0].Allowed != uint64(n+1) {
			t.Fatalf("after call %d: %+v", n, e)
		}
	}
	if lag, err := w.seen.Lag(t.Context(), 1); err != nil || lag != 0 {
		t.Errorf("%d behind, %v", lag, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	w.pass(1, 5, track(start, "E", nil, ""))
	if lag, err := w.seen.Lag(t.Context(), 1); err != nil || lag != 1 {
		t.Errorf("%d behind, %v", lag, err)
	}
}

func TestSomebodyElseCounts(t *testing.T) {
	w := newWorld(t, memkv.New(), Limits{})
	w.pass(1, 5, track(start, "E", nil, ""))
	other := w.seen
	w.open(w.db)
	if _, err := other.position(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	other.moved(1, 0) // it knows where it stands, and the store has moved on
	w.catchUp()
	if err := other.catchUp(t.Context()); err == nil {
		t.Fatal("both have counted it")
	}
	other.seen = newRegister(&other.cfg)
	if err := other.catchUp(t.Context()); err != nil { // it has looked again
		t.Fatal(err)
	}
	if e := w.source().Events; e[0].Allowed != 1 {
		t.Errorf("counted %d times", e[0].Allowed)
	}
}
