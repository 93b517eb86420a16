package identity

import (
	"bytes"
	"slices"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// Sightings lead from an identifier to the profiles whose events carried it
// and did not use it, and back: what a revision of one may change for others.
// Events that became nobody's, since a command blocks all that is on them, are
// listed by their offsets. What the rules of a space block, or find too long, is
// not seen at all, with one command as with another.

// sighting is an identifier on an event that does not use it.
type sighting struct {
	id      event.Identifier
	profile event.ProfileID  // whose the event is, under its id of that time; zero: nobody's
	at      commitlog.Offset // of an event that is nobody's, else zero
}

// Had returns the profiles, by their ids of that time, that an identifier was
// taken away from: by a command, or since it was valid no more and another used
// it.
func (r Reader) Had(id event.Identifier) (profiles []event.ProfileID, err error) {
	if len(id.Value) > event.MaxIdentifierBytes || len(id.Type) > MaxTypeBytes {
		return nil, nil
	}
	stem := r.keys.sightingsOf(id)
	for pair, err := range r.r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		if bytes.Equal(pair.Value, sightingValue(true)) {
			parts := kv.PartsAfter(pair.Key, stem)
			profiles = append(profiles, event.ProfileID(parts.Fixed(16)))
		}
	}
	return profiles, nil
}

// sightingValue is the value of a sighting: whether the identifier was the
// profile's, until it was taken away.
func sightingValue(had bool) []byte {
	if had {
		return []byte{sightingFormat, 1}
	}
	return []byte{sightingFormat}
}

func isSighting(value []byte) bool {
	return bytes.Equal(value, sightingValue(false)) || bytes.Equal(value, sightingValue(true))
}

// Sightings returns the profiles, by their ids of that time, that had an event
// with the identifier and did not use it; and the events of nobody with it.
func (r Reader) Sightings(id event.Identifier) (profiles []event.ProfileID, nobodys []commitlog.Offset, err error) {
	if len(id.Value) > event.MaxIdentifierBytes || len(id.Type) > MaxTypeBytes {
		return nil, nil, nil
	}
	stem := r.keys.sightingsOf(id)
	for pair, err := range r.r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		p := event.ProfileID(parts.Fixed(16))
		if p.IsZero() {
			nobodys = append(nobodys, commitlog.Offset(parts.Uint64()))
		} else {
			profiles = append(profiles, p)
		}
		if !parts.OK() || !isSighting(pair.Value) {
			return nil, nil, errStored
		}
	}
	return profiles, nobodys, nil
}

// Seen returns the identifiers on events of a profile that they did not use:
// under this very id, without those that were merged into it.
func (r Reader) Seen(p event.ProfileID) (ids []event.Identifier, err error) {
	stem := r.keys.sightingsOn(p)
	for pair, err := range r.r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		id := event.Identifier{Collection: collectionOf(parts.Byte()), Type: parts.String(), Value: parts.String()}
		if !parts.OK() || !isSighting(pair.Value) {
			return nil, errStored
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// keysOf returns the two keys of a sighting, or the one when it is nobody's.
func (s sighting) keysOf(k keys) [][]byte {
	of := k.sightingsOf(s.id).Fixed(s.profile[:])
	if s.profile.IsZero() {
		return [][]byte{of.Uint64(uint64(s.at))}
	}
	return [][]byte{of, k.sightingsOn(s.profile).Byte(collectionByte(s.id.Collection)).String(s.id.Type).String(s.id.Value)}
}

// sight notes what a record's Resolution did not use.
func (p *pass) sight(r *pipeline.Record, res *Resolution) {
	for i := range res.Refused {
		f := &res.Refused[i]
		switch {
		case f.Violation == ValueTooLong, f.Violation == TooManyTypes, f.Violation == NotWhole, f.Violation == TooManyOnEvent,
			f.Violation == ValueBlocked && !f.Against.ByCommand:
			continue
		}
		s := sighting{id: f.Identifier, profile: res.Profile}
		if f.Collection == event.Accounts {
			s.profile = res.Account
		}
		if s.profile.IsZero() {
			s.at = r.Offset
		}
		if p.sighted == nil {
			p.sighted = map[sighting]bool{}
		}
		if _, known := p.sighted[s]; !known { // it may have had it
			p.sighted[s] = false
			p.grown.sighted(s)
		}
	}
}

// parted notes that an identifier was taken away from a profile: by a command,
// or since it was valid no more.
func (p *pass) parted(id event.Identifier, from event.ProfileID) {
	if p.sighted == nil {
		p.sighted = map[sighting]bool{}
	}
	s := sighting{id: id, profile: from}
	if _, known := p.sighted[s]; !known {
		p.grown.sighted(s)
	}
	p.sighted[s] = true
}

// writeSightings writes down those of the batch that are new.
func (p *pass) writeSightings() error {
	if len(p.sighted) == 0 {
		return nil
	}
	var all []kv.Pair
	for s, had := range p.sighted {
		for _, key := range s.keysOf(p.read.keys) {
			all = append(all, kv.Pair{Key: key, Value: sightingValue(had)})
		}
	}
	slices.SortFunc(all, func(a, b kv.Pair) int { return bytes.Compare(a.Key, b.Key) })
	for _, s := range all {
		known, err := p.batch.Tx.Get(s.Key)
		if err != nil {
			return err
		}
		if len(known) >= len(s.Value) {
			continue
		}
		if err := p.batch.Tx.Set(s.Key, s.Value); err != nil {
			return err
		}
	}
	return nil
}
