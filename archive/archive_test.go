package archive_test

import (
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
	archive *archive.Archive
	records []*pipeline.Record
}

func profile(n byte) event.ProfileID { return event.ProfileID{15: n} }

func newPast(t *testing.T, blocks, perBlock, passed int) *past {
	t.Helper()
	ctx := context.Background()
	db := memkv.New()
	log, err := kvlog.Open(ctx, db, kv.SpaceKey(1, 'r'), "log/raw/1", kvlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &past{archive: archive.New(db, func(uint32) (commitlog.Log, error) { return log, nil })}
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
			p.records = append(p.records, rec)
			n++
		}
		if _, err := log.Append(ctx, event.EncodeBlock(block)); err != nil {
			t.Fatal(err)
		}
	}
	// The loop's batches do not end where blocks do.
	for from := 0; from < passed; from += 7 {
		err := db.Update(ctx, pipeline.Fence(1, 0), kv.Durable, func(tx kv.Tx) error {
			return p.archive.Record(&pipeline.Batch{Tx: tx, Space: 1}, p.records[from:min(passed, from+7)])
		})
		if err != nil {
			t.Fatal(err)
		}
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
