package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"kith/archive"
	"kith/clock"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// world is raw logs that loops have passed, written by hand, and an observer
// behind them.
type world struct {
	t       testing.TB
	opening sync.Mutex // guards logs
	db      kv.DB
	clock   *clock.Manual
	limits  Limits
	logs    map[uint32]*kvlog.Log
	passed  map[uint32]commitlog.Offset
	archive *archive.Archive
	seen    *Observer
}

func newWorld(t testing.TB, db kv.DB, limits Limits) *world {
	w := &world{t: t, clock: clock.NewManual(start), limits: limits, passed: map[uint32]commitlog.Offset{}}
	w.open(db)
	return w
}

// open opens everything over a store, as after a restart.
func (w *world) open(db kv.DB) {
	w.db, w.logs = db, map[uint32]*kvlog.Log{}
	w.archive = archive.New(db, func(space uint32) (commitlog.Log, error) { return w.log(space), nil })
	w.seen = NewObserver(ObserverConfig{
		DB: db, Past: w.archive, Spaces: func() []uint32 { return []uint32{1, 2} }, Clock: w.clock, Pace: clock.System{},
		Passed: func(space uint32) (commitlog.Offset, error) { return w.passed[space], nil },
		Limits: w.limits, Logger: slog.New(slog.DiscardHandler),
	})
}

func (w *world) log(space uint32) *kvlog.Log {
	w.opening.Lock() // an observer that runs reads it, too
	defer w.opening.Unlock()
	if w.logs[space] == nil {
		log, err := kvlog.Open(context.Background(), w.db, kv.SpaceKey(space, 'r'), kv.Fence(fmt.Sprint("log/raw/", space)), kvlog.Options{})
		if err != nil {
			w.t.Fatal(err)
		}
		w.logs[space] = log
	}
	return w.logs[space]
}

// call is one record and what became of it.
type call struct {
	head    event.Head
	body    string
	verdict pipeline.Verdict
	raised  int64
}

