package workspace

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"kith/fault"
)

// maxProblems is how many problems one refusal lists.
const maxProblems = 50

// problems gathers what is wrong with a workspace. A field is the resource's
// list, its slug (an audience's space and key) and the path within it, joined
// by dots: "sources.checkout.writeKeys.0".
type problems struct{ list []error }

func (p *problems) add(field, format string, args ...any) {
	if len(p.list) < maxProblems {
		p.list = append(p.list, fault.Field(field, format, args...))
	}
}

// wrap takes another room's error, whose own field continues ours.
func (p *problems) wrap(field string, err error) {
	for _, one := range flatten(err) {
		var f *fault.Error
		if !errors.As(one, &f) || f.Kind != fault.Invalid {
			p.add(field, "%v", one)
			continue
		}
		at := field
		if f.Field != "" {
			at = join(field, f.Field)
		}
		message := f.Message
		if message == "" {
			message = one.Error()
		}
		p.add(at, "%s", message)
	}
}

func (p *problems) err() error { return errors.Join(p.list...) }

// flatten returns the errors that were joined in err.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}

// Problems returns the single problems of an error of Update or ParseFile, each
// a fault.Invalid with its field.
func Problems(err error) []error { return flatten(err) }

// check checks the whole of next. What costs much (rules, settings, queries)
// is checked only where it differs from base.
func (o *Options) check(base, next *Snapshot) error {
	p := &problems{}
	named(p, "name", next.Name, true)
	slug(p, "slug", next.Slug)
	o.checkSpaces(p, base, next)
	checkSources(p, base, next)
	o.checkDestinations(p, base, next)
	o.checkPlans(p, base, next)
	o.checkAudiences(p, base, next)
	return p.err()
}

// unchangedFirst returns the resources of list, those that are as they were
// first, so that of two that claim one name the newcomer is blamed.
func unchangedFirst[T any](list []T, before func(*T) *T) []*T {
	var same, other []*T
	for i := range list {
		if had := before(&list[i]); had != nil && sameText(had, &list[i]) {
			same = append(same, &list[i])
		} else {
			other = append(other, &list[i])
		}
	}
	return append(same, other...)
}

func (o *Options) checkSpaces(p *problems, base, next *Snapshot) {
	u := unique{}
	for _, s := range unchangedFirst(next.Spaces, func(s *Space) *Space { return base.Space(s.ID) }) {
		at := "spaces." + s.Slug
		slug(p, at+".slug", s.Slug)
		u.claim(p, at+".slug", "slug "+s.Slug, "another space")
		u.claim(p, at+".id", "id "+s.ID, "another space")
		named(p, at+".name", s.Name, true)
		checkIdentifiers(p, at+".identifiers", s.Identifiers)
		if g := s.IdentityGuard; g.Identifiers < 0 || g.Merges < 0 {
			p.add(at+".identityGuard", "a negative number: want at which number of identifiers and merges a profile is reported, 0 for the default")
		}
		if s.Retention != "" {
			if _, err := ParseRetention(s.Retention); err != nil {
				p.add(at+".retention", "%v", err)
			}
		}
		checkSuspicious(p, at+".suspicious", s.Suspicious)
		checkSearchTraits(p, at+".searchTraits", s.SearchTraits)
		o.checkFilters(p, at+".filters", base, s.Filters, u)
	}
}

