package trackingplan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Violation is one way in which an event does not fit its plan, in the words
// that Segment uses (sheet connections_protocols §5.2: the types and sentences
// of the Go library gojsonschema). It never holds a value of the event.
type Violation struct {
	Type        string `json:"type"`        // "Required", "Invalid Type", …
	Field       string `json:"field"`       // "properties.products.0.price"; "(root)" for the event as a whole
	Description string `json:"description"` // "Invalid type. Expected: number, given: string"

	at []string // Field, step by step; nil for a field that the rule leaves open
}

// String returns the violation as one sentence that names the field.
func (v Violation) String() string {
	if strings.HasPrefix(v.Description, v.Field+" ") {
		return v.Description
	}
	return v.Field + ": " + v.Description
}

const (
	root          = "(root)"
	maxViolations = 50  // of one event; further ones are not listed
	maxFieldBytes = 256 // of a field's path; the names in it come from outside
)

// violations lists what err, found in doc by rule r, says: sorted, each once.
func (r *rule) violations(err *jsonschema.ValidationError, doc any) []Violation {
	t := &translation{rule: r, doc: doc}
	t.node(err, err.SchemaURL, 0)
	slices.SortFunc(t.found, compareViolations)
	return compact(t.found)
}

// compareViolations orders by field, type and description.
func compareViolations(a, b Violation) int {
	return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Type, b.Type), strings.Compare(a.Description, b.Description))
}

// translation turns the validator's tree of errors into violations.
type translation struct {
	rule  *rule
	doc   any
	found []Violation
}

func (t *translation) add(at []string, kind, format string, args ...any) {
	t.found = append(t.found, Violation{Type: kind, Field: fieldOf(at), Description: fmt.Sprintf(format, args...), at: at})
}

// node adds what err and its causes say. base is the URL of the schema in which
// the error's cause was found and depth the number of steps into the event that
// lead to the value that schema holds for.
func (t *translation) node(err *jsonschema.ValidationError, base string, depth int) {
	at := err.InstanceLocation
	path := strings.TrimPrefix(err.SchemaURL, base)
	for _, c := range conditions(path) {
		if n := depth + c.steps; n <= len(at) {
			t.condition(at[:n], c.keyword)
		}
	}
	switch k := err.ErrorKind.(type) {
	case *kind.AllOf:
		t.add(at, "Number All Of", "Must validate all the schemas")
	case *kind.AnyOf:
		t.add(at, "Number Any Of", "Must validate at least one schema (anyOf)")
		t.closest(err)
		return
	case *kind.OneOf:
		t.add(at, "Number One Of", "Must validate one and only one schema (oneOf)")
		t.closest(err)
		return
	case *kind.Contains:
		t.add(at, "Contains", "At least one of the items must match")
		return // its causes say why each of the items does not match
	case *kind.PropertyNames:
		t.propertyName(path, k.Property)
		return // its causes are about the name as a string, not about the event
	case *kind.Reference:
		base, depth = k.URL, len(at)
		for _, cause := range err.Causes {
			t.node(cause, base, depth)
		}
		return
	default:
		t.leaf(err)
	}
	for _, cause := range err.Causes {
		t.node(cause, err.SchemaURL, len(at))
	}
}

// leaf adds what an error without causes says.
func (t *translation) leaf(err *jsonschema.ValidationError) {
	at := err.InstanceLocation
	switch k := err.ErrorKind.(type) {
	case *kind.Schema, *kind.Group:
	case *kind.Required:
		for _, name := range k.Missing {
			field := append(slices.Clone(at), name)
			t.add(field, "Required", "%s is required", fieldOf(field))
		}
	case *kind.Type:
		t.add(at, "Invalid Type", "Invalid type. Expected: %s, given: %s", t.expected(err.SchemaURL, k.Want), given(k.Got, lookup(t.doc, at)))
	case *kind.Not:
		t.add(at, "Number Not", "Must not validate the schema (not)")
	case *kind.FalseSchema:
		t.add(at, "False", "False always fails validation")
	case *kind.Dependency:
		for _, name := range k.Missing {
			t.add(at, "Missing Dependency", "Has a dependency on %s", name)
		}
	case *kind.Const:
		t.add(at, "Const", "%s does not match: %s", fieldOf(at), jsonText(k.Want))
	case *kind.Enum:
		allowed := make([]string, len(k.Want))
		for i, v := range k.Want {
			allowed[i] = jsonText(v)
		}
		t.add(at, "Enum", "%s must be one of the following: %s", fieldOf(at), strings.Join(allowed, ", "))
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			t.add(append(slices.Clone(at), name), "Additional Property Not Allowed", "Additional property %s is not allowed", cut(name))
		}
	case *kind.AdditionalItems:
		t.add(at, "Array No Additional Items", "No additional items allowed on array")
	case *kind.MinItems:
		t.add(at, "Array Min Items", "Array must have at least %d items", k.Want)
	case *kind.MaxItems:
		t.add(at, "Array Max Items", "Array must have at most %d items", k.Want)
	case *kind.UniqueItems:
		t.add(at, "Unique", "array items[%d,%d] must be unique", k.Duplicates[0], k.Duplicates[1])
	case *kind.MinProperties:
		t.add(at, "Array Min Properties", "Must have at least %d properties", k.Want)
	case *kind.MaxProperties:
		t.add(at, "Array Max Properties", "Must have at most %d properties", k.Want)
	case *kind.MinLength:
		t.add(at, "String Gte", "String length must be greater than or equal to %d", k.Want)
	case *kind.MaxLength:
		t.add(at, "String Lte", "String length must be less than or equal to %d", k.Want)
	case *kind.Pattern:
		t.add(at, "Pattern", "Does not match pattern '%s'", k.Want)
	case *kind.Format:
		t.add(at, "Format", "Does not match format '%s'", k.Want)
	case *kind.MultipleOf:
		t.add(at, "Multiple Of", "Must be a multiple of %s", decimal(k.Want))
	case *kind.Minimum:
		t.add(at, "Number Gte", "Must be greater than or equal to %s", decimal(k.Want))
	case *kind.ExclusiveMinimum:
		t.add(at, "Number Gt", "Must be greater than %s", decimal(k.Want))
	case *kind.Maximum:
		t.add(at, "Number Lte", "Must be less than or equal to %s", decimal(k.Want))
	case *kind.ExclusiveMaximum:
		t.add(at, "Number Lt", "Must be less than %s", decimal(k.Want))
	default:
		t.add(at, "Internal", "Internal Error %s", strings.Join(err.ErrorKind.KeywordPath(), "/"))
	}
}

