package importer

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"kith/event"
	"kith/fault"
)

// Options are how a file is to be read, as they are given.
type Options struct {
	Name       string `json:"name,omitempty"`       // of the file, for people; at most 200 characters are kept
	Source     string `json:"source,omitempty"`     // id or slug of a source of the space; empty: the space's own for imports
	Collection string `json:"collection,omitempty"` // users (default) or accounts
	Delimiter  string `json:"delimiter,omitempty"`  // a character or its name; empty: found out
	Encoding   string `json:"encoding,omitempty"`   // empty: found out
	// Empty is what an empty cell does to a trait: "skip" (default) nothing,
	// "null" removes it.
	Empty string `json:"empty,omitempty"`
	// AnonymousID is what becomes of a row without an identifier: "" refuses
	// it, "generate" gives it an anonymous_id.
	AnonymousID string `json:"anonymousId,omitempty"`
	// Types is how cells are read whose column says nothing else: "auto"
	// (default) or "string".
	Types   string             `json:"types,omitempty"`
	Mapping map[string]Mapping `json:"mapping,omitempty"` // by header
	DryRun  bool               `json:"dryRun,omitempty"`
}

// Mapping says what a column is. What is empty is decided as without it.
type Mapping struct {
	As   string `json:"as,omitempty"`   // trait, identifier, timestamp or ignore
	Name string `json:"name,omitempty"` // of the trait or the identifier type
	Type string `json:"type,omitempty"` // of a trait: string, number, boolean, date, json or auto
}

// What a column can be.
const (
	asTrait      = "trait"
	asIdentifier = "identifier"
	asTimestamp  = "timestamp" // when the row was so: the call's timestamp
	asIgnored    = "ignore"
)

// The types of traits.
const (
	typeAuto    = "auto"
	typeString  = "string"
	typeNumber  = "number"
	typeBoolean = "boolean"
	typeDate    = "date"
	typeJSON    = "json"
)

const (
	emptyNull  = "null"
	generateID = "generate"
	maxName    = 200
)

// ParseMapping reads a mapping as JSON: {header: {as, name, type}}.
func ParseMapping(text string) (map[string]Mapping, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	var m map[string]Mapping
	if err := d.Decode(&m); err != nil {
		return nil, fault.Field("mapping", `%v; want JSON such as {"Mail": {"as": "identifier", "name": "email"}}`, err)
	}
	return m, nil
}

// check completes the options.
func (o *Options) check() (comma rune, encoding string, err error) {
	oneOf := func(field, value string, allowed ...string) {
		if err == nil && value != "" && !slices.Contains(allowed, value) {
			err = fault.Field(field, "%q is not possible: want %s", value, strings.Join(allowed, " or "))
		}
	}
	oneOf("collection", o.Collection, event.Users, event.Accounts)
	oneOf("empty", o.Empty, "skip", emptyNull)
	oneOf("anonymousId", o.AnonymousID, generateID)
	oneOf("types", o.Types, typeAuto, typeString)
	if err != nil {
		return 0, "", err
	}
	if o.Collection == "" {
		o.Collection = event.Users
	}
	if o.Collection == event.Accounts && o.AnonymousID != "" {
		return 0, "", fault.Field("anonymousId", "accounts have a group_id and no anonymous_id: leave this out")
	}
	if o.Types == "" {
		o.Types = typeAuto
	}
	o.Name = head(o.Name, maxName)
	for header, m := range o.Mapping {
		if err := m.check(); err != nil {
			return 0, "", fault.Field("mapping."+header, "%v", err)
		}
	}
	if comma, err = delimiterOf(o.Delimiter); err != nil {
		return 0, "", err
	}
	encoding, err = encodingOf(o.Encoding)
	return comma, encoding, err
}

func (m Mapping) check() error {
	switch {
	case !slices.Contains([]string{"", asTrait, asIdentifier, asTimestamp, asIgnored}, m.As):
		return fault.New(fault.Invalid, `as is %q: want "trait", "identifier", "timestamp" or "ignore"`, m.As)
	case !slices.Contains([]string{"", typeAuto, typeString, typeNumber, typeBoolean, typeDate, typeJSON}, m.Type):
		return fault.New(fault.Invalid, `type is %q: want "string", "number", "boolean", "date", "json" or "auto"`, m.Type)
	case m.Type != "" && m.As != "" && m.As != asTrait:
		return fault.New(fault.Invalid, "only traits have a type")
	case m.Name != "" && (m.As == asTimestamp || m.As == asIgnored):
		return fault.New(fault.Invalid, "only traits and identifiers have a name")
	case m.As == asIdentifier && m.Name != strings.ToLower(m.Name):
		return fault.New(fault.Invalid, "%q is not an identifier type: they are in lower case, as user_id", m.Name)
	case len(m.Name) > 500 || m.As == asIdentifier && len(m.Name) > 100:
		return fault.New(fault.Invalid, "the name is too long")
	}
	return nil
}

// head returns at most n bytes of s, whole characters.
func head(s string, n int) string {
	if len(s) <= n {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.ToValidUTF8(s[:n], "\uFFFD") + "…"
}