func checkSources(p *problems, base, next *Snapshot) {
	u := unique{}
	for _, s := range unchangedFirst(next.Sources, func(s *Source) *Source { return base.Source(s.ID) }) {
		at := "sources." + s.Slug
		slug(p, at+".slug", s.Slug)
		u.claim(p, at+".slug", "slug "+s.Slug, "another source")
		u.claim(p, at+".id", "id "+s.ID, "another source")
		named(p, at+".name", s.Name, true)
		slug(p, at+".metadataId", s.MetadataID)
		if next.Space(s.SpaceID) == nil {
			p.add(at+".spaceId", "there is no space %q; there are: %s", s.SpaceID, spaceSlugs(next))
		}
		if len(s.WriteKeys) > maxWriteKeys {
			p.add(at+".writeKeys", "%d write keys; at most %d are kept", len(s.WriteKeys), maxWriteKeys)
		}
		for j, k := range s.WriteKeys {
			place := fmt.Sprintf("%s.writeKeys.%d", at, j)
			if !writeKeyForm.MatchString(k) {
				p.add(place, "this is not a write key: want 1 to 128 letters, digits, '.', '_' and '-'")
			}
			u.claim(p, place, "write key "+k, "another source, or twice here")
		}
		document(p, at+".settings", s.Settings, maxSettings)
		labels(p, at+".labels", s.Labels)
		action(p, at+".schema.track.commonEventOnViolations", s.Schema.Track.CommonEventOnViolations, OmitProperties)
		action(p, at+".schema.identify.commonEventOnViolations", s.Schema.Identify.CommonEventOnViolations, OmitTraits)
		action(p, at+".schema.group.commonEventOnViolations", s.Schema.Group.CommonEventOnViolations, OmitTraits)
		if document(p, at+".tracking.httpConfig", s.Tracking.HTTPConfig, maxHTTPConfig) {
			checkHTTPConfig(p, at+".tracking.httpConfig", s.Tracking.HTTPConfig)
		}
	}
}

func (o *Options) checkDestinations(p *problems, base, next *Snapshot) {
	u := unique{}
	for _, d := range unchangedFirst(next.Destinations, func(d *Destination) *Destination { return base.Destination(d.ID) }) {
		at := "destinations." + d.Slug
		slug(p, at+".slug", d.Slug)
		u.claim(p, at+".slug", "slug "+d.Slug, "another destination")
		u.claim(p, at+".id", "id "+d.ID, "another destination")
		named(p, at+".name", d.Name, true)
		if d.SourceID != "" && next.Source(d.SourceID) == nil {
			p.add(at+".sourceId", "there is no source %q", d.SourceID)
		}
		if !document(p, at+".settings", d.Settings, maxSettings) {
			continue
		}
		had := base.Destination(d.ID)
		c := o.connector(d.MetadataID)
		if c == nil && had != nil && had.MetadataID == d.MetadataID {
			continue // its connector is gone from this binary; that must not stop other changes
		}
		if c == nil {
			p.add(at+".metadataId", "there is no destination %q; there are: %s", d.MetadataID, o.connectorSlugs())
			continue
		}
		if had == nil || had.MetadataID != d.MetadataID || !sameJSON(had.Settings, d.Settings) {
			o.checkSettings(p, at+".settings", c, d.Settings)
		}
		if len(d.Subscriptions) > maxSubscriptions {
			p.add(at+".subscriptions", "%d subscriptions; a destination has at most %d", len(d.Subscriptions), maxSubscriptions)
		}
		for j := range d.Subscriptions {
			s := &d.Subscriptions[j]
			place := fmt.Sprintf("%s.subscriptions.%d", at, j)
			u.claim(p, place+".id", "subscription "+s.ID, "another subscription")
			if had != nil && slices.ContainsFunc(had.Subscriptions, func(h Subscription) bool { return sameSubscription(&h, s) }) {
				continue
			}
			o.checkSubscription(p, place, c, s)
		}
	}
}

func (o *Options) checkSettings(p *problems, at string, c *Connector, settings json.RawMessage) {
	if c.Check == nil {
		return
	}
	if o.Secrets != nil {
		plain, err := UnsealSettings(settings, o.Secrets)
		if err != nil {
			p.add(at, "a sealed secret cannot be read with this server's key; give it again in plain")
			return
		}
		settings = plain
	}
	if len(settings) == 0 {
		settings = json.RawMessage("{}")
	}
	p.wrap(at, c.Check(settings))
}

func (o *Options) checkSubscription(p *problems, at string, c *Connector, s *Subscription) {
	named(p, at+".name", s.Name, true)
	a := c.Action(s.ActionID)
	if a == nil {
		var have []string
		for i := range c.Actions {
			have = append(have, c.Actions[i].Slug)
		}
		p.add(at+".actionId", "%s has no action %q; it has: %s", c.Slug, s.ActionID, strings.Join(have, ", "))
		return
	}
	o.checkTrigger(p, at+".trigger", s.Trigger)
	if document(p, at+".settings", s.Settings, maxSettings) && c.CheckAction != nil {
		p.wrap(at+".settings", c.CheckAction(a.Slug, s.Settings))
	}
}

