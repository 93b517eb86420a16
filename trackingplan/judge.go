package trackingplan

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"kith/event"
	"kith/workspace"
)

// The codes with which a blocked event is counted (sheet connections_protocols
// §3.3, filtered at source).
const (
	CodeUnplanned         = "unplanned"
	CodeSchemaViolation   = "schema_violation"
	CodeCommonViolation   = "common_schema_violation"
	CodeUnplannedAndWrong = "unplanned_and_schema_violation"
)

// Outcome is what the plan says of one event: the room's slot in the record.
// A record that no plan holds for has none.
type Outcome struct {
	Plan       string      // the plan's id
	Code       string      // why the event is blocked; empty when it passes
	Violations []Violation // sorted within standard and common rules
	// Unplanned is what the plan does not know and the source lets pass:
	// "event", "properties.coupon".
	Unplanned []string
	// Omitted and OmittedOnViolation are the fields that were taken out.
	Omitted            []string
	OmittedOnViolation []string

	event *event.Event // the event as it goes on; nil when it is unchanged
}

// settings are what a source does with one type of call.
type settings struct {
	section           string // "properties" or "traits": what may be omitted
	allowUnplanned    bool   // of the section's members
	blockOnViolation  bool
	omitOnViolation   bool
	commonOnViolation string
}

func settingsFor(t event.Type, s *workspace.SchemaSettings) settings {
	traits := func(c *workspace.TraitsSettings) settings {
		return settings{section: "traits", allowUnplanned: c.AllowUnplannedTraits,
			omitOnViolation: !c.AllowTraitsOnViolations, commonOnViolation: c.CommonEventOnViolations}
	}
	switch t {
	case event.Identify:
		return traits(&s.Identify)
	case event.Group:
		return traits(&s.Group)
	case event.Alias: // no setting speaks of alias calls
		return settings{allowUnplanned: true}
	}
	c := &s.Track
	return settings{section: "properties", allowUnplanned: c.AllowUnplannedEventProperties,
		blockOnViolation: !c.AllowEventOnViolations, omitOnViolation: !c.AllowPropertiesOnViolations,
		commonOnViolation: c.CommonEventOnViolations}
}

// judge holds an event of src to the plan p.
func judge(p *plan, src *workspace.Source, e *event.Event) *Outcome {
	out := &Outcome{Plan: p.id}
	set := settingsFor(e.Type, &src.Schema)
	rules := p.rulesFor(e, versionOf(e))
	body := string(e.Body)
	if e.Type == event.Track && !p.knows(e.Event) {
		if !src.Schema.Track.AllowUnplannedEvents {
			out.Code = CodeUnplanned
		} else {
			out.Unplanned = []string{"event"}
		}
	}
	// An identify or group call is planned by its traits alone. Any other call
	// for which there is no rule is unplanned, or passes, as a whole.
	byMembers := len(rules) > 0 || (set.section == "traits" && !set.allowUnplanned)
	if !byMembers && len(p.common) == 0 {
		return out.finish(src, body)
	}

	doc := decode(gjson.Parse(body), 0)
	if top, ok := doc.(map[string]any); ok && set.section != "" {
		// SDKs leave out what is empty. Without this, JSON Schema would take a
		// call without properties for one that has all it needs.
		if _, there := top[set.section]; !there {
			top[set.section] = map[string]any{}
		}
	}
	common := p.commonRules()
	if byMembers {
		body = out.unplanned(set, slices.Concat(rules, common), doc, body)
	}
	for _, r := range rules {
		out.Violations = append(out.Violations, r.check(doc)...)
	}
	out.Violations = compact(out.Violations)
	if len(out.Violations) > 0 {
		switch {
		case set.blockOnViolation:
			out.Code = CodeSchemaViolation
		case set.omitOnViolation:
			body = out.omit(set, out.Violations, doc, body)
		}
	}
	body = out.common(set, common, doc, body)
	return out.finish(src, body)
}

