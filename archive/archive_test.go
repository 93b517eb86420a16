package archive_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kith/archive"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
)

// past is a space whose records have passed a loop, written by hand: two
// profiles, a duplicate, a changed body, instants that were raised.
type past struct {
	db      kv.DB
	log     *kvlog.Log
	archive *archive.Archive
	records []*pipeline.Record
	outputs []commitlog.Offset // by record, where its outputs are
}

func profile(n byte) event.ProfileID { return event.ProfileID{15: n} }

func newPast(t *testing.T, blocks, perBlock, passed int) *past {
	t.Helper()
	return newPastIn(t, memkv.New(), blocks, perBlock, passed)
}

func newPastIn(t *testing.T, db kv.DB, blocks, perBlock, passed int) *past {
	t.Helper()
	ctx := context.Background()
	log, err := kvlog.Open(ctx, db, kv.SpaceKey(1, 'r'), "log/raw/1", kvlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &past{db: db, log: log, archive: archive.New(db, func(uint32) (commitlog.Log, error) { return log, nil })}
	random := rand.NewChaCha8([32]byte{7})
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	n := 0
	for range blocks {
		var block []event.Record
		for range perBlock {
			id, err := event.NewRecordID(at, random)
			if err != nil {
				t.Fatal(err)
			}
			stamped := at.UnixMilli() + int64(n)
			r := event.Record{Body: fmt.Appendf(nil, `{"n":%d}`, n), Head: event.Head{
				Kind: event.KindEvent, ID: id, At: stamped, Type: event.Track, Name: "Seen", MessageID: fmt.Sprint(n),
				Time: stamped - int64(n*7%50),
			}}
			block = append(block, r)
			rec := &pipeline.Record{Head: r.Head, Offset: commitlog.Offset(n), Stamped: stamped, Event: &event.Event{Body: r.Body}, Profile: profile(byte(1 + n%2))}
			switch {
			case n%10 == 3:
				rec.Verdict = pipeline.Verdict{Code: pipeline.Duplicate, Reason: "duplicate messageId", Of: 1}
				rec.Profile = event.ProfileID{}
			case n%10 == 5:
				rec.Verdict.Body = fmt.Appendf(nil, `{"n":%d,"changed":true}`, n)
			case n%10 == 7:
				rec.At += 4
			}
			if rec.Verdict.Code == pipeline.Admitted {
				rec.Outputs.Count = 1
			}
			p.records = append(p.records, rec)
			n++
		}
		if _, err := log.Append(ctx, event.EncodeBlock(block)); err != nil {
			t.Fatal(err)
		}
	}
	// The loop's batches do not end where blocks do.
	resolved := commitlog.Offset(0)
	for from := 0; from < passed; from += 7 {
		outputs := 0
		for _, r := range p.records[from:min(passed, from+7)] {
			r.Outputs.First = outputs
			outputs += r.Outputs.Count
			p.outputs = append(p.outputs, resolved+commitlog.Offset(r.Outputs.First))
		}
		err := db.Update(ctx, pipeline.Fence(1, 0), kv.Durable, func(tx kv.Tx) error {
			return p.archive.Record(&pipeline.Batch{Live: true, Tx: tx, Space: 1, Resolved: resolved}, p.records[from:min(passed, from+7)])
		})
		if err != nil {
			t.Fatal(err)
		}
		resolved += commitlog.Offset(outputs)
	}
	return p
}

func TestEvent(t *testing.T) {
	p := newPast(t, 4, 10, 40)
	for _, n := range []int{0, 3, 5, 7, 39, 17, 8} {
		r := p.records[n]
		e, err := p.archive.Event(t.Context(), 1, commitlog.Offset(n))
		if err != nil {
			t.Fatalf("event %d: %v", n, err)
		}
		body := r.Event.Body
		if r.Verdict.Body != nil {
			body = r.Verdict.Body
		}
		if string(e.Body) != string(body) {
			t.Errorf("event %d: body %s, want %s", n, e.Body, body)
		}
		if diff := cmp.Diff(r.Head, e.Head); diff != "" {
			t.Errorf("event %d: head, -row +archive:\n%s", n, diff)
		}
		if diff := cmp.Diff(r.Verdict, e.Verdict); diff != "" {
			t.Errorf("event %d: verdict:\n%s", n, diff)
		}
	}
}

func TestEventThatHasNotPassed(t *testing.T) {
	p := newPast(t, 4, 10, 25)
	if _, err := p.archive.Event(t.Context(), 1, 24); err != nil {
		t.Errorf("the last event that has passed: %v", err)
	}
	for _, at := range []commitlog.Offset{25, 39, 40} {
		if _, err := p.archive.Event(t.Context(), 1, at); !fault.Is(err, fault.NotFound) {
			t.Errorf("event %d: got %v, want not found", at, err)
		}
	}
}

func TestScan(t *testing.T) {
	p := newPast(t, 4, 10, 33)
	odd := func(h *event.Head) bool { return h.MessageID[len(h.MessageID)-1]%2 == 1 }
	var got []int
	err := p.archive.Scan(t.Context(), 1, 0, 5, 1000, odd, func(e archive.Entry) error {
		n := int(e.Offset)
		got = append(got, n)
		if e.Profile != p.records[n].Profile {
			t.Errorf("event %d belongs to %v, want %v", n, e.Profile, p.records[n].Profile)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []int
	for n := 5; n < 33; n++ {
		if n%2 == 1 && n%10 != 3 {
			want = append(want, n)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestHistory(t *testing.T) {
	p := newPast(t, 80, 10, 800)
	family := []event.ProfileID{profile(1), profile(2)}
	from, to := p.records[100].Time, p.records[700].Time
	type place struct {
		time   int64
		offset commitlog.Offset
	}
	var want []place
	for _, r := range p.records {
		if r.Verdict.Code == pipeline.Admitted && r.Time >= from && r.Time < to {
			want = append(want, place{r.Time, r.Offset})
		}
	}
	slices.SortFunc(want, func(a, b place) int {
		if a.time != b.time {
			return int(a.time - b.time)
		}
		return int(a.offset) - int(b.offset)
	})
	for _, reverse := range []bool{false, true} {
		var got []place
		w := archive.Window{From: from, To: to, Reverse: reverse}
		for range 2 { // in two listings, the second going on where the first stopped
			err := p.archive.History(t.Context(), 1, 0, family, w, func(e archive.Entry) (bool, error) {
				got = append(got, place{e.Head.Time, e.Offset})
				w.After = archive.Mark{Time: e.Head.Time, Offset: e.Offset}
				return len(got) != 300, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(place{})); diff != "" {
			t.Errorf("reverse=%v, -want +got:\n%s", reverse, diff)
		}
		slices.Reverse(want)
	}
}

func TestPassed(t *testing.T) {
	p := newPast(t, 4, 10, 40)
	for n, r := range p.records {
		got, err := p.archive.Passed(t.Context(), 1, 0, commitlog.Offset(n))
		if err != nil {
			t.Fatal(err)
		}
		want := archive.Link{First: p.outputs[n], Count: r.Outputs.Count, Known: true}
		if got.Link != want || got.Profile != r.Profile || got.Verdict.Code != r.Verdict.Code {
			t.Errorf("record %d: %+v of %v, want %+v of %v", n, got.Link, got.Profile, want, r.Profile)
		}
		if at, found, err := p.archive.Find(t.Context(), 1, r.ID); err != nil || !found || int(at) != n {
			t.Errorf("record %d is found at %d, %v, %v", n, at, found, err)
		}
	}
	if _, found, err := p.archive.Find(t.Context(), 1, event.RecordID{1}); found || err != nil {
		t.Errorf("a record that never was: %v, %v", found, err)
	}
}

func TestCopies(t *testing.T) {
	p := newPast(t, 4, 10, 40)
	for _, test := range []struct {
		runs, limit int
		want        []commitlog.Offset
		complete    bool
	}{
		{100, 100, []commitlog.Offset{3, 13, 23, 33}, true},
		{100, 2, []commitlog.Offset{3, 13}, false},
		{2, 100, []commitlog.Offset{3, 13}, false},
	} {
		got, complete, err := p.archive.Copies(t.Context(), 1, 1, test.runs, test.limit)
		if err != nil || complete != test.complete || !slices.Equal(got, test.want) {
			t.Errorf("%d runs, %d at most: %v, complete %v, %v; want %v", test.runs, test.limit, got, complete, err, test.want)
		}
	}
}

// TestManyChangedBodies reads verdicts of which each run holds much, while the
// log is packed small: what is read at once stays bounded, and all is read.
func TestManyChangedBodies(t *testing.T) {
	db := memkv.New()
	log, err := kvlog.Open(t.Context(), db, kv.SpaceKey(1, 'r'), "log/raw/1", kvlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := archive.New(db, func(uint32) (commitlog.Log, error) { return log, nil })
	const runs = 40
	body := bytes.Repeat([]byte("x"), 1<<20)
	for n := range commitlog.Offset(runs) {
		if _, err := log.Append(t.Context(), event.EncodeBlock([]event.Record{{Head: event.Head{Kind: event.KindEvent}, Body: []byte("{}")}})); err != nil {
			t.Fatal(err)
		}
		r := &pipeline.Record{Offset: n, Verdict: pipeline.Verdict{Code: pipeline.Admitted, Body: body}}
		if n == runs-1 {
			r.Verdict = pipeline.Verdict{Code: pipeline.Duplicate}
		}
		err := db.Update(t.Context(), pipeline.Fence(1, 0), kv.Lazy, func(tx kv.Tx) error {
			return a.Record(&pipeline.Batch{Live: true, Tx: tx, Space: 1}, []*pipeline.Record{r})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, complete, err := a.Copies(t.Context(), 1, 0, runs, 10); err != nil || complete || len(got) != 0 {
		t.Errorf("copies of the first: %v, complete %v, %v", got, complete, err)
	}
	if got, complete, err := a.Copies(t.Context(), 1, runs-1, runs, 10); err != nil || !complete || len(got) != 0 {
		t.Errorf("copies of the last: %v, complete %v, %v", got, complete, err)
	}
	seen := 0
	var ends []commitlog.Offset
	for next := commitlog.Offset(0); next < runs; ends = append(ends, next) {
		before := next
		next, err = a.Follow(t.Context(), 1, next, 1<<20, func(p *pipeline.Judged) error {
			if seen++; len(p.Processed()) < 1<<20 && p.Offset != runs-1 {
				t.Errorf("record %d has a body of %d bytes", p.Offset, len(p.Processed()))
			}
			return nil
		})
		if err != nil || next == before {
			t.Fatalf("from %d to %d, %v", before, next, err)
		}
	}
	if seen != runs || len(ends) != 2 {
		t.Errorf("followed %d records, up to %v", seen, ends)
	}
}

func TestHeads(t *testing.T) {
	p := newPast(t, 4, 10, 25) // those that have not passed are seen too
	var got []string
	end, err := p.archive.Heads(t.Context(), 1, 5, 35, 1<<20, func(_ commitlog.Offset, h *event.Head) bool {
		got = append(got, h.MessageID)
		return true
	})
	if err != nil || end != 35 || len(got) != 30 || got[0] != "5" || got[29] != "34" {
		t.Errorf("heads %v up to %d, %v", got, end, err)
	}
	if end, err := p.archive.Heads(t.Context(), 1, 0, 40, 1, func(commitlog.Offset, *event.Head) bool { return true }); err != nil || end != 10 {
		t.Errorf("a bounded look ends at %d, %v", end, err)
	}
}

// TestOutputs finds what a record brought about, by its link and, for records
// that passed before there were links, by their instant.
func TestOutputs(t *testing.T) {
	p := newPast(t, 4, 10, 40)
	log, err := kvlog.Open(t.Context(), memkv.New(), kv.SpaceKey(1, 'o'), pipeline.Fence(1, 0), kvlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range p.records {
		if r.Outputs.Count == 0 {
			continue
		}
		o := pipeline.Output{At: r.At, Profile: r.Profile, Event: &pipeline.Resolved{Offset: uint64(r.Offset), ID: r.ID}}
		if _, err := log.Append(t.Context(), pipeline.EncodeOutputs([]pipeline.Output{o})...); err != nil {
			t.Fatal(err)
		}
	}
	for n, r := range p.records {
		passed, err := p.archive.Passed(t.Context(), 1, 0, commitlog.Offset(n))
		if err != nil {
			t.Fatal(err)
		}
		for _, linked := range []bool{true, false} {
			if !linked && n%10 >= 7 {
				continue // the instants of this past do not rise there
			}
			passed.Link.Known = linked
			got, err := p.archive.Outputs(t.Context(), log, &passed)
			if err != nil || len(got) != r.Outputs.Count {
				t.Fatalf("record %d, linked %v: %d outputs, %v", n, linked, len(got), err)
			}
			if len(got) == 1 && (got[0].At != p.outputs[n] || got[0].Output.Event.ID != r.ID) {
				t.Errorf("record %d, linked %v: output %d, want %d", n, linked, got[0].At, p.outputs[n])
			}
		}
	}
}

// Landmarks are listed from the first record on; what an older binary passed
// without listing it is found in the log.
func TestLandmarks(t *testing.T) {
	db := memkv.New()
	log, err := kvlog.Open(t.Context(), db, kv.SpaceKey(1, 'r'), "log/raw/1", kvlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := archive.New(db, func(uint32) (commitlog.Log, error) { return log, nil })
	kinds := []event.Kind{event.KindConfig, event.KindEvent, event.KindCommand, event.KindTick, event.KindConfig, event.KindEvent, event.KindCommand}
	var records []*pipeline.Record
	for i, k := range kinds {
		head := event.Head{Kind: k, ID: event.RecordID{byte(i)}}
		if _, err := log.Append(t.Context(), event.EncodeBlock([]event.Record{{Head: head}})); err != nil {
			t.Fatal(err)
		}
		records = append(records, &pipeline.Record{Head: head, Offset: commitlog.Offset(i)})
	}
	for _, listed := range []int{3, 5} { // two batches; those before the first are an older binary's
		from := listed
		to := 5
		if listed == 5 {
			to = len(records)
		}
		if err := db.Update(t.Context(), "loop", kv.Lazy, func(tx kv.Tx) error {
			return a.Record(&pipeline.Batch{Live: true, Tx: tx, Space: 1}, records[from:to])
		}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := a.Landmarks(t.Context(), 1, 6)
	if err != nil {
		t.Fatal(err)
	}
	want := []archive.Landmark{{0, event.KindConfig}, {2, event.KindCommand}, {4, event.KindConfig}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
