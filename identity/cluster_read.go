package identity

import (
	"cmp"
	"slices"

	"kith/event"
	"kith/kv"
)

// Suspect is a profile, or an identifier, that may be no one person.
type Suspect struct {
	Suspicion  Suspicion
	Figure     int             // how many: identifiers, merges, profiles
	Profile    event.ProfileID // of SharedValue: who has the identifier; zero: nobody
	Identifier event.Identifier
	PeakAt     int64              // of ManyMerges: when the 24 hours ended, in milliseconds
	Some       []event.Identifier // of the profile's identifiers, the first few
}

// How much a list of suspects looks at.
const (
	maxSuspectKeys  = 20_000
	someIdentifiers = 5
)

// Suspects returns who is suspicious for one reason, the largest figures first:
// at most limit whose figure is at least the threshold. complete says that no
// more had to be looked at than is looked at.
func (r Reader) Suspects(s Suspicion, threshold, limit int) (list []Suspect, complete bool, err error) {
	stem := r.keys.suspects(s)
	looked, last := 0, -1
	for pair, err := range r.r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, false, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		size := int(255 - parts.Byte())
		if size < int(magnitude(threshold)) || size != last && len(list) >= limit {
			break // all that follow are smaller
		}
		last = size
		if looked++; looked > maxSuspectKeys {
			break
		}
		x := Suspect{Suspicion: s}
		if s == SharedValue {
			x.Identifier = event.Identifier{Collection: collectionOf(parts.Byte()), Type: parts.String(), Value: parts.String()}
		} else {
			x.Profile = event.ProfileID(parts.Fixed(len(x.Profile)))
		}
		if !parts.OK() || len(pair.Value) != 1 || pair.Value[0] != suspectFormat {
			return nil, false, errStored
		}
		if err := r.figure(&x); err != nil {
			return nil, false, err
		}
		if x.Figure >= threshold {
			list = append(list, x)
		}
	}
	slices.SortStableFunc(list, func(a, b Suspect) int { return cmp.Compare(b.Figure, a.Figure) })
	list = list[:min(len(list), limit)]
	for i := range list {
		if err := r.describe(&list[i]); err != nil {
			return nil, false, err
		}
	}
	return list, looked <= maxSuspectKeys, nil
}

// figure reads how many there are, where that is kept: the index only says
// where to look.
func (r Reader) figure(x *Suspect) error {
	switch x.Suspicion {
	case ManyIdentifiers:
		p, err := r.graph(x.Profile)
		if err == nil && p != nil {
			x.Figure = len(p.Identifiers)
		}
		return err
	case SharedValue:
		profiles, _, err := r.Sightings(x.Identifier)
		x.Figure = len(profiles)
		return err
	case ManyRefused:
		p, err := r.graph(x.Profile)
		if err != nil || p == nil {
			return err
		}
		different := map[event.Identifier]bool{}
		family := p.Family()
		for _, member := range family[:min(len(family), maxExplainedProfiles)] {
			ids, err := r.Seen(member)
			if err != nil {
				return err
			}
			for _, id := range ids {
				different[id] = true
			}
		}
		x.Figure = len(different)
		return nil
	}
	value, err := r.r.Get(r.keys.mark(x.Profile))
	if err != nil {
		return err
	}
	m, err := decodeMark(value)
	x.Figure, x.PeakAt = int(m.peak), m.peakAt
	return err
}

// describe adds what people know a suspect by.
func (r Reader) describe(x *Suspect) (err error) {
	if x.Suspicion == SharedValue {
		x.Profile, err = r.owner(x.Identifier)
		return err
	}
	p, err := r.graph(x.Profile)
	if err != nil || p == nil {
		return err
	}
	for i := range p.Identifiers[:min(len(p.Identifiers), someIdentifiers)] {
		x.Some = append(x.Some, p.Identifiers[i].Identifier)
	}
	return nil
}
