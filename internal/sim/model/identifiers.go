package model

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"kith/event"
	"kith/workspace"
)

// rule is how one type of identifier is treated.
type rule struct {
	collection, name string
	declared         bool
	limit            int
	window           int64
	validFor         int64
	form             string // in which values are compared
	provider         bool
	priority         int
	keys             []string
	blocked          []string
	patterns         []string
}

// byDefault are the types of a space that declares none; usersOnly those that
// have a place in the calls but only count when they are declared.
var (
	byDefault = []string{"user_id", "email", "android.id", "android.idfa", "android.push_token", "anonymous_id", "ga_client_id",
		"group_id", "ios.id", "ios.idfa", "ios.push_token"}
	onDemand = []string{"cross_domain_id", "braze_id", "mac"}
)

func collectionOf(name string) string {
	if name == "group_id" {
		return event.Accounts
	}
	return event.Users
}

func limitOf(name string) int {
	if name == "user_id" {
		return 1
	}
	return 5
}

// setRules puts a space's rules in force. Types that registered themselves
// stay.
func (w *World) setRules(declared []workspace.IdentifierRule) {
	if len(declared) == 0 {
		for _, name := range byDefault {
			declared = append(declared, workspace.IdentifierRule{Type: name, Collection: collectionOf(name)})
		}
	}
	rules := []rule{}
	for _, d := range declared {
		r := rule{collection: d.Collection, name: d.Type, declared: true, limit: d.Limit, priority: d.Priority, keys: d.Keys, blocked: d.Blocked, patterns: d.BlockedPatterns}
		if r.collection == "" {
			r.collection = collectionOf(d.Type)
		}
		if r.limit == 0 {
			r.limit = limitOf(d.Type)
		}
		const day = 24 * 60 * 60 * 1000
		spans := map[string]int64{"weekly": 7 * day, "monthly": 30 * day, "annually": 365 * day}
		r.window, r.validFor = spans[d.Window], spans[d.ValidFor]
		if r.validFor > 0 && (r.window == 0 || r.validFor < r.window) {
			r.window = r.validFor // what counts no more counts towards no limit
		}
		if r.form = d.Normalize; d.Type == "mac" {
			r.form = "mac"
			if len(r.keys) == 0 {
				r.keys = []string{"mac", "clientMac"}
			}
		}
		r.provider = d.EmailProvider
		rules = append(rules, r)
	}
	for _, r := range w.rules {
		if !r.declared && !slices.ContainsFunc(rules, func(o rule) bool { return o.name == r.name && o.collection == r.collection }) {
			rules = append(rules, r)
		}
	}
	// A type that was declared once and is declared no more is unknown again.
	w.rules = rules
}

func (w *World) ruleOf(collection, name string) rule {
	for _, r := range w.rules {
		if r.collection == collection && r.name == name {
			return r
		}
	}
	return rule{collection: collection, name: name, limit: limitOf(name)}
}

// refuses reports whether a value is never used.
func (r rule) refuses(value string) bool {
	return slices.Contains(r.blocked, value) || slices.ContainsFunc(r.patterns, func(p string) bool { return regexp.MustCompile(p).MatchString(value) })
}

