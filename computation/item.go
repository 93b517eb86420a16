package computation

import (
	"github.com/tidwall/gjson"

	"kith/event"
	"kith/pipeline"
	"kith/query"
)

// item is an event as filters see it. Each field is looked up once, however
// many filters read it.
type item struct {
	record *pipeline.Record
	watch  *watch
	body   []byte // of a record whose event is parsed only when a filter looks into it
	values [][]query.Value
	known  []bool
	err    error // the body cannot be read
}

// judge asks a counter's filter about the event.
func (it *item) judge(c *counter) (hit, bool) {
	if c.filter == nil {
		return hit{counter: c, sure: true}, true
	}
	field := func(i int) []query.Value { return it.field(c.fields[i]) }
	switch c.filter.Match(field) {
	case query.Yes:
		return hit{counter: c, sure: true}, true
	case query.Depends:
		h := hit{counter: c}
		for i := range c.fields {
			h.fields = append(h.fields, field(i))
		}
		return h, true
	}
	return hit{}, false
}

func (it *item) field(i int) []query.Value {
	if it.known == nil {
		it.known, it.values = make([]bool, len(it.watch.fields)), make([][]query.Value, len(it.watch.fields))
	}
	if !it.known[i] {
		it.known[i], it.values[i] = true, it.look(it.watch.fields[i])
	}
	return it.values[i]
}

// look looks a field up. The name of a page or screen call is read as
// page_name or screen_name (sheet unify_engage_privacy §2.1), unless there is
// a property of that name.
func (it *item) look(f query.Field) []query.Value {
	if f.Kind == query.SourceField {
		return []query.Value{query.Text(it.record.Head.Source)}
	}
	e := it.record.Event
	if e == nil {
		if e, it.err = event.ParseTrusted(it.body); it.err != nil {
			return nil
		}
		it.record.Event = e
	}
	if f.Kind == query.ContextField {
		return f.Path.Values(nil, gjson.Parse(e.Context))
	}
	values := f.Path.Values(nil, gjson.Parse(e.Properties))
	if len(values) == 0 && len(f.Path) == 1 && e.Name != "" &&
		(e.Type == event.Page && f.Path[0] == "page_name" || e.Type == event.Screen && f.Path[0] == "screen_name") {
		return []query.Value{query.Text(e.Name)}
	}
	return values
}
