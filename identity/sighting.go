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
		if !parts.OK() || len(pair.Value) != 1 || pair.Value[0] != sightingFormat {
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
		if !parts.OK() || len(pair.Value) != 1 || pair.Value[0] != sightingFormat {
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
		case f.Violation == ValueTooLong, f.Violation == TooManyTypes, f.Violation == ValueBlocked && !f.Against.ByCommand:
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
		p.sighted[s] = true
	}
}

// writeSightings writes down those of the batch that are new.
func (p *pass) writeSightings() error {
	if len(p.sighted) == 0 {
		return nil
	}
	var all [][]byte
	for s := range p.sighted {
		all = append(all, s.keysOf(p.read.keys)...)
	}
	slices.SortFunc(all, bytes.Compare)
	known, err := p.batch.Tx.GetMany(all)
	if err != nil {
		return err
	}
	for i, key := range all {
		if known[i] != nil {
			continue
		}
		if err := p.batch.Tx.Set(key, []byte{sightingFormat}); err != nil {
			return err
		}
	}
	return nil
}
