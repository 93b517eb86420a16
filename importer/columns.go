package importer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"kith/event"
	"kith/fault"
	"kith/workspace"
)

// Column is what a column of a file is.
type Column struct {
	Header string `json:"header"`         // without spaces around it
	As     string `json:"as"`             // trait, identifier, timestamp or ignore
	Name   string `json:"name,omitempty"` // of the trait or identifier type
	Type   string `json:"type,omitempty"` // of a trait
	// Collection is that of an identifier: users or accounts.
	Collection string `json:"collection,omitempty"`
	// Finds says that identity looks for an identifier in this trait, by the
	// keys of a rule.
	Finds string `json:"finds,omitempty"`
}

// The standard identifiers that calls have places of their own for.
const (
	userID      = "user_id"
	anonymousID = "anonymous_id"
	emailID     = "email"
	phoneID     = "phone"
	groupID     = "group_id"
)

// textTraits are traits that "auto" never takes for anything but text: by their
// meaning in Segment's spec, or because a number would lose what they say.
var textTraits = []string{
	"id", "name", "first_name", "last_name", "username", "title", "description", "website", "avatar", "gender", "phone", "email", "mobile", "fax",
	"zip", "zip_code", "postcode", "post_code", "postal_code", "plz", "iban",
}

// plan decides what each column is. rules are the identity rules of the space.
// What is wrong with the header comes back as one error for each mistake.
func plan(headers []string, o *Options, rules []workspace.IdentifierRule) (columns []Column, notes []string, err error) {
	p := planner{options: o, rules: rules, taken: map[string]string{}, unused: map[string]bool{}}
	for header := range o.Mapping {
		p.unused[header] = true
	}
	for i, header := range headers {
		columns = append(columns, p.column(i, header))
	}
	for _, header := range slices.Sorted(maps.Keys(p.unused)) {
		p.wrong("mapping."+header, "the file has no such column; it has: %s", list(headers))
	}
	if len(p.problems) == 0 {
		p.needsIdentifier(columns)
	}
	if p.trimmed > 0 {
		p.notes = append(p.notes, fmt.Sprintf("spaces around names of columns were left out (of %d)", p.trimmed))
	}
	if p.ours > 0 {
		p.notes = append(p.notes, fmt.Sprintf("%d columns of an error report are ignored", p.ours))
	}
	return columns, p.notes, errors.Join(p.problems...)
}

type planner struct {
	options  *Options
	rules    []workspace.IdentifierRule
	taken    map[string]string // what a column is, and which
	unused   map[string]bool   // mappings without a column
	trimmed  int
	ours     int // columns of a report
	notes    []string
	problems []error
}

// maxProblems is how many mistakes of a header are told.
const maxProblems = 20

func (p *planner) wrong(field, format string, args ...any) {
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, fault.Field(field, format, args...))
	}
}

func (p *planner) column(i int, header string) Column {
	c := Column{Header: strings.TrimSpace(header), As: asTrait, Type: p.options.Types}
	where := fmt.Sprintf("columns.%d", i+1)
	if c.Header != header {
		p.trimmed++
	}
	m, mapped := p.options.Mapping[c.Header]
	if !mapped {
		if m, mapped = p.options.Mapping[header]; mapped {
			delete(p.unused, header)
		}
	}
	delete(p.unused, c.Header)
	switch {
	case c.Header == "":
		p.wrong(where, "column %d (%s in a spreadsheet) has no name in the header: name it, or remove the column", i+1, letters(i))
		return c
	case !utf8.ValidString(c.Header):
		p.wrong(where, "the name of column %d is not UTF-8: say how the file is written, as encoding=windows-1252", i+1)
		return c
	case slices.Contains(reportColumns(), c.Header) && !mapped:
		p.ours++
		return Column{Header: c.Header, As: asIgnored}
	}
	if other, ok := p.taken["header "+c.Header]; ok {
		p.wrong(where, "column %d has the same name as column %s, %q: rename or remove one of them", i+1, other, c.Header)
		return c
	}
	p.taken["header "+c.Header] = fmt.Sprint(i + 1)

	id, finds := p.identifier(c.Header)
	switch {
	case m.As == asIgnored, m.As == asTimestamp:
		c.As, c.Type = m.As, ""
	case m.As == asIdentifier:
		c.As, c.Name, c.Type = asIdentifier, m.Name, ""
		if c.Name == "" {
			c.Name = id
		}
		if c.Name == "" {
			c.Name = normal(c.Header)
		}
		if !p.known(c.Name) {
			p.notes = append(p.notes, fmt.Sprintf("the space has no rule for identifiers of the type %s: it registers itself, with the default limit", c.Name))
		}
	case m.As == "" && m.Name == "" && m.Type == "" && id != "":
		c.As, c.Name, c.Type = asIdentifier, id, ""
	default:
		c.Name, c.Finds = c.Header, finds
		if m.Name != "" {
			c.Name = m.Name
			_, c.Finds = p.identifier(m.Name)
		}
		if c.Finds != "" || c.Type == typeAuto && slices.Contains(textTraits, normal(c.Name)) {
			c.Type = typeString
		}
		if m.Type != "" {
			c.Type = m.Type
		}
	}
	if c.As == asIdentifier {
		c.Collection = p.collection(c.Name)
	}
	p.claim(where, &c)
	return c
}