// pass appends calls to a space as one block, and has them pass in batches of
// another size.
func (w *world) pass(space uint32, batch int, calls ...call) {
	w.t.Helper()
	var block []event.Record
	for _, c := range calls {
		block = append(block, event.Record{Head: c.head, Body: []byte(c.body)})
	}
	first, err := w.log(space).Append(context.Background(), event.EncodeBlock(block))
	if err != nil {
		w.t.Fatal(err)
	}
	var records []*pipeline.Record
	for i, c := range calls {
		r := &pipeline.Record{Head: c.head, Offset: first + commitlog.Offset(i), Stamped: c.head.At, Verdict: c.verdict, Event: &event.Event{Body: []byte(c.body)}}
		r.At += c.raised
		records = append(records, r)
	}
	for part := range slices.Chunk(records, batch) {
		err := w.db.Update(context.Background(), pipeline.Fence(space, 1), kv.Durable, func(tx kv.Tx) error {
			return w.archive.Record(&pipeline.Batch{Live: true, Tx: tx, Space: space, Epoch: 1}, part)
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.passed[space] = first + commitlog.Offset(len(calls))
}

func (w *world) catchUp() {
	w.t.Helper()
	if err := w.seen.catchUp(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// model is the numbers, counted the plain way.
type model struct {
	volumes map[string]uint64
	events  map[string][2]uint64 // allowed, blocked
	first   map[string]int64     // of events and fields
	last    map[string]int64
	fields  map[string][2]uint64
	types   map[string]uint64
	ids     map[string]map[string]days // month, source (empty: all) and kind → id → days
}

func newModel() *model {
	return &model{map[string]uint64{}, map[string][2]uint64{}, map[string]int64{}, map[string]int64{}, map[string][2]uint64{}, map[string]uint64{}, map[string]map[string]days{}}
}

func (m *model) seen(key string, at int64) {
	if _, ok := m.first[key]; !ok {
		m.first[key] = at
	}
	m.first[key], m.last[key] = min(m.first[key], at), max(m.last[key], at)
}

func (m *model) take(c call) {
	if c.head.Kind == event.KindTick {
		return
	}
	at := c.head.At + c.raised
	var body struct {
		UserID, AnonymousID string
		Context             struct{ App struct{ Version any } }
	}
	if err := json.Unmarshal([]byte(c.body), &body); err != nil {
		panic(err)
	}
	version, _ := body.Context.App.Version.(string)
	stage := [...]Stage{Admitted, Duplicate, Blocked, Discarded}[c.verdict.Code]
	reason, _, _ := strings.Cut(c.verdict.Reason, ":")
	if stage == Duplicate {
		reason = ""
	}
	label, kind := event.Label(c.head.Type, c.head.Name), c.head.Type.String()
	if c.head.Kind == event.KindObject {
		label, kind, version = c.head.Name, "object", ""
	}
	for _, g := range grains() {
		from := time.UnixMilli(at).UTC().Truncate(g.width())
		m.volumes[fmt.Sprint(g, from.Unix(), c.head.Source, stage, reason, kind, label, version)]++
	}
	if c.head.Kind == event.KindObject || stage == Duplicate || stage == Discarded {
		return
	}
	blocked := 0
	if stage == Blocked {
		blocked = 1
	}
	key := fmt.Sprint(c.head.Source, " ", kind, " ", label)
	m.seen(key, at)
	n := m.events[key]
	n[blocked]++
	m.events[key] = n

	var omitted struct {
		Context struct{ Protocols struct{ Omitted []string } }
	}
	_ = json.Unmarshal(c.verdict.Body, &omitted)
	paths := map[string]bool{}
	for _, found := range naive(c.head.Type, []byte(c.body)) {
		m.types[key+" "+found]++
		path, _, _ := strings.Cut(found, " ")
		paths[path] = true
	}
	for path := range paths {
		out := blocked
		for _, o := range omitted.Context.Protocols.Omitted {
			if path == o || strings.HasPrefix(path, o+".") {
				out = 1
			}
		}
		n := m.fields[key+" "+path]
		n[out]++
		m.fields[key+" "+path] = n
		m.seen(key+" "+path, at)
	}
	if stage != Admitted {
		return
	}
	day := time.UnixMilli(at).UTC()
	for _, source := range []string{"", c.head.Source} {
		place := fmt.Sprint(day.Format("2006-01 "), source)
		note := func(kind, id string, d days) {
			if id == "" {
				return
			}
			if m.ids[place+kind] == nil {
				m.ids[place+kind] = map[string]days{}
			}
			m.ids[place+kind][id] = m.ids[place+kind][id].with(d)
		}
		note("user", body.UserID, days{first: uint8(day.Day())})
		d := days{first: uint8(day.Day())}
		if body.UserID != "" {
			d.identified = d.first
		}
		note("anonymous", body.AnonymousID, d)
	}
}

// compare holds what is stored to the model.
func (w *world) compare(m *model) {
	w.t.Helper()
	ctx := context.Background()
	volumes := map[string]uint64{}
	for _, g := range grains() {
		list, err := NewMeter(w.db).Counts(ctx, VolumeQuery{From: start.AddDate(0, 0, -1), To: start.AddDate(1, 0, 0), Grain: g})
		if err != nil {
			w.t.Fatal(err)
		}
		for _, v := range list {
			volumes[fmt.Sprint(g, v.Start.Unix(), v.Source, v.Stage, v.Reason, v.Type, v.Event, v.AppVersion)] += v.Count
		}
	}
	if diff := gocmp.Diff(m.volumes, volumes); diff != "" {
		w.t.Fatalf("volumes, -model +stored:\n%s", diff)
	}

	got := newModel()
	sections := map[section]string{inProperties: "properties", inTraits: "traits", inContext: "context"}
	err := w.db.View(ctx, func(r kv.Reader) error {
		byNumber, err := sourcesByNumber(r)
		if err != nil {
			return err
		}
		for _, source := range byNumber {
			stem := eventStem(source)
			for pair, err := range r.Scan(kv.Prefix(stem)) {
				if err != nil {
					return err
				}
				parts := kv.PartsAfter(pair.Key, stem)
				kind, name := event.Type(parts.Byte()), parts.String()
				e, err := decodeEvent(pair.Value)
				if err != nil {
					return err
				}
				if e.last == 0 || kind == objectKind {
					continue
				}
				key := fmt.Sprint(source, " ", kind, " ", name)
				got.events[key], got.first[key], got.last[key] = [2]uint64{e.allowed, e.blocked}, e.first, e.last
				fields := fieldStem(source, e.number)
				for pair, err := range r.Scan(kv.Prefix(fields)) {
					if err != nil {
						return err
					}
					parts := kv.PartsAfter(pair.Key, fields)
					path := key + " " + sections[section(parts.Byte())] + "." + parts.String()
					f, err := decodeField(pair.Value)
					if err != nil {
						return err
					}
					got.fields[path], got.first[path], got.last[path] = [2]uint64{f.allowed, f.blocked}, f.first, f.last
					for t, n := range f.types {
						if n > 0 {
							got.types[path+" "+jsonType(t).String()] = n
						}
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for what, pair := range map[string][2]any{
		"events": {m.events, got.events}, "fields": {m.fields, got.fields}, "types": {m.types, got.types}, "first": {m.first, got.first}, "last": {m.last, got.last},
	} {
		if diff := gocmp.Diff(pair[0], pair[1]); diff != "" {
			w.t.Fatalf("%s, -model +stored:\n%s", what, diff)
		}
	}
	w.compareUsers(m)
}

func (w *world) compareUsers(m *model) {
	w.t.Helper()
	for _, month := range []time.Time{start, start.AddDate(0, 1, 0), start.AddDate(0, 2, 0)} {
		last := month.AddDate(0, 1, -1)
		stored := map[string]MTU{}
		for _, perSource := range []bool{false, true} {
			list, err := NewMeter(w.db).MTU(context.Background(), last, perSource)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, u := range list {
				stored[fmt.Sprint(u.Source, u.Day.Day())] = u
			}
		}
		for _, source := range []string{"", "a", "b", "c"} {
			place := fmt.Sprint(month.Format("2006-01 "), source)
			for day := 1; day <= last.Day(); day++ {
				count := func(kind string, in func(days) uint8) (n uint64) {
					for _, d := range m.ids[place+kind] {
						if in(d) > 0 && int(in(d)) <= day {
							n++
						}
					}
					return n
				}
				first := func(d days) uint8 { return d.first }
				got := stored[fmt.Sprint(source, day)]
				want := [3]uint64{count("user", first), count("anonymous", first), count("anonymous", func(d days) uint8 { return d.identified })}
				if have := [3]uint64{got.Users, got.Anonymous, got.Identified}; have != want {
					w.t.Fatalf("%s %q on day %d: %v users, want %v", month.Format("2006-01"), source, day, have, want)
				}
			}
		}
	}
}

// randomCall draws a call of a small world, in which much comes twice.
func randomCall(rng *rand.Rand, space uint32, at int64) call {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	if rng.IntN(20) == 0 {
		return call{head: event.Head{Kind: event.KindTick, At: at, Time: at}}
	}
	source := map[uint32][]string{1: {"a", "b"}, 2: {"c", "b"}}[space][rng.IntN(2)]
	typ := event.Type(1 + rng.IntN(6))
	body := map[string]any{"type": typ.String(), "messageId": fmt.Sprint(rng.Int64())}
	h := event.Head{Kind: event.KindEvent, At: at, Time: at, Type: typ, Source: source, MessageID: body["messageId"].(string)}
	if typ == event.Track || typ == event.Page {
		h.Name = pick("Booked", "Seen", "Left", "Page Viewed")
	}
	if rng.IntN(3) > 0 {
		id := pick("u1", "u2", "u3", "u4", "u5")
		body["userId"] = id
		h.IDs = append(h.IDs, event.Identifier{Collection: event.Users, Type: "user_id", Value: id})
	}
	if rng.IntN(3) > 0 || h.IDs == nil {
		id := pick("a1", "a2", "a3", "a4", "a5", "a6", "a7")
		body["anonymousId"] = id
		h.IDs = append(h.IDs, event.Identifier{Collection: event.Users, Type: "anonymous_id", Value: id})
	}
	value := func() any {
		return []any{1, "x", true, nil, map[string]any{"in": 1}, []any{1, "two", map[string]any{"p": rng.IntN(2) == 0}}, []any{}, 2.5}[rng.IntN(8)]
	}
	members := map[string]any{}
	for range rng.IntN(4) {
		members[pick("price", "city", "a.b", "deep")] = value()
	}
	body[pick("properties", "traits")] = members
	if rng.IntN(2) == 0 {
		body["context"] = map[string]any{"ip": "::1", "app": map[string]any{"version": []any{"1.0", "1.1", 7}[rng.IntN(3)]}}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	c := call{head: h, body: string(text)}
	if rng.IntN(10) == 0 {
		c.raised = int64(rng.IntN(1000))
	}
	switch rng.IntN(12) {
	case 0:
		c.verdict = pipeline.Verdict{Code: pipeline.Duplicate, Reason: "duplicate messageId"}
	case 1:
		c.verdict = pipeline.Verdict{Code: pipeline.Blocked, Reason: pick("unplanned: the plan has no event", "schema_violation: x is required")}
	case 2:
		c.verdict = pipeline.Verdict{Code: pipeline.Dropped, Reason: "internal: a defect"}
	case 3:
		c.verdict.Body = []byte(`{"context":{"protocols":{"omitted":["properties.deep","traits.city"]}}}`)
	case 4:
		c.head.Kind, c.head.Type, c.head.Name, c.head.IDs = event.KindObject, event.None, pick("rooms", "hotels"), nil
	}
	return c
}

// TestObserverCountsEverythingOnce leads random calls past an observer that is
// stopped, crashes, loses answers and runs its transactions twice, and compares
// what it has with the plain counts.
func TestObserverCountsEverythingOnce(t *testing.T) {
	for seed := range uint64(15) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			trouble := false
			db := memkv.NewWith(memkv.Options{
				Fault: func(op string) error {
					if trouble && (op == memkv.OpCommit || op == memkv.OpCommitted) && rng.IntN(6) == 0 {
						return errors.New("no answer")
					}
					return nil
				},
				Rerun: func(kv.Fence) bool { return trouble && rng.IntN(2) == 0 },
			})
			w, m := newWorld(t, db, Limits{}), newModel()
			at := start.UnixMilli()
			for range 40 {
				space := uint32(1 + rng.IntN(2))
				var calls []call
				for range 1 + rng.IntN(20) {
					at += int64(rng.IntN(3 * 3600 * 1000 / 2))
					c := randomCall(rng, space, at)
					m.take(c)
					calls = append(calls, c)
				}
				w.pass(space, 1+rng.IntN(7), calls...)
				w.clock.Set(time.UnixMilli(at))
				switch rng.IntN(5) {
				case 0: // falls behind
				case 1: // a crash loses what was not durable
					w.catchUp()
					db = db.Crash(rng.IntN(db.AtRisk() + 1))
					w.open(db)
				case 2: // a store in trouble
					trouble = true
					if err := w.seen.catchUp(t.Context()); err != nil {
						w.seen.seen = newRegister(&w.seen.cfg)
					}
					trouble = false
				default:
					w.catchUp()
				}
			}
			w.catchUp()
			w.compare(m)
		})
	}
}
