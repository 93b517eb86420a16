package identity

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"kith/commitlog"
	"kith/event"
	"kith/pipeline"
	"kith/workspace"
)

// The reasons for which an event does not use an identifier on it, and for
// which it belongs to nobody: the violations of sheet unify_engage_privacy
// §1.3, and Kith's own bounds.
const (
	ValueBlocked      = "ID value blocked"
	NoIdentifiers     = "No matching identifiers on event"
	LimitExceeded     = "Identifier value limit exceeded"
	TimeLimitExceeded = "Identifier value time limit exceeded"
	ValueTooLong      = "Identifier value is longer than 500 bytes"
	// TooManyIdentifiers is the sheet's name for the bound of MaxIdentifiers.
	TooManyIdentifiers = "Identifier mapping limit exceeded"
	// NotAPhone, NotAMAC and NoNetwork are why a value cannot be normalised.
	NotAPhone    = "Identifier value is no phone number"
	NotAMAC      = "Identifier value is no MAC address of a device"
	NoNetwork    = "Randomised MAC address without its network"
	TooManyTypes = "Identifier type is new and the space has registered 300 already"
	// NotWhole is why an entry of context.externalIds is not used, and
	// TooManyOnEvent why an identifier beyond the fifty of an event is not.
	// Their values are not kept.
	NotWhole       = "Entry of externalIds without id, lower-case type, collection or encoding none"
	TooManyOnEvent = "More than 50 identifiers on event"
	// NoRule is why an identifier in a standard place is not used whose type the
	// rules of the space do not name. It is counted by type: see Unwanted.
	NoRule = "Identifier type is in no rule of the space"
	// Separated is why an identifier is not used that a command keeps apart
	// from one of a higher rank.
	Separated = "Separated by command"
	// OptedOut is why an event with integrations.Personas false is nobody's
	// (sheet §0).
	OptedOut = "integrations.Personas is false"
)

// Refusal is an identifier that an event carries and does not use.
type Refusal struct {
	event.Identifier
	Violation string
	Owner     event.ProfileID // whose the identifier was then; zero when nobody's
	Against   Against
}

// Against is what stood against an identifier.
type Against struct {
	// Type is the type whose limit would have been exceeded, and Limit that
	// limit; Window is its span in milliseconds, zero without end.
	Type   string
	Limit  int
	Window int64
	// ByCommand says that Command, the offset of a standing command, did.
	ByCommand bool
	Command   commitlog.Offset
}

// found is what a record carries, before anybody is looked up. It depends on
// nothing but the record and the rules.
type found struct {
	rules    *rules
	event    *event.Event
	ids      []event.Identifier // without blocked values and doubles
	refused  []Refusal
	unwanted uint16 // the standard types, by their bits, that no rule names
	optedOut bool
	filter   *filter // that keeps the event out
}

// find looks for identifiers on a record's event.
func find(rs *rules, r *pipeline.Record) found {
	f := found{rules: rs, event: r.Event}
	if f.filter = rs.filtered(r.Event); f.filter != nil {
		return f
	}
	if r.Event.Integrations != "" && gjson.Get(r.Event.Integrations, "Personas").Type == gjson.False {
		f.optedOut = true
		return f
	}
	ids := r.IDs
	if r.Verdict.Body != nil {
		ids = event.StandardIdentifiers(r.Event) // what the plan took out of the event identifies nobody
	}
	f.ids = make([]event.Identifier, 0, len(ids)+len(rs.lookups))
	for _, id := range ids {
		f.add(id)
	}
	for _, l := range rs.lookups {
		l.in(r.Event, f.add)
	}
	event.PassedOver(r.Event, f.passedOver)
	return f
}

func (f *found) add(id event.Identifier) {
	if id.Value == "" || !typeName(id.Type) || (id.Collection != event.Users && id.Collection != event.Accounts) {
		return
	}
	r := f.rules.of(id.Collection, id.Type)
	if r == nil {
		if n := standardNumber(id.Type); n >= 0 && standardTypes[n].collection == id.Collection {
			f.unwanted |= 1 << n
			return
		}
	}
	if slices.Contains(f.ids, id) {
		return
	}
	violation := ""
	switch {
	case len(id.Value) > event.MaxIdentifierBytes:
		violation = ValueTooLong
		// Nothing of it is kept: an erasure finds whole values and no beginnings.
		id.Value = fmt.Sprintf("(%d bytes)", len(id.Value))
	case r != nil && r.blocked(id.Value):
		violation = ValueBlocked
	case r != nil && r.form != "":
		f.addNormal(r, id)
		return
	default:
		f.ids = append(f.ids, id)
		return
	}
	if refusal := (Refusal{Identifier: id, Violation: violation}); !slices.Contains(f.refused, refusal) {
		f.refused = append(f.refused, refusal)
	}
}

// passedOver notes what is in a standard place and is no identifier.
func (f *found) passedOver(id event.Identifier, why event.Passed) {
	refusal := Refusal{Violation: TooManyOnEvent}
	switch why {
	case event.PassedLong:
		f.add(id)
		return
	case event.PassedEntry:
		refusal.Violation = NotWhole
	}
	refusal.Collection, refusal.Type = event.Users, id.Type
	if id.Collection == event.Accounts {
		refusal.Collection = event.Accounts
	}
	if len(id.Type) > MaxTypeBytes {
		refusal.Type = strings.ToValidUTF8(id.Type[:MaxTypeBytes], "")
	}
	f.refused = append(f.refused, refusal)
}