func (o *Options) checkTrigger(p *problems, at, trigger string) {
	if len(trigger) > maxTrigger {
		p.add(at, "the trigger has %d bytes; at most %d are read", len(trigger), maxTrigger)
		return
	}
	if o.CheckTrigger != nil {
		p.wrap(at, o.CheckTrigger(trigger))
	}
}

func (o *Options) checkAudiences(p *problems, base, next *Snapshot) {
	u := unique{}
	touched := touchedSpaces(base, next)
	for _, a := range unchangedFirst(next.Audiences, func(a *Audience) *Audience { return base.Audience(a.ID) }) {
		space := next.Space(a.SpaceID)
		if space == nil {
			p.add("audiences."+a.Key+".spaceId", "there is no space %q; there are: %s", a.SpaceID, spaceSlugs(next))
			continue
		}
		at := "audiences." + space.Slug + "." + a.Key
		u.claim(p, at+".id", "id "+a.ID, "another audience")
		named(p, at+".name", a.Name, true)
		text(p, at+".description", a.Description, maxDescription)
		if !keyForm.MatchString(a.Key) || len(a.Key) > maxName {
			p.add(at+".key", "%q is not an audience's key: want lower-case letters, digits and '_'; choose a name with letters", a.Key)
		}
		u.claim(p, at+".key", "key "+space.ID+" "+a.Key, "another audience of the space; choose another name")
		for j, t := range a.Options.FilterByExternalIDs {
			if !typeForm.MatchString(t) {
				p.add(fmt.Sprintf("%s.options.filterByExternalIds.%d", at, j), "%q is not an identifier type: want lower case, as in user_id", t)
			}
		}
		if n := a.Options.BackfillEventDataDays; n != nil && *n < 0 {
			p.add(at+".options.backfillEventDataDays", "%d is negative", *n)
		}
		switch {
		case len(a.Query) > maxQuery:
			p.add(at+".definition.query", "the query has %d bytes; at most %d are read", len(a.Query), maxQuery)
		case strings.TrimSpace(a.Query) == "":
			p.add(at+".definition.query", "the query is empty")
		case o.CheckQuery != nil && touched[a.SpaceID]:
			o.checkQuery(p, at, base, next, a)
		}
		o.checkConnections(p, at+".connections", next, a, u)
	}
}

// checkQuery blames a query that has not changed on what was taken away from
// under it.
func (o *Options) checkQuery(p *problems, at string, base, next *Snapshot, a *Audience) {
	err := o.CheckQuery(next, a)
	if err == nil {
		return
	}
	if had := base.Audience(a.ID); had != nil && had.Query == a.Query && len(p.list) < maxProblems {
		p.list = append(p.list, &fault.Error{Kind: fault.Conflict, Field: at + ".definition.query",
			Message: fmt.Sprintf("audience %s would no longer be valid: %v", a.Key, err)})
		return
	}
	p.wrap(at+".definition.query", err)
}

func (o *Options) checkConnections(p *problems, at string, next *Snapshot, a *Audience, u unique) {
	for i := range a.Connections {
		c := &a.Connections[i]
		place := fmt.Sprintf("%s.%d", at, i)
		u.claim(p, place+".id", "connection "+c.ID, "another connection")
		if next.Destination(c.DestinationID) == nil {
			p.add(place+".destination.id", "there is no destination %q", c.DestinationID)
		}
		u.claim(p, place+".destination.id", "connected "+a.ID+" "+c.DestinationID, "the audience already")
		document(p, place+".connectionSettings", c.ConnectionSettings, maxSettings)
		if len(c.Activations) > maxActivations {
			p.add(place+".activations", "%d activations; a connection has at most %d", len(c.Activations), maxActivations)
		}
		for j := range c.Activations {
			act := &c.Activations[j]
			here := fmt.Sprintf("%s.activations.%d", place, j)
			u.claim(p, here+".id", "activation "+act.ID, "another activation")
			named(p, here+".activationName", act.Name, true)
			if act.Type != AudienceEntered && act.Type != AudienceExited && act.Type != AudienceMembershipChanged {
				p.add(here+".activationType", "%q is not a type of activation: want %q, %q or %q",
					act.Type, AudienceEntered, AudienceExited, AudienceMembershipChanged)
			}
			if act.Trigger != "" {
				o.checkTrigger(p, here+".trigger", act.Trigger)
			}
		}
	}
}

