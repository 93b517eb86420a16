package trackingplan

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"kith/workspace"
)

// ofProperties is a rule that holds an event's properties to schema.
func ofProperties(schema string) string {
	return `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"properties":` + schema + `}}`
}

func mustCompile(t testing.TB, schema string) *rule {
	t.Helper()
	if err := Check(workspace.Rule{Type: "TRACK", Key: "E", JSONSchema: json.RawMessage(schema)}); err != nil {
		t.Fatalf("Check(%s): %v", schema, err)
	}
	r, err := compile(workspace.Rule{JSONSchema: json.RawMessage(schema)})
	if err != nil {
		t.Fatalf("compile(%s): %v", schema, err)
	}
	return r
}

func TestViolations(t *testing.T) {
	for name, tt := range map[string]struct {
		schema string // of the properties, or of the whole event when it has "$schema"
		event  string // the properties, or the whole event
		want   []string
	}{
		"fits":            {`{"properties":{"revenue":{"type":"number"}},"required":["revenue"]}`, `{"revenue":12.50}`, nil},
		"missing":         {`{"required":["revenue","products"]}`, `{}`, []string{"Required|properties.products|properties.products is required", "Required|properties.revenue|properties.revenue is required"}},
		"missing section": {`{"$schema":"http://json-schema.org/draft-07/schema#","required":["userId"]}`, `{"type":"track"}`, []string{"Required|userId|userId is required"}},
		"string for number": {`{"properties":{"revenue":{"type":"number"}}}`, `{"revenue":"12"}`,
			[]string{"Invalid Type|properties.revenue|Invalid type. Expected: number, given: string"}},
		"fraction for integer": {`{"properties":{"n":{"type":"integer"}}}`, `{"n":1.5}`, []string{"Invalid Type|properties.n|Invalid type. Expected: integer, given: number"}},
		"whole number":         {`{"properties":{"n":{"type":"string"}}}`, `{"n":1.0}`, []string{"Invalid Type|properties.n|Invalid type. Expected: string, given: integer"}},
		"huge number":          {`{"properties":{"n":{"type":"integer","maximum":10}}}`, `{"n":1e999999999}`, []string{"Number Lte|properties.n|Must be less than or equal to 10"}},
		"tiny number":          {`{"properties":{"n":{"type":"integer"}}}`, `{"n":-1e-999999999}`, []string{"Invalid Type|properties.n|Invalid type. Expected: integer, given: number"}},
		"list of types":        {`{"properties":{"n":{"type":["string","null"]}}}`, `{"n":true}`, []string{"Invalid Type|properties.n|Invalid type. Expected: [string,null], given: boolean"}},
		"null":                 {`{"properties":{"n":{"type":"object"}}}`, `{"n":null}`, []string{"Invalid Type|properties.n|Invalid type. Expected: object, given: null"}},
		"within an array": {`{"properties":{"products":{"type":"array","items":{"properties":{"price":{"type":"number"}},"required":["sku"]}}}}`,
			`{"products":[{"sku":"a","price":1},{"price":"2"}]}`,
			[]string{"Invalid Type|properties.products.1.price|Invalid type. Expected: number, given: string", "Required|properties.products.1.sku|properties.products.1.sku is required"}},
		"enum":     {`{"properties":{"season":{"enum":["fall","winter",3]}}}`, `{"season":"x"}`, []string{`Enum|properties.season|properties.season must be one of the following: "fall", "winter", 3`}},
		"const":    {`{"properties":{"v":{"const":"a"}}}`, `{"v":"b"}`, []string{`Const|properties.v|properties.v does not match: "a"`}},
		"pattern":  {`{"properties":{"sku":{"pattern":"^[A-Z]+$"}}}`, `{"sku":"a1"}`, []string{"Pattern|properties.sku|Does not match pattern '^[A-Z]+$'"}},
		"format":   {`{"properties":{"at":{"format":"date-time"}}}`, `{"at":"tomorrow"}`, []string{"Format|properties.at|Does not match format 'date-time'"}},
		"date":     {`{"properties":{"at":{"format":"date-time"}}}`, `{"at":"2026-08-01"}`, nil},
		"instant":  {`{"properties":{"at":{"format":"date-time"}}}`, `{"at":"2026-08-01t10:00:00.123z"}`, nil},
		"email":    {`{"properties":{"e":{"format":"email"}}}`, `{"e":"jo"}`, []string{"Format|properties.e|Does not match format 'email'"}},
		"short":    {`{"properties":{"s":{"minLength":2,"maxLength":3}}}`, `{"s":"a"}`, []string{"String Gte|properties.s|String length must be greater than or equal to 2"}},
		"long":     {`{"properties":{"s":{"minLength":2,"maxLength":3}}}`, `{"s":"äöüß"}`, []string{"String Lte|properties.s|String length must be less than or equal to 3"}},
		"minimum":  {`{"properties":{"n":{"minimum":0.5}}}`, `{"n":0}`, []string{"Number Gte|properties.n|Must be greater than or equal to 0.5"}},
		"above":    {`{"properties":{"n":{"exclusiveMinimum":0}}}`, `{"n":0}`, []string{"Number Gt|properties.n|Must be greater than 0"}},
		"below":    {`{"properties":{"n":{"exclusiveMaximum":7}}}`, `{"n":7}`, []string{"Number Lt|properties.n|Must be less than 7"}},
		"multiple": {`{"properties":{"n":{"multipleOf":5}}}`, `{"n":7}`, []string{"Multiple Of|properties.n|Must be a multiple of 5"}},
		"additional": {`{"properties":{"a":{}},"additionalProperties":false}`, `{"a":1,"b":2,"c":3}`,
			[]string{"Additional Property Not Allowed|properties.b|Additional property b is not allowed", "Additional Property Not Allowed|properties.c|Additional property c is not allowed"}},
		"few properties":  {`{"minProperties":1}`, `{}`, []string{"Array Min Properties|properties|Must have at least 1 properties"}},
		"many properties": {`{"maxProperties":1}`, `{"a":1,"b":2}`, []string{"Array Max Properties|properties|Must have at most 1 properties"}},
		"few items":       {`{"properties":{"l":{"minItems":2}}}`, `{"l":[1]}`, []string{"Array Min Items|properties.l|Array must have at least 2 items"}},
		"many items":      {`{"properties":{"l":{"maxItems":1}}}`, `{"l":[1,2]}`, []string{"Array Max Items|properties.l|Array must have at most 1 items"}},
		"further items":   {`{"properties":{"l":{"items":[{}],"additionalItems":false}}}`, `{"l":[1,2]}`, []string{"Array No Additional Items|properties.l|No additional items allowed on array"}},
		"unique":          {`{"properties":{"l":{"uniqueItems":true}}}`, `{"l":[1,2,1.0]}`, []string{"Unique|properties.l|array items[0,2] must be unique"}},
		"contains":        {`{"properties":{"l":{"contains":{"type":"string"}}}}`, `{"l":[1]}`, []string{"Contains|properties.l|At least one of the items must match"}},
		"dependency":      {`{"dependencies":{"a":["b"]}}`, `{"a":1}`, []string{"Missing Dependency|properties|Has a dependency on b"}},
		"property name":   {`{"propertyNames":{"pattern":"^[a-z]+$"}}`, `{"Bad":1}`, []string{`Invalid Property Name|properties|Property name of "Bad" does not match`}},
		"never":           {`{"properties":{"a":false}}`, `{"a":1}`, []string{"False|properties.a|False always fails validation"}},
		"not":             {`{"properties":{"a":{"not":{"type":"string"}}}}`, `{"a":"x"}`, []string{"Number Not|properties.a|Must not validate the schema (not)"}},
		"all of": {`{"properties":{"a":{"allOf":[{"minLength":3},{"pattern":"^b"}]}}}`, `{"a":"bc"}`,
			[]string{"Number All Of|properties.a|Must validate all the schemas", "String Gte|properties.a|String length must be greater than or equal to 3"}},
		"all of at the root": {`{"$schema":"http://json-schema.org/draft-07/schema#","allOf":[{"required":["userId"]}]}`, `{"type":"track"}`,
			[]string{"Number All Of|(root)|Must validate all the schemas", "Required|userId|userId is required"}},
		"any of names the closest": {`{"properties":{"a":{"anyOf":[{"type":"object","required":["x","y"]},{"type":"string"}]}}}`, `{"a":{}}`,
			[]string{"Invalid Type|properties.a|Invalid type. Expected: string, given: object", "Number Any Of|properties.a|Must validate at least one schema (anyOf)"}},
		"one of, several": {`{"properties":{"a":{"oneOf":[{"type":"string"},{"minLength":1}]}}}`, `{"a":"x"}`,
			[]string{"Number One Of|properties.a|Must validate one and only one schema (oneOf)"}},
		"then at the root": {`{"$schema":"http://json-schema.org/draft-07/schema#","if":{"properties":{"type":{"const":"track"}}},"then":{"required":["userId"]}}`, `{"type":"track"}`,
			[]string{`Condition Then|(root)|Must validate "then" as "if" was valid`, "Required|userId|userId is required"}},
		"then further in": {`{"properties":{"list":{"items":{"if":{"required":["a"]},"then":{"properties":{"b":{"type":"string"}}}}}}}`, `{"list":[{"a":1,"b":2}]}`,
			[]string{`Condition Then|properties.list.0|Must validate "then" as "if" was valid`, "Invalid Type|properties.list.0.b|Invalid type. Expected: string, given: integer"}},
		"else with several": {`{"if":{"required":["a"]},"else":{"required":["b"],"minProperties":2}}`, `{"c":1}`,
			[]string{"Array Min Properties|properties|Must have at least 2 properties", `Condition Else|properties|Must validate "else" as "if" was not valid`, "Required|properties.b|properties.b is required"}},
		"reference": {`{"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"money":{"if":true,"then":{"type":"number"}}},"properties":{"properties":{"properties":{"tax":{"$ref":"#/definitions/money"}}}}}`,
			`{"type":"track","properties":{"tax":"1"}}`,
			[]string{`Condition Then|properties.tax|Must validate "then" as "if" was valid`, "Invalid Type|properties.tax|Invalid type. Expected: number, given: string"}},
		"odd names": {`{"properties":{"a/b ~c.d%":{"type":["number","string"]}}}`, `{"a/b ~c.d%":true}`,
			[]string{"Invalid Type|properties.a/b ~c.d%|Invalid type. Expected: [number,string], given: boolean"}},
		"draft-04": {`{"$schema":"http://json-schema.org/draft-04/schema#","properties":{"properties":{"properties":{"n":{"minimum":0,"exclusiveMinimum":true}}}}}`,
			`{"properties":{"n":0}}`, []string{"Number Gt|properties.n|Must be greater than 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			schema, body := tt.schema, tt.event
			if !strings.Contains(schema, "$schema") {
				schema, body = ofProperties(schema), `{"properties":`+body+`}`
			}
			r := mustCompile(t, schema)
			// The validator walks maps in no order: the answer must not depend on it.
			for range 20 {
				var got []string
				for _, v := range r.check(decode(gjson.Parse(body), 0)) {
					got = append(got, v.Type+"|"+v.Field+"|"+v.Description)
				}
				if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
					t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
				}
			}
		})
	}
}