// addNormal adds an identifier of a type whose values are normalised.
func (f *found) addNormal(r *rule, id event.Identifier) {
	network := ""
	if r.form == workspace.NormalizeMAC {
		network = networkOn(f.event, r.declared.NetworkKey)
	}
	normal, violation := normalize(&r.declared, id.Value, network)
	switch {
	case violation != "":
	case normal == "":
		return
	case len(normal) > event.MaxIdentifierBytes:
		violation = ValueTooLong
	case r.blocked(normal):
		id.Value, violation = normal, ValueBlocked
	default:
		if id.Value = normal; !slices.Contains(f.ids, id) {
			f.ids = append(f.ids, id)
		}
		return
	}
	if refusal := (Refusal{Identifier: id, Violation: violation}); !slices.Contains(f.refused, refusal) {
		f.refused = append(f.refused, refusal)
	}
}

// typeName reports whether a name can be a type: names are lower case (sheet
// unify_engage_privacy §1.1).
func typeName(name string) bool {
	return name != "" && len(name) <= MaxTypeBytes && name == strings.ToLower(name)
}

// lookup is a key under which identifiers of a type are looked for in a body.
type lookup struct {
	collection, name string
	path             string // of gjson, below traits or properties
	context          string // of gjson, below context, in the place of path
}

// lookupsOf returns where the identifiers of a type with keys of its own are:
// under each key as it is written, in camelCase and in snake_case (sheet
// unify_engage_privacy §1.1, custom identifier, route 1).
func lookupsOf(collection, name string, keys []string) []lookup {
	var spelled []string
	for _, key := range keys {
		for _, s := range []string{key, camelCase(key), snakeCase(key)} {
			if s != "" && !slices.Contains(spelled, s) {
				spelled = append(spelled, s)
			}
		}
	}
	var list []lookup
	for _, s := range spelled {
		list = append(list, lookup{collection: collection, name: name, path: gjson.Escape(s)})
	}
	return list
}

// in looks in traits, context.traits and properties. The traits of a group
// call are the account's, not the person's.
func (l lookup) in(e *event.Event, add func(event.Identifier)) {
	if l.context != "" {
		if v := gjson.Get(e.Context, l.context); v.Type == gjson.String {
			add(event.Identifier{Collection: l.collection, Type: l.name, Value: v.Str})
		}
		return
	}
	traits := e.Traits
	if e.Type == event.Group && l.collection == event.Users {
		traits = ""
	}
	for _, place := range [...]struct{ doc, path string }{
		{traits, l.path}, {e.Context, "traits." + l.path}, {e.Properties, l.path},
	} {
		if place.doc == "" {
			continue
		}
		switch v := gjson.Get(place.doc, place.path); v.Type {
		case gjson.String:
			add(event.Identifier{Collection: l.collection, Type: l.name, Value: v.Str})
		case gjson.Number:
			add(event.Identifier{Collection: l.collection, Type: l.name, Value: v.Raw})
		}
	}
}

// camelCase writes a key's words as "loyaltyId".
func camelCase(key string) string {
	words := wordsOf(key)
	for i, w := range words {
		if i > 0 {
			first, size := utf8.DecodeRuneInString(w)
			words[i] = string(unicode.ToUpper(first)) + w[size:]
		}
	}
	return strings.Join(words, "")
}

// snakeCase writes a key's words as "loyalty_id".
func snakeCase(key string) string { return strings.Join(wordsOf(key), "_") }

// wordsOf splits a key into its words, in lower case: at anything but letters
// and digits, where a small letter or digit meets a capital, and before the
// last of several capitals ("customerURLId" is customer, url, id).
func wordsOf(key string) []string {
	var words []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			words, word = append(words, strings.ToLower(string(word))), nil
		}
	}
	runes := []rune(key)
	for i, c := range runes {
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			end()
			continue
		}
		if unicode.IsUpper(c) && i > 0 {
			after := !unicode.IsUpper(runes[i-1])
			before := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if after || before {
				end()
			}
		}
		word = append(word, c)
	}
	end()
	return words
}

// Finder finds the identifiers on events of the past under one set of rules.
// It is safe for concurrent use.
type Finder struct{ rules *rules }

// NewFinder returns a finder under the rules of a space; nil has the defaults.
func NewFinder(space *workspace.Space) (*Finder, error) {
	rs, err := compile(space)
	if err == nil {
		rs.filters = nil // an event of somebody's past was kept out by none
	}
	return &Finder{rs}, err
}

// Find returns the identifiers that an event carries, without those that are
// blocked: ids are the ones in its Head, to which those under the space's own
// keys are added. What the event was resolved by is, of these, what its
// profile owns.
func (f *Finder) Find(ids []event.Identifier, e *event.Event) []event.Identifier {
	return find(f.rules, &pipeline.Record{Head: event.Head{IDs: ids}, Event: e}).ids
}
