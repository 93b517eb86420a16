package identity_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"kith/commitlog"
	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// benchRecords makes n events; person says whose the i-th is.
func benchRecords(b *testing.B, n int, first uint64, person func(i int) int) []*pipeline.Record {
	b.Helper()
	snapshot := &workspace.Snapshot{}
	snapshot.Seal()
	e, err := event.Parse([]byte(`{"type":"track","event":"Seen","context":{"page":{"path":"/"}},"properties":{"a":1},"integrations":{"All":true}}`))
	if err != nil {
		b.Fatal(err)
	}
	records := make([]*pipeline.Record, n)
	for i := range records {
		p := person(i)
		r := &pipeline.Record{Offset: commitlog.Offset(first) + commitlog.Offset(i), Event: e, Snapshot: snapshot}
		r.Head = event.Head{Kind: event.KindEvent, At: 1000, Time: 1000, Type: event.Track, MessageID: fmt.Sprintf("ajs-next-%030d", i), Source: "src_1", IDs: []event.Identifier{
			{Collection: event.Users, Type: "user_id", Value: fmt.Sprintf("user-%020d", p)},
			{Collection: event.Users, Type: "anonymous_id", Value: fmt.Sprintf("%036d", p)},
		}}
		binary.BigEndian.PutUint64(r.ID[8:], first+uint64(i))
		records[i] = r
	}
	return records
}

// run leads records through identity in one transaction, as the loop does.
func run(b testing.TB, db kv.DB, stage *identity.Identity, records []*pipeline.Record) {
	err := db.Update(context.Background(), "loop/1/0", kv.Lazy, func(tx kv.Tx) error {
		p, err := stage.Begin(&pipeline.Batch{Tx: tx, Space: 1})
		if err != nil {
			return err
		}
		for _, r := range records {
			stage.Prepare(r)
			if err := p.Handle(r); err != nil {
				return err
			}
		}
		return p.Finish()
	})
	if err != nil {
		b.Fatal(err)
	}
}

const benchBatch = 2000

