package identity

import (
	"slices"

	"kith/event"
	"kith/pipeline"
	"kith/workspace"
)

// expires reports whether an identifier counts for a time only.
func (rs *rules) expires(id event.Identifier) bool {
	r := rs.of(id.Collection, id.Type)
	return r != nil && r.validFor > 0 && (r.form != workspace.NormalizeMAC || randomised(id.Value))
}

// expired reports whether an identifier of a profile was attached at or before
// an instant.
func (p *pass) expired(owner event.ProfileID, id event.Identifier, until int64) (bool, error) {
	n, err := p.newest(owner)
	if err != nil {
		return false, err
	}
	if n == nil {
		return false, errStored
	}
	i := slices.IndexFunc(n.Identifiers, func(x Identified) bool { return x.Identifier == id })
	return i >= 0 && n.Identifiers[i].At <= until, nil
}

// expire takes an identifier that is valid no more from the profile that has
// it, which may be a part of next, the profile that gets it anew.
func (p *pass) expire(r *pipeline.Record, c candidate, next *node) error {
	is := func(x Identified) bool { return x.Identifier == c.id }
	if slices.ContainsFunc(next.Identifiers, is) {
		next.Identifiers = slices.DeleteFunc(slices.Clone(next.Identifiers), is)
		return nil
	}
	n, err := p.newest(c.before)
	if err != nil {
		return err
	}
	if n == nil {
		return errStored
	}
	left := &node{Profile: n.Profile}
	left.Identifiers = slices.DeleteFunc(slices.Clone(n.Identifiers), is)
	p.put(left)
	p.emit(r, n.ID, pipeline.Change{Kind: pipeline.IdentifierRemoved, Subject: c.id.Type + ":" + c.id.Value, Detail: "valid no more"})
	return nil
}
