package identity

import (
	"cmp"
	"strings"

	"github.com/nyaruka/phonenumbers"
	"github.com/tidwall/gjson"

	"kith/event"
	"kith/workspace"
)

// MACType is the type of identifier for MAC addresses of devices, for spaces
// that declare it. Its values are normalised without being asked for.
const MACType = "mac"

// macKeys are where MAC addresses are looked for when the rule names no keys,
// beside context.device.mac.
var macKeys = []string{"mac", "clientMac"}

// formOf returns the form in which a rule has values compared.
func formOf(r *workspace.IdentifierRule) string {
	form := r.Normalize
	if form == "" && r.Type == MACType {
		form = workspace.NormalizeMAC
	}
	if form == workspace.NormalizeNone {
		return ""
	}
	return form
}

// normalize returns a value in the form in which the graph holds it, or says
// which violation stands against it. network is what a randomised MAC address
// belongs to; empty: it is not known.
func normalize(r *workspace.IdentifierRule, value, network string) (normal, violation string) {
	switch formOf(r) {
	case workspace.NormalizeEmail:
		return foldEmail(value, r.EmailProvider), ""
	case workspace.NormalizePhone:
		number, ok := e164(value, r.Region)
		if again, fixed := e164(number, ""); !ok || !fixed || again != number {
			return value, NotAPhone // what reads as another number is none, as too many zeros
		}
		return number, ""
	case workspace.NormalizeMAC:
		return scopeMAC(value, network)
	}
	return value, ""
}

// e164 returns a phone number as +4930123456.
func e164(value, region string) (string, bool) {
	number, err := phonenumbers.Parse(value, region)
	if err != nil || !phonenumbers.IsPossibleNumber(number) {
		return "", false
	}
	return phonenumbers.Format(number, phonenumbers.E164), true
}

// mailboxes says how mail providers spell one mailbox: to which domain mail
// goes, and whether dots before the @ and what follows a plus there count.
var mailboxes = map[string]struct {
	domain string
	dots   bool // do not count
}{
	"gmail.com":      {"gmail.com", true},
	"googlemail.com": {"gmail.com", true},
	"outlook.com":    {"outlook.com", false},
	"hotmail.com":    {"hotmail.com", false},
	"live.com":       {"live.com", false},
	"icloud.com":     {"icloud.com", false},
	"me.com":         {"icloud.com", false},
	"mac.com":        {"icloud.com", false},
	"fastmail.com":   {"fastmail.com", false},
	"proton.me":      {"proton.me", true},
	"protonmail.com": {"proton.me", true},
	"pm.me":          {"proton.me", true},
}

// foldEmail returns an e-mail address in lower case without spaces around it,
// and with provider as the provider's own spelling of the mailbox.
func foldEmail(value string, provider bool) string {
	value = strings.ToLower(strings.TrimSpace(value))
	at := strings.LastIndexByte(value, '@')
	if !provider || at < 0 {
		return value
	}
	box, ok := mailboxes[value[at+1:]]
	if !ok {
		return value
	}
	local, _, _ := strings.Cut(value[:at], "+")
	if box.dots {
		local = strings.ReplaceAll(local, ".", "")
	}
	if local == "" {
		return value
	}
	return local + "@" + box.domain
}

// scopeMAC returns a MAC address as aa:bb:cc:dd:ee:ff. One that is locally
// administered was made up by the device for one network, and the same may be
// another device's elsewhere: it is returned as network/address. A value that
// has that form keeps its network.
func scopeMAC(value, network string) (normal, violation string) {
	if i := strings.LastIndexByte(value, '/'); i >= 0 {
		network, value = cmp.Or(value[:i], network), value[i+1:]
	}
	mac, ok := parseMAC(strings.TrimSpace(value))
	switch {
	case !ok, mac[0]&1 != 0, mac == [6]byte{}:
		return value, NotAMAC // not one, or a group's; broadcast is a group
	case mac[0]&2 == 0:
		return mac.String(), ""
	case network == "":
		return mac.String(), NoNetwork
	}
	return network + "/" + mac.String(), ""
}

