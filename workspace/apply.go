package workspace

import (
	"encoding/json"
	"fmt"
	"slices"
)

// ApplyOptions say how a file is applied.
type ApplyOptions struct {
	// Variable returns the value of a variable that the file names.
	Variable func(name string) (value string, ok bool)
	// Prune removes what is missing from a list that the file has, spaces
	// excepted: they are never removed. A list that the file does not have at
	// all is left alone.
	Prune bool
}

// Apply changes a draft into what the file says. Applying the same file twice
// changes nothing the second time. Unknown references and missing variables are
// fault.Invalid errors, joined, each with its path and line.
func (f *File) Apply(d *Draft, o ApplyOptions) error {
	if o.Variable == nil {
		o.Variable = func(string) (string, bool) { return "", false }
	}
	a := &applier{d: d, o: o, p: &problems{}}
	if f.name != nil {
		d.Name = *f.name
	}
	if f.slug != nil {
		d.Slug = *f.slug
	}
	if o.Prune {
		f.prune(d)
	}
	apply(a, f.spaces, a.space)
	apply(a, f.sources, a.source)
	apply(a, f.destinations, a.destination)
	apply(a, f.trackingPlans, a.plan)
	apply(a, f.audiences, a.audience)
	return a.p.err()
}

type applier struct {
	d *Draft
	o ApplyOptions
	p *problems
}

func apply[T any](a *applier, list []T, one func(*T)) {
	for i := range list {
		one(&list[i])
	}
}

func (a *applier) bad(at place, format string, args ...any) {
	a.p.add(at.path, "line %d: %s", at.line, fmt.Sprintf(format, args...))
}

// prune removes what the file's lists leave out. What still refers to it is
// found when the references are made, or by the check of the whole.
func (f *File) prune(d *Draft) {
	if f.listed[listAudiences] {
		d.Audiences = slices.DeleteFunc(d.Audiences, func(x Audience) bool {
			return find(f.audiences, func(y *fileAudience) bool { return d.isAudience(x, y.space, y.Key) }) == nil
		})
	}
	if f.listed[listPlans] {
		d.TrackingPlans = slices.DeleteFunc(d.TrackingPlans, func(x TrackingPlan) bool {
			return find(f.trackingPlans, func(y *filePlan) bool { return y.Slug == x.Slug }) == nil
		})
	}
	if f.listed[listDestinations] {
		d.Destinations = slices.DeleteFunc(d.Destinations, func(x Destination) bool {
			return find(f.destinations, func(y *fileDestination) bool { return y.Slug == x.Slug }) == nil
		})
	}
	if f.listed[listSources] {
		d.Sources = slices.DeleteFunc(d.Sources, func(x Source) bool {
			return find(f.sources, func(y *fileSource) bool { return y.Slug == x.Slug }) == nil
		})
		for i := range d.TrackingPlans {
			p := &d.TrackingPlans[i]
			p.SourceIDs = slices.DeleteFunc(p.SourceIDs, func(id string) bool { return d.Source(id) == nil })
		}
	}
}

// isAudience reports whether x is the audience with that key in that space.
func (d *Draft) isAudience(x Audience, space, key string) bool {
	s := d.Space(space)
	return s != nil && s.ID == x.SpaceID && key == x.Key
}

func (a *applier) space(f *fileSpace) {
	s := find(a.d.Spaces, func(s *Space) bool { return s.Slug == f.Slug })
	if s == nil {
		s = a.d.AddSpace(f.Slug, f.Name)
	}
	s.Name, s.Identifiers = f.Name, f.Identifiers
	s.SearchTraits, s.IdentityGuard, s.Suspicious, s.Retention = f.SearchTraits, f.IdentityGuard, f.Suspicious, f.Retention
	s.Filters = a.filters(s.Filters, f.Filters)
}

func (a *applier) source(f *fileSource) {
	space := a.d.Space(f.space)
	if space == nil {
		a.bad(f.at, "there is no space %q in the file or the workspace", f.space)
		return
	}
	s := find(a.d.Sources, func(s *Source) bool { return s.Slug == f.Slug })
	if s == nil {
		a.d.Sources = append(a.d.Sources, Source{ID: a.d.NewSourceID(), Slug: f.Slug})
		s = &a.d.Sources[len(a.d.Sources)-1]
	}
	s.Name, s.MetadataID, s.Enabled, s.SpaceID, s.Labels, s.Schema = f.Name, f.MetadataID, f.Enabled, space.ID, f.Labels, f.Schema
	s.Settings = keepText(s.Settings, f.Settings)
	f.Tracking.HTTPConfig = keepText(s.Tracking.HTTPConfig, f.Tracking.HTTPConfig)
	s.Tracking = f.Tracking
	if len(f.WriteKeys) > 0 {
		s.WriteKeys = f.WriteKeys
	}
	if len(s.WriteKeys) == 0 {
		s.WriteKeys = []string{a.d.NewWriteKey()}
	}
}

