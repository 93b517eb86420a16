package computation

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kith/query"
	"kith/timer"
)

// TestThinningIsExact: whatever is thrown away, counts up to what is needed are
// those of the whole history at every instant to come, also when late events
// come in between and when two halves are joined.
func TestThinningIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		needed := rapid.Int64Range(1, 5).Draw(t, "needed")
		reach := rapid.Int64Range(1, 60).Draw(t, "reach")
		newest := &aggregate{Kind: times, Keep: needed, Reach: reach}
		all := &aggregate{Kind: times, Keep: query.All, Reach: reach}
		if !all.covers(newest) || newest.covers(all) {
			t.Fatal("covers is wrong")
		}
		var thin, half, wide cell
		var history []int64
		now := int64(0)
		for range rapid.IntRange(0, 30).Draw(t, "events") {
			now += rapid.Int64Range(0, 8).Draw(t, "passes")
			at := now - rapid.Int64Range(0, 30).Draw(t, "late")
			history = append(history, at)
			if rapid.Bool().Draw(t, "half") {
				half.add(newest, now, at, nil)
			} else {
				thin.add(newest, now, at, nil)
			}
			wide.add(all, now, at, nil)
		}
		before := slices.Clone(half.at)
		thin.join(newest, now, &half)
		if !slices.Equal(before, half.at) {
			t.Fatal("a cell that is joined into another has changed")
		}
		again, err := decodeCell(newest, thin.encode(newest))
		if err != nil || !slices.Equal(again.at, thin.at) {
			t.Fatal(again, err)
		}
		count := func(w query.Window, now int64) (n int64) {
			for _, at := range history {
				if at+w.From <= now && now < at+w.To {
					n++
				}
			}
			return n
		}
		within := query.Window{To: rapid.Int64Range(1, reach).Draw(t, "within")}
		from := rapid.Int64Range(0, reach-1).Draw(t, "from")
		between := query.Window{From: from, To: rapid.Int64Range(from+1, reach).Draw(t, "to")}
		start := now
		got, gotWide := thin.within(within, now), wide.within(between, now)
		thinN, wideN := stepsOf(got, now), stepsOf(gotWide, now)
		for ; now < start+100; now++ {
			if a, b := thinN(now), count(within, now); min(a, needed) != min(b, needed) {
				t.Fatalf("at %d of %v within %d: %d of %d", now, history, within.To, a, b)
			}
			if a, b := wideN(now), count(between, now); a != b {
				t.Fatalf("at %d of %v between %v: %d, want %d", now, history, between, a, b)
			}
			if n := thin.within(within, now).N; min(n, needed) != min(count(within, now), needed) {
				t.Fatalf("at %d: %d", now, n)
			}
		}
		if len(thin.at) > int(needed) {
			t.Fatalf("%d entries are kept, %d needed", len(thin.at), needed)
		}
	})
}

// stepsOf returns a count as its steps say it will be.
func stepsOf(c query.Count, from int64) func(now int64) int64 {
	type step struct{ at, n int64 }
	steps := []step{{from, c.N}}
	first := query.Never
	for {
		at, n := c.Steps.Step()
		if at == query.Never {
			break
		}
		if first == query.Never {
			first = at
		}
		steps = append(steps, step{at, n})
	}
	if first != c.Next {
		panic(fmt.Sprintf("the first step is at %d, next at %d", first, c.Next))
	}
	return func(now int64) (n int64) {
		for _, s := range steps {
			if s.at <= now {
				n = s.n
			}
		}
		return n
	}
}

func TestMoments(t *testing.T) {
	program, err := query.ParseAudience("event('A').where(property('d').within_next(1 hour) OR property('v') > trait('x')).within(3 hours).count() > 0")
	if err != nil {
		t.Fatal(err)
	}
	b := build{}
	a := b.wants(&program.Aggregates[0])
	if a.Kind != moments || a.Reach != 3*3600_000 {
		t.Fatalf("%+v", a)
	}
	field := func(values ...string) (list []query.Value) {
		for _, v := range values {
			list = append(list, query.Text(v))
		}
		return list
	}
	var c cell
	c.add(a, 0, 0, &hit{fields: [][]query.Value{field("1970-01-01T02:00:00Z"), field("a", "b")}})
	c.add(a, 0, -1000, &hit{sure: true})
	c.add(a, 0, -3*3600_000, &hit{sure: true}) // too late for the window
	c.add(a, 0, -500, &hit{fields: [][]query.Value{nil, field(strings.Repeat("x", maxFieldBytes+1))}})
	if len(c.moments) != 3 || c.moments[0].at != -1000 || c.moments[1].fields[1] != nil {
		t.Fatalf("%+v", c.moments)
	}
	again, err := decodeCell(a, c.encode(a))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fmt.Sprint(c.moments), fmt.Sprint(again.moments)); diff != "" {
		t.Fatal(diff)
	}
	f := program.Aggregates[0].Filter
	trait := func(int) []query.Value { return nil }
	for now, want := range map[int64]query.Count{
		0:                 {N: 1, Next: 3600_000},          // the date comes within an hour
		3600_000:          {N: 2, Next: 2*3600_000 + 1},    // and passes
		2*3600_000 + 1:    {N: 1, Next: 3*3600_000 - 1000}, // the sure one leaves the window
		3*3600_000 - 1000: {N: 0, Next: query.Never},
		4 * 3600_000:      {N: 0, Next: query.Never},
	} {
		if got := again.judged(program.Aggregates[0].Window, f, now, trait); got.N != want.N || got.Next != want.Next {
			t.Errorf("at %d: %d until %d, want %d until %d", now, got.N, got.Next, want.N, want.Next)
		}
	}
	for i := range query.MaxKept + 10 {
		c.add(a, 0, int64(-i), &hit{fields: [][]query.Value{field(strings.Repeat("d", 500)), nil}})
	}
	size := 0
	for i := range c.moments {
		size += c.moments[i].size()
	}
	if size > maxMomentBytes || c.moments[len(c.moments)-1].at != 0 {
		t.Errorf("%d bytes are kept, the newest of %d", size, c.moments[len(c.moments)-1].at)
	}
}

