package model

import (
	"encoding/json"
	"slices"

	"github.com/tidwall/gjson"

	"kith/query"
)

// Audience is an audience's query as it is to be read: which identifiers make
// a profile eligible, and where its history begins.
type Audience struct {
	Query *query.Program
	Types []string // of identifiers; one of them is needed
	// After is the offset behind which events count; -1 counts all. Since is the
	// effective time from which they count.
	After int
	Since int64
	// Reads are the audiences that the query reads, by their keys.
	Reads map[string]*Audience
}

// defaultTypes are what makes a profile eligible when an audience names none.
var defaultTypes = []string{"user_id", "email", "android.idfa", "ios.idfa"}

// Member reports whether a profile is a member of an audience at an instant,
// by counting its whole history.
func (a *Audience) Member(p *Profile, now int64) bool {
	types := a.Types
	if len(types) == 0 {
		types = defaultTypes
	}
	if !slices.ContainsFunc(p.Identifiers, func(x Identified) bool { return slices.Contains(types, x.Type) }) {
		return false
	}
	held, _ := a.Query.Eval(now, &answers{audience: a, profile: p, now: now})
	return held
}

// answers is what a query asks of one profile at one instant. Its counts have
// no next instant that is worth anything: whoever wants to know another
// instant's answer asks again.
type answers struct {
	audience *Audience
	profile  *Profile
	now      int64
	traits   []byte // of the profile, once they were asked for
}

// Trait implements query.Env. An audience is true of its members and false of
// everybody else.
func (q *answers) Trait(i int) []query.Value { return q.trait(q.audience.Query.Traits[i]) }

func (q *answers) trait(t query.Trait) []query.Value {
	if of := q.audience.Reads[t.Name]; of != nil {
		return []query.Value{query.Bool(of.Member(q.profile, q.now))}
	}
	if q.traits == nil {
		doc, err := json.Marshal(rawTraits(q.profile))
		if err != nil {
			panic(err)
		}
		q.traits = doc
	}
	return t.Path.Values(nil, gjson.ParseBytes(q.traits))
}

func rawTraits(p *Profile) map[string]json.RawMessage {
	raw := map[string]json.RawMessage{}
	for name, value := range p.Traits("identify") {
		raw[name] = json.RawMessage(value)
	}
	return raw
}

// Count implements query.Env.
func (q *answers) Count(i int) query.Count {
	a := q.audience.Query.Aggregates[i]
	c := query.Count{Next: query.Never}
	for _, r := range q.profile.Events {
		age := q.now - r.Time
		if r.Offset <= q.audience.After || r.Time < q.audience.Since || age < a.Window.From || age >= a.Window.To {
			continue
		}
		if named(r) == a.Event && q.passes(a.Filter, r) {
			c.N++
		}
	}
	return c
}

// named returns the name under which an event is counted.
func named(r Record) string {
	switch gjson.GetBytes(r.Body, "type").Str {
	case "track":
		return gjson.GetBytes(r.Body, "event").Str
	case "page":
		return "Page Viewed"
	case "screen":
		return "Screen Viewed"
	}
	return ""
}

func (q *answers) passes(f *query.Filter, r Record) bool {
	if f == nil {
		return true
	}
	field := func(i int) []query.Value {
		x := f.Fields[i]
		switch x.Kind {
		case query.SourceField:
			return []query.Value{query.Text(r.Source)}
		case query.ContextField:
			return x.Path.Values(nil, gjson.GetBytes(r.Body, "context"))
		}
		return x.Path.Values(nil, gjson.GetBytes(r.Body, "properties"))
	}
	switch f.Match(field) {
	case query.Yes:
		return true
	case query.Depends:
		counts, _ := f.Test(q.now, field, func(i int) []query.Value { return q.trait(f.Traits[i]) })
		return counts
	}
	return false
}
