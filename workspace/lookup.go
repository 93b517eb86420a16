package workspace

// index holds the ways into a snapshot that are asked for on every event.
type index struct {
	spaceByID     map[string]*Space // by id and by slug
	sourceByID    map[string]*Source
	sourceByKey   map[string]*Source
	destination   map[string]*Destination
	planBySource  map[string]*TrackingPlan
	spaceByNumber map[uint32]*Space
	audience      map[string]*Audience
}

// Seal builds the snapshot's lookups. It is called once, by whoever makes a
// snapshot, before anybody else sees it.
func (s *Snapshot) Seal() {
	x := &index{
		spaceByID: map[string]*Space{}, spaceByNumber: map[uint32]*Space{}, sourceByID: map[string]*Source{},
		sourceByKey: map[string]*Source{}, destination: map[string]*Destination{}, planBySource: map[string]*TrackingPlan{},
		audience: map[string]*Audience{},
	}
	for i := range s.Spaces {
		sp := &s.Spaces[i]
		x.spaceByID[sp.ID], x.spaceByID[sp.Slug], x.spaceByNumber[sp.Number] = sp, sp, sp
	}
	for i := range s.Sources {
		src := &s.Sources[i]
		x.sourceByID[src.ID] = src
		for _, k := range src.WriteKeys {
			x.sourceByKey[k] = src
		}
	}
	for i := range s.Destinations {
		x.destination[s.Destinations[i].ID] = &s.Destinations[i]
	}
	for i := range s.TrackingPlans {
		for _, id := range s.TrackingPlans[i].SourceIDs {
			x.planBySource[id] = &s.TrackingPlans[i]
		}
	}
	for i := range s.Audiences {
		x.audience[s.Audiences[i].ID] = &s.Audiences[i]
	}
	s.index = x
}

// Space returns the space with that id or slug, or nil.
func (s *Snapshot) Space(idOrSlug string) *Space { return s.index.spaceByID[idOrSlug] }

// Filter returns the event filter with that id and its space, or nil.
func (s *Snapshot) Filter(id string) (*Space, *EventFilter) { return filterIn(s.Spaces, id) }

// SpaceByNumber returns the space with that number, or nil.
func (s *Snapshot) SpaceByNumber(n uint32) *Space { return s.index.spaceByNumber[n] }

// Source returns the source with that id, or nil.
func (s *Snapshot) Source(id string) *Source { return s.index.sourceByID[id] }

// SourceByWriteKey returns the source that a write key belongs to, or nil.
func (s *Snapshot) SourceByWriteKey(key string) *Source { return s.index.sourceByKey[key] }

// Destination returns the destination with that id, or nil.
func (s *Snapshot) Destination(id string) *Destination { return s.index.destination[id] }

// PlanOf returns the tracking plan that a source is held to, or nil.
func (s *Snapshot) PlanOf(sourceID string) *TrackingPlan { return s.index.planBySource[sourceID] }

// Audience returns the audience with that id, or nil.
func (s *Snapshot) Audience(id string) *Audience { return s.index.audience[id] }