// collection returns whose identifiers of a type are.
func (p *planner) collection(name string) string {
	for i := range p.rules {
		if r := &p.rules[i]; r.Type == name && (collectionOf(r) == p.options.Collection || !slices.ContainsFunc(p.rules, func(other workspace.IdentifierRule) bool {
			return other.Type == name && collectionOf(&other) == p.options.Collection
		})) {
			return collectionOf(r)
		}
	}
	return p.options.Collection
}

// claim notes what a column is, since no two can be the same.
func (p *planner) claim(where string, c *Column) {
	if c.As == asIgnored {
		return
	}
	claims := []string{c.As + " " + c.Name}
	if c.As == asIdentifier && (c.Name == emailID || c.Name == phoneID) && p.options.Collection == event.Users {
		claims = append(claims, asTrait+" "+c.Name) // it is a trait as well
	}
	for _, what := range claims {
		if other, ok := p.taken[what]; ok {
			p.wrong(where, "the columns %q and %q would both be the %s: map one of them to another name, or ignore it", other, c.Header, strings.TrimSpace(what))
			return
		}
	}
	for _, what := range claims {
		p.taken[what] = c.Header
	}
}

// identifier returns the type of identifier that a header names, or the type
// that identity looks for in a trait of that name.
func (p *planner) identifier(header string) (id, finds string) {
	name := normal(header)
	for _, standard := range []string{userID, anonymousID, emailID, groupID} {
		if name == standard && p.known(standard) && (p.options.Collection == event.Users || standard != emailID) {
			return standard, ""
		}
	}
	for i := range p.rules {
		r := &p.rules[i]
		if collectionOf(r) != p.options.Collection {
			continue
		}
		if slices.Contains(r.Keys, header) || slices.ContainsFunc(r.Keys, func(k string) bool { return normal(k) == name }) {
			finds = r.Type
			continue
		}
		if r.Type == header || r.Type == name {
			return r.Type, ""
		}
	}
	return "", finds
}

// known reports whether the space has a rule for a type.
func (p *planner) known(name string) bool {
	return slices.ContainsFunc(p.rules, func(r workspace.IdentifierRule) bool { return r.Type == name })
}

// collectionOf returns the collection of a rule's type: as identity has it, a
// rule for group_id that names none is for accounts.
func collectionOf(r *workspace.IdentifierRule) string {
	switch {
	case r.Collection != "":
		return r.Collection
	case r.Type == groupID:
		return event.Accounts
	}
	return event.Users
}

// needsIdentifier refuses a file whose rows could be nobody's.
func (p *planner) needsIdentifier(columns []Column) {
	if p.options.Collection == event.Accounts {
		if !slices.ContainsFunc(columns, func(c Column) bool { return c.As == asIdentifier && c.Name == groupID }) {
			p.wrong("columns", `no column is group_id, which says whose traits a row has: name one so, or map one: {"…": {"as": "identifier", "name": "group_id"}}; the file has: %s`, headersOf(columns))
		}
		return
	}
	if p.options.AnonymousID == generateID || slices.ContainsFunc(columns, func(c Column) bool {
		return c.As == asIdentifier && c.Name != groupID || c.Finds != ""
	}) {
		return
	}
	var types []string
	for i := range p.rules {
		if collectionOf(&p.rules[i]) == event.Users {
			types = append(types, p.rules[i].Type)
		}
	}
	p.wrong("columns", `no column is an identifier of the space, so the rows would be nobody's: name one as %s, map one: {"…": {"as": "identifier", "name": "email"}}, or have each row get an anonymous_id with anonymousId=generate; the file has: %s`,
		strings.Join(types, ", "), headersOf(columns))
}

func headersOf(columns []Column) string {
	var names []string
	for i := range columns {
		names = append(names, columns[i].Header)
	}
	return list(names)
}

// list writes names for people, not too many.
func list(names []string) string {
	if len(names) > 30 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:30], ", "), len(names)-30)
	}
	return strings.Join(names, ", ")
}

// normal writes a header as an identifier type is written: "User ID", "userId"
// and "USER-ID" are user_id. Dots stay, as in ios.idfa.
func normal(header string) string {
	var b strings.Builder
	runes := []rune(strings.TrimSpace(header))
	for i, r := range runes {
		switch {
		case r == ' ' || r == '-' || r == '_':
			if b.Len() > 0 && !strings.HasSuffix(b.String(), "_") {
				b.WriteByte('_')
			}
			continue
		case unicode.IsUpper(r) && i > 0 && unicode.IsLower(runes[i-1]):
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// letters names a column as spreadsheets do: A, B, …, Z, AA.
func letters(i int) string {
	name := ""
	for i++; i > 0; i = (i - 1) / 26 {
		name = string(rune('A'+(i-1)%26)) + name
	}
	return name
}
