package inspect

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kith/clock"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// told is a resolved log, written by hand, what follows it, and all that was
// written, to compare with.
type told struct {
	t     *testing.T
	db    kv.DB
	log   *kvlog.Log
	clock *clock.Manual
	all   []Insight
	n     *Insights
	read  *InsightReader
	last  uint64 // the offset of the last event
}

func newTold(t *testing.T) *told {
	w := &told{t: t, db: memkv.New(), clock: clock.NewManual(start)}
	w.open()
	return w
}

// open opens everything over the store, as after a restart.
func (w *told) open() {
	log, err := kvlog.Open(context.Background(), w.db, kv.SpaceKey(1, 'o'), "loop/1/1", kvlog.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.log = log
	resolved := func(uint32) (commitlog.Log, error) { return w.log, nil }
	w.n = NewInsights(InsightsConfig{
		DB: w.db, Resolved: resolved, Spaces: func() []uint32 { return []uint32{1} }, Clock: w.clock, Pace: clock.System{},
		Untyped: []string{"too many types"}, Logger: slog.New(slog.DiscardHandler),
	})
	w.read = NewInsightReader(w.db, resolved)
}

// write appends outputs as one batch.
func (w *told) write(outputs ...pipeline.Output) {
	w.t.Helper()
	end := w.log.End()
	err := w.db.Update(context.Background(), "loop/1/1", kv.Durable, func(tx kv.Tx) error {
		_, err := w.log.AppendTx(tx, pipeline.EncodeOutputs(outputs)...)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.log.Published(end + commitlog.Offset(len(outputs)))
}

func (w *told) catchUp() {
	w.t.Helper()
	if err := w.n.catchUp(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func profileNumber(n int) (p event.ProfileID) {
	binary.BigEndian.PutUint32(p[12:], uint32(n))
	p[0] = 1
	return p
}

// message makes the outputs of one message with changes, and notes what is to
// be found of it.
func (w *told) message(at time.Time, source string, changes ...pipeline.Output) []pipeline.Output {
	w.last++
	id := event.RecordID(profileNumber(int(w.last)))
	e := &pipeline.Resolved{Offset: w.last, ID: id, Type: event.Track, Name: "Seen", Source: source, MessageID: fmt.Sprint("m", w.last)}
	outputs := []pipeline.Output{{At: at.UnixMilli(), Event: e}}
	for _, o := range changes {
		o.At, o.Change.Cause = at.UnixMilli(), id
		outputs = append(outputs, o)
	}
	return outputs
}

func changed(p int, kind pipeline.ChangeKind, subject, detail string) pipeline.Output {
	o := pipeline.Output{Profile: profileNumber(p), Change: &pipeline.Change{Kind: kind, Subject: subject, Detail: detail}}
	if p == 0 {
		o.Profile = event.ProfileID{}
	}
	return o
}

// TestInsightsAgainstAList writes random changes, with restarts between, and
// compares every search, page by page, and all counts with the plain list of
// what was written.
func TestInsightsAgainstAList(t *testing.T) {
	w := newTold(t)
	random := rand.New(rand.NewPCG(1, 2))
	violations := []string{"Identifier value limit exceeded", "ID value blocked", "too many types"}
	at := start
	var place commitlog.Offset
	for round := range 60 {
		var batch []pipeline.Output
		for range 1 + random.IntN(400) {
			at = at.Add(time.Duration(random.IntN(90)) * time.Second)
			source := fmt.Sprint("src", random.IntN(3))
			var changes []pipeline.Output
			for range random.IntN(4) {
				p := 1 + random.IntN(50)
				subject := fmt.Sprintf("type%d:v%d", random.IntN(4), random.IntN(300))
				switch random.IntN(7) {
				case 0:
					changes = append(changes, changed(p, pipeline.ProfileCreated, "", ""))
				case 1:
					o := changed(p, pipeline.ProfilesMerged, "", "")
					o.Change.Other = profileNumber(1 + random.IntN(50))
					changes = append(changes, o)
				case 2, 3:
					changes = append(changes, changed(p, pipeline.IdentifierAttached, subject, ""))
				case 4:
					changes = append(changes, changed(p*random.IntN(2), pipeline.IdentifierRefused, subject, violations[random.IntN(3)]))
				case 5:
					changes = append(changes, changed(p, pipeline.TraitChanged, "color", "red"), // no insight
						changed(p, pipeline.TraitRefused, "shape", fmt.Sprintf("%d traits not taken: because", random.IntN(9))))
				case 6:
					changes = append(changes, changed(0, pipeline.IdentifierRefused, "", "No matching identifiers on event"))
				}
			}
			batch = append(batch, w.message(at, source, changes...)...)
		}
		var cause *pipeline.Resolved
		for i := range batch {
			if batch[i].Event != nil {
				cause = batch[i].Event
			} else if x, ok := insightOf(place, &batch[i], cause); ok {
				w.all = append(w.all, x)
			}
			place++
		}
		w.write(batch...)
		if round%3 == 0 {
			w.catchUp()
		}
		if round%17 == 5 {
			w.open()
		}
	}
	w.catchUp()
	if n := len(w.all); n < 10*segmentInsights {
		t.Fatalf("only %d insights: too few for several segments", n)
	}

	pick := func() Insight { return w.all[random.IntN(len(w.all))] }
	for range 150 {
		q := InsightQuery{Space: 1, Limit: 100 + random.IntN(MaxInsights-100)}
		x := pick()
		if random.IntN(2) == 0 {
			q.Kinds = []InsightKind{x.Kind, pick().Kind}
		}
		if random.IntN(4) == 0 {
			q.Reason = x.Reason
		}
		if random.IntN(3) == 0 {
			q.Type, q.Value = x.Type, x.Value
		}
		if random.IntN(4) == 0 {
			q.Profile = x.Profile
		}
		if random.IntN(4) == 0 {
			q.Source = x.Source
		}
		if random.IntN(8) == 0 {
			q.MessageID = x.MessageID
		}
		if random.IntN(3) == 0 {
			q.From = x.At.Add(-time.Hour)
			q.To = x.At.Add(time.Duration(random.IntN(3600)) * time.Second)
		}
		var want []Insight
		for _, x := range slices.Backward(w.all) {
			if q.takes(&x) {
				want = append(want, x)
			}
		}
		var got []Insight
		for {
			page, err := w.read.Search(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Insights) > q.Limit {
				t.Fatalf("%d on a page of %d", len(page.Insights), q.Limit)
			}
			got = append(got, page.Insights...)
			if q.After = page.Next; q.After == "" {
				break
			}
		}
		if !slices.Equal(want, got) {
			t.Fatalf("%+v: %d found, not %d: %s", q, len(got), len(want), gocmp.Diff(want, got, cmpopts.IgnoreUnexported(Insight{})))
		}
	}

	for _, grain := range grains() {
		want := map[string]uint64{}
		for _, x := range w.all {
			kind := x.Type
			if x.Reason == "too many types" {
				kind = ""
			}
			want[fmt.Sprint(x.At.Truncate(grain.width()), x.Kind, x.Reason, kind, x.Source)]++
		}
		list, err := w.read.Counts(context.Background(), InsightCountQuery{Space: 1, From: start, To: at.Add(time.Second), Grain: grain, BySource: true, ByType: true})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]uint64{}
		for _, c := range list {
			got[fmt.Sprint(c.Start, c.Kind, c.Reason, c.Type, c.Source)] += c.Count
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("%s: %s", grain, diff)
		}
	}
}

// TestInsightsKnowTheirMessage checks what an insight says, and that one that a
// command has brought about names no message.
func TestInsightsKnowTheirMessage(t *testing.T) {
	w := newTold(t)
	refused := changed(7, pipeline.IdentifierRefused, "email:jo:x@example.com", "Identifier value limit exceeded")
	w.write(w.message(start, "web", refused)...)
	command := changed(7, pipeline.IdentifierRemoved, "email:jo:x@example.com", "")
	command.At, command.Change.Cause = start.Add(time.Second).UnixMilli(), event.RecordID(profileNumber(99))
	w.write(command)
	w.catchUp()
	page, err := w.read.Search(context.Background(), InsightQuery{Space: 1, Type: "email", Value: "jo:x@example.com", Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	want := []Insight{
		{Place: 2, At: start.Add(time.Second), Kind: RemovalInsight, What: "identifier removed", Type: "email", Value: "jo:x@example.com",
			Profile: profileNumber(7), Record: event.RecordID(profileNumber(99))},
		{Place: 1, At: start, Kind: ViolationInsight, What: "identifier refused", Reason: "Identifier value limit exceeded", Type: "email", Value: "jo:x@example.com",
			Profile: profileNumber(7), Record: event.RecordID(profileNumber(1)), Offset: 1, MessageID: "m1", Source: "web", EventType: event.Track, Event: "Seen"},
	}
	if diff := gocmp.Diff(want, page.Insights, cmpopts.IgnoreUnexported(Insight{})); diff != "" {
		t.Fatal(diff)
	}
	if page.Insights[0].FromMessage() || !page.Insights[1].FromMessage() {
		t.Fatal("which of the two came of a message?")
	}
}

// TestEveryChangeIsAnInsight holds insights to all changes that there are, but
// for those of traits and audiences, which the Profile API tells of.
func TestEveryChangeIsAnInsight(t *testing.T) {
	known := map[InsightKind]bool{}
	for k := pipeline.ChangeKind(1); k.String() != "unknown"; k++ {
		x, ok := insightOf(0, &pipeline.Output{Change: &pipeline.Change{Kind: k, Subject: "s:x", Detail: "d: e"}}, nil)
		switch k {
		case pipeline.TraitChanged, pipeline.AudienceEntered, pipeline.AudienceExited:
			if ok {
				t.Errorf("%s is an insight", k)
			}
			continue
		}
		if !ok || x.Kind.number() == 0 || insightKindAt(x.Kind.number()) != x.Kind {
			t.Errorf("%s is none: %+v", k, x)
		}
		known[x.Kind] = true
	}
	for _, k := range InsightKinds() {
		if !known[k] {
			t.Errorf("no change is a %s", k)
		}
	}
}

// TestInsightsAreForgotten lets the retention pass, and trims the log: what is
// gone from the log is not found, and nothing fails.
func TestInsightsAreForgotten(t *testing.T) {
	w := newTold(t)
	for day := range 40 {
		at := start.Add(time.Duration(day) * 24 * time.Hour)
		for range 30 {
			var batch []pipeline.Output
			for range 100 {
				batch = append(batch, w.message(at, "web", changed(day+1, pipeline.IdentifierAttached, fmt.Sprint("email:", day), ""))...)
			}
			w.write(batch...)
		}
	}
	w.catchUp()
	find := func(day int) int {
		t.Helper()
		n := 0
		q := InsightQuery{Space: 1, Value: fmt.Sprint(day), Limit: MaxInsights}
		for {
			page, err := w.read.Search(context.Background(), q)
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.Insights)
			if q.After = page.Next; q.After == "" {
				return n
			}
		}
	}
	if n := find(2); n != 3000 {
		t.Fatalf("%d of 3000 of the third day", n)
	}
	now := start.Add(40 * 24 * time.Hour)
	if err := w.n.sweep(context.Background(), now); err != nil {
		t.Fatal(err)
	}
	if n := find(2); n != 0 {
		t.Errorf("%d of the third day after the retention", n)
	}
	if n := find(20); n != 3000 {
		t.Errorf("%d of 3000 of the 21st day", n)
	}
	if err := w.log.Trim(context.Background(), w.log.End()/4*3); err != nil {
		t.Fatal(err)
	}
	if n := find(20); n != 0 {
		t.Errorf("%d of the 21st day, which was trimmed", n)
	}
	if n := find(38); n != 3000 {
		t.Errorf("%d of 3000 of the 39th day", n)
	}
	list, err := w.read.Counts(context.Background(), InsightCountQuery{Space: 1, From: start, To: now, Grain: Day})
	if err != nil || len(list) != 40 {
		t.Errorf("%d days are counted, %v", len(list), err)
	}

	// One that comes new to a trimmed log begins where the log does.
	err = w.db.Update(context.Background(), insightsFence, kv.Durable, func(tx kv.Tx) error { return tx.Delete(insightCursorKey(1)) })
	if err != nil {
		t.Fatal(err)
	}
	w.open()
	w.catchUp()
	if lag, err := w.n.Lag(context.Background(), 1); lag != 0 || err != nil {
		t.Errorf("it is %d behind, %v", lag, err)
	}
	if n := find(38); n != 3000 {
		t.Errorf("%d of 3000 of the 39th day, anew", n)
	}
}

// BenchmarkInsights measures what an event that changes nothing costs, and one
// that creates a profile.
func BenchmarkInsights(b *testing.B) {
	for _, changes := range []int{0, 3} {
		b.Run(fmt.Sprint("changes=", changes), func(b *testing.B) {
			db := memkv.New()
			log, err := kvlog.Open(context.Background(), db, kv.SpaceKey(1, 'o'), "loop/1/1", kvlog.Options{})
			if err != nil {
				b.Fatal(err)
			}
			w := &told{}
			const events = 100_000
			for at := 0; at < events; at += 1000 {
				var batch []pipeline.Output
				for i := range 1000 {
					var list []pipeline.Output
					for c := range changes {
						list = append(list, changed(at+i+1, pipeline.IdentifierAttached, fmt.Sprintf("type%d:value%d", c, at+i), ""))
					}
					batch = append(batch, w.message(start.Add(time.Duration(at)*time.Millisecond), "web", list...)...)
				}
				end := log.End()
				if err := db.Update(context.Background(), "loop/1/1", kv.Durable, func(tx kv.Tx) error {
					_, err := log.AppendTx(tx, pipeline.EncodeOutputs(batch)...)
					return err
				}); err != nil {
					b.Fatal(err)
				}
				log.Published(end + commitlog.Offset(len(batch)))
			}
			b.ResetTimer()
			for range b.N {
				n := NewInsights(InsightsConfig{
					DB: db, Resolved: func(uint32) (commitlog.Log, error) { return log, nil }, Spaces: func() []uint32 { return []uint32{1} },
					Clock: clock.NewManual(start), Pace: clock.System{}, Logger: slog.New(slog.DiscardHandler),
				})
				err := db.Update(context.Background(), insightsFence, kv.Lazy, func(tx kv.Tx) error { return tx.Delete(insightCursorKey(1)) })
				if err != nil {
					b.Fatal(err)
				}
				for more := true; more; {
					if more, err = n.chunk(context.Background(), 1); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/events, "µs/event")
		})
	}
}
