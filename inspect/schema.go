package inspect

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"kith/event"
	"kith/kv"
)

// Schema reads what was seen of the sources: their events, and the properties
// and traits of these. It is safe for concurrent use, also where no Observer
// runs.
type Schema struct{ db kv.DB }

// NewSchema returns a schema over the store that the Observer writes to.
func NewSchema(db kv.DB) *Schema { return &Schema{db: db} }

// SourceSeen is what was seen of a source.
type SourceSeen struct {
	Events []EventSeen // sorted by type and name
	// EventsLeftOut are calls whose event is not known by name, and
	// VersionsLeftOut calls whose app version is not, because the source has too
	// many (see Limits).
	EventsLeftOut, VersionsLeftOut uint64
}

// EventSeen is an event of a source, or all its calls of a type that have no
// name.
type EventSeen struct {
	Source           string // the source's id
	Type             event.Type
	Name             string // a track call's event, "Page Viewed", "Screen Viewed"; else empty
	Allowed, Blocked uint64 // calls that passed, and that the plan has blocked; no duplicates
	First, Last      time.Time
	Properties       int // properties, traits and members of the context that are kept
	// PropertiesLeftOut counts sightings of those that are not, because there
	// are too many or their path is too long (see Limits).
	PropertiesLeftOut uint64

	number uint32
}

// PropertySeen is a property or trait of an event.
type PropertySeen struct {
	// Section is "properties", "traits" or "context", and Path the way below
	// it: names joined by dots, "$" for the items of an array, a dot or
	// backslash in a name escaped by a backslash.
	Section, Path string
	Types         []TypeSeen // the most frequent first
	// Allowed are the calls in which it passed, Blocked those in which it was
	// omitted, and those that were blocked.
	Allowed, Blocked uint64
	First, Last      time.Time
	// Samples are values of the last 6 days, newest days first, at most 5 a day;
	// cut at 120 bytes.
	Samples []string
}

// TypeSeen is in how many calls a property was of a type of JSON: "string",
// "number", "boolean", "object", "array" or "null".
type TypeSeen struct {
	Type  string
	Count uint64
}

func (s section) String() string {
	return [...]string{inProperties: "properties", inTraits: "traits", inContext: "context"}[s]
}

// Source returns the events of a source. One that nothing came from has none.
func (s *Schema) Source(ctx context.Context, source string) (SourceSeen, error) {
	var seen SourceSeen
	err := s.db.View(ctx, func(r kv.Reader) error {
		seen = SourceSeen{}
		value, err := r.Get(registryKey(source))
		if err != nil || value == nil {
			return err
		}
		known, err := decodeRegistered(value)
		if err != nil {
			return err
		}
		seen.EventsLeftOut, seen.VersionsLeftOut = known.eventsLeft, known.versionLeft
		stem := eventStem(source)
		for pair, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			kind, name := event.Type(parts.Byte()), parts.String()
			e, err := decodeEvent(pair.Value)
			if err != nil {
				return err
			}
			if !parts.OK() {
				return errDamaged("event")
			}
			if e.last == 0 || kind == objectKind { // only duplicates, or no call
				continue
			}
			seen.Events = append(seen.Events, EventSeen{
				Source: source, Type: kind, Name: name, Allowed: e.allowed, Blocked: e.blocked, First: instant(e.first), Last: instant(e.last),
				Properties: int(e.properties), PropertiesLeftOut: e.propertiesLeft, number: e.number,
			})
		}
		return nil
	})
	return seen, err
}

