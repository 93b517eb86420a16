package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"kith/event"
	"kith/fault"
	"kith/inspect"
	"kith/workspace"
)

// Listing is how the lists of a space's schema are asked for.
type Listing struct {
	SortBy  string `query:"sortBy" doc:"lastSeenAt (default), or name (trait, for traits)"`
	SortDir string `query:"sortDir" enum:"asc,desc" doc:"desc by default; asc by name"`
	Search  string `query:"search" doc:"Only names that contain this, whatever the case"`
	Paging
}

// Sampling adds sample values to a list.
type Sampling struct {
	IncludeSampleValues bool `query:"includeSampleValues"`
	SamplesCount        int  `query:"samplesCount" minimum:"0" maximum:"100" doc:"The most of each, 20 when missing; there are never more than 30"`
}

func (in *Sampling) samples() int {
	if !in.IncludeSampleValues {
		return 0
	}
	return cmp.Or(in.SamplesCount, 20)
}

// ordered keeps what is searched for and returns a page of it in the order that
// was asked for. name and more together are unique.
func ordered[T any](in *Listing, byName string, list []T, name, more func(*T) string, seen func(*T) time.Time) ([]T, pageInfo, error) {
	by := in.SortBy
	if by == "" {
		by = map[string]string{"name": "lastSeenAt", "trait": "trait"}[byName]
	}
	if by != byName && by != "lastSeenAt" {
		return nil, pageInfo{}, fault.Field("sortBy", "want lastSeenAt or %s, not %q", byName, by)
	}
	down := in.SortDir == "desc" || in.SortDir == "" && by == "lastSeenAt"
	found := slices.DeleteFunc(slices.Clone(list), func(v T) bool {
		return !strings.Contains(strings.ToLower(name(&v)), strings.ToLower(in.Search))
	})
	return pagedIn(found, func(v *T) string {
		if by == "lastSeenAt" {
			return fmt.Sprintf("%015d %s %s", seen(v).UnixMilli(), name(v), more(v))
		}
		return name(v) + " " + more(v)
	}, down, &in.Paging)
}

