package delivery

import (
	"reflect"
	"testing"

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
	id := deadID{at: 1, space: 2, place: place{3, "sub\x00"}}
	if got, err := parseDeadID(id.String()); err != nil || got != id {
		t.Errorf("id %+v, %v", got, err)
	}
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
