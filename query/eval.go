package query

import (
	"slices"
	"strings"
)

// cond is a compiled condition.
type cond struct {
	op      condOp
	items   []*cond // and, or; of not the one
	depends bool    // within a filter: the event alone does not decide it

	// A comparison.
	name   comparator
	left   scalar
	right  scalar  // of the six that signs stand for
	values []Value // of the others: what they compare with
	span   int64   // of the relative dates, in milliseconds
	// When a count is compared with a number literal: the largest whole number
	// not above it, and whether that is the number itself.
	floor int64
	whole bool
}

type condOp uint8

const (
	opCompare condOp = iota
	opAnd
	opOr
	opNot
)

type comparator uint8

const (
	equals comparator = iota
	differs
	greaterThan
	atLeast
	lessThan
	atMost
	exists
	absent
	contains
	omits
	startsWith
	endsWith
	oneOf
	noneOf
	beforeDate
	afterDate
	withinLast
	withinNext
	beforeLast
	afterNext
)

var comparators = map[string]comparator{
	"equals": equals, "differs": differs, "greater_than": greaterThan, "at_least": atLeast, "less_than": lessThan,
	"at_most": atMost, "exists": exists, "absent": absent, "contains": contains, "omits": omits,
	"starts_with": startsWith, "ends_with": endsWith, "one_of": oneOf, "none_of": noneOf,
	"before_date": beforeDate, "after_date": afterDate, "within_last": withinLast, "within_next": withinNext,
	"before_last": beforeLast, "after_next": afterNext,
}

// relative reports whether the comparator looks at the time.
func (c comparator) relative() bool { return c >= withinLast }

// sign reports whether the comparator has two sides.
func (c comparator) sign() bool { return c <= atMost }

// scalar is one side of a comparison.
type scalar struct {
	kind  scalarKind
	index int // in the program's or filter's list
	value []Value
}

type scalarKind uint8

const (
	scalarLiteral scalarKind = iota
	scalarTrait
	scalarField
	scalarCount
)

type truth uint8