// seenEvents returns the events of the sources of a space, those of one name and
// type together.
func (a *API) seenEvents(ctx context.Context, spaceID string) ([][]inspect.EventSeen, error) {
	snap := a.cfg.Workspace.Current()
	space := snap.Space(spaceID)
	if space == nil {
		return nil, notFound("space", spaceID)
	}
	a.cfg.Seen.Settle(ctx)
	type name struct {
		kind event.Type
		name string
	}
	at := map[name]int{}
	var all [][]inspect.EventSeen
	for _, s := range sourcesOf(snap, space) {
		seen, err := a.cfg.Seen.Source(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		for _, e := range seen.Events {
			n := name{e.Type, e.Name}
			i, ok := at[n]
			if !ok {
				i = len(all)
				at[n] = i
				all = append(all, nil)
			}
			all[i] = append(all[i], e)
		}
	}
	return all, nil
}

func lastSeen(list []inspect.EventSeen) (last time.Time) {
	for i := range list {
		if list[i].Last.After(last) {
			last = list[i].Last
		}
	}
	return last
}

type spaceEvent struct {
	Name       string `json:"name" doc:"The event's name, or the type of calls that have none"`
	Type       string `json:"type" enum:"ALIAS,GROUP,IDENTIFY,PAGE,SCREEN,TRACK"`
	LastSeenAt string `json:"lastSeenAt"`

	seen time.Time
}

type spaceEventsAnswer struct {
	Events     []spaceEvent `json:"events"`
	Pagination pageInfo     `json:"pagination"`
}

type spaceEventsInput struct {
	SpacePath
	Listing
}

func (a *API) spaceEvents(ctx context.Context, in *spaceEventsInput) (out spaceEventsAnswer, err error) {
	all, err := a.seenEvents(ctx, in.SpaceID)
	if err != nil {
		return out, err
	}
	list := each(all, func(e *[]inspect.EventSeen) spaceEvent {
		last := lastSeen(*e)
		return spaceEvent{Name: (*e)[0].Label(), Type: apiType((*e)[0].Type), LastSeenAt: when(last), seen: last}
	})
	out.Events, out.Pagination, err = ordered(&in.Listing, "name", list, func(e *spaceEvent) string { return e.Name },
		func(e *spaceEvent) string { return e.Type },
		func(e *spaceEvent) time.Time { return e.seen })
	return out, err
}

// propertiesOf returns what was seen of events, joined.
func (a *API) propertiesOf(ctx context.Context, events []inspect.EventSeen, samples int) (joined []inspect.PropertySeen, err error) {
	for i := range events {
		list, err := a.cfg.Seen.Properties(ctx, &events[i], samples, a.cfg.Clock.Now())
		if err != nil {
			return nil, err
		}
		joined = inspect.Merge(joined, list)
	}
	for i := range joined {
		if len(joined[i].Samples) > samples {
			joined[i].Samples = joined[i].Samples[:samples]
		}
	}
	return joined, nil
}

// eventNamed returns the events of a space that people know by a name.
func (a *API) eventNamed(ctx context.Context, spaceID, name string) (found []inspect.EventSeen, err error) {
	all, err := a.seenEvents(ctx, spaceID)
	if err != nil {
		return nil, err
	}
	for _, list := range all {
		if list[0].Label() == name {
			found = append(found, list...)
		}
	}
	if found == nil {
		return nil, notFound("event", name)
	}
	return found, nil
}

type eventProperty struct {
	Name       string   `json:"name" doc:"The path: a.b for what is nested, a.$ for the items of an array"`
	Type       string   `json:"type" enum:"CONTEXT,PROPERTY"`
	EventName  string   `json:"eventName"`
	LastSeenAt string   `json:"lastSeenAt"`
	Samples    []string `json:"samples,omitempty"`

	seen time.Time
}

const (
	propertyType = "PROPERTY" // traits too
	contextType  = "CONTEXT"
)

func propertyTypeOf(p *inspect.PropertySeen) string {
	if p.Section == "context" {
		return contextType
	}
	return propertyType
}

type eventPropertiesAnswer struct {
	EventProperties []eventProperty `json:"eventProperties"`
	Pagination      pageInfo        `json:"pagination"`
}

type spacePropertiesInput struct {
	SpacePath
	EventName string `path:"eventName"`
	Listing
	Sampling
}

func (a *API) spaceProperties(ctx context.Context, in *spacePropertiesInput) (out eventPropertiesAnswer, err error) {
	events, err := a.eventNamed(ctx, in.SpaceID, in.EventName)
	if err != nil {
		return out, err
	}
	found, err := a.propertiesOf(ctx, events, in.samples())
	if err != nil {
		return out, err
	}
	list := each(found, func(p *inspect.PropertySeen) eventProperty {
		return eventProperty{Name: p.Path, Type: propertyTypeOf(p), EventName: in.EventName, LastSeenAt: when(p.Last), Samples: p.Samples, seen: p.Last}
	})
	out.EventProperties, out.Pagination, err = ordered(&in.Listing, "name", list, func(p *eventProperty) string { return p.Name },
		func(p *eventProperty) string { return p.Type },
		func(p *eventProperty) time.Time { return p.seen })
	return out, err
}

type samplesAnswer struct {
	SampleValues []string `json:"sampleValues" doc:"Values of the last 6 days; none when the server keeps none"`
}

type propertySamplesInput struct {
	SpacePath
	EventName    string `path:"eventName"`
	PropertyName string `path:"propertyName"`
	PropertyType string `query:"propertyType" enum:"CONTEXT,PROPERTY" doc:"PROPERTY by default"`
}

func (a *API) propertySamples(ctx context.Context, in *propertySamplesInput) (samplesAnswer, error) {
	events, err := a.eventNamed(ctx, in.SpaceID, in.EventName)
	if err != nil {
		return samplesAnswer{}, err
	}
	found, err := a.propertiesOf(ctx, events, inspect.MaxSamples)
	if err != nil {
		return samplesAnswer{}, err
	}
	for i := range found {
		if found[i].Path == in.PropertyName && propertyTypeOf(&found[i]) == cmp.Or(in.PropertyType, propertyType) {
			return samplesAnswer{each(found[i].Samples, func(s *string) string { return *s })}, nil
		}
	}
	return samplesAnswer{}, notFound("property", in.PropertyName)
}

type spaceTrait struct {
	Trait      string   `json:"trait"`
	Type       string   `json:"type" enum:"AUDIENCE,COMPUTED,CUSTOM,SQL" doc:"CUSTOM: it came with events; AUDIENCE: Kith computes it"`
	LastSeenAt string   `json:"lastSeenAt" doc:"Of an audience: when its definition was last changed"`
	Samples    []string `json:"samples,omitempty"`

	seen time.Time
}

type spaceTraitsAnswer struct {
	Traits     []spaceTrait `json:"traits"`
	Pagination pageInfo     `json:"pagination"`
}

type spaceTraitsInput struct {
	SpacePath
	Collection string `query:"collection" enum:"accounts,users" doc:"users by default: the traits of identify calls; accounts: those of group calls"`
	Listing
	Sampling
}

// traits returns the traits that came into a space for a collection.
func (a *API) traits(ctx context.Context, spaceID, collection string, samples int) ([]inspect.PropertySeen, error) {
	all, err := a.seenEvents(ctx, spaceID)
	if err != nil {
		return nil, err
	}
	kind := event.Identify
	if collection == event.Accounts {
		kind = event.Group
	}
	var events []inspect.EventSeen
	for _, list := range all {
		if list[0].Type == kind {
			events = append(events, list...)
		}
	}
	found, err := a.propertiesOf(ctx, events, samples)
	return slices.DeleteFunc(found, func(p inspect.PropertySeen) bool { return p.Section != "traits" }), err
}

func (a *API) spaceTraits(ctx context.Context, in *spaceTraitsInput) (out spaceTraitsAnswer, err error) {
	found, err := a.traits(ctx, in.SpaceID, in.Collection, in.samples())
	if err != nil {
		return out, err
	}
	list := each(found, func(p *inspect.PropertySeen) spaceTrait {
		return spaceTrait{Trait: p.Path, Type: "CUSTOM", LastSeenAt: when(p.Last), Samples: p.Samples, seen: p.Last}
	})
	if in.Collection != event.Accounts {
		list = append(list, a.audienceTraits(in.SpaceID)...)
	}
	out.Traits, out.Pagination, err = ordered(&in.Listing, "trait", list, func(t *spaceTrait) string { return t.Trait },
		func(t *spaceTrait) string { return t.Type },
		func(t *spaceTrait) time.Time { return t.seen })
	return out, err
}

// audienceTraits returns the audiences of a space, which are traits of their
// members.
func (a *API) audienceTraits(spaceID string) (list []spaceTrait) {
	snap := a.cfg.Workspace.Current()
	space := snap.Space(spaceID)
	for i := range snap.Audiences {
		if x := &snap.Audiences[i]; space != nil && x.SpaceID == space.ID {
			list = append(list, spaceTrait{Trait: x.Key, Type: "AUDIENCE", LastSeenAt: when(x.UpdatedAt), seen: x.UpdatedAt})
		}
	}
	return list
}

type traitSamplesInput struct {
	SpacePath
	TraitKey   string `path:"traitKey"`
	Collection string `query:"collection" enum:"accounts,users" doc:"users by default"`
}

func (a *API) traitSamples(ctx context.Context, in *traitSamplesInput) (samplesAnswer, error) {
	found, err := a.traits(ctx, in.SpaceID, in.Collection, inspect.MaxSamples)
	if err != nil {
		return samplesAnswer{}, err
	}
	for i := range found {
		if found[i].Path == in.TraitKey {
			return samplesAnswer{each(found[i].Samples, func(s *string) string { return *s })}, nil
		}
	}
	return samplesAnswer{}, notFound("trait", in.TraitKey)
}

type dayCount struct {
	Day     string `json:"day"`
	Allowed uint64 `json:"allowed"`
	Blocked uint64 `json:"blocked"`
}

type schemaEvent struct {
	Type                    string     `json:"type" enum:"ALIAS,GROUP,IDENTIFY,PAGE,SCREEN,TRACK"`
	Name                    string     `json:"name" doc:"The event's name; empty for calls that have none"`
	Allowed                 uint64     `json:"allowed" doc:"Calls that passed; repeated ones do not count"`
	Blocked                 uint64     `json:"blocked" doc:"Calls that the tracking plan has blocked"`
	Planned                 *bool      `json:"planned,omitempty" doc:"Whether the tracking plan has a rule for it; missing without a plan"`
	FirstSeenAt             string     `json:"firstSeenAt"`
	LastSeenAt              string     `json:"lastSeenAt"`
	Properties              int        `json:"properties" doc:"How many properties, traits and members of the context are known"`
	PropertySightingsNoRoom uint64     `json:"propertySightingsLeftOut" doc:"How often others came that are not, because there are too many"`
	Daily                   []dayCount `json:"daily" doc:"The days of the time asked for on which it came"`
}

type seenSchemaAnswer struct {
	SourceID       string        `json:"sourceId"`
	TrackingPlanID string        `json:"trackingPlanId,omitempty"`
	Events         []schemaEvent `json:"events"`
	CallsLeftOut   uint64        `json:"callsLeftOut" doc:"Calls of events that are not listed, because there are too many"`
	VersionsNoRoom uint64        `json:"appVersionCallsLeftOut" doc:"Calls whose app version is not told apart, because there are too many"`
	Pagination     pageInfo      `json:"pagination"`
}

type schemaInput struct {
	SourcePath
	Days int `query:"days" minimum:"0" maximum:"31" doc:"For how many days counts by day are told, today among them; 7 when missing"`
	Listing
}

const defaultDays = 7

// seenOf returns a source and what was seen of it, up to what has been sent
// before.
func (a *API) seenOf(ctx context.Context, id string) (*workspace.Snapshot, *workspace.Source, inspect.SourceSeen, error) {
	snap, source, err := a.source(id)
	if err != nil {
		return nil, nil, inspect.SourceSeen{}, err
	}
	a.cfg.Seen.Settle(ctx)
	seen, err := a.cfg.Seen.Source(ctx, source.ID)
	return snap, source, seen, err
}

func (a *API) sourceSchema(ctx context.Context, in *schemaInput) (out seenSchemaAnswer, err error) {
	snap, source, seen, err := a.seenOf(ctx, in.SourceID)
	if err != nil {
		return out, err
	}
	plan := snap.PlanOf(source.ID)
	planned := inspect.PlannedBy(plan)
	out.SourceID, out.CallsLeftOut, out.VersionsNoRoom = source.ID, seen.EventsLeftOut, seen.VersionsLeftOut
	if plan != nil {
		out.TrackingPlanID = plan.ID
	}
	page, info, err := ordered(&in.Listing, "name", seen.Events, (*inspect.EventSeen).Label,
		func(e *inspect.EventSeen) string { return e.Type.String() }, func(e *inspect.EventSeen) time.Time { return e.Last })
	if err != nil {
		return out, err
	}
	daily, err := a.daily(ctx, source.ID, cmp.Or(in.Days, defaultDays))
	if err != nil {
		return out, err
	}
	out.Pagination = info
	out.Events = each(page, func(e *inspect.EventSeen) schemaEvent {
		s := schemaEvent{
			Type: apiType(e.Type), Name: e.Name, Allowed: e.Allowed, Blocked: e.Blocked, FirstSeenAt: when(e.First), LastSeenAt: when(e.Last),
			Properties: e.Properties, PropertySightingsNoRoom: e.PropertiesLeftOut, Daily: daily[[2]string{e.Type.String(), e.Name}],
		}
		if plan != nil {
			s.Planned = ptr(planned.Event(e))
		}
		if s.Daily == nil {
			s.Daily = []dayCount{}
		}
		return s
	})
	return out, nil
}

// daily counts a source's events of the last days, by type and name.
func (a *API) daily(ctx context.Context, source string, days int) (map[[2]string][]dayCount, error) {
	now := a.cfg.Clock.Now()
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC)
	list, err := a.cfg.Seen.Counts(ctx, inspect.VolumeQuery{
		From: today.AddDate(0, 0, 1-days), To: today.AddDate(0, 0, 1), Grain: inspect.Day, Sources: []string{source}, NoVersions: true,
	})
	if err != nil {
		return nil, err
	}
	all := map[[2]string][]dayCount{}
	for _, v := range list {
		if v.LeftOut || v.Stage != inspect.Admitted && v.Stage != inspect.Blocked {
			continue
		}
		name, day := [2]string{v.Type, v.Event}, v.Start.Format(time.DateOnly)
		counts := all[name]
		if n := len(counts); n == 0 || counts[n-1].Day != day { // they come by time
			counts = append(counts, dayCount{Day: day})
		}
		if c := &counts[len(counts)-1]; v.Stage == inspect.Blocked {
			c.Blocked += v.Count
		} else {
			c.Allowed += v.Count
		}
		all[name] = counts
	}
	return all, nil
}