// touchedSpaces returns the spaces, by id, whose audiences differ between base
// and next in what a query can refer to.
func touchedSpaces(base, next *Snapshot) map[string]bool {
	touched := map[string]bool{}
	for i := range next.Audiences {
		a := &next.Audiences[i]
		had := base.Audience(a.ID)
		if had == nil || had.Query != a.Query || had.Key != a.Key || had.SpaceID != a.SpaceID || had.Enabled != a.Enabled {
			touched[a.SpaceID] = true
		}
	}
	for i := range base.Audiences {
		if next.Audience(base.Audiences[i].ID) == nil {
			touched[base.Audiences[i].SpaceID] = true
		}
	}
	return touched
}

// unique says when a name is claimed twice.
type unique map[string]bool

func (u unique) claim(p *problems, field, name, by string) {
	if u[name] {
		_, what, _ := strings.Cut(name, " ")
		if i := strings.LastIndexByte(what, ' '); i >= 0 {
			what = what[i+1:]
		}
		p.add(field, "%q is in use by %s", what, by)
		return
	}
	u[name] = true
}

func slug(p *problems, field, s string) {
	if !slugForm.MatchString(s) || len(s) > maxSlug {
		p.add(field, "%q is not a slug: want 1 to %d letters, digits, '-' and '_', a letter or digit first", s, maxSlug)
	}
}

func named(p *problems, field, s string, required bool) {
	if required && strings.TrimSpace(s) == "" {
		p.add(field, "is missing")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		p.add(field, "must not hold control characters")
	}
	text(p, field, s, maxName)
}

func text(p *problems, field, s string, limit int) {
	if len(s) > limit {
		p.add(field, "has %d bytes; at most %d are kept", len(s), limit)
	}
}

// document checks that a raw document is missing, null or one JSON object.
func document(p *problems, field string, doc json.RawMessage, limit int) bool {
	if len(doc) > limit {
		p.add(field, "has %d bytes of JSON; at most %d are kept", len(doc), limit)
		return false
	}
	if len(doc) == 0 || string(doc) == "null" {
		return true
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(doc, &m); err != nil {
		p.add(field, "must be a JSON object")
		return false
	}
	return true
}

func labels(p *problems, field string, list []Label) {
	if len(list) > maxLabels {
		p.add(field, "%d labels; at most %d are kept", len(list), maxLabels)
	}
	for i, l := range list {
		named(p, fmt.Sprintf("%s.%d.key", field, i), l.Key, true)
		named(p, fmt.Sprintf("%s.%d.value", field, i), l.Value, true)
		text(p, fmt.Sprintf("%s.%d.description", field, i), l.Description, maxDescription)
	}
}

func action(p *problems, field, a, omit string) {
	if a != "" && a != Allow && a != Block && a != omit {
		p.add(field, "%q is not known: want %s, %s or %s", a, Allow, Block, omit)
	}
}

func spaceSlugs(s *Snapshot) string {
	var list []string
	for i := range s.Spaces {
		list = append(list, s.Spaces[i].Slug)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func (o *Options) connectorSlugs() string {
	var list []string
	for i := range o.Connectors {
		list = append(list, o.Connectors[i].Slug)
	}
	slices.Sort(list)
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func sameSubscription(a, b *Subscription) bool {
	return a.Name == b.Name && a.ActionID == b.ActionID && a.ActionSlug == b.ActionSlug && a.Trigger == b.Trigger && sameJSON(a.Settings, b.Settings)
}

func checkSuspicious(p *problems, at string, s Suspicious) {
	least := LeastSuspicious()
	for _, x := range []struct {
		name     string
		n, least int
	}{
		{"identifiers", s.Identifiers, least.Identifiers}, {"merges", s.Merges, least.Merges},
		{"shared", s.Shared, least.Shared}, {"refused", s.Refused, least.Refused},
	} {
		if x.n != 0 && x.n < x.least {
			p.add(at+"."+x.name, "%d is too few: nothing below %d is noted; 0 is the default", x.n, x.least)
		}
	}
}
