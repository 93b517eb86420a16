package query

import (
	"slices"
)

// ParseAudience reads, checks and compiles the definition of an audience of
// users. Its errors are fault.Invalid with an *Error in them, which has the
// place.
func ParseAudience(text string) (*Program, error) {
	n, err := Parse(text)
	if err != nil {
		return nil, err
	}
	c := &checker{prog: &Program{text: String(n)}}
	if c.prog.root, err = c.condition(n); err != nil {
		return nil, err
	}
	return c.prog, nil
}

// checker compiles a tree. While it is inside where, filter is what it fills.
type checker struct {
	prog   *Program
	filter *Filter
}

// later refuses what the language has and Kith does not evaluate.
func later(at Pos, what string) error {
	return refuse(at, "%s is part of the query language, but Kith does not evaluate it yet", what)
}

func (c *checker) condition(n Node) (*cond, error) {
	switch n := n.(type) {
	case *Junction:
		return c.junction(n)
	case *Prefix:
		if n.Op != "NOT" {
			return nil, refuse(n.At, "%s asks about the users of an account; it can stand in a definition of type ACCOUNTS only, and this one is of type USERS", n.Op)
		}
		x, err := c.condition(n.X)
		if err != nil {
			return nil, err
		}
		return &cond{op: opNot, items: []*cond{x}, depends: x.depends}, nil
	case *Compare:
		return c.compare(n)
	case *Chain:
		last := n.Calls[len(n.Calls)-1]
		if functions[last.Name] == comparing {
			return c.compareWith(chain(n.Base, n.Calls[:len(n.Calls)-1]), last)
		}
	}
	_, kind, err := c.scalar(n)
	if err != nil {
		return nil, err
	}
	return nil, refuse(n.Pos(), "this is %s, and a condition is needed here: a comparison such as >= 1 must follow", kind)
}

func (c *checker) junction(n *Junction) (*cond, error) {
	out := &cond{op: opOr}
	if n.Op == "AND" {
		out.op = opAnd
	}
	for _, item := range n.Items {
		x, err := c.condition(item)
		if err != nil {
			return nil, err
		}
		out.items = append(out.items, x)
		out.depends = out.depends || x.depends
	}
	return out, nil
}

// compare compiles one of the six comparators that have two sides.
func (c *checker) compare(n *Compare) (*cond, error) {
	left, _, err := c.scalar(n.Left)
	if err != nil {
		return nil, err
	}
	right, _, err := c.scalar(n.Right)
	if err != nil {
		return nil, err
	}
	name := comparators[n.Op]
	at := n.Right.Pos()
	if right.kind == scalarCount && left.kind != scalarCount {
		left, right, name, at = right, left, name.mirrored(), n.Left.Pos()
	}
	out := &cond{name: name, left: left, right: right}
	out.depends = left.kind == scalarTrait || right.kind == scalarTrait
	switch {
	case left.kind != scalarCount:
	case right.kind == scalarCount:
		if err := c.need(left.index, All, at); err != nil {
			return nil, err
		}
		return out, c.need(right.index, All, at)
	case right.kind != scalarLiteral:
		return out, c.need(left.index, All, at)
	default:
		v := &right.value[0]
		d, ok := v.asNumber()
		if !ok {
			return nil, refuse(at, "a count is compared with a number; found %s", quote(shorten(v.text)))
		}
		const limit = 1 << 60
		out.floor = d.floor(limit)
		whole, _ := parseDecimal(itoa(out.floor))
		out.whole = d.compare(whole) == 0
		return out, c.need(left.index, max(out.floor+1, 1), at)
	}
	return out, nil
}

// mirrored returns the comparator that holds when the sides are exchanged.
func (c comparator) mirrored() comparator {
	switch c {
	case greaterThan:
		return lessThan
	case lessThan:
		return greaterThan
	case atLeast:
		return atMost
	case atMost:
		return atLeast
	}
	return c
}

// need notes how far a count must be exact.
func (c *checker) need(i int, n int64, at Pos) error {
	a := &c.prog.Aggregates[i]
	if !a.Window.Whole() && n > MaxKept {
		return refuse(at, "a count over a window is compared with numbers up to %d", MaxKept-1)
	}
	if n == All || a.Needed == All {
		a.Needed = All
		return nil
	}
	a.Needed = max(a.Needed, n)
	return nil
}

