package inspect

import (
	"strings"

	"github.com/tidwall/gjson"

	"kith/event"
	"kith/workspace"
)

// Planned says what a tracking plan has rules for.
type Planned struct{ rules []workspace.Rule }

// PlannedBy returns what a plan has rules for; a nil plan plans nothing.
func PlannedBy(plan *workspace.TrackingPlan) Planned {
	if plan == nil {
		return Planned{}
	}
	return Planned{plan.Rules}
}

// rulesFor yields the JSON Schemas for an event, those for all events last. As
// in trackingplan, a page or screen call is also held to the rule of its track
// name; all rules for pages count, since their names are not told apart here.
func (p Planned) rulesFor(t event.Type, name string, fn func(schema []byte, common bool) bool) {
	for _, common := range []bool{false, true} {
		for i := range p.rules {
			r := &p.rules[i]
			own := r.Type == "TRACK" && r.Key == name && name != "" || t != event.Track && strings.EqualFold(r.Type, t.String())
			if (common && r.Type == "COMMON" || !common && own) && !fn(r.JSONSchema, common) {
				return
			}
		}
	}
}

// Event reports whether the plan has a rule for the event.
func (p Planned) Event(e *EventSeen) (planned bool) {
	p.rulesFor(e.Type, e.Name, func(_ []byte, common bool) bool {
		planned = !common
		return false
	})
	return planned
}

// Property reports whether some rule for the event names the property: it, and
// what it lies in.
func (p Planned) Property(e *EventSeen, property *PropertySeen) (planned bool) {
	path := append([]string{property.Section}, splitPath(property.Path)...)
	p.rulesFor(e.Type, e.Name, func(schema []byte, _ bool) bool {
		planned = named(gjson.ParseBytes(schema), path)
		return !planned
	})
	return planned
}

// splitPath splits a path at its dots, without the escapes.
func splitPath(path string) []string {
	var names []string
	var name strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && i+1 < len(path):
			i++
			name.WriteByte(path[i])
		case c == '.':
			names = append(names, name.String())
			name.Reset()
		default:
			name.WriteByte(c)
		}
	}
	return append(names, name.String())
}

// named reports whether a schema describes what lies at a path.
func named(schema gjson.Result, path []string) bool {
	if len(path) == 0 {
		return true
	}
	found := false
	into := func(key string, below gjson.Result) {
		if !found && key == path[0] {
			found = named(below, path[1:])
		}
	}
	schema.ForEach(func(keyword, v gjson.Result) bool {
		switch keyword.Str {
		case "properties":
			v.ForEach(func(key, below gjson.Result) bool {
				into(key.Str, below)
				return !found
			})
		case "items":
			if v.IsObject() {
				into("$", v)
			}
		case "allOf", "anyOf", "oneOf":
			v.ForEach(func(_, one gjson.Result) bool {
				found = found || named(one, path)
				return !found
			})
		case "then", "else", "if":
			found = found || named(v, path)
		}
		return !found
	})
	return found
}
