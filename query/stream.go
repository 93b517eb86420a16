package query

import (
	"slices"
	"strings"
)

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
