package query

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
	"pgregory.net/rapid"
)

// person is an Env over a document of traits and a list of events.
type person struct {
	prog   *Program
	now    int64
	traits string
	events []happened
}

type happened struct {
	at   int64
	name string
	body string // properties, context and source in one document
}

func (p *person) Trait(i int) []Value {
	return p.prog.Traits[i].Path.Values(nil, gjson.Parse(p.traits))
}

func (p *person) Count(i int) Count {
	a := p.prog.Aggregates[i]
	n := p.count(a, p.now)
	c := Count{N: n, Next: Never}
	for _, e := range p.events {
		for _, at := range []int64{e.at + a.Window.From, end(e.at, a.Window.To)} {
			if at > p.now && at < c.Next && p.count(a, at) != n {
				c.Next = at
			}
		}
	}
	return c
}

func end(at, d int64) int64 {
	if d == Never {
		return Never
	}
	return at + d
}

func (p *person) count(a Aggregate, now int64) (n int64) {
	for _, e := range p.events {
		if e.name == a.Event && e.at+a.Window.From <= now && now < end(e.at, a.Window.To) && p.passes(a.Filter, e, now) {
			n++
		}
	}
	return n
}

func (p *person) passes(f *Filter, e happened, now int64) bool {
	if f == nil {
		return true
	}
	doc := gjson.Parse(e.body)
	field := func(i int) []Value {
		x := f.Fields[i]
		switch x.Kind {
		case ContextField:
			return x.Path.Values(nil, doc.Get("context"))
		case SourceField:
			return []Value{Text(doc.Get("source").Str)}
		}
		return x.Path.Values(nil, doc.Get("properties"))
	}
	trait := func(i int) []Value { return f.Traits[i].Path.Values(nil, gjson.Parse(p.traits)) }
	switch f.Match(field) {
	case Yes:
		return true
	case Depends:
		ok, _ := f.Test(now, field, trait)
		return ok
	}
	return false
}

