package query

import (
	"slices"
	"strings"
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

// vector compiles what is chained to one event.
type vector struct {
	*checker
	parts  []part
	window Window
}

// part is one of the conditions that a filter joins: an expression, or a call
// of sources.
type part struct {
	key  string
	node Node
}

func (v *vector) narrow(call *Call) error {
	switch call.Name {
	case "where":
		if len(call.Args) != 1 || call.Args[0].Label != "" || call.Args[0].As != "" {
			return refuse(call.At, "where takes one condition, as in where(property('price') >= 100)")
		}
		// Checked as it stands, so that errors come in the order of the text;
		// compiled with all others in canonical order.
		v.filter = &Filter{}
		_, err := v.condition(call.Args[0].Value)
		v.filter = nil
		v.parts = append(v.parts, conjuncts(call.Args[0].Value)...)
		return err
	case "sources":
		return v.sources(call)
	case "expires_after":
		return later(call.At, "expires_after, for session windows of computed traits,")
	}
	w := v.window
	switch {
	case len(call.Args) > 0 && call.Args[0].Label == "parent":
		return later(call.At, call.Name+"(parent: …), which looks from the parent event of a funnel,")
	case call.Name == "within":
		d, err := duration(call)
		if err != nil {
			return err
		}
		w.To = min(w.To, d)
	default:
		from, to, err := durations(call)
		if err != nil {
			return err
		}
		w.From, w.To = max(w.From, from), min(w.To, to)
	}
	if w.From >= w.To {
		return refuse(call.At, "%s and the window before it have no moment in common", call.Name)
	}
	v.window = w
	return nil
}

func (v *vector) sources(call *Call) error {
	for i, a := range call.Args {
		lit, ok := a.Value.(*Literal)
		if i == 0 && a.Label != "exclude" || i > 0 && a.Label != "" || !ok || lit.Kind != StringLiteral || a.As != "" {
			return refuse(a.At, "sources takes the ids of sources to leave out, as in sources(exclude: 'id1', 'id2')")
		}
	}
	if len(call.Args) == 0 {
		return refuse(call.At, "sources takes the ids of sources to leave out, as in sources(exclude: 'id1', 'id2')")
	}
	v.parts = append(v.parts, part{String(call), call})
	return nil
}

// exclusion compiles a checked call of sources.
func (c *checker) exclusion(call *Call) *cond {
	none := &cond{name: noneOf, left: scalar{kind: scalarField, index: c.field(Field{Kind: SourceField})}}
	for _, a := range call.Args {
		none.values = append(none.values, literal(a.Value.(*Literal)))
	}
	return none
}

// reducer checks the call that ends a stream, and that nothing follows it.
func (v *vector) reducer(call *Call, rest []*Call) error {
	switch kind := functions[call.Name]; {
	case kind == 0:
		return unknown(call, "events", filtering, reducing)
	case kind == comparing:
		return refuse(call.At, "%s compares a value, and this is a stream of events; a reducer such as count() must stand before it", call.Name)
	case kind == extracting:
		return refuse(call.At, "%s begins an expression and cannot be chained", call.Name)
	case call.Name != "count":
		return later(call.At, call.Name)
	case len(call.Args) > 0:
		return refuse(call.Args[0].At, "count takes no arguments")
	case len(rest) == 0:
		return nil
	}
	next := rest[0]
	switch functions[next.Name] {
	case 0:
		return unknown(next, "count()", comparing)
	case comparing:
		after := next
		if len(rest) > 1 {
			after = rest[1]
		}
		return refuse(after.At, "found %s after a comparison, which ends an expression; AND, OR or the end can stand here", after.Name)
	}
	return refuse(next.At, "%s cannot follow count(), which gives a number; %s can stand here", next.Name, names(comparing))
}

// aggregate adds the count to the program and returns its index.
func (v *vector) aggregate(event string) (int, error) {
	a := Aggregate{Event: event, Window: v.window}
	if len(v.parts) > 0 {
		var err error
		if a.Filter, err = v.join(); err != nil {
			return 0, err
		}
	}
	same := func(x Aggregate) bool {
		return x.Event == a.Event && x.Window == a.Window && filterKey(x.Filter) == filterKey(a.Filter)
	}
	i := slices.IndexFunc(v.prog.Aggregates, same)
	if i < 0 {
		v.prog.Aggregates = append(v.prog.Aggregates, a)
		i = len(v.prog.Aggregates) - 1
	}
	return i, nil
}

// join compiles the filter's parts in the order of their keys, so that filters
// with the same key have the same fields and traits in the same order.
func (v *vector) join() (*Filter, error) {
	slices.SortFunc(v.parts, func(a, b part) int { return strings.Compare(a.key, b.key) })
	v.parts = slices.CompactFunc(v.parts, func(a, b part) bool { return a.key == b.key })
	f := &Filter{root: &cond{op: opAnd}}
	v.filter = f
	defer func() { v.filter = nil }()
	for i, p := range v.parts {
		var x *cond
		var err error
		if call, ok := p.node.(*Call); ok {
			x = v.exclusion(call)
		} else if x, err = v.condition(p.node); err != nil {
			return nil, err
		}
		f.root.items = append(f.root.items, x)
		f.root.depends = f.root.depends || x.depends
		if i > 0 {
			f.key += " AND "
		}
		f.key += p.key
	}
	return f, nil
}

func filterKey(f *Filter) string {
	if f == nil {
		return ""
	}
	return f.key
}

// conjuncts returns what an AND joins, or the one condition that n is, with
// the items of all junctions sorted, so that the order in which a query puts
// them makes no difference.
func conjuncts(n Node) []part {
	n = sorted(n)
	j, ok := n.(*Junction)
	if !ok {
		return []part{{String(n), n}}
	}
	if j.Op == "OR" {
		return []part{{"(" + String(n) + ")", n}}
	}
	var list []part
	for _, item := range j.Items {
		list = append(list, conjuncts(item)...)
	}
	return list
}

func sorted(n Node) Node {
	switch n := n.(type) {
	case *Junction:
		j := &Junction{At: n.At, Op: n.Op}
		for _, item := range n.Items {
			j.Items = append(j.Items, sorted(item))
		}
		slices.SortFunc(j.Items, func(a, b Node) int { return strings.Compare(String(a), String(b)) })
		return j
	case *Prefix:
		return &Prefix{At: n.At, Op: n.Op, X: sorted(n.X)}
	}
	return n
}

func duration(call *Call) (int64, error) {
	if len(call.Args) == 1 && call.Args[0].Label == "" {
		return millis(call, call.Args[0])
	}
	return 0, refuse(call.At, "%s takes one duration, as in %s(7 days)", call.Name, call.Name)
}

func durations(call *Call) (from, to int64, err error) {
	if len(call.Args) != 2 || call.Args[0].Label != "" || call.Args[1].Label != "" {
		return 0, 0, refuse(call.At, "between takes two durations, as in between(7 days, 10 days)")
	}
	if from, err = millis(call, call.Args[0]); err != nil {
		return 0, 0, err
	}
	if to, err = millis(call, call.Args[1]); err != nil {
		return 0, 0, err
	}
	if from >= to {
		return 0, 0, refuse(call.Args[1].At, "between takes the nearer duration first: between(7 days, 10 days) is from 10 to 7 days ago")
	}
	return from, to, nil
}

func millis(call *Call, a Arg) (int64, error) {
	d, ok := a.Value.(*Duration)
	if !ok {
		return 0, refuse(a.At, "found %s; %s takes a number of hours or days, as in 7 days", shorten(String(a.Value)), call.Name)
	}
	if d.Unit == "second" {
		return 0, refuse(a.At, "%s counts in hours or days; seconds can stand in expires_after only", call.Name)
	}
	if d.N == 0 && call.Name != "between" {
		return 0, refuse(a.At, "%s takes a duration above zero", call.Name)
	}
	return d.Milliseconds(), nil
}
