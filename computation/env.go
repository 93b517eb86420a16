package computation

import (
	"kith/query"
)

// env gives a program what the profile holds.
type env struct {
	*turn
	definition *definition
	page       *page
	err        error // the first that a store has given
}

// Trait implements query.Env.
func (e *env) Trait(i int) []query.Value { return e.value(&e.definition.traits[i]) }

// Count implements query.Env.
func (e *env) Count(i int) query.Count {
	a, c := &e.definition.program.Aggregates[i], e.definition.counters[i]
	kept, err := e.cell(e.who, c.aggregate)
	if err != nil {
		e.fail(err)
		return query.Count{Next: query.Never}
	}
	switch c.Kind {
	case tallies:
		return kept.tally()
	case times:
		return kept.within(a.Window, e.now)
	}
	traits := e.definition.filtered[i]
	return kept.judged(a.Window, a.Filter, e.now, func(i int) []query.Value { return e.value(&traits[i]) })
}

func (e *env) value(o *origin) []query.Value {
	if o.audience {
		return []query.Value{query.Bool(e.page.in(o.build))}
	}
	doc, ok, err := e.view.Trait(o.path[0])
	if err != nil {
		e.fail(err)
	}
	if err != nil || !ok {
		return nil
	}
	return o.path[1:].Values(nil, doc)
}

func (e *env) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}
