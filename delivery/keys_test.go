package delivery

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/event"
)

func TestStoredForms(t *testing.T) {
	c := cursor{base: 7, frontier: 40, pending: []run{{7, 9}, {12, 13}, {30, 40}}}
	if got, err := decodeCursor(c.encode()); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("cursor %+v, %v", got, err)
	}
	n := Counts{Delivered: 1, Filtered: [GateCount]uint64{2, 3, 4, 5}, Dead: 6, Waiting: 7, Attempts: 8, Failures: 9}
	if got, err := decodeCounts(n.encode()); err != nil || got != n {
		t.Errorf("counts %+v, %v", got, err)
	}
	if got, err := decodeCounts(nil); err != nil || got != (Counts{}) {
		t.Errorf("no counts %+v, %v", got, err)
	}
	w := waiting{profile: event.ProfileID{1: 2}, attempts: 3, split: 4, first: 5, due: 6, died: 7, reason: "why"}
	if got, err := decodeWaiting(w.encode()); err != nil || got != w {
		t.Errorf("waiting %+v, %v", got, err)
	}
	d := dead{profile: event.ProfileID{3: 4}, state: Resending, attempts: 5, first: 6, resentAt: 7, reason: "why"}
	if got, err := decodeDead(d.encode()); err != nil || got != d {
		t.Errorf("dead %+v, %v", got, err)
	}
	list := []Failure{{At: time.UnixMilli(5).UTC(), Space: 1, Offset: 2, Subscription: "s", Attempt: 3, Permanent: true, Reason: "why"}}
	if got, err := decodeFailures(encodeFailures(list)); err != nil || !reflect.DeepEqual(got, list) {
		t.Errorf("failures %+v, %v", got, err)
	}
	id := deadID{at: 1, space: 2, place: place{3, "sub\x00"}}
	if got, err := parseDeadID(id.String()); err != nil || got != id {
		t.Errorf("id %+v, %v", got, err)
	}
}

// someLedger is a block with a little of everything.
func someLedger() *ledgerBlock {
	b := &ledgerBlock{number: 3, first: 2, end: 2}
	for i := 2; i < 40; i++ {
		b.pass(i, int64(100+i/10))
		switch i % 5 {
		case 0:
			b.setNone(i)
		case 1:
			b.put(i, Outcome{Subscription: "a", State: StateDelivered, Attempts: 1})
			b.put(i, Outcome{Subscription: "b", State: StateDead, Attempts: 10, Code: "503"})
		case 2:
			b.put(i, Outcome{State: StateFiltered, Gate: GateClient, Addressed: true})
		case 3:
			b.put(i, Outcome{Subscription: "b", State: StateWaiting})
		}
	}
	return b
}

func TestLedgerReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.IntRange(0, 20).Draw(t, "first")
		b := &ledgerBlock{number: 7, first: first, end: first}
		want := map[int]map[string]Outcome{}
		minute := int64(29_000_000)
		for _, step := range rapid.SliceOfN(rapid.IntRange(0, 9), 0, 300).Draw(t, "steps") {
			if b.end == first || step < 5 {
				minute += rapid.Int64Range(-1, 1).Draw(t, "later")
				want[b.end] = nil
				b.pass(b.end, minute)
				continue
			}
			i := rapid.IntRange(first, b.end-1).Draw(t, "output")
			if step == 5 {
				b.setNone(i)
				want[i] = map[string]Outcome{}
				continue
			}
			o := Outcome{Subscription: rapid.StringN(0, 2, -1).Draw(t, "subscription"), State: State(rapid.IntRange(1, 4).Draw(t, "state"))}
			switch o.State {
			case StateFiltered:
				o.Gate = Gate(rapid.IntRange(0, 255).Draw(t, "gate"))
			case StateDead:
				o.Code = rapid.SampledFrom([]string{"503", "400"}).Draw(t, "code")
				fallthrough
			case StateDelivered:
				o.Attempts = uint8(rapid.IntRange(0, MaxCountedAttempts).Draw(t, "attempts"))
			}
			if want[i] == nil {
				want[i] = map[string]Outcome{}
			}
			want[i][o.Subscription] = o
			b.put(i, o)
		}
		read, err := decodeLedger(7, b.encode())
		if err != nil || read.first != b.first || read.end != b.end || !slices.Equal(read.minutes, b.minutes) {
			t.Fatalf("%+v, %v", read, err)
		}
		for i := first; i < b.end; i++ {
			outcomes, settled := read.outcomes(i)
			if settled != (want[i] != nil) || len(outcomes) != len(want[i]) {
				t.Fatalf("output %d: %v, settled %v; want %v", i, outcomes, settled, want[i])
			}
			for _, o := range outcomes {
				if want[i][o.Subscription] != o {
					t.Fatalf("output %d: %v, want %v", i, o, want[i][o.Subscription])
				}
			}
		}
	})
}

