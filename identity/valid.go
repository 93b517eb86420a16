package identity

import (
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
	x, found, err := n.find(id)
	return found && x.At <= until, err
}

// expire takes an identifier that is valid no more from the profile that has
// it, which may be a part of next, the profile that gets it anew.
func (p *pass) expire(r *pipeline.Record, c candidate, next *node) error {
	if _, found, err := next.find(c.id); err != nil || found {
		if err != nil {
			return err
		}
		again, err := next.without(c.id)
		if err == nil {
			*next = *again
		}
		return err
	}
	n, err := p.newest(c.before)
	if err != nil {
		return err
	}
	if n == nil {
		return errStored
	}
	left, err := n.without(c.id)
	if err != nil {
		return err
	}
	p.put(left)
	p.parted(c.id, n.id)
	p.emit(r, n.id, pipeline.Change{Kind: pipeline.IdentifierRemoved, Subject: c.id.Type + ":" + c.id.Value, Detail: "valid no more"})
	return nil
}