func TestTimesAreBounded(t *testing.T) {
	a := &aggregate{Kind: times, Keep: query.All, Reach: math.MaxInt32}
	var c cell
	for i := range int64(query.MaxKept + 5) {
		c.add(a, i, i, nil)
	}
	if len(c.at) != query.MaxKept || c.at[0] != 5 {
		t.Errorf("%d entries from %d", len(c.at), c.at[0])
	}
	if c.add(a, 10, 3, nil) {
		t.Error("an entry older than all that are kept has changed something")
	}
}

func TestPage(t *testing.T) {
	p := emptyPage()
	if p.encode(nil) != nil {
		t.Error("an empty page is written")
	}
	p.armed = -5
	*p.at(7) = entry{build: 7, held: true, member: true, told: true, since: 12, due: 99}
	*p.at(3) = entry{build: 3, held: true, due: timer.Never}
	*p.at(9) = entry{build: 9, past: true, due: timer.Never}
	p.at(4)                                                  // says nothing
	*p.at(5) = entry{build: 5, told: true, due: timer.Never} // of a build that is gone
	value := p.encode(map[uint32]bool{3: true, 4: true, 7: true, 9: true})
	got, err := decodePage(value)
	if err != nil {
		t.Fatal(err)
	}
	want := []entry{{build: 3, held: true, due: timer.Never}, {build: 7, held: true, member: true, told: true, since: 12, due: 99}, {build: 9, past: true, due: timer.Never}}
	if got.armed != -5 || !slices.Equal(got.entries, want) {
		t.Fatalf("%+v", got)
	}
	for build, member := range map[uint32]bool{7: true, 3: false, 9: false, 0: false} {
		if got.in(build) != member {
			t.Errorf("a member of %d: %v", build, !member)
		}
	}
	for i := range value {
		if _, err := decodePage(value[:i]); err == nil && i > 0 {
			t.Errorf("a page cut at %d is read", i)
		}
	}
}

func TestCycle(t *testing.T) {
	references := map[string][]Reference{
		"a": {{Audience: "b"}, {Audience: "c"}}, "b": {{Audience: "d"}}, "c": {{Audience: "d"}, {Audience: "e"}}, "e": {{Audience: "c"}},
	}
	for from, want := range map[string]string{"a": "", "b": "", "c": "c e c", "e": "e c e", "nobody": ""} {
		if got := strings.Join(Cycle(from, references), " "); got != want {
			t.Errorf("%s: %q, want %q", from, got, want)
		}
	}
}

func FuzzStored(f *testing.F) {
	c := cell{at: []int64{-5, 0, 7}, count: 4, moments: []moment{{at: 3, sure: true}, {at: 4, fields: [][]query.Value{{query.Text("x"), query.Int(4)}, nil}}}}
	for _, k := range []kind{tallies, times, moments} {
		f.Add([]byte(c.encode(&aggregate{Kind: k})))
	}
	f.Add([]byte{pageFormat, 1, 4, 1, 3, 63, 2, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		if b == nil {
			return
		}
		for _, k := range []kind{tallies, times, moments} {
			a := &aggregate{Kind: k, Keep: query.All, Reach: query.Never}
			if c, err := decodeCell(a, b); err == nil {
				if again, err := decodeCell(a, c.encode(a)); err != nil || fmt.Sprint(again) != fmt.Sprint(c) {
					t.Fatalf("%x is read as %v and then as %v, %v", b, c, again, err)
				}
			}
		}
		if p, err := decodePage(b); err == nil {
			_ = p.encode(map[uint32]bool{})
		}
	})
}