func parsed(t interface{ Fatalf(string, ...any) }, text string) *Program {
	prog, err := ParseAudience(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return prog
}

// TestComparisons holds every comparator to its rules, on a trait; a filter's
// property goes through the same code.
func TestComparisons(t *testing.T) {
	now := time.Date(2024, 5, 10, 12, 0, 0, 0, time.UTC).UnixMilli()
	cases := []struct {
		value string // of trait x, as JSON; empty: missing
		query string // X stands for trait('x')
		want  bool
	}{
		// Numbers are exact and their spelling makes no difference.
		{`640`, `X > 500`, true}, {`500`, `X > 500`, false}, {`500.0`, `X = 500`, true}, {`5e2`, `X = 500`, true},
		{`0.1`, `X = 0.1000`, true}, {`0.30000000000000004`, `X = 0.3`, false},
		{`9007199254740993`, `X = 9007199254740992`, false}, {`9007199254740993`, `X > 9007199254740992`, true},
		{`123456789012345678901234567890.5`, `X < 123456789012345678901234567890.51`, true},
		{`-0.0`, `X = 0`, true}, {`-3`, `X < -2.99`, true}, {`1e400`, `X > 1e399`, true}, {`1e-400`, `X > 0`, true},
		// A string stands for a number where the other side is one.
		{`"640"`, `X > 500`, true}, {`640`, `X > '500'`, true}, {`"7.0"`, `X = 7`, true}, {`7`, `X = '7.0'`, true},
		{`"7.0"`, `X = '7'`, false}, {`"007"`, `X = 7`, true}, {`"640"`, `X > '1000'`, false}, {`"many"`, `X > 5`, false},
		{`"many"`, `X <= 5`, false}, {`""`, `X >= 0`, false}, {`"0x10"`, `X = 16`, false}, {`"1_000"`, `X = 1000`, false},
		// Text.
		{`"Bern"`, `X = 'Bern'`, true}, {`"bern"`, `X = 'Bern'`, false}, {`"b"`, `X > 'a'`, true}, {`"é"`, `X = '\\u00e9'`, false},
		{`"caf\u00e9"`, `X = 'café'`, true}, {`true`, `X = 'true'`, true}, {`true`, `X = true`, true}, {`"true"`, `X = true`, true},
		{`false`, `X = 'true'`, false}, {`true`, `X = 1`, false}, {`true`, `X > 0`, false},
		// Null logic: nothing equals, differs or compares; NOT includes nulls.
		{``, `X = 'a'`, false}, {``, `X != 'a'`, false}, {`null`, `X != 'a'`, false}, {``, `NOT X = 'a'`, true},
		{``, `X != 'a' OR X.absent()`, true}, {`"b"`, `X != 'a'`, true}, {`"a"`, `X != 'a'`, false}, {``, `X < 5`, false},
		{``, `X >= 5`, false}, {``, `X.exists()`, false}, {`null`, `X.exists()`, false}, {`null`, `X.absent()`, true},
		{`""`, `X.exists()`, true}, {`0`, `X.exists()`, true}, {`false`, `X.absent()`, false}, {`""`, `X = ''`, true},
		{``, `X = trait('y')`, false}, {``, `X != trait('y')`, false},
		// Lists and substrings.
		{`"red shoes"`, `X.contains('hats', 'shoes')`, true}, {`"red"`, `X.contains('shoes')`, false}, {``, `X.contains('')`, false},
		{`"red shoes"`, `X.omits('shoes')`, false}, {`"red"`, `X.omits('shoes')`, true}, {``, `X.omits('shoes')`, true},
		{`1234`, `X.contains('23')`, true}, {`["a","b"]`, `X.contains('"a"')`, true}, {`{"a":1}`, `X.contains('"a":1')`, true},
		{`"total_x"`, `X.starts_with('total')`, true}, {`"x_total"`, `X.starts_with('total')`, false}, {`"x_total"`, `X.ends_with('total')`, true},
		{``, `X.ends_with('')`, false}, {`"a"`, `X.one_of('a', 'b')`, true}, {`5`, `X.one_of('a', '5')`, true}, {`"c"`, `X.one_of('a', 'b')`, false},
		{`"c"`, `X.none_of('a', 'b')`, true}, {`"a"`, `X.none_of('a', 'b')`, false}, {``, `X.none_of('a', 'b')`, false},
		// Dates.
		{`"2023-12-07T18:49:59Z"`, `X.before_date(2023-12-07T18:50:00Z)`, true}, {`"2023-12-07T18:50:00Z"`, `X.before_date(2023-12-07T18:50:00Z)`, false},
		{`"2023-12-07T18:50:00.001Z"`, `X.after_date('2023-12-07T18:50:00Z')`, true}, {`"2023-12-07T19:50:00+01:00"`, `X = 2023-12-07T18:50:00Z`, true},
		{`"2023-12-07"`, `X = 2023-12-07`, true}, {`"2023-12-07"`, `X = 2023-12-07T00:00Z`, true}, {`"2023-12-07T00:00:00.000Z"`, `X <= 2023-12-07`, true},
		{`"2023-12-07"`, `X = '2023-12-07T00:00:00Z'`, false}, {`"2023-12-07"`, `X >= '2023-12-07T00:00:00Z'`, true},
		{`"soon"`, `X.after_date(2020-01-01)`, false}, {`20231207`, `X.after_date(2020-01-01)`, false}, {``, `X.before_date(2020-01-01)`, false},
		{`"2024-05-10T12:00:00Z"`, `X.within_last(7 days)`, true}, {`"2024-05-03T12:00:00Z"`, `X.within_last(7 days)`, true},
		{`"2024-05-03T11:59:59.999Z"`, `X.within_last(7 days)`, false}, {`"2024-05-10T12:00:00.001Z"`, `X.within_last(7 days)`, false},
		{`"2024-05-10T12:00:00Z"`, `X.within_next(2 hours)`, true}, {`"2024-05-10T14:00:00Z"`, `X.within_next(2 hours)`, true},
		{`"2024-05-10T14:00:00.001Z"`, `X.within_next(2 hours)`, false}, {`"2024-05-10T11:59:59Z"`, `X.within_next(2 hours)`, false},
		{`"2024-05-03T12:00:00Z"`, `X.before_last(7 days)`, true}, {`"2024-05-03T12:00:00.001Z"`, `X.before_last(7 days)`, false},
		{`"2024-05-17T12:00:00Z"`, `X.after_next(7 days)`, true}, {`"2024-05-17T11:59:59.999Z"`, `X.after_next(7 days)`, false},
		{``, `X.within_last(7 days)`, false}, {``, `NOT X.within_last(7 days)`, true},
		// Elements of arrays.
		{`[{"sku":"a"},{"sku":"b"}]`, `trait('x.$.sku') = 'b'`, true}, {`[{"sku":"a"},{"sku":"b"}]`, `trait('x.$.sku') = 'c'`, false},
		{`[{"sku":"a"},{"sku":"b"}]`, `trait('x.$.sku') != 'a'`, true}, {`[{"sku":"a"}]`, `trait('x.$.sku') != 'a'`, false},
		{`["a","b"]`, `trait('x.$').one_of('b', 'c')`, true}, {`[]`, `trait('x.$').absent()`, true}, {`[null]`, `trait('x.$').exists()`, false},
		{`[{"n":[1,2]},{"n":[3]}]`, `trait('x.$.n.$') >= 3`, true}, {`["shoes","hats"]`, `trait('x.$').omits('hat')`, false},
		{`{"a":{"b.c":5}}`, `trait('x.a.b\.c') = 5`, true}, {`{"a":{"b":{"c":5}}}`, `trait('x.a.b.c') = 5`, true}, {`{"$":5}`, `trait('x.$') = 5`, true},
		{`{"*":5,"a":1}`, `trait('x.*') = 5`, true}, {`{"a b":5}`, `trait('x.a b') = 5`, true}, {`[7,8]`, `trait('x.0') = 7`, false},
	}
	for _, c := range cases {
		traits := `{"y":null}`
		if c.value != "" {
			traits = `{"x":` + c.value + `}`
		}
		prog := parsed(t, strings.ReplaceAll(c.query, "X", "trait('x')"))
		got, _ := prog.Eval(now, &person{prog: prog, now: now, traits: traits})
		if got != c.want {
			t.Errorf("x = %s: %s is %v", c.value, c.query, got)
		}
		// The same as a condition over an event.
		filter := strings.NewReplacer("X", "property('x')", "trait('x", "property('x", "trait('y", "property('y").Replace(c.query)
		prog = parsed(t, "event('E').where("+filter+").count() = 1")
		p := &person{prog: prog, now: now, events: []happened{{at: now, name: "E", body: `{"properties":` + traits + `}`}}}
		if got, _ := prog.Eval(now, p); got != c.want {
			t.Errorf("x = %s: where(%s) is %v", c.value, filter, got)
		}
	}
}

func TestWindows(t *testing.T) {
	const hour = 3600_000
	ms := func(h int64) int64 { return h * hour }
	p := &person{events: []happened{
		{ms(0), "Booked", `{"properties":{"hotel":"Bern","check_in":"1970-01-05"},"context":{"page":{"url":"/a"}},"source":"web"}`},
		{ms(10), "Booked", `{"properties":{"hotel":"Basel"},"source":"pms"}`},
		{ms(20), "Booked", `{"properties":{"hotel":"Bern"},"source":"pms"}`},
	}}
	cases := []struct {
		query string
		now   int64
		want  bool
		next  int64
	}{
		{`event('Booked').within(1 day).count() >= 1`, ms(20), true, ms(24)}, // some count changes; thinned states give steps
		{`event('Booked').within(1 day).count() >= 1`, ms(44) - 1, true, ms(44)},
		{`event('Booked').within(1 day).count() >= 1`, ms(44), false, Never},
		{`event('Booked').within(1 day).count() = 0`, ms(44), true, Never},
		{`event('Booked').between(1 day, 2 days).count() >= 1`, ms(24) - 1, false, ms(24)},
		{`event('Booked').between(1 day, 2 days).count() >= 1`, ms(24), true, ms(34)},
		{`event('Booked').between(1 day, 2 days).count() >= 1`, ms(68), false, Never},
		{`event('Booked').count() >= 3`, ms(100), true, Never},
		{`event('Booked').where(property('hotel') = 'Bern').count() = 2`, ms(100), true, Never},
		{`event('Booked').sources(exclude: 'web', 'app').count() = 2`, ms(100), true, Never},
		{`event('Booked').where(context('page.url').ends_with('a')).count() = 1`, ms(100), true, Never},
		{`event('Booked').where(property('check_in').within_next(1 day)).count() = 1`, ms(72) - 1, false, Never},
		{`event('Booked').where(property('check_in').within_next(1 day)).count() = 1`, ms(72), true, Never},
		{`event('Booked').where(property('check_in').within_next(1 day)).count() = 1`, ms(96), true, Never},
		{`event('Booked').where(property('check_in').within_next(1 day)).count() = 1`, ms(96) + 1, false, Never},
		{`event('Other').count() >= 1`, ms(100), false, Never},
		{`event('Booked').within(1 day).count() > event('Other').count()`, ms(43), true, ms(44)},
		{`event('Booked').within(1 day).count() = 1 AND event('Booked').within(2 days).count() = 1`, ms(43), false, ms(48)}, // the second decides
		{`event('Booked').within(1 day).count() = 1 OR trait('x').absent()`, ms(43), true, Never},
	}
	for _, c := range cases {
		prog := parsed(t, c.query)
		p.prog, p.now = prog, c.now
		got, next := prog.Eval(c.now, p)
		if got != c.want || next != c.next {
			t.Errorf("%s at %d: %v until %d, want %v until %d", c.query, c.now, got, next, c.want, c.next)
		}
	}
}

// TestStepsGiveTheCrossing: with steps the next instant is the one at which the
// number is crossed, not the first at which the count moves.
func TestStepsGiveTheCrossing(t *testing.T) {
	for query, want := range map[string]int64{
		"event('A').within(1 day).count() >= 2":           20,
		"event('A').within(1 day).count() >= 1":           30,
		"event('A').within(1 day).count() < 10":           Never,
		"event('A').within(1 day).count() > 2":            10,
		"event('A').within(1 day).count() != 1":           20,
		"event('A').within(1 day).count() > 1.5":          20,
		"event('A').within(1 day).count().one_of(3)":      10,
		"event('A').within(1 day).count() > literal('1')": 20,
		"1 < event('A').within(1 day).count()":            20,
		"trait('n') < event('A').within(1 day).count()":   20,
	} {
		prog := parsed(t, query)
		if _, next := prog.Eval(0, stepEnv{}); next != want {
			t.Errorf("%s: next is %d, want %d", query, next, want)
		}
	}
}

type stepEnv struct{}

func (stepEnv) Trait(int) []Value { return []Value{Int(1)} }
func (stepEnv) Count(int) Count   { return Count{N: 3, Next: 10, Steps: &downwards{at: 10, n: 2}} }

// downwards is a count that loses one every ten milliseconds.
type downwards struct{ at, n int64 }

func (d *downwards) Step() (at, n int64) {
	if d.n < 0 {
		return Never, 0
	}
	at, n = d.at, d.n
	d.at, d.n = d.at+10, d.n-1
	return at, n
}

// TestNextIsNeverLate: between an evaluation and the next instant it names, the
// answer does not change, for conditions put together at random.
func TestNextIsNeverLate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const hour = 3600_000
		var leaf *rapid.Generator[string]
		leaf = rapid.Custom(func(t *rapid.T) string {
			switch rapid.IntRange(0, 3).Draw(t, "leaf") {
			case 0:
				return fmt.Sprintf("event('A').within(%d hours).count() %s %d", rapid.IntRange(1, 5).Draw(t, "d"),
					rapid.SampledFrom([]string{">=", "=", "<", "!="}).Draw(t, "sign"), rapid.IntRange(0, 3).Draw(t, "n"))
			case 1:
				from := rapid.IntRange(0, 4).Draw(t, "from")
				return fmt.Sprintf("event('A').between(%d hours, %d hours).count() >= %d", from, from+rapid.IntRange(1, 4).Draw(t, "len"), rapid.IntRange(1, 2).Draw(t, "n"))
			case 2:
				return fmt.Sprintf("trait('d').%s(%d hours)", rapid.SampledFrom([]string{"within_last", "within_next", "before_last", "after_next"}).Draw(t, "rel"), rapid.IntRange(1, 5).Draw(t, "d"))
			}
			op := rapid.SampledFrom([]string{" AND ", " OR "}).Draw(t, "op")
			return rapid.SampledFrom([]string{"(", "NOT ("}).Draw(t, "not") + leaf.Draw(t, "l") + op + leaf.Draw(t, "r") + ")"
		})
		prog := parsed(t, leaf.Draw(t, "query"))
		p := &person{prog: prog, traits: fmt.Sprintf(`{"d":%q}`, time.UnixMilli(rapid.Int64Range(-8, 8).Draw(t, "date")*hour).UTC().Format(time.RFC3339))}
		for range rapid.IntRange(0, 5).Draw(t, "events") {
			p.events = append(p.events, happened{at: rapid.Int64Range(-6*hour, 0).Draw(t, "at"), name: "A"})
		}
		at := func(now int64) (bool, int64) { p.now = now; return prog.Eval(now, p) }
		now := int64(0)
		held, next := at(now)
		var instants []int64
		for i := range int64(16 * 60) {
			instants = append(instants, i*60_000, i*60_000+1)
		}
		for _, e := range p.events {
			for h := range int64(10) {
				instants = append(instants, e.at+h*hour, e.at+h*hour-1)
			}
		}
		slices.Sort(instants)
		for _, now = range instants {
			if now <= 0 {
				continue
			}
			for next <= now {
				if next <= 0 {
					t.Fatalf("%s: next instant %d is not ahead", prog, next)
				}
				held, next = at(next)
			}
			if got, _ := at(now); got != held {
				t.Fatalf("%s changed to %v before %d, at %d", prog, got, next, now)
			}
		}
	})
}

func TestValuesAreKept(t *testing.T) {
	var kept []byte
	values := Path{"x", each}.Values(nil, gjson.Parse(`{"x":["a",1.50,true,{"b":[1]},"",-0]}`))
	for _, v := range values {
		kept = v.Append(kept)
	}
	for _, want := range values {
		got, rest, ok := ReadValue(kept)
		if !ok || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		for i := range len(kept) - len(rest) {
			if _, _, ok := ReadValue(kept[:i]); ok {
				t.Fatalf("half a value is read as one")
			}
		}
		kept = rest
	}
	if _, _, ok := ReadValue(kept); ok || len(values) != 6 {
		t.Fatalf("%d values, and nothing is read as one", len(values))
	}
}