// identifiers returns the identifiers on an event that count, and registers
// the types that are new.
func (w *World) identifiers(body map[string]any) []event.Identifier {
	var ids []event.Identifier
	text := func(at any, path ...string) string {
		for _, name := range path {
			m, _ := at.(map[string]any)
			at = m[name]
		}
		s, _ := at.(string)
		return s
	}
	add := func(collection, name, value string) {
		if value == "" {
			return
		}
		rule := w.ruleOf(collection, name)
		if !rule.declared && collection == collectionOf(name) && (slices.Contains(byDefault, name) || slices.Contains(onDemand, name)) {
			return
		}
		if rule.refuses(value) {
			return
		}
		value = rule.normal(value, text(body, "context", "network", "ssid"))
		if value == "" || rule.refuses(value) || w.blocked(event.Identifier{Collection: collection, Type: name, Value: value}) {
			return
		}
		if id := (event.Identifier{Collection: collection, Type: name, Value: value}); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	traits := body["traits"]
	if body["type"] == "group" {
		traits = nil // the group's
	}
	add(event.Users, "user_id", text(body, "userId"))
	add(event.Users, "anonymous_id", text(body, "anonymousId"))
	add(event.Users, "email", text(traits, "email"))
	add(event.Users, "email", text(body, "context", "traits", "email"))
	add(event.Accounts, "group_id", text(body, "groupId"))
	for _, system := range []string{"android", "ios"} {
		if text(body, "context", "device", "type") == system {
			add(event.Users, system+".id", text(body, "context", "device", "id"))
			add(event.Users, system+".push_token", text(body, "context", "device", "token"))
			device := body["context"].(map[string]any)["device"].(map[string]any)
			if device["adTrackingEnabled"] == true {
				add(event.Users, system+".idfa", text(device, "advertisingId"))
			}
		}
	}
	if context, ok := body["context"].(map[string]any); ok {
		external, _ := context["externalIds"].([]any)
		for _, x := range external {
			add(text(x, "collection"), text(x, "type"), text(x, "id"))
		}
	}
	for _, r := range w.rules {
		for _, key := range r.keys {
			for _, spelled := range []string{key, camel(key), snake(key)} {
				sent := traits
				if r.collection == event.Accounts {
					sent = body["traits"]
				}
				context, _ := body["context"].(map[string]any)
				for _, place := range []any{sent, context["traits"], body["properties"]} {
					m, _ := place.(map[string]any)
					switch v := m[spelled].(type) {
					case string:
						add(r.collection, r.name, v)
					case json.Number:
						add(r.collection, r.name, v.String())
					}
				}
			}
		}
	}
	for _, id := range ids {
		if !slices.ContainsFunc(w.rules, func(r rule) bool { return r.collection == id.Collection && r.name == id.Type }) {
			w.rules = append(w.rules, rule{collection: id.Collection, name: id.Type, limit: limitOf(id.Type)})
		}
	}
	return ids
}

// camel and snake spell simple keys: "loyalty_id" and "loyaltyId".
func camel(key string) string {
	parts := strings.Split(snake(key), "_")
	for i := 1; i < len(parts); i++ {
		parts[i] = strings.ToUpper(parts[i][:1]) + parts[i][1:]
	}
	return strings.Join(parts, "")
}

func snake(key string) string {
	return strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(key, "${1}_${2}"))
}

// byImportance puts an event's identifiers in order, the most important first:
// by the priority of their type; of one type, those that somebody has first;
// else as they stand on the event.
func (w *World) byImportance(list []*Profile, ids []event.Identifier, time int64) []event.Identifier {
	ids = slices.Clone(ids)
	place := w.places()
	slices.SortStableFunc(ids, func(a, b event.Identifier) int {
		if pa, pb := place[a.Collection+"/"+a.Type], place[b.Collection+"/"+b.Type]; pa != pb {
			return pa - pb
		}
		known := func(id event.Identifier) int {
			if w.ownerOf(list, id, time) != nil {
				return 0
			}
			return 1
		}
		return known(a) - known(b)
	})
	return ids
}

// places numbers the types in the order of their priority. Where no priority
// was set, this is user_id, email, the others by name. Else a type with a
// priority has that place, those without fill the places left, and types that
// registered themselves come last.
func (w *World) places() map[string]int {
	declared, registered := []rule{}, []rule{}
	ranked := false
	for _, r := range w.rules {
		if r.declared {
			declared = append(declared, r)
			ranked = ranked || r.priority > 0
		} else {
			registered = append(registered, r)
		}
	}
	byName := func(rules []rule) {
		key := func(r rule) string {
			switch r.name {
			case "user_id":
				return "0"
			case "email":
				return "1"
			}
			return "2" + r.name
		}
		slices.SortStableFunc(rules, func(a, b rule) int { return strings.Compare(key(a), key(b)) })
	}
	place := map[string]int{}
	number := func(r rule) { place[fmt.Sprintf("%s/%s", r.collection, r.name)] = len(place) + 1 }
	if !ranked {
		all := append(declared, registered...)
		byName(all)
		for _, r := range all {
			number(r)
		}
		return place
	}
	byName(declared)
	byName(registered)
	for len(declared) > 0 {
		// The place at hand goes to the one it was set for (or, if the list
		// had become too short for its place, whose place has passed), else
		// to the first without one, else to the next that has one.
		next := -1
		for i, r := range declared {
			if r.priority > 0 && r.priority <= len(place)+1 && (next < 0 || r.priority < declared[next].priority) {
				next = i
			}
		}
		if next < 0 {
			next = slices.IndexFunc(declared, func(r rule) bool { return r.priority == 0 })
		}
		if next < 0 {
			next = 0
			for i, r := range declared {
				if r.priority < declared[next].priority {
					next = i
				}
			}
		}
		number(declared[next])
		declared = slices.Delete(declared, next, next+1)
	}
	for _, r := range registered {
		number(r)
	}
	return place
}

// optedOut reports whether an event is not to be anybody's.
func optedOut(body map[string]any) bool {
	integrations, _ := body["integrations"].(map[string]any)
	return integrations["Personas"] == false
}
