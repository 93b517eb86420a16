package workspace

import (
	"slices"
	"strings"
	"time"
	"unicode"

	"kith/fault"
)

// Draft is a copy of a workspace that may be changed freely. Store.Update
// hands it out and makes a snapshot of it; the lists may be in any order.
//
// What a draft need not care for: numbers, the times of change, audiences'
// versions and the sealing of secrets are all set by Update.
type Draft struct {
	Name          string
	Slug          string
	Spaces        []Space
	Sources       []Source
	Destinations  []Destination
	TrackingPlans []TrackingPlan
	Audiences     []Audience

	// Base is the number of the snapshot that this is a copy of.
	Base uint64
	// At is the instant of the change.
	At time.Time

	names namer
}

// NewSourceID returns a random id for a source.
func (d *Draft) NewSourceID() string { return d.names.id("") }

// NewWriteKey returns a random write key.
func (d *Draft) NewWriteKey() string { return d.names.text(keyDigits) }

// NewDestinationID returns a random id for a destination.
func (d *Draft) NewDestinationID() string { return d.names.id("") }

// NewSubscriptionID returns a random id for a subscription.
func (d *Draft) NewSubscriptionID() string { return d.names.id("") }

// NewTrackingPlanID returns a random id for a tracking plan.
func (d *Draft) NewTrackingPlanID() string { return d.names.id("tp_") }

// NewAudienceID returns a random id for an audience.
func (d *Draft) NewAudienceID() string { return d.names.id("aud_") }

// NewConnectionID returns a random id for an audience's connection.
func (d *Draft) NewConnectionID() string { return d.names.id("ii_") }

// NewFilterID returns a random id for an event filter.
func (d *Draft) NewFilterID() string { return d.names.id("flt_") }

// NewActivationID returns a random id for an activation.
func (d *Draft) NewActivationID() string { return d.names.id("act_") }

// AddSpace adds a space and returns it. The name defaults to the slug.
func (d *Draft) AddSpace(slug, name string) *Space {
	number := uint32(1)
	for i := range d.Spaces { // spaces are never removed, so numbers are never used again
		number = max(number, d.Spaces[i].Number+1)
	}
	if name == "" {
		name = slug
	}
	d.Spaces = append(d.Spaces, Space{ID: d.names.id("spa_"), Number: number, Slug: slug, Name: name, CreatedAt: d.At})
	return &d.Spaces[len(d.Spaces)-1]
}

// Space returns the space with that id or slug, or nil.
func (d *Draft) Space(idOrSlug string) *Space {
	return find(d.Spaces, func(s *Space) bool { return s.ID == idOrSlug || s.Slug == idOrSlug })
}

// Filter returns the event filter with that id and its space, or nil.
func (d *Draft) Filter(id string) (*Space, *EventFilter) { return filterIn(d.Spaces, id) }

// Source returns the source with that id, or nil.
func (d *Draft) Source(id string) *Source {
	return find(d.Sources, func(s *Source) bool { return s.ID == id })
}

// Destination returns the destination with that id, or nil.
func (d *Draft) Destination(id string) *Destination {
	return find(d.Destinations, func(s *Destination) bool { return s.ID == id })
}

// TrackingPlan returns the tracking plan with that id, or nil.
func (d *Draft) TrackingPlan(id string) *TrackingPlan {
	return find(d.TrackingPlans, func(s *TrackingPlan) bool { return s.ID == id })
}

// Audience returns the audience with that id, or nil.
func (d *Draft) Audience(id string) *Audience {
	return find(d.Audiences, func(s *Audience) bool { return s.ID == id })
}

// RemoveSource removes a source and, as in Segment, the destinations that get
// their events from it; it leaves its tracking plan. It is refused with
// fault.Conflict while one of those destinations is told of an audience.
func (d *Draft) RemoveSource(id string) error {
	for _, dest := range slices.Clone(d.Destinations) {
		if dest.SourceID != id {
			continue
		}
		if err := d.RemoveDestination(dest.ID); err != nil {
			return err
		}
	}
	for i := range d.TrackingPlans {
		p := &d.TrackingPlans[i]
		p.SourceIDs = slices.DeleteFunc(p.SourceIDs, func(s string) bool { return s == id })
	}
	d.Sources = slices.DeleteFunc(d.Sources, func(s Source) bool { return s.ID == id })
	return nil
}

// RemoveDestination removes a destination. It is refused with fault.Conflict
// while an audience is connected to it.
func (d *Draft) RemoveDestination(id string) error {
	var users []string
	for i := range d.Audiences {
		for _, c := range d.Audiences[i].Connections {
			if c.DestinationID == id {
				users = append(users, d.Audiences[i].Key)
			}
		}
	}
	if len(users) > 0 {
		slug := id
		if dest := d.Destination(id); dest != nil {
			slug = dest.Slug
		}
		return fault.New(fault.Conflict, "destination %s is connected to the audience %s: remove that connection first",
			slug, strings.Join(users, ", "))
	}
	d.Destinations = slices.DeleteFunc(d.Destinations, func(s Destination) bool { return s.ID == id })
	return nil
}

// RemoveTrackingPlan removes a tracking plan; its sources are held to none
// from then on.
func (d *Draft) RemoveTrackingPlan(id string) {
	d.TrackingPlans = slices.DeleteFunc(d.TrackingPlans, func(p TrackingPlan) bool { return p.ID == id })
}

// RemoveAudience removes an audience. Update refuses the draft while another
// audience's query names it.
func (d *Draft) RemoveAudience(id string) {
	d.Audiences = slices.DeleteFunc(d.Audiences, func(a Audience) bool { return a.ID == id })
}

// FreeSlug returns a slug made from name that none of the taken ones is.
func FreeSlug(name string, taken func(slug string) bool) string {
	base := slugOf(name)
	slug := base
	for i := 2; taken(slug); i++ {
		slug = base + "-" + decimal(i)
	}
	return slug
}

// AudienceKey returns the key of an audience of that name: its snake_case, by
// the rules that Segment has for names in warehouses (sheets
// unify_engage_privacy §2.4, connections_protocols §4.1): a capital after a
// small letter begins a word, runs of capitals and digits are one. Letters
// beyond ASCII, which Segment drops, are kept.
func AudienceKey(name string) string {
	var spaced strings.Builder
	small := false
	for _, r := range name {
		if small && unicode.IsUpper(r) {
			spaced.WriteByte(' ')
		}
		small = unicode.IsLower(r)
		spaced.WriteRune(r)
	}
	return words(spaced.String(), '_')
}

func slugOf(name string) string {
	s := words(name, '-')
	if s == "" {
		return "unnamed"
	}
	if len(s) > maxSlug-10 {
		s = strings.Trim(s[:maxSlug-10], "-")
	}
	return s
}

func find[T any](list []T, is func(*T) bool) *T {
	for i := range list {
		if is(&list[i]) {
			return &list[i]
		}
	}
	return nil
}
