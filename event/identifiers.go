package event

import (
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// What one event may bring along. Identifiers beyond are left out.
const (
	MaxIdentifiers       = 50  // on one event
	MaxIdentifierBytes   = 500 // of a value
	maxIdentifierTypeLen = 100 // of a type's name in context.externalIds
)

// StandardIdentifiers returns the identifiers that an event carries in the
// places of sheet unify_engage_privacy §1.1, in this order:
//
//	user_id, anonymous_id        userId, anonymousId
//	email                        traits.email, then context.traits.email
//	group_id (of accounts)       groupId
//	android.id, .idfa,           context.device.id, .advertisingId, .token, as context.device.type says;
//	.push_token; ios. likewise   the advertising id only with adTrackingEnabled true
//	ga_client_id                 context.integrations["Google Analytics"].clientId
//	cross_domain_id              crossDomainId or cross_domain_id in traits, then in context.traits
//	braze_id                     context.Braze.braze_id
//	any                          context.externalIds, as they stand there
//
// An entry of externalIds counts when id, type, collection ("users" or
// "accounts") and encoding ("none") are all there and the type is in lower
// case. Every value is a string and is kept as sent; what is empty, too long or
// not a string is passed over, and so is a second mention. The traits of a
// group call describe the group: they are not looked into.
func StandardIdentifiers(e *Event) []Identifier {
	s := sighted{ids: make([]Identifier, 0, 4)}
	s.look(e)
	if len(s.ids) == 0 {
		return nil
	}
	return s.ids
}

// Passed is why StandardIdentifiers passes over what could be an identifier.
type Passed byte

// The reasons.
const (
	PassedLong  Passed = 1 // a value of more than MaxIdentifierBytes
	PassedEntry Passed = 2 // an entry of context.externalIds that does not count, or externalIds that is no list
	PassedMany  Passed = 3 // more than MaxIdentifiers
)

// PassedOver calls fn with what StandardIdentifiers passes over in an event,
// MaxIdentifiers of them at most; of an entry that does not count, with what is
// there of collection, type and value. What is empty, or no string, in a place
// that is meant for other things too is none. Of an event that has nothing of
// the kind, it hardly reads more than the quotes.
func PassedOver(e *Event, fn func(Identifier, Passed)) {
	if !strings.Contains(e.Context, `"externalIds"`) && !hasLong(e.Context) && !hasLong(e.Traits) &&
		max(len(e.UserID), len(e.AnonymousID), len(e.GroupID)) <= MaxIdentifierBytes {
		return
	}
	told := 0
	s := sighted{over: func(id Identifier, why Passed) {
		if told++; told <= MaxIdentifiers {
			fn(id, why)
		}
	}}
	s.look(e)
}

// hasLong reports whether JSON may have a string of more than
// MaxIdentifierBytes.
func hasLong(text string) bool {
	start := 0
	for i := 0; len(text)-start > MaxIdentifierBytes; {
		n := strings.IndexByte(text[i:], '"')
		if n < 0 || i+n-start > MaxIdentifierBytes {
			return true
		}
		if i += n; i == 0 || text[i-1] != '\\' {
			start = i + 1
		}
		i++
	}
	return false
}

func (s *sighted) look(e *Event) {
	s.add(Users, "user_id", e.UserID)
	s.add(Users, "anonymous_id", e.AnonymousID)

	var traits, device, integrations, braze, external gjson.Result
	if e.Context != "" {
		gjson.Parse(e.Context).ForEach(func(key, v gjson.Result) bool {
			switch key.Str {
			case "traits":
				traits = v
			case "device":
				device = v
			case "integrations":
				integrations = v
			case "Braze":
				braze = v
			case "externalIds":
				external = v
			}
			return true
		})
	}
	own := e.Traits
	if e.Type == Group {
		own = ""
	}
	s.add(Users, "email", member(own, "email"))
	s.add(Users, "email", member(traits.Raw, "email"))
	s.add(Accounts, "group_id", e.GroupID)
	if device.IsObject() {
		s.addDevice(device)
	}
	if integrations.IsObject() {
		s.add(Users, "ga_client_id", member(integrations.Get("Google Analytics").Raw, "clientId"))
	}
	for _, t := range [...]string{own, traits.Raw} {
		s.add(Users, "cross_domain_id", member(t, "crossDomainId"))
		s.add(Users, "cross_domain_id", member(t, "cross_domain_id"))
	}
	s.add(Users, "braze_id", member(braze.Raw, "braze_id"))
	if external.IsArray() {
		external.ForEach(func(_, v gjson.Result) bool {
			s.addExternal(v.Raw)
			return s.over != nil || len(s.ids) < MaxIdentifiers
		})
	} else if external.Exists() && external.Type != gjson.Null {
		s.pass(Identifier{}, PassedEntry)
	}
}

// sighted are the identifiers found so far.
type sighted struct {
	ids  []Identifier
	over func(Identifier, Passed) // is told what is passed over; may be nil
}

func (s *sighted) pass(id Identifier, why Passed) {
	if s.over != nil {
		s.over(id, why)
	}
}

func (s *sighted) add(collection, kind, value string) {
	id := Identifier{Collection: collection, Type: kind, Value: value}
	switch {
	case value == "" || slices.Contains(s.ids, id):
	case len(value) > MaxIdentifierBytes:
		s.pass(id, PassedLong)
	case len(s.ids) == MaxIdentifiers:
		s.pass(id, PassedMany)
	default:
		s.ids = append(s.ids, id)
	}
}

func (s *sighted) addDevice(device gjson.Result) {
	id, idfa, token := "ios.id", "ios.idfa", "ios.push_token"
	switch strings.ToLower(member(device.Raw, "type")) {
	case "android":
		id, idfa, token = "android.id", "android.idfa", "android.push_token"
	case "ios":
	default:
		return
	}
	s.add(Users, id, member(device.Raw, "id"))
	if device.Get("adTrackingEnabled").Type == gjson.True {
		s.add(Users, idfa, member(device.Raw, "advertisingId"))
	}
	s.add(Users, token, member(device.Raw, "token"))
}

func (s *sighted) addExternal(entry string) {
	collection, kind, value := member(entry, "collection"), member(entry, "type"), member(entry, "id")
	known := collection == Users || collection == Accounts
	if !known || kind == "" || len(kind) > maxIdentifierTypeLen || kind != strings.ToLower(kind) || member(entry, "encoding") != "none" || value == "" {
		s.pass(Identifier{Collection: collection, Type: kind, Value: value}, PassedEntry)
		return
	}
	s.add(collection, kind, value)
}

// member returns the string under a name of a raw JSON object, and nothing
// when there is none.
func member(object, name string) string {
	if object == "" || object[0] != '{' {
		return ""
	}
	return text(gjson.Get(object, name))
}
