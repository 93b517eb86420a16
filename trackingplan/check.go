package trackingplan

import (
	"errors"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/tidwall/gjson"

	"kith/fault"
	"kith/workspace"
)

// Limits of a plan. Segment's are 2,000 rules a plan and 200 an update (sheet
// connections_protocols §5.1).
const (
	MaxRules       = 2_000
	MaxSchemaBytes = 256 << 10 // of one rule
	// maxPatternSteps is how large a pattern may be when it is compiled. The time
	// it takes grows with that and with the text, which may be all of an event:
	// about 5 ns for each step and character, at worst.
	maxPatternSteps = 1_000
)

// ruleTypes are the types of rule there are.
var ruleTypes = [...]string{"TRACK", "IDENTIFY", "GROUP", "PAGE", "SCREEN", "COMMON"}

// Check says whether a rule can be saved. What is wrong with it comes back as
// one fault.Invalid error for each place (joined, when there are several), with
// a field below the rule: "type", "key", "jsonSchema.properties.traits.type".
func Check(r workspace.Rule) error {
	var errs []error
	if !slices.Contains(ruleTypes[:], r.Type) {
		errs = append(errs, fault.Field("type", "%q is no type of rule; want one of %s", cut(r.Type), strings.Join(ruleTypes[:], ", ")))
	}
	if r.Type == "TRACK" && r.Key == "" {
		errs = append(errs, fault.Field("key", "a TRACK rule needs the event's name as its key"))
	}
	if r.Version < 0 {
		errs = append(errs, fault.Field("version", "must be 0 or more"))
	}
	return errors.Join(append(errs, checkSchema(r)...)...)
}

const schemaField = "jsonSchema"

func checkSchema(r workspace.Rule) []error {
	switch {
	case len(r.JSONSchema) == 0:
		return []error{fault.Field(schemaField, "is required; {} holds for every event")}
	case len(r.JSONSchema) > MaxSchemaBytes:
		return []error{fault.Field(schemaField, "has %d bytes; at most %d are allowed", len(r.JSONSchema), MaxSchemaBytes)}
	case !gjson.ValidBytes(r.JSONSchema):
		return []error{fault.Field(schemaField, "is not valid JSON")}
	}
	document := decode(gjson.ParseBytes(r.JSONSchema), 0)
	object, ok := document.(map[string]any)
	if !ok {
		return []error{fault.Field(schemaField, "must be a JSON object")}
	}
	if d, ok := object["$schema"].(string); ok && !draft(d) {
		return []error{fault.Field(schemaField+".$schema", "%q is not supported; rules are JSON Schema draft-07 (http://json-schema.org/draft-07/schema#)", cut(d))}
	}
	var errs []error
	visit(document, []string{schemaField}, func(s map[string]any, at []string) { errs = append(errs, checkWords(s, at)...) })
	if len(errs) > 0 {
		slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return errs
	}
	_, err := compile(r)
	var meta *jsonschema.SchemaValidationError
	var invalid *jsonschema.ValidationError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &meta) && errors.As(meta.Err, &invalid):
		for _, v := range (&rule{}).violations(invalid, document) {
			if v.Type == "Number All Of" || v.Type == "Number Any Of" {
				continue // what the schema of schemas is made of; the violation beside it says what is wrong
			}
			field := schemaField
			if v.Field != root {
				field += "." + v.Field
			}
			errs = append(errs, fault.Field(field, "%s", v.Description))
		}
		return errs
	case errors.Is(err, errRecursive):
		return []error{fault.Field(schemaField, "refers to itself through $ref; write the levels that events have out")}
	}
	return []error{fault.Field(schemaField, "%s", err)}
}

// draft reports whether a $schema names a draft that rules may be written in:
// draft-07, or one of the two before it, which mean the same where they agree.
func draft(url string) bool {
	for _, d := range []string{"draft-07", "draft-06", "draft-04"} {
		if strings.Contains(url, "json-schema.org/"+d+"/schema") {
			return true
		}
	}
	return false
}

// checkWords looks at the keywords of one schema that the validator would
// answer for in words nobody understands.
func checkWords(s map[string]any, at []string) []error {
	var errs []error
	field := func(name string) string { return strings.Join(append(slices.Clone(at), name), ".") }
	if ref, ok := s["$ref"].(string); ok && !strings.HasPrefix(ref, "#") {
		errs = append(errs, fault.Field(field("$ref"), `%q lies outside the rule; nothing is ever loaded: copy the definition into "definitions" and refer to it as "#/definitions/…"`, cut(ref)))
	}
	if p, ok := s["pattern"].(string); ok {
		errs = append(errs, checkPattern(p, field("pattern"))...)
	}
	if m, ok := s["patternProperties"].(map[string]any); ok {
		for p := range m {
			errs = append(errs, checkPattern(p, field("patternProperties"))...)
		}
	}
	return errs
}

func checkPattern(pattern, field string) []error {
	n, err := workspace.PatternSteps(pattern)
	switch {
	case err != nil:
		return []error{fault.Field(field, `%s; patterns are RE2, which has no lookahead such as (?!…): use "not" instead`, err)}
	case n > maxPatternSteps:
		return []error{fault.Field(field, "is too large once its repetitions are written out: %d steps, at most %d are possible; repeat less often, and bound the length with maxLength", n, maxPatternSteps)}
	}
	return nil
}

// visit calls fn with every schema of draft-07 within v, and with where it lies.
func visit(v any, at []string, fn func(schema map[string]any, at []string)) {
	s, ok := v.(map[string]any)
	if !ok {
		return
	}
	fn(s, at)
	for keyword, sub := range s {
		here := append(slices.Clone(at), keyword)
		switch keyword {
		case "properties", "patternProperties", "definitions", "dependencies":
			if m, ok := sub.(map[string]any); ok {
				for name, schema := range m {
					visit(schema, append(slices.Clone(here), name), fn)
				}
			}
		case "items", "allOf", "anyOf", "oneOf":
			if list, ok := sub.([]any); ok {
				for _, schema := range list {
					visit(schema, here, fn)
				}
				continue
			}
			visit(sub, here, fn)
		case "additionalItems", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else":
			visit(sub, here, fn)
		}
	}
}