func instant(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// Properties returns what was seen of an event that Source has returned, by
// section and path; with samples, at most that many of each, as of the days
// before now.
func (s *Schema) Properties(ctx context.Context, e *EventSeen, samples int, now time.Time) ([]PropertySeen, error) {
	var list []PropertySeen
	err := s.db.View(ctx, func(r kv.Reader) error {
		list = nil
		at := map[fieldName]int{}
		stem := fieldStem(e.Source, e.number)
		for pair, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			name, ok := readFieldName(pair.Key, stem)
			if !ok {
				return errDamaged("property")
			}
			f, err := decodeField(pair.Value)
			if err != nil {
				return err
			}
			at[name] = len(list)
			list = append(list, PropertySeen{
				Section: name.section.String(), Path: name.path, Types: f.typesSeen(), Allowed: f.allowed, Blocked: f.blocked,
				First: instant(f.first), Last: instant(f.last),
			})
		}
		if samples <= 0 {
			return nil
		}
		today := dayOf(now.UnixMilli())
		for ago := range min(today, sampleDays) {
			stem := sampleStem(today-ago, e.Source, e.number)
			for pair, err := range r.Scan(kv.Prefix(stem)) {
				if err != nil {
					return err
				}
				values, err := decodeSamples(pair.Value)
				if err != nil {
					return err
				}
				name, _ := readFieldName(pair.Key, stem)
				i, ok := at[name]
				if !ok {
					continue
				}
				for _, v := range values {
					if len(list[i].Samples) < samples && !slices.Contains(list[i].Samples, v) {
						list[i].Samples = append(list[i].Samples, v)
					}
				}
			}
		}
		return nil
	})
	return list, err
}

// MaxSamples is how many samples of a property there can be.
const MaxSamples = sampleDays * maxSamples

func readFieldName(key []byte, stem kv.Key) (fieldName, bool) {
	parts := kv.PartsAfter(key, stem)
	name := fieldName{section(parts.Byte()), parts.String()}
	return name, parts.OK() && name.section >= inProperties && name.section <= inContext
}

func (s *seenField) typesSeen() (list []TypeSeen) {
	for t, n := range s.types {
		if n > 0 {
			list = append(list, TypeSeen{jsonType(t).String(), n})
		}
	}
	slices.SortStableFunc(list, func(a, b TypeSeen) int { return cmp.Compare(b.Count, a.Count) })
	return list
}

// Label returns the name under which people know an event: a name, or the type
// of calls that have none ("identify").
func (e *EventSeen) Label() string { return cmp.Or(e.Name, e.Type.String()) }

// Merge joins two lists of properties, of the same event at several sources.
func Merge(a, b []PropertySeen) []PropertySeen {
	at := map[[2]string]int{}
	for i := range a {
		at[[2]string{a[i].Section, a[i].Path}] = i
	}
	for _, p := range b {
		i, ok := at[[2]string{p.Section, p.Path}]
		if !ok {
			a = append(a, p)
			continue
		}
		q := &a[i]
		q.Allowed, q.Blocked = q.Allowed+p.Allowed, q.Blocked+p.Blocked
		if p.First.Before(q.First) {
			q.First = p.First
		}
		if p.Last.After(q.Last) {
			q.Last = p.Last
		}
		for _, t := range p.Types {
			if j := slices.IndexFunc(q.Types, func(o TypeSeen) bool { return o.Type == t.Type }); j >= 0 {
				q.Types[j].Count += t.Count
			} else {
				q.Types = append(q.Types, t)
			}
		}
		for _, v := range p.Samples {
			if !slices.Contains(q.Samples, v) {
				q.Samples = append(q.Samples, v)
			}
		}
	}
	slices.SortFunc(a, func(x, y PropertySeen) int {
		return cmp.Or(strings.Compare(x.Section, y.Section), strings.Compare(x.Path, y.Path))
	})
	return a
}

// LeftOut returns, of the sources with calls that were left out, how many: of
// events that are not known by name, and of app versions that are not.
func (s *Schema) LeftOut(ctx context.Context) (map[string]SourceSeen, error) {
	all := map[string]SourceSeen{}
	err := s.db.View(ctx, func(r kv.Reader) error {
		stem := registryStem()
		for pair, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			known, err := decodeRegistered(pair.Value)
			if err != nil {
				return err
			}
			if known.eventsLeft+known.versionLeft > 0 {
				all[parts.String()] = SourceSeen{EventsLeftOut: known.eventsLeft, VersionsLeftOut: known.versionLeft}
			}
		}
		return nil
	})
	return all, err
}
