package trackingplan

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/tidwall/gjson"

	"kith/workspace"
)

// ruleURL is the address under which a rule's schema is compiled. It is never
// loaded.
const ruleURL = "kith:rule"

// rule is a compiled rule. It is immutable and safe for concurrent use.
type rule struct {
	document any // the schema as decoded JSON
	schema   *jsonschema.Schema
	// properties and traits are what the rule names of an event's properties
	// and traits; anything else is unplanned.
	properties, traits names
}

// compile makes a rule ready to run. Its errors are those of the validator; see
// Check for ones a person understands.
func compile(r workspace.Rule) (*rule, error) {
	if !gjson.ValidBytes(r.JSONSchema) {
		return nil, errors.New("is not valid JSON")
	}
	document := decode(gjson.ParseBytes(r.JSONSchema), 0)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.AssertFormat()
	c.RegisterFormat(&jsonschema.Format{Name: "date-time", Validate: dateTime})
	c.UseLoader(noLoader{})
	if err := c.AddResource(ruleURL, document); err != nil {
		return nil, err
	}
	schema, err := c.Compile(ruleURL)
	if err != nil {
		return nil, err
	}
	if err := bound(schema); err != nil {
		return nil, err
	}
	out := &rule{document: document, schema: schema}
	out.properties.collect(schema, "properties")
	out.traits.collect(schema, "traits")
	return out, nil
}

// check holds a decoded event to the rule.
func (r *rule) check(doc any) []Violation {
	err := r.schema.Validate(doc)
	if err == nil {
		return nil
	}
	var v *jsonschema.ValidationError
	if !errors.As(err, &v) {
		return []Violation{{Type: "Internal", Field: root, Description: "Internal Error " + err.Error()}}
	}
	return r.violations(v, doc)
}

// noLoader refuses every schema that is not within the rule itself.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s lies outside the rule", url)
}

// dateTime is the format "date-time" as plans use it: ISO 8601, so a date alone
// will do (sheet connections_protocols §5.1; the library Segment uses takes it
// too). RFC 3339 otherwise.
func dateTime(v any) error {
	s, ok := v.(string)
	if !ok {
		return nil
	}
	layout := time.RFC3339Nano
	if len(s) == len(time.DateOnly) {
		layout = time.DateOnly
	}
	_, err := time.Parse(layout, strings.ToUpper(s))
	return err
}

// names are the members that a schema names of one object.
type names struct {
	exact    map[string]bool
	patterns []jsonschema.Regexp
	open     bool // any further member is described too
}

// has reports whether the schema says anything about the member.
func (n *names) has(name string) bool {
	if n.open || n.exact[name] {
		return true
	}
	for _, p := range n.patterns {
		if p.MatchString(name) {
			return true
		}
	}
	return false
}

// collect adds what schema, wherever it says it, names below its member section.
func (n *names) collect(schema *jsonschema.Schema, section string) {
	alternatives(schema, func(s *jsonschema.Schema) {
		if s.Properties[section] != nil {
			alternatives(s.Properties[section], n.add)
		}
	})
}

func (n *names) add(s *jsonschema.Schema) {
	if n.exact == nil {
		n.exact = map[string]bool{}
	}
	for name := range s.Properties {
		n.exact[name] = true
	}
	for pattern := range s.PatternProperties {
		n.patterns = append(n.patterns, pattern)
	}
	if _, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
		n.open = true
	}
}

// alternatives calls fn with s and every schema that holds for the same value.
func alternatives(s *jsonschema.Schema, fn func(*jsonschema.Schema)) {
	fn(s)
	for _, next := range sameValue(s) {
		alternatives(next, fn)
	}
}

// sameValue returns the schemas that s applies to the value it holds for.
func sameValue(s *jsonschema.Schema) []*jsonschema.Schema {
	var list []*jsonschema.Schema
	for _, one := range []*jsonschema.Schema{s.Ref, s.Not, s.If, s.Then, s.Else} {
		if one != nil {
			list = append(list, one)
		}
	}
	list = append(list, s.AllOf...)
	list = append(list, s.AnyOf...)
	list = append(list, s.OneOf...)
	for _, d := range s.Dependencies {
		if d, ok := d.(*jsonschema.Schema); ok {
			list = append(list, d)
		}
	}
	return list
}

// partValue returns the schemas that s applies to members and items of the
// value it holds for.
func partValue(s *jsonschema.Schema) []*jsonschema.Schema {
	var list []*jsonschema.Schema
	for _, p := range s.Properties {
		list = append(list, p)
	}
	for _, p := range s.PatternProperties {
		list = append(list, p)
	}
	for _, v := range []any{s.AdditionalProperties, s.Items, s.AdditionalItems, s.PropertyNames, s.Contains} {
		switch v := v.(type) {
		case *jsonschema.Schema:
			if v != nil {
				list = append(list, v)
			}
		case []*jsonschema.Schema:
			list = append(list, v...)
		}
	}
	return list
}

// maxSchemas bounds what one value can be held to: the schemas of a rule with
// every reference written out.
const maxSchemas = 20_000

var (
	errRecursive = errors.New("refers to itself")
	errTooBig    = fmt.Errorf("has more than %d schemas with every $ref written out", maxSchemas)
)

// bound refuses a schema whose cost on an event has no bound: one that refers
// to itself, or that grows without measure when its references are followed.
func bound(s *jsonschema.Schema) error {
	const visiting = -1
	size := map[*jsonschema.Schema]int{}
	var walk func(*jsonschema.Schema) (int, error)
	walk = func(s *jsonschema.Schema) (int, error) {
		switch n := size[s]; {
		case n == visiting:
			return 0, errRecursive
		case n > 0:
			return n, nil
		}
		size[s] = visiting
		total := 1
		for _, next := range append(sameValue(s), partValue(s)...) {
			n, err := walk(next)
			if err != nil {
				return 0, err
			}
			if total += n; total > maxSchemas {
				return 0, errTooBig
			}
		}
		size[s] = total
		return total, nil
	}
	_, err := walk(s)
	return err
}