const (
	no truth = iota
	yes
	depends
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// result is a truth and the first instant at which it can change by itself.
type result struct {
	truth truth
	next  int64
}

// scope is where a condition's scalars get their values: a program's from its
// env, a filter's from field and trait. It is one concrete type so that it
// stays on the stack.
type scope struct {
	now int64
	env Env
	// Of a filter. still says that traits and the time are out of reach, so
	// that a condition that needs them depends.
	field, trait func(i int) []Value
	still        bool
}

func (c *cond) eval(s *scope) result {
	switch c.op {
	case opAnd:
		return c.join(s, no)
	case opOr:
		return c.join(s, yes)
	case opNot:
		r := c.items[0].eval(s)
		if r.truth != depends {
			r.truth = truthOf(r.truth == no)
		}
		return r
	}
	if c.depends && s.still {
		return result{truth: depends, next: Never}
	}
	switch {
	case c.name.relative():
		return c.relative(s)
	case c.left.kind == scalarCount:
		return c.counted(s)
	}
	return result{truthOf(c.holds(c.left.values(s), c.right.values(s))), Never}
}

// join evaluates AND and OR, which one item decides: a false one an AND, a
// true one an OR. Until all items that decide have changed, the answer stays;
// when none does, any change can turn it.
func (c *cond) join(s *scope, decides truth) result {
	all := result{truth: truthOf(decides == no), next: Never}
	decided := false
	for _, item := range c.items {
		r := item.eval(s)
		switch {
		case r.truth == decides && !decided:
			all, decided = r, true
		case r.truth == decides:
			all.next = max(all.next, r.next)
		case decided:
		case r.truth == depends:
			all.truth = depends
			all.next = min(all.next, r.next)
		default:
			all.next = min(all.next, r.next)
		}
		if decided && all.next == Never {
			break
		}
	}
	return all
}

func (sc *scalar) values(s *scope) []Value {
	switch sc.kind {
	case scalarTrait:
		if s.env != nil {
			return s.env.Trait(sc.index)
		}
		return s.trait(sc.index)
	case scalarField:
		return s.field(sc.index)
	case scalarCount:
		return []Value{Int(s.env.Count(sc.index).N)}
	}
	return sc.value
}

// counted evaluates a comparison of a count. The checker has put it on the
// left, where another may stand on the right.
func (c *cond) counted(s *scope) result {
	n := s.env.Count(c.left.index)
	if c.right.kind == scalarCount {
		r := s.env.Count(c.right.index)
		return result{truthOf(c.holds([]Value{Int(n.N)}, []Value{Int(r.N)})), min(n.Next, r.Next)}
	}
	var against []Value
	if c.name.sign() && !c.bounded() {
		against = c.right.values(s)
	}
	r := result{truth: truthOf(c.test(n.N, against)), next: n.Next}
	if n.Steps == nil || n.Next == Never {
		return r
	}
	for {
		at, then := n.Steps.Step()
		if at == Never || truthOf(c.test(then, against)) != r.truth {
			r.next = at
			return r
		}
	}
}

// test compares a count with what is on the right.
func (c *cond) test(n int64, against []Value) bool {
	if c.bounded() {
		return c.name.accepts(orderFloor(n, c.floor, c.whole))
	}
	return c.holds([]Value{Int(n)}, against)
}

// bounded reports whether a count is compared with a number literal, whose
// floor is known.
func (c *cond) bounded() bool {
	return c.name.sign() && c.left.kind == scalarCount && c.right.kind == scalarLiteral
}

// orderFloor orders n and the number that has this floor.
func orderFloor(n, floor int64, whole bool) int {
	if n == floor && !whole {
		return -1
	}
	return order(n, floor)
}

// accepts says whether one of the six holds for two values of that order.
func (c comparator) accepts(order int) bool {
	switch c {
	case equals:
		return order == 0
	case differs:
		return order != 0
	case greaterThan:
		return order > 0
	case atLeast:
		return order >= 0
	case lessThan:
		return order < 0
	case atMost:
		return order <= 0
	}
	return false
}

// holds evaluates a comparison that does not look at the time. Each side has
// the values that are there: one is enough.
func (c *cond) holds(left, right []Value) bool {
	switch c.name {
	case exists:
		return len(left) > 0
	case absent:
		return len(left) == 0
	case omits:
		return !slices.ContainsFunc(left, func(l Value) bool { return strings.Contains(l.text, c.values[0].text) })
	}
	for i := range left {
		if !c.name.sign() {
			if c.matches(&left[i]) {
				return true
			}
			continue
		}
		for j := range right {
			if c.name.pair(&left[i], &right[j]) {
				return true
			}
		}
	}
	return false
}

func (c comparator) pair(l, r *Value) bool {
	switch c {
	case equals:
		return equal(l, r)
	case differs:
		return !equal(l, r)
	}
	order, ok := compare(l, r)
	return ok && c.accepts(order)
}

// matches evaluates the comparators that compare with values of the query.
func (c *cond) matches(l *Value) bool {
	switch c.name {
	case beforeDate, afterDate:
		at, ok := l.asDate()
		if c.name == beforeDate {
			return ok && at < c.values[0].at
		}
		return ok && at > c.values[0].at
	case noneOf:
		return !slices.ContainsFunc(c.values, func(r Value) bool { return equal(l, &r) })
	}
	return slices.ContainsFunc(c.values, func(r Value) bool {
		switch c.name {
		case oneOf:
			return equal(l, &r)
		case contains:
			return strings.Contains(l.text, r.text)
		case startsWith:
			return strings.HasPrefix(l.text, r.text)
		case endsWith:
			return strings.HasSuffix(l.text, r.text)
		}
		return false
	})
}

// relative evaluates the comparators that say how far a date is away. Both
// ends of what they name belong to it, to the millisecond.
func (c *cond) relative(s *scope) result {
	all := result{truth: no, next: Never}
	for _, v := range c.left.values(s) {
		at, ok := v.asDate()
		if !ok {
			continue
		}
		// The condition holds while from <= now <= to.
		var from, to int64
		switch c.name {
		case withinLast:
			from, to = at, at+c.span
		case withinNext:
			from, to = at-c.span, at
		case beforeLast:
			from, to = at+c.span, Never
		case afterNext:
			from, to = -Never, at-c.span
		}
		switch now := s.now; {
		case now < from:
			all.next = min(all.next, from)
		case now <= to:
			all.truth = yes
			if to < Never {
				all.next = min(all.next, to+1)
			}
		}
	}
	return all
}