type typeCount struct {
	Type  string `json:"type" enum:"string,number,boolean,object,array,null"`
	Count uint64 `json:"count" doc:"Calls in which it was of this type"`
}

type schemaProperty struct {
	Section     string      `json:"section" enum:"properties,traits,context"`
	Path        string      `json:"path" doc:"a.b for what is nested, a.$ for the items of an array"`
	Types       []typeCount `json:"types"`
	Allowed     uint64      `json:"allowed" doc:"Calls in which it passed"`
	Blocked     uint64      `json:"blocked" doc:"Calls in which the tracking plan has omitted it, or that it has blocked"`
	Planned     *bool       `json:"planned,omitempty" doc:"Whether the tracking plan names it; missing without a plan"`
	FirstSeenAt string      `json:"firstSeenAt"`
	LastSeenAt  string      `json:"lastSeenAt"`
	Samples     []string    `json:"samples,omitempty"`

	seen time.Time
}

type schemaPropertiesAnswer struct {
	Properties []schemaProperty `json:"properties"`
	LeftOut    uint64           `json:"sightingsLeftOut" doc:"How often properties came that are not listed, because there are too many"`
	Pagination pageInfo         `json:"pagination"`
}

type schemaPropertiesInput struct {
	SourcePath
	Type  string `query:"type" enum:"ALIAS,GROUP,IDENTIFY,PAGE,SCREEN,TRACK" doc:"The type of the call; TRACK when missing"`
	Event string `query:"event" doc:"The event's name, for track calls"`
	Listing
	Sampling
}

