package sim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"kith/event"
	"kith/internal/sim/model"
	"kith/workspace"
)

// triggers are what subscriptions may match; the functions say the same.
var triggers = []struct {
	text  string
	match func(typ, name string) bool
}{
	{`type = "track"`, func(typ, _ string) bool { return typ == "track" }},
	{`type = "identify"`, func(typ, _ string) bool { return typ == "identify" }},
	{`event = "A"`, func(typ, name string) bool { return typ == "track" && name == "A" }},
}

// eventFilter is a condition of an event filter, and the same as the model
// reads it.
type eventFilter struct {
	text  string
	match model.Filter
}

// part returns what an event holds at a path, nil for nothing.
func part(e map[string]any, path ...string) (v any) {
	v = e
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

var filters = []eventFilter{
	{`event = 'B'`, func(e map[string]any) bool { return e["event"] == "B" }},
	{`type in ['page', 'group'] and userId != 'u1'`, func(e map[string]any) bool {
		return (e["type"] == "page" || e["type"] == "group") && e["userId"] != "u1"
	}},
	{`properties.v >= 3 or traits.x = 2`, func(e map[string]any) bool {
		return part(e, "properties", "v") == json.Number("3") || part(e, "traits", "x") == json.Number("2")
	}},
	{`userId = 'u4'`, func(e map[string]any) bool { return e["userId"] == "u4" }},
	{`match(anonymousId, 'a[12]') and !userId`, func(e map[string]any) bool {
		return e["anonymousId"] == "a1" || e["anonymousId"] == "a2" // a user's id is text and never true
	}},
	{`contains(traits.email, 'e3') or contains(context.traits.email, 'e3')`, func(e map[string]any) bool {
		return part(e, "traits", "email") == "e3@example.com" || part(e, "context", "traits", "email") == "e3@example.com"
	}},
}

// filter declares an event filter, changes one, or takes one away.
func (h *history) filter() {
	var found struct {
		Filters []struct {
			ID      string
			Enabled bool
		}
	}
	if !h.api("GET", "/filters?integrationId="+h.spaceID, nil, &found) {
		return
	}
	text := pick(h.dice, filters).text
	n := h.dice.n(5)
	if len(found.Filters) == 0 {
		n = 0
	}
	switch {
	case n < 2:
		h.named++
		h.tell("event filter %d: %s", h.named, text)
		h.api("POST", "/filters", map[string]any{"integrationId": h.spaceID, "name": fmt.Sprintf("f%d", h.named), "if": text}, nil)
	case n < 3:
		f := pick(h.dice, found.Filters)
		h.tell("event filter %s: %s", f.ID, text)
		h.api("PATCH", "/filters/"+f.ID, map[string]any{"if": text}, nil)
	case n < 4:
		f := pick(h.dice, found.Filters)
		h.tell("event filter %s enabled: %v", f.ID, !f.Enabled)
		h.api("PATCH", "/filters/"+f.ID, map[string]any{"enabled": !f.Enabled}, nil)
	default:
		f := pick(h.dice, found.Filters)
		h.tell("event filter %s is removed", f.ID)
		h.api("DELETE", "/filters/"+f.ID, nil, nil)
	}
}

func (h *history) addDestination() {
	h.quiet()
	o := &outletInfo{name: fmt.Sprintf("out%d", len(h.outlets)), source: pick(h.dice, h.sources).id, enabled: true}
	if h.dice.of(4) {
		o.source = ""
	}
	o.first = h.resolvedEnd()
	var out struct{ Destination struct{ ID string } }
	h.api("POST", "/destinations", map[string]any{
		"name": o.name, "metadataId": "fake", "sourceId": o.source, "enabled": false,
		"settings": map[string]any{"name": o.name, "size": pick(h.dice, []int{0, 0, 4}), "whole": h.dice.of(3)},
	}, &out)
	o.id = out.Destination.ID
	if h.dice.of(2) {
		for range 1 + h.dice.n(2) {
			n := h.dice.n(len(triggers))
			o.triggers = append(o.triggers, n)
			h.api("POST", "/destinations/"+o.id+"/subscriptions", map[string]any{
				"name": "sub", "actionId": "send", "trigger": triggers[n].text, "enabled": true,
			}, nil)
		}
	}
	h.api("PATCH", "/destinations/"+o.id, map[string]any{"enabled": true}, nil)
	o.last = h.resolvedEnd()
	h.outlets = append(h.outlets, o)
	h.tell("destination %s (%s) of source %q with triggers %v begins at %d to %d", o.name, o.id, o.source, o.triggers, o.first, o.last)
}

// queries are the shapes of audiences; %s is the key of another.
var queries = []string{
	"event('A').within(24 hours).count() >= 1",
	"event('A').within(2 days).count() >= 2",
	"event('A').count() >= 2",
	"NOT (event('B').within(30 hours).count() >= 1)",
	"event('B').count() = 0",
	"event('A').between(5 hours, 20 hours).count() >= 1",
	"event('A').where(property('v') >= 2).within(10 hours).count() >= 1",
	"event('A').where(property('v') >= trait('x')).count() >= 1",
	"event('Page Viewed').within(1 day).count() >= 1 OR trait('x') = 'b'",
	"trait('x') >= 2",
	"trait('d').within_next(20 hours)",
	"trait('%s') = 'true' AND event('B').within(12 hours).count() >= 1",
	"event('A').count() >= 1 AND NOT (trait('%s') = 'true')",
}

// query makes a query, and says which audience it reads. It reads only ones
// that were made before the one with the given number.
func (h *history) query(below int) (text, reads string) {
	text = pick(h.dice, queries)
	if !strings.Contains(text, "%s") {
		return text, ""
	}
	var keys []string
	for _, a := range h.made[:below] {
		if !a.gone && a.enabled {
			keys = append(keys, a.key)
		}
	}
	if len(keys) == 0 {
		return queries[0], ""
	}
	reads = pick(h.dice, keys)
	return fmt.Sprintf(text, reads), reads
}

func (h *history) addAudience(early bool) {
	n := len(h.made)
	query, reads := h.query(n)
	a := madeAudience{key: fmt.Sprintf("aud%d", n), reads: reads, enabled: true, steady: early}
	options := map[string]any{}
	types := pick(h.dice, [][]string{nil, nil, {"user_id"}, {"anonymous_id"}, {"user_id", "anonymous_id"}, {"card"}})
	if a.types = types; types != nil {
		options["filterByExternalIds"] = types
	}
	if h.dice.of(4) {
		options["includeHistoricalData"] = false
	}
	var out struct{ Audience struct{ ID, Key string } }
	body := map[string]any{"name": a.key, "definition": map[string]any{"query": query}, "options": options}
	h.tell("audience %s: %s %v", a.key, query, options)
	if !h.api("POST", "/spaces/"+h.spaceID+"/audiences", body, &out) {
		h.reread()
		return
	}
	if a.id = out.Audience.ID; a.key != out.Audience.Key {
		h.t.Fatalf("audience %s has the key %s", a.key, out.Audience.Key)
	}
	h.made = append(h.made, a)
	for range 1 + h.dice.n(2) {
		h.connect(len(h.made) - 1)
	}
}

func (h *history) connect(i int) {
	a := &h.made[i]
	o := pick(h.dice, h.outlets)
	if slices.Contains(a.to, o.id) {
		return
	}
	h.tell("audience %s goes to %s", a.key, o.name)
	at := "/spaces/" + h.spaceID + "/audiences/" + a.id + "/destination-connections"
	var out struct{ Connection struct{ ID string } }
	if !h.api("POST", at, map[string]any{"destination": map[string]any{"id": o.id, "type": "destination"}}, &out) {
		h.reread()
		return
	}
	a.to = append(a.to, o.id)
}

// reread finds out what a change has come to whose answer was lost.
func (h *history) reread() {
	h.quiet()
	snap := h.look().now
	for i := range h.made {
		a := &h.made[i]
		a.steady = false
		x := snap.Audience(a.id)
		if a.gone = x == nil; a.gone {
			continue
		}
		a.enabled, a.to = x.Enabled, nil
		for _, c := range x.Connections {
			a.to = append(a.to, c.DestinationID)
		}
		a.reads = readsOf(x)
	}
	for _, x := range snap.Audiences {
		if !slices.ContainsFunc(h.made, func(a madeAudience) bool { return a.id == x.ID }) {
			h.made = append(h.made, madeAudience{id: x.ID, key: x.Key, enabled: x.Enabled, reads: readsOf(&x), types: x.Options.FilterByExternalIDs})
		}
	}
	for _, o := range h.outlets {
		o.enabled = snap.Destination(o.id).Enabled
	}
}

// readsOf finds the audience that a query of the table reads.
func readsOf(a *workspace.Audience) string {
	_, rest, found := strings.Cut(a.Query, "trait('aud")
	if !found {
		return ""
	}
	n, _, _ := strings.Cut(rest, "'")
	return "aud" + n
}

// configure changes something.
func (h *history) configure() {
	i := h.dice.n(len(h.made))
	a := &h.made[i]
	read := slices.ContainsFunc(h.made, func(o madeAudience) bool { return !o.gone && o.reads == a.key })
	at := "/spaces/" + h.spaceID + "/audiences/" + a.id
	switch n := h.dice.n(14); {
	case n < 2:
		if len(h.made) < 7 {
			h.addAudience(false)
		}
	case n < 3:
		if len(h.outlets) < 4 {
			h.addDestination()
		}
	case n < 5:
		h.identifiers()
	case n < 7:
		h.filter()
	case n < 8:
		h.enable(pick(h.dice, h.outlets), h.dice.of(2))
	case a.gone:
	case n < 9:
		h.connect(i)
		a.steady = false
	case n < 10 && !read:
		a.steady = false
		if a.reads != "" && !a.enabled {
			return // what it reads may be disabled by now
		}
		h.tell("audience %s enabled: %v", a.key, !a.enabled)
		if !h.api("PATCH", at, map[string]any{"enabled": !a.enabled}, nil) {
			h.reread()
			return
		}
		a.enabled = !a.enabled
	case n < 11 && !read:
		h.tell("audience %s is deleted", a.key)
		if !h.api("DELETE", at, nil, nil) {
			h.reread()
			return
		}
		a.gone = true
	case n < 14:
		if !a.enabled {
			return
		}
		query, reads := h.query(i)
		h.tell("audience %s: %s", a.key, query)
		a.steady = false
		for j := range h.made { // and those that read it
			h.made[j].steady = h.made[j].steady && h.made[j].reads == ""
		}
		if !h.api("PATCH", at, map[string]any{"definition": map[string]any{"query": query}}, nil) {
			h.reread()
			return
		}
		a.reads = reads
	}
}

func (h *history) enable(o *outletInfo, on bool) {
	h.tell("destination %s enabled: %v", o.name, on)
	for i := range h.made {
		if slices.Contains(h.made[i].to, o.id) && on != o.enabled {
			h.made[i].steady = false
		}
	}
	if !h.api("PATCH", "/destinations/"+o.id, map[string]any{"enabled": on}, nil) {
		h.reread()
		return
	}
	o.enabled = on
}

// identifiers changes the identity rules.
func (h *history) identifiers() {
	d := h.dice
	rules := []workspace.IdentifierRule{}
	for _, name := range []string{"user_id", "anonymous_id", "email", "group_id", "card", "crm"} {
		if d.of(10) && name != "user_id" { // a list without it is refused
			continue
		}
		r := workspace.IdentifierRule{Type: name}
		if name == "crm" {
			r.Collection = event.Accounts
		}
		if d.of(3) {
			r.Limit = 1 + d.n(3)
		}
		if d.of(4) {
			r.Window = "weekly"
		}
		if d.of(8) {
			r.Blocked = []string{pick(d, append(append([]string{}, devices...), users...))}
		}
		rules = append(rules, r)
	}
	h.tell("identity rules: %+v", rules)
	if !h.api("PATCH", "/spaces/"+h.spaceID, map[string]any{"identifiers": rules}, nil) {
		h.reread()
	}
}

// resend sends the dead letters of a destination again.
func (h *history) resend() {
	o := pick(h.dice, h.outlets)
	h.tell("dead letters of %s are sent again", o.name)
	h.quiet()
	h.api("POST", "/destinations/"+o.id+"/dead-letters/retry", map[string]any{"all": true}, nil)
}