// unplanned finds the members that no rule for the call describes, COMMON ones
// among them, and takes them out when the source does not let them pass.
func (o *Outcome) unplanned(set settings, rules []*rule, doc any, body string) string {
	members, _ := lookup(doc, []string{set.section}).(map[string]any)
	var found []string
	for name := range members {
		if !slices.ContainsFunc(rules, func(r *rule) bool { return r.names(set.section).has(name) }) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	for _, name := range found {
		at := []string{set.section, name}
		if set.allowUnplanned {
			o.Unplanned = append(o.Unplanned, fieldOf(at))
		} else {
			body = o.take(at, doc, body, &o.Omitted)
		}
	}
	return body
}

// common holds what is left of the event to the COMMON rules.
func (o *Outcome) common(set settings, rules []*rule, doc any, body string) string {
	var found []Violation
	for _, r := range rules {
		found = append(found, r.check(doc)...)
	}
	if len(found) == 0 {
		return body
	}
	switch set.commonOnViolation {
	case workspace.Block:
		switch o.Code {
		case "":
			o.Code = CodeCommonViolation
		case CodeUnplanned:
			o.Code = CodeUnplannedAndWrong
		}
	case workspace.OmitProperties, workspace.OmitTraits:
		body = o.omit(set, found, doc, body)
	}
	o.Violations = compact(append(o.Violations, found...))
	return body
}

// omit takes out what the violations are about, as far as it lies in the part
// of the event that may be omitted. A violation within an array takes the array
// with it: an array with a gap would mean something else.
func (o *Outcome) omit(set settings, found []Violation, doc any, body string) string {
	for _, v := range found {
		if len(v.at) < 2 || v.at[0] != set.section {
			continue
		}
		at := v.at
		for i := 1; i < len(at); i++ {
			if _, ok := lookup(doc, at[:i]).([]any); ok {
				at = at[:i]
				break
			}
		}
		parent, _ := lookup(doc, at[:len(at)-1]).(map[string]any)
		if _, ok := parent[at[len(at)-1]]; ok { // not one that is missing, or gone already
			body = o.take(at, doc, body, &o.OmittedOnViolation)
		}
	}
	return body
}

// take removes a member from the decoded event and from its text and notes it.
func (o *Outcome) take(at []string, doc any, body string, list *[]string) string {
	delete(lookup(doc, at[:len(at)-1]).(map[string]any), at[len(at)-1])
	*list = append(*list, fieldOf(at))
	return edit(body, at, remove)
}

// finish makes the event that goes on: with what was found noted in
// context.protocols (sheet connections_protocols §5.2). A blocked event is left
// as it came.
func (o *Outcome) finish(src *workspace.Source, body string) *Outcome {
	if o.Code != "" || len(o.Violations)+len(o.Unplanned)+len(o.Omitted)+len(o.OmittedOnViolation) == 0 {
		return o
	}
	note := func(name string, v any) {
		body = edit(body, []string{"context", "protocols", name}, func(string) string { return jsonText(v) })
	}
	note("sourceId", src.ID)
	if len(o.Violations) > 0 {
		note("violations", o.Violations)
	}
	if len(o.Unplanned) > 0 {
		note("unplanned", o.Unplanned)
	}
	if len(o.Omitted) > 0 {
		note("omitted", o.Omitted)
	}
	if len(o.OmittedOnViolation) > 0 {
		note("omitted_on_violation", o.OmittedOnViolation)
	}
	changed, err := event.ParseTrusted([]byte(body))
	if err != nil { // the body was an object and still is
		panic(err)
	}
	o.event = changed
	return o
}

// reason is what a person is told of a blocked event: the code, and what is
// wrong in a sentence.
func (o *Outcome) reason(name string) string {
	var said []string
	if o.Code == CodeUnplanned || o.Code == CodeUnplannedAndWrong {
		said = append(said, "the plan has no event "+strconv.Quote(cut(name)))
	}
	if o.Code != CodeUnplanned {
		said = append(said, o.Violations[0].String())
		if n := len(o.Violations) - 1; n > 0 {
			said = append(said, strconv.Itoa(n)+" more")
		}
	}
	return o.Code + ": " + strings.Join(said, "; ")
}

// versionOf returns the version of its rule that an event asks for, or -1.
func versionOf(e *event.Event) int {
	v := gjson.Get(e.Context, "protocols.event_version")
	if v.Type != gjson.Number || strings.ContainsAny(v.Raw, ".eE-") {
		return -1
	}
	n, err := strconv.Atoi(v.Raw)
	if err != nil {
		return -1
	}
	return n
}

// names returns what the rule names below a section of the event.
func (r *rule) names(section string) *names {
	if section == "traits" {
		return &r.traits
	}
	return &r.properties
}

// compact drops what was found twice and what is too much to keep.
func compact(list []Violation) []Violation {
	var out []Violation
	for _, v := range list {
		if !slices.ContainsFunc(out, func(o Violation) bool { return compareViolations(o, v) == 0 }) {
			out = append(out, v)
		}
		if len(out) == maxViolations {
			break
		}
	}
	return out
}