func (a *API) sourceProperties(ctx context.Context, in *schemaPropertiesInput) (out schemaPropertiesAnswer, err error) {
	snap, source, seen, err := a.seenOf(ctx, in.SourceID)
	if err != nil {
		return out, err
	}
	kind := event.ParseType(strings.ToLower(cmp.Or(in.Type, "TRACK")))
	at := slices.IndexFunc(seen.Events, func(e inspect.EventSeen) bool {
		return e.Type == kind && e.Name == event.Label(kind, in.Event)
	})
	if at < 0 {
		return out, notFound("event", cmp.Or(in.Event, in.Type))
	}
	e := &seen.Events[at]
	found, err := a.cfg.Seen.Properties(ctx, e, in.samples(), a.cfg.Clock.Now())
	if err != nil {
		return out, err
	}
	plan := snap.PlanOf(source.ID)
	planned := inspect.PlannedBy(plan)
	list := each(found, func(p *inspect.PropertySeen) schemaProperty {
		s := schemaProperty{
			Section: p.Section, Path: p.Path, Allowed: p.Allowed, Blocked: p.Blocked, FirstSeenAt: when(p.First), LastSeenAt: when(p.Last),
			Samples: p.Samples, seen: p.Last, Types: each(p.Types, func(t *inspect.TypeSeen) typeCount { return typeCount{t.Type, t.Count} }),
		}
		if plan != nil {
			s.Planned = ptr(planned.Property(e, p))
		}
		return s
	})
	out.LeftOut = e.PropertiesLeftOut
	out.Properties, out.Pagination, err = ordered(&in.Listing, "name", list, func(p *schemaProperty) string { return p.Path },
		func(p *schemaProperty) string { return p.Section },
		func(p *schemaProperty) time.Time { return p.seen })
	return out, err
}