func (t *translation) condition(at []string, keyword string) {
	if keyword == "then" {
		t.add(at, "Condition Then", `Must validate "then" as "if" was valid`)
	} else {
		t.add(at, "Condition Else", `Must validate "else" as "if" was not valid`)
	}
}

// closest adds what the alternative says that the event misses by least: that
// is the one that was meant.
func (t *translation) closest(err *jsonschema.ValidationError) {
	var best []Violation
	for i, cause := range err.Causes {
		alternative := &translation{rule: t.rule, doc: t.doc}
		alternative.node(cause, err.SchemaURL, len(err.InstanceLocation))
		if i == 0 || len(alternative.found) < len(best) {
			best = alternative.found
		}
	}
	t.found = append(t.found, best...)
}

// propertyName adds a violation of propertyNames. The validator does not say
// reliably where such an object lies, so the field is read off the schema's
// path; a step that the schema leaves open is "*".
func (t *translation) propertyName(path, name string) {
	var at []string
	for _, s := range steps(path) {
		if s.into {
			at = append(at, s.name)
		}
	}
	t.found = append(t.found, Violation{Type: "Invalid Property Name", Field: fieldOf(at),
		Description: fmt.Sprintf(`Property name of "%s" does not match`, cut(name))})
}

// expected returns the types in the order in which the schema names them.
func (t *translation) expected(schemaURL string, types []string) string {
	if _, pointer, ok := strings.Cut(schemaURL, "#"); ok {
		if schema, ok := lookup(t.rule.document, tokens(pointer)).(map[string]any); ok {
			if declared, ok := schema["type"].([]any); ok && len(declared) == len(types) {
				for i, d := range declared {
					types[i], _ = d.(string)
				}
			}
		}
	}
	if len(types) == 1 {
		return types[0]
	}
	return "[" + strings.Join(types, ",") + "]"
}

// given names the type of a value; a whole number is an integer.
func given(got string, v any) string {
	if n, ok := v.(json.Number); ok {
		if r, ok := new(big.Rat).SetString(n.String()); ok && r.IsInt() {
			return "integer"
		}
	}
	return got
}

func fieldOf(at []string) string {
	if len(at) == 0 {
		return root
	}
	return cut(strings.Join(at, "."))
}

// cut shortens a name from outside, at a whole character.
func cut(s string) string {
	if len(s) <= maxFieldBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxFieldBytes], "") + "…"
}

func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(b)
}

func decimal(r *big.Rat) string { return new(big.Float).SetRat(r).String() }

// lookup follows names and indexes into a decoded JSON value; nil is nothing.
func lookup(v any, path []string) any {
	for _, name := range path {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// tokens splits a JSON pointer as it stands in a URL's fragment.
func tokens(pointer string) []string {
	parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, p := range parts {
		if u, err := url.PathUnescape(p); err == nil {
			p = u
		}
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
	}
	if len(parts) == 1 && parts[0] == "" {
		return nil
	}
	return parts
}

// step is one keyword of a path through a schema.
type step struct {
	keyword string
	into    bool   // the step leads to a member or item of the value
	name    string // which: its name, or "*" when the schema does not say
}

// steps reads a path through a schema of draft-07 keyword by keyword.
func steps(path string) []step {
	var list []step
	rest := tokens(path)
	for len(rest) > 0 {
		s := step{keyword: rest[0]}
		rest = rest[1:]
		switch s.keyword {
		case "properties":
			if len(rest) > 0 {
				s.into, s.name, rest = true, rest[0], rest[1:]
			}
		case "patternProperties":
			if len(rest) > 0 {
				s.into, s.name, rest = true, "*", rest[1:]
			}
		case "items":
			s.into, s.name = true, "*"
			if len(rest) > 0 {
				if _, err := strconv.Atoi(rest[0]); err == nil {
					s.name, rest = rest[0], rest[1:]
				}
			}
		case "additionalProperties", "additionalItems", "contains":
			s.into, s.name = true, "*"
		case "allOf", "anyOf", "oneOf", "dependencies":
			if len(rest) > 0 {
				rest = rest[1:]
			}
		}
		list = append(list, s)
	}
	return list
}

// condition is a "then" or "else" that a path goes through, that many steps
// into the value.
type condition struct {
	keyword string
	steps   int
}

func conditions(path string) []condition {
	if !strings.Contains(path, "/then") && !strings.Contains(path, "/else") {
		return nil
	}
	var list []condition
	n := 0
	for _, s := range steps(path) {
		if s.into {
			n++
		}
		if s.keyword == "then" || s.keyword == "else" {
			list = append(list, condition{s.keyword, n})
		}
	}
	return list
}