// compareWith compiles a comparator that is written as a function.
func (c *checker) compareWith(n Node, call *Call) (*cond, error) {
	left, _, err := c.scalar(n)
	if err != nil {
		return nil, err
	}
	out := &cond{name: comparators[call.Name], left: left}
	out.depends = left.kind == scalarTrait || out.name.relative()
	if err := c.comparatorArgs(out, call); err != nil {
		return nil, err
	}
	if left.kind != scalarCount {
		return out, nil
	}
	needed := All
	switch out.name {
	case exists, absent:
		needed = 1
	case oneOf, noneOf:
		needed = 1
		for _, v := range out.values {
			d, ok := v.asNumber()
			if !ok {
				return nil, refuse(call.At, "a count is compared with numbers; found %s", quote(shorten(v.text)))
			}
			needed = max(needed, d.floor(1<<60)+1)
		}
	}
	return out, c.need(left.index, needed, call.At)
}

func (c *checker) comparatorArgs(out *cond, call *Call) error {
	switch out.name {
	case exists, absent:
		if len(call.Args) > 0 {
			return refuse(call.Args[0].At, "%s takes no arguments", call.Name)
		}
		return nil
	case withinLast, withinNext, beforeLast, afterNext:
		d, err := duration(call)
		if err != nil {
			return err
		}
		out.span = d
		return nil
	case contains, oneOf, noneOf:
		if len(call.Args) == 0 {
			return refuse(call.At, "%s takes at least one value, as in %s('shoes', 'shirts')", call.Name, call.Name)
		}
	default: // the six, when they were not given one plain argument, and the others that take one
		if len(call.Args) != 1 {
			return refuse(call.At, "%s takes one value", call.Name)
		}
	}
	for _, a := range call.Args {
		lit, ok := a.Value.(*Literal)
		if !ok || !a.plain() {
			return refuse(a.At, "found %s; %s compares with values written in the query", shorten(String(a.Value)), call.Name)
		}
		v := literal(lit)
		if out.name == beforeDate || out.name == afterDate {
			at, ok := parseDate(lit.Text)
			if !ok {
				return refuse(a.At, "found %s; %s takes a date such as 2023-12-07T18:50:00Z", shorten(String(lit)), call.Name)
			}
			v.at = at
		}
		out.values = append(out.values, v)
	}
	return nil
}

func literal(n *Literal) Value {
	switch n.Kind {
	case NumberLiteral:
		return number(n.Text)
	case DateLiteral:
		at, _ := parseDate(n.Text)
		return Value{kind: kindDate, text: n.Text, at: at}
	}
	return Text(n.Text)
}

// scalar compiles an expression that is a value. Its second result describes
// the value in words.
func (c *checker) scalar(n Node) (scalar, string, error) {
	switch n := n.(type) {
	case *Literal:
		return scalar{kind: scalarLiteral, value: []Value{literal(n)}}, "a plain value", nil
	case *Call:
		return c.extractor(n)
	case *Chain:
		return c.reduced(n)
	case *Duration:
		return scalar{}, "", refuse(n.At, "found a duration; a value can stand here")
	}
	return scalar{}, "", refuse(n.Pos(), "found a condition where a value is compared; a comparison is complete, join it with AND or OR")
}

// extractor compiles a call that begins an expression and has nothing chained
// to it.
func (c *checker) extractor(n *Call) (scalar, string, error) {
	switch n.Name {
	case "event":
		return scalar{}, "", refuse(n.At, "%s is a stream of events, not a value; chain %s to it", shorten(String(n)), "where, sources, within, between and a reducer such as count()")
	case "entity":
		return scalar{}, "", later(n.At, "entity(…), for linked audiences,")
	case "trait":
		name, err := c.name(n, "")
		if err != nil {
			return scalar{}, "", err
		}
		return c.trait(name, n.At), "the value of a trait", nil
	case "property", "context":
		if c.filter == nil {
			return scalar{}, "", refuse(n.At, "%s reads an event; it can stand within where(…) only", n.Name)
		}
		parent := ""
		if n.Name == "property" {
			parent = "parent"
		}
		name, err := c.name(n, parent)
		if err != nil {
			return scalar{}, "", err
		}
		f := Field{Kind: PropertyField, Path: ParsePath(name)}
		if n.Name == "context" {
			f.Kind = ContextField
		}
		return scalar{kind: scalarField, index: c.field(f)}, "the value of a " + n.Name, nil
	}
	if _, known := functions[n.Name]; known {
		return scalar{}, "", refuse(n.At, "%s cannot begin an expression: %s", n.Name, beginnings)
	}
	return scalar{}, "", refuse(n.At, "%q is no function%s; %s", shorten(n.Name), suggest(n.Name, extracting), beginnings)
}