// TestCursorWhileCatchingUp: after a restart outputs that were settled before
// stay settled, also when a commit comes before all that were under way have
// been read again.
func TestCursorWhileCatchingUp(t *testing.T) {
	stored := cursor{base: 10, frontier: 20, pending: []run{{10, 12}, {15, 16}, {18, 20}}}
	l := newLane(&feed{space: 1}, stored, Counts{})
	if got := l.cursor(); !reflect.DeepEqual(got, stored) {
		t.Errorf("before reading: %+v", got)
	}
	read := func(known bool, units int) {
		t.Helper()
		at := l.frontier()
		if l.known() != known {
			t.Errorf("output %d: known %v", at, !known)
		}
		l.pass(units)
	}
	read(false, 1) // 10
	read(false, 0) // 11: it is kept back now
	read(true, 0)  // 12
	if got, want := l.cursor(), (cursor{base: 10, frontier: 20, pending: []run{{10, 11}, {15, 16}, {18, 20}}}); !reflect.DeepEqual(got, want) {
		t.Errorf("at 13: %+v, want %+v", got, want)
	}
	l.settle(10)
	read(true, 0)  // 13
	read(true, 0)  // 14
	read(false, 1) // 15
	read(true, 0)
	read(true, 0)
	read(false, 0) // 18
	if got, want := l.cursor(), (cursor{base: 15, frontier: 20, pending: []run{{15, 16}, {19, 20}}}); !reflect.DeepEqual(got, want) {
		t.Errorf("at 19: %+v, want %+v", got, want)
	}
	read(false, 1) // 19
	read(false, 1) // 20: new
	l.settle(15)
	if got, want := l.cursor(), (cursor{base: 19, frontier: 21, pending: []run{{19, 21}}}); !reflect.DeepEqual(got, want) {
		t.Errorf("at 21: %+v, want %+v", got, want)
	}
	l.settle(20)
	l.settle(19)
	if got, want := l.cursor(), (cursor{base: 21, frontier: 21}); !reflect.DeepEqual(got, want) {
		t.Errorf("at the end: %+v, want %+v", got, want)
	}
}

func FuzzStoredForms(f *testing.F) {
	f.Add((&cursor{base: 7, frontier: 40, pending: []run{{7, 9}, {12, 13}}}).encode())
	f.Add((&Counts{Delivered: 1}).encode())
	f.Add((&waiting{reason: "why"}).encode())
	f.Add((&dead{reason: "why"}).encode())
	f.Add(someLedger().encode())
	f.Add(encodeFailures([]Failure{{Reason: "why", Attempt: 1}}))
	f.Fuzz(func(t *testing.T, value []byte) {
		if c, err := decodeCursor(value); err == nil {
			last := c.base
			for _, r := range c.pending {
				if r.first < last || r.end <= r.first || r.end > c.frontier {
					t.Fatalf("%+v", c)
				}
				last = r.end
			}
		}
		_, _ = decodeCounts(value)
		_, _ = decodeWaiting(value)
		_, _ = decodeDead(value)
		_, _ = decodeLetter(value)
		_, _ = decodeFailures(value)
		if b, err := decodeLedger(3, value); err == nil {
			n := 0
			b.runs(func(_ int64, first, run int, _ []Outcome, _ bool) { n += run })
			if n != b.end-b.first {
				t.Fatalf("runs of %d outputs in a block of %d", n, b.end-b.first)
			}
			if again, err := decodeLedger(3, b.encode()); err != nil || again.end != b.end {
				t.Fatalf("written again: %v", err)
			}
		}
		if id, err := parseDeadID(string(value)); err == nil {
			if again, err := parseDeadID(id.String()); err != nil || again != id {
				t.Fatalf("%+v, %v", id, err)
			}
		}
	})
}

func TestFewer(t *testing.T) {
	for n, want := range []int{100, 25, 6, 1, 1, 1} {
		if got := fewer(100, n); got != want {
			t.Errorf("after %d failures: %d, want %d", n, got, want)
		}
	}
	if got := fewer(5000, 1<<20); got != 1 {
		t.Errorf("after very many: %d", got)
	}
}