func benchmark(b *testing.B, people int, warm bool) {
	db := memkv.New()
	stage := identity.New(&pipeline.Layout{})
	records := benchRecords(b, benchBatch, 0, func(i int) int { return i % people })
	if warm {
		run(b, db, stage, records)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if !warm {
			b.StopTimer()
			first := n
			records = benchRecords(b, benchBatch, uint64(first), func(i int) int { return first + i })
			b.StartTimer()
		}
		run(b, db, stage, records)
		n += benchBatch
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}

// BenchmarkWarm: every event is of a known person and brings nothing new.
func BenchmarkWarm(b *testing.B) { benchmark(b, benchBatch, true) }

// BenchmarkCold: every event creates a person with two identifiers.
func BenchmarkCold(b *testing.B) { benchmark(b, 1<<40, false) }

// BenchmarkOneProfile: every event of a batch is of one person.
func BenchmarkOneProfile(b *testing.B) { benchmark(b, 1, true) }

// BenchmarkHotProfileGrows: every event of a batch brings one person another
// identifier, under a limit that allows it.
func BenchmarkHotProfileGrows(b *testing.B) {
	stage := identity.New(&pipeline.Layout{})
	snapshot := &workspace.Snapshot{Number: 1, Spaces: []workspace.Space{{ID: "spa_1", Number: 1, Identifiers: []workspace.IdentifierRule{
		{Type: "user_id"}, {Type: "anonymous_id", Limit: 1 << 30}}}}}
	snapshot.Seal()
	n := 0
	for b.Loop() {
		b.StopTimer()
		db := memkv.New()
		records := benchRecords(b, benchBatch, 0, func(i int) int { return i })
		for _, r := range records {
			r.Snapshot = snapshot
			r.IDs[0].Value = "hot"
		}
		b.StartTimer()
		run(b, db, stage, records)
		n += benchBatch
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}

// large makes a person of n identifiers, as they come over years: some by
// merges, most one by one. It returns the first free offset.
func large(b *testing.B, db kv.DB, stage *identity.Identity, snapshot *workspace.Snapshot, n, merges int) uint64 {
	b.Helper()
	at := uint64(0)
	lead := func(records []*pipeline.Record, change func(i int, r *pipeline.Record)) {
		for i, r := range records {
			r.Snapshot = snapshot
			change(i, r)
		}
		run(b, db, stage, records)
		at += uint64(len(records))
	}
	lead(benchRecords(b, 1, at, func(int) int { return 0 }), func(_ int, r *pipeline.Record) { r.IDs[0].Value = "hot" })
	for made := 0; made < n; made += benchBatch {
		first := made
		records := benchRecords(b, benchBatch, at, func(i int) int { return first + i })
		if made < merges { // each is somebody first
			lead(records, func(_ int, r *pipeline.Record) { r.IDs = r.IDs[1:] })
			records = benchRecords(b, benchBatch, at, func(i int) int { return first + i })
		}
		lead(records, func(_ int, r *pipeline.Record) { r.IDs[0].Value = "hot" })
	}
	return at
}

// unlimited are rules under which a person may have any number of anonymous
// ids.
func unlimited() *workspace.Snapshot {
	s := &workspace.Snapshot{Number: 1, Spaces: []workspace.Space{{ID: "spa_1", Number: 1, Identifiers: []workspace.IdentifierRule{
		{Type: "user_id"}, {Type: "anonymous_id", Limit: 1_000_000}}}}}
	s.Seal()
	return s
}

// BenchmarkBesideALargeProfile: every event creates a person with two
// identifiers, but one of a batch brings another identifier to somebody who has
// many. What that one costs is the difference to the size zero.
func BenchmarkBesideALargeProfile(b *testing.B) {
	for _, size := range []int{0, 10_000, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			db, stage, snapshot := memkv.New(), identity.New(&pipeline.Layout{}), unlimited()
			at := large(b, db, stage, snapshot, size, min(size, 10_000))
			n := 0
			for b.Loop() {
				b.StopTimer()
				first := n + 1<<30
				records := benchRecords(b, benchBatch, at, func(i int) int { return first + i })
				for _, r := range records {
					r.Snapshot = snapshot
				}
				records[benchBatch/2].IDs[0].Value = "hot"
				at += benchBatch
				b.StartTimer()
				run(b, db, stage, records)
				n += benchBatch
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
		})
	}
}

// BenchmarkKiosk: every event of a batch is of another known person at one
// device, whose identifier none of them may use.
func BenchmarkKiosk(b *testing.B) {
	db, stage := memkv.New(), identity.New(&pipeline.Layout{})
	records := benchRecords(b, benchBatch, 0, func(i int) int { return i })
	for _, r := range records {
		r.IDs[1].Value = "kiosk"
	}
	run(b, db, stage, records)
	n := 0
	for b.Loop() {
		run(b, db, stage, records)
		n += benchBatch
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}

// BenchmarkSeparated: as BenchmarkCold, with 10,000 separated identifiers.
func BenchmarkSeparated(b *testing.B) {
	db, stage := memkv.New(), identity.New(&pipeline.Layout{})
	separate := &event.Separate{}
	for i := range 5000 {
		separate.Left = append(separate.Left, event.ExternalID{Type: "user_id", ID: fmt.Sprint("left", i)})
		separate.Right = append(separate.Right, event.ExternalID{Type: "user_id", ID: fmt.Sprint("right", i)})
	}
	err := db.Update(context.Background(), "loop/1/0", kv.Lazy, func(tx kv.Tx) error {
		return identity.Preload(tx, 1, 0, []identity.Standing{{Offset: 1, Command: &event.Command{Separate: separate}}})
	})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for b.Loop() {
		b.StopTimer()
		first := n
		records := benchRecords(b, benchBatch, uint64(first), func(i int) int { return first + i })
		b.StartTimer()
		run(b, db, stage, records)
		n += benchBatch
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}