// name reads the one argument of an extractor. A label that is known but not
// evaluated is refused as such.
func (c *checker) name(n *Call, label string) (string, error) {
	if len(n.Args) == 1 && label != "" && n.Args[0].Label == label {
		return "", later(n.Args[0].At, n.Name+"(parent: …), which reads the parent event of a funnel,")
	}
	if len(n.Args) == 1 && n.Args[0].plain() {
		if lit, ok := n.Args[0].Value.(*Literal); ok && lit.Kind == StringLiteral && lit.Text != "" {
			return lit.Text, nil
		}
	}
	return "", refuse(n.At, "%s takes one name, as in %s('name')", n.Name, n.Name)
}

func (c *checker) trait(name string, at Pos) scalar {
	t := Trait{Name: name, Path: ParsePath(name), At: at}
	i := addTrait(&c.prog.Traits, t)
	if c.filter != nil {
		i = addTrait(&c.filter.Traits, t)
	}
	return scalar{kind: scalarTrait, index: i}
}

func addTrait(list *[]Trait, t Trait) int {
	i := slices.IndexFunc(*list, func(x Trait) bool { return slices.Equal(x.Path, t.Path) })
	if i < 0 {
		*list = append(*list, t)
		i = len(*list) - 1
	}
	return i
}

func (c *checker) field(f Field) int {
	same := func(x Field) bool { return x.Kind == f.Kind && slices.Equal(x.Path, f.Path) }
	i := slices.IndexFunc(c.filter.Fields, same)
	if i < 0 {
		c.filter.Fields = append(c.filter.Fields, f)
		i = len(c.filter.Fields) - 1
	}
	return i
}

// reduced compiles event(…) with filters and a reducer.
func (c *checker) reduced(n *Chain) (scalar, string, error) {
	base, ok := n.Base.(*Call)
	if !ok || base.Name != "event" && base.Name != "entity" {
		return scalar{}, "", c.misplaced(n)
	}
	if base.Name == "entity" {
		return scalar{}, "", later(base.At, "entity(…), for linked audiences,")
	}
	if c.filter != nil {
		return scalar{}, "", later(base.At, "an event within where(…), which makes a funnel,")
	}
	event, err := c.name(base, "")
	if err != nil {
		return scalar{}, "", err
	}
	v := &vector{checker: c, window: always}
	for i, call := range n.Calls {
		if functions[call.Name] != filtering {
			if err := v.reducer(call, n.Calls[i+1:]); err != nil {
				return scalar{}, "", err
			}
			index, err := v.aggregate(event)
			return scalar{kind: scalarCount, index: index}, "a number", err
		}
		if err := v.narrow(call); err != nil {
			return scalar{}, "", err
		}
	}
	return scalar{}, "", refuse(n.Pos(), "%s is a stream of events, not a value; a reducer such as count() must end it", shorten(String(n)))
}

// misplaced says what is wrong with functions chained to what is no stream.
func (c *checker) misplaced(n *Chain) error {
	if isBoolean(n.Base) {
		return refuse(n.Calls[0].At, "found %s after a complete condition; AND, OR or the end can stand here", n.Calls[0].Name)
	}
	if _, _, err := c.scalar(n.Base); err != nil {
		return err
	}
	call := n.Calls[0]
	switch functions[call.Name] {
	case 0:
		return unknown(call, "a value", comparing)
	case comparing:
		after := n.Calls[min(1, len(n.Calls)-1)]
		return refuse(after.At, "found %s after a comparison, which ends an expression; AND, OR or the end can stand here", after.Name)
	}
	return refuse(call.At, "%s cannot follow a value; %s can stand here", call.Name, names(comparing))
}

func unknown(call *Call, after string, kinds ...functionKind) error {
	return refuse(call.At, "%q is no function%s; after %s can stand: %s", shorten(call.Name), suggest(call.Name, kinds...), after, names(kinds...))
}