func TestViolationIsOneSentence(t *testing.T) {
	for _, tt := range []struct {
		v    Violation
		want string
	}{
		{Violation{Type: "Required", Field: "properties.x", Description: "properties.x is required"}, "properties.x is required"},
		{Violation{Type: "Invalid Type", Field: "properties.revenue", Description: "Invalid type. Expected: number, given: string"},
			"properties.revenue: Invalid type. Expected: number, given: string"},
	} {
		if got := tt.v.String(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestViolationsAreBounded(t *testing.T) {
	r := mustCompile(t, ofProperties(`{"additionalProperties":{"type":"string"}}`))
	var b strings.Builder
	b.WriteString(`{"properties":{"` + strings.Repeat("é", 1000) + `":1`)
	for i := range 1000 {
		b.WriteString(`,"p` + strings.Repeat("x", i) + `":1`)
	}
	b.WriteString(`}}`)
	got := r.check(decode(gjson.Parse(b.String()), 0))
	if len(got) != maxViolations {
		t.Errorf("%d violations, want %d", len(got), maxViolations)
	}
	for _, v := range got {
		if len(v.Field) > maxFieldBytes+3 {
			t.Errorf("a field of %d bytes", len(v.Field))
		}
	}
}

func TestCheck(t *testing.T) {
	deep := strings.Repeat(`{"not":`, 300) + `{}` + strings.Repeat(`}`, 300)
	wide := `{"definitions":{"l00":{}`
	for i := range 30 {
		prev := `{"$ref":"#/definitions/l` + itoa(i) + `"}`
		wide += `,"l` + itoa(i+1) + `":{"allOf":[` + prev + `,` + prev + `]}`
	}
	wide += `},"allOf":[{"$ref":"#/definitions/l30"}]}`
	for name, tt := range map[string]struct {
		rule workspace.Rule
		want []string // "field: part of the message"
	}{
		"good":            {workspace.Rule{Type: "TRACK", Key: "E", JSONSchema: []byte(`{}`)}, nil},
		"good, identify":  {workspace.Rule{Type: "IDENTIFY", JSONSchema: []byte(ofProperties(`{}`))}, nil},
		"type and key":    {workspace.Rule{Type: "track", JSONSchema: []byte(`{}`)}, []string{`type: "track" is no type of rule; want one of TRACK`}},
		"no key":          {workspace.Rule{Type: "TRACK", Version: -1, JSONSchema: []byte(`{}`)}, []string{"key: a TRACK rule needs", "version: must be"}},
		"no schema":       {workspace.Rule{Type: "GROUP"}, []string{"jsonSchema: is required"}},
		"not JSON":        {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{`)}, []string{"jsonSchema: is not valid JSON"}},
		"no object":       {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`[]`)}, []string{"jsonSchema: must be a JSON object"}},
		"wrong type":      {workspace.Rule{Type: "GROUP", JSONSchema: []byte(ofProperties(`{"properties":{"a":{"type":"text"}}}`))}, []string{"jsonSchema.properties.properties.properties.a.type: "}},
		"several places":  {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"required":"a","minLength":-1}`)}, []string{"jsonSchema.minLength: Must be greater than or equal to 0", "jsonSchema.required: Invalid type. Expected: array, given: string"}},
		"remote":          {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"properties":{"a":{"$ref":"https://example.com/a.json"}}}`)}, []string{`jsonSchema.properties.a.$ref: "https://example.com/a.json" lies outside the rule`}},
		"file":            {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"items":[{"$ref":"/etc/passwd"}]}`)}, []string{`jsonSchema.items.$ref: "/etc/passwd" lies outside the rule`}},
		"meta schema":     {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"$schema":"https://example.com/schema"}`)}, []string{"jsonSchema.$schema: "}},
		"later draft":     {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"$schema":"https://json-schema.org/draft/2020-12/schema"}`)}, []string{"jsonSchema.$schema: "}},
		"large pattern":   {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"properties":{"a":{"pattern":"^(a{0,100}){10}x"}}}`)}, []string{"jsonSchema.properties.a.pattern: is too large once its repetitions are written out"}},
		"lookahead":       {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"properties":{"a":{"pattern":"^(?!x)"}}}`)}, []string{"jsonSchema.properties.a.pattern: error parsing regexp: invalid or unsupported Perl syntax: `(?!`; patterns are RE2"}},
		"pattern names":   {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"patternProperties":{"(":{}}}`)}, []string{"jsonSchema.patternProperties: error parsing regexp"}},
		"property $ref":   {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"properties":{"$ref":{"type":"string"},"pattern":{"type":"number"}}}`)}, nil},
		"nothing there":   {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"not":{"$ref":"#/definitions/a"}}`)}, []string{"jsonSchema: json-pointer"}},
		"itself":          {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"not":{"$ref":"#"}}`)}, []string{"jsonSchema: refers to itself through $ref"}},
		"itself, further": {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"definitions":{"n":{"properties":{"n":{"$ref":"#/definitions/n"}}}},"not":{"$ref":"#/definitions/n"}}`)}, []string{"jsonSchema: refers to itself through $ref"}},
		"growth":          {workspace.Rule{Type: "GROUP", JSONSchema: []byte(wide)}, []string{"jsonSchema: has more than 20000 schemas"}},
		"too long":        {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"description":"` + strings.Repeat("x", MaxSchemaBytes) + `"}`)}, []string{"jsonSchema: has "}},
		"too deep":        {workspace.Rule{Type: "GROUP", JSONSchema: []byte(deep)}, []string{"jsonSchema.not"}},
		"huge bound":      {workspace.Rule{Type: "GROUP", JSONSchema: []byte(`{"maximum":1e999999999}`)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := Check(tt.rule)
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("Check: %v, want %q", err, tt.want)
			}
			if err == nil {
				return
			}
			lines := strings.Split(err.Error(), "\n")
			if name != "too deep" && name != "wrong type" && len(lines) != len(tt.want) {
				t.Errorf("Check:\n%v\nwant %d errors", err, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("got %q, want %q", lines[i], want)
				}
			}
		})
	}
}

func itoa(i int) string { return string(rune('0'+i/10)) + string(rune('0'+i%10)) }
