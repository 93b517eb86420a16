package identity

import (
	"bytes"
	"slices"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// Lost returns the identifiers that were taken away from a profile, under this
// very id: by a command, or since they were valid no more. At most limit.
func (r Reader) Lost(p event.ProfileID, limit int) (ids []event.Identifier, err error) {
	stem := r.keys.sightingsOn(p)
	for pair, err := range r.r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(pair.Value, sightingValue(true)) {
			continue
		}
		parts := kv.PartsAfter(pair.Key, stem)
		id := event.Identifier{Collection: collectionOf(parts.Byte()), Type: parts.String(), Value: parts.String()}
		if !parts.OK() {
			return nil, errStored
		}
		if ids = append(ids, id); len(ids) >= limit {
			break
		}
	}
	return ids, nil
}

// tellLapsed tells of identifiers that were valid no more and went to others;
// those that commands took away are told already.
func (e *explaining) tellLapsed() error {
	var lost []event.Identifier
	err := e.view(func(r Reader) error {
		lost = nil
		for _, m := range e.of.order {
			ids, err := r.Lost(m.ID, maxExplainedIdentifiers-len(lost))
			if err != nil {
				return err
			}
			if lost = append(lost, ids...); len(lost) >= maxExplainedIdentifiers {
				break
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, id := range lost {
		taken := slices.ContainsFunc(e.out.Removed, func(x ExplainedIdentifier) bool { return x.Identifier() == id && (x.Removed > 0 || x.Lapsed) })
		if taken || slices.ContainsFunc(e.of.root.Identifiers, func(x Identified) bool { return x.Identifier == id }) {
			continue
		}
		if err := e.lapsed(id); err != nil {
			return err
		}
	}
	return nil
}

// lapsed tells of one that went to another.
func (e *explaining) lapsed(id event.Identifier) error {
	var owner *Profile
	var by *Identified
	err := e.view(func(r Reader) error {
		whose, err := r.owner(id)
		if err != nil || whose.IsZero() {
			return err
		}
		if owner, err = r.Profile(whose); err != nil || owner == nil {
			return err
		}
		if i := slices.IndexFunc(owner.Identifiers, func(x Identified) bool { return x.Identifier == id }); i >= 0 {
			by = &owner.Identifiers[i]
		}
		return nil
	})
	if err != nil {
		return err
	}
	before := ^commitlog.Offset(0)
	if by != nil {
		before = by.Offset
	}
	at := slices.IndexFunc(e.out.Removed, func(x ExplainedIdentifier) bool { return x.Identifier() == id })
	if at < 0 {
		first, profile, err := e.carriedFirst(id, before)
		if err != nil {
			return err
		}
		told := ExplainedIdentifier{ExternalID: event.ExternalIDOf(id), ProfileID: e.of.root.ID.String()}
		if first != nil {
			told.Attached, told.ProfileID = *first, profile.String()
			e.attach(profile, id, "removed", *first)
			e.say(commitlog.Offset(first.Offset), "%s was attached to %s at %s by %s.", name(id), profile, first.Timestamp, e.onMessage(first))
		}
		e.out.Removed, at = append(e.out.Removed, told), len(e.out.Removed)
	}
	x := &e.out.Removed[at]
	x.Lapsed = true
	e.identifierNode(id, "removed", "")
	if by == nil {
		e.say(before, "%s was valid no more, and went to another; it is nobody's by now.", name(id))
		return nil
	}
	x.OwnerID, x.RemovedAt = owner.ID.String(), instant(by.At)
	e.say(by.Offset, "%s was valid no more; at %s %s gave it to %s.", name(id), x.RemovedAt, e.messageOf(by.MessageID, by.SourceID, by.Offset), owner.ID)
	return nil
}