func (a *applier) destination(f *fileDestination) {
	var sourceID string
	if f.source != "" {
		src := find(a.d.Sources, func(s *Source) bool { return s.Slug == f.source })
		if src == nil {
			a.bad(f.at, "there is no source %q in the file or the workspace", f.source)
			return
		}
		sourceID = src.ID
	}
	settings, err := expand(f.settings, f.at, a.o.Variable)
	if err != nil {
		a.p.list = append(a.p.list, err)
		return
	}
	d := find(a.d.Destinations, func(d *Destination) bool { return d.Slug == f.Slug })
	if d == nil {
		a.d.Destinations = append(a.d.Destinations, Destination{ID: a.d.NewDestinationID(), Slug: f.Slug})
		d = &a.d.Destinations[len(a.d.Destinations)-1]
	}
	d.Name, d.MetadataID, d.Enabled, d.SourceID, d.Settings = f.Name, f.MetadataID, f.Enabled, sourceID, settings
	had := d.Subscriptions
	d.Subscriptions = nil
	for _, s := range f.Subscriptions {
		// A subscription is known by its name; of two with one name, the first
		// in the file is the first there is.
		i := slices.IndexFunc(had, func(h Subscription) bool { return h.Name == s.Name })
		if i < 0 {
			s.ID = a.d.NewSubscriptionID()
		} else {
			s.ID, s.Settings = had[i].ID, keepText(had[i].Settings, s.Settings)
			had = slices.Delete(slices.Clone(had), i, i+1)
		}
		d.Subscriptions = append(d.Subscriptions, s)
	}
}

func (a *applier) plan(f *filePlan) {
	var ids []string
	for _, slug := range f.sources {
		src := find(a.d.Sources, func(s *Source) bool { return s.Slug == slug })
		if src == nil {
			a.bad(f.at, "there is no source %q in the file or the workspace", slug)
			continue
		}
		ids = append(ids, src.ID)
	}
	p := find(a.d.TrackingPlans, func(p *TrackingPlan) bool { return p.Slug == f.Slug })
	if p == nil {
		a.d.TrackingPlans = append(a.d.TrackingPlans, TrackingPlan{ID: a.d.NewTrackingPlanID(), Slug: f.Slug})
		p = &a.d.TrackingPlans[len(a.d.TrackingPlans)-1]
	}
	had := map[ruleName]Rule{}
	for _, r := range p.Rules {
		had[r.name()] = r
	}
	p.Name, p.Description, p.Type, p.SourceIDs = f.Name, f.Description, f.Type, ids
	p.Rules = nil
	for _, r := range f.Rules {
		if h, ok := had[r.name()]; ok {
			r.CreatedAt, r.UpdatedAt, r.JSONSchema = h.CreatedAt, h.UpdatedAt, keepText(h.JSONSchema, r.JSONSchema)
		}
		p.Rules = append(p.Rules, r)
	}
}

func (a *applier) audience(f *fileAudience) {
	space := a.d.Space(f.space)
	if space == nil {
		a.bad(f.at, "there is no space %q in the file or the workspace", f.space)
		return
	}
	x := find(a.d.Audiences, func(x *Audience) bool { return x.SpaceID == space.ID && x.Key == f.Key })
	if x == nil {
		a.d.Audiences = append(a.d.Audiences, Audience{ID: a.d.NewAudienceID(), SpaceID: space.ID, Key: f.Key})
		x = &a.d.Audiences[len(a.d.Audiences)-1]
	}
	x.Name, x.Description, x.Enabled, x.Query = f.Name, f.Description, f.Enabled, f.Query
	if !sameOptions(&x.Options, &f.Options) {
		x.Options = f.Options
	}
	had := x.Connections
	x.Connections = nil
	for i := range f.connections {
		c := &f.connections[i]
		dest := find(a.d.Destinations, func(d *Destination) bool { return d.Slug == c.destination })
		if dest == nil {
			a.bad(c.at, "there is no destination %q in the file or the workspace", c.destination)
			continue
		}
		x.Connections = append(x.Connections, a.connection(c, dest.ID, had))
	}
}

func (a *applier) connection(f *fileConnection, destination string, had []AudienceConnection) AudienceConnection {
	c := AudienceConnection{DestinationID: destination, ConnectionSettings: f.ConnectionSettings}
	var before []Activation
	if h := find(had, func(h *AudienceConnection) bool { return h.DestinationID == destination }); h != nil {
		c.ID, c.ConnectionSettings, before = h.ID, keepText(h.ConnectionSettings, f.ConnectionSettings), slices.Clone(h.Activations)
	} else {
		c.ID = a.d.NewConnectionID()
	}
	for _, act := range f.Activations {
		i := slices.IndexFunc(before, func(h Activation) bool { return h.Name == act.Name })
		if i < 0 {
			act.ID = a.d.NewActivationID()
		} else {
			act.ID = before[i].ID
			before = slices.Delete(before, i, i+1)
		}
		c.Activations = append(c.Activations, act)
	}
	return c
}

// keepText returns had when it says the same as doc, so that another order of
// names is no change.
func keepText(had, doc json.RawMessage) json.RawMessage {
	if sameJSON(had, doc) || len(had) == 0 && string(doc) == "{}" {
		return had
	}
	return doc
}