// randomised reports whether a normalised value is a MAC address that belongs
// to a network.
func randomised(value string) bool { return strings.IndexByte(value, '/') >= 0 }

type address [6]byte

// parseMAC reads twelve hexadecimal digits, alone or in groups of two, four or
// six with one of ":", "-" and "." between them.
func parseMAC(text string) (mac address, ok bool) {
	var separator byte
	digits, groups, length := 0, 1, 0
	for i := range len(text) {
		c := text[i]
		if c == ':' || c == '-' || c == '.' {
			if separator != 0 && c != separator || length != 0 && digits != length*groups || digits == 0 {
				return mac, false
			}
			if groups == 1 {
				length = digits
			}
			separator = c
			groups++
			continue
		}
		var nibble byte
		switch {
		case c >= '0' && c <= '9':
			nibble = c - '0'
		case c >= 'a' && c <= 'f':
			nibble = c - 'a' + 10
		case c >= 'A' && c <= 'F':
			nibble = c - 'A' + 10
		default:
			return mac, false
		}
		if digits == 12 {
			return mac, false
		}
		mac[digits/2] = mac[digits/2]<<4 | nibble
		digits++
	}
	grouped := length == 0 || (length == 2 || length == 4 || length == 6) && length*groups == 12
	return mac, digits == 12 && grouped
}

// String returns the address as aa:bb:cc:dd:ee:ff.
func (a address) String() string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 17)
	for i, octet := range a {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, digits[octet>>4], digits[octet&15])
	}
	return string(b)
}

// networkOn returns the name of the network that an event comes from.
func networkOn(e *event.Event, key string) string {
	if key != "" {
		path := gjson.Escape(key)
		for _, place := range [...]struct{ doc, path string }{
			{e.Properties, path}, {e.Context, "traits." + path}, {e.Traits, path},
		} {
			if v := gjson.Get(place.doc, place.path); v.Type == gjson.String && v.Str != "" {
				return v.Str
			}
		}
	}
	for _, path := range [...]string{"network.ssid", "wifi.ssid"} {
		if v := gjson.Get(e.Context, path); v.Type == gjson.String && v.Str != "" {
			return v.Str
		}
	}
	return ""
}

// normal returns an identifier in the form in which the graph holds it. One
// that has no such form stays as it is: nobody has it.
func (rs *rules) normal(id event.Identifier) event.Identifier {
	if r := rs.of(id.Collection, id.Type); r != nil && r.form != "" {
		if value, violation := normalize(&r.declared, id.Value, ""); violation == "" {
			id.Value = value
		}
	}
	return id
}

// Normalize returns an identifier that somebody asks for in the form in which
// the graph holds it under a space's rules; as it is where they have none for
// it. A randomised MAC address is asked for as network/address.
func Normalize(space *workspace.Space, id event.Identifier) event.Identifier {
	if space == nil {
		return id
	}
	for i := range space.Identifiers {
		r := &space.Identifiers[i]
		if r.Type != id.Type || cmp.Or(r.Collection, standardCollection(r.Type), event.Users) != id.Collection {
			continue
		}
		if value, violation := normalize(r, id.Value, ""); violation == "" {
			id.Value = value
		}
	}
	return id
}

// Ask returns whose an identifier is that somebody asks for, or the zero id
// when it is nobody's: in the form that the space's rules give it or, from
// before they did, as it is.
func (r Reader) Ask(space *workspace.Space, collection, name, value string) (event.ProfileID, error) {
	normal := Normalize(space, event.Identifier{Collection: collection, Type: name, Value: value})
	p, err := r.Lookup(collection, name, normal.Value)
	if err != nil || !p.IsZero() || normal.Value == value {
		return p, err
	}
	return r.Lookup(collection, name, value)
}
