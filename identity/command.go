package identity

import (
	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// command carries out an order at its place in the sequence. One that finds
// nothing to do is no error: it may be carried out again, or too late.
func (p *pass) command(r *pipeline.Record, res *Resolution) error {
	switch c := r.Command; {
	case c.Standing():
		return p.stand(r)
	case c.DeleteIdentifier != nil:
		return p.remove(r, res, c.DeleteIdentifier.Identifier.Identifier())
	case c.Leave != nil:
		return p.leave(r, res, c.Leave.User.Identifier(), c.Leave.Account.Identifier())
	}
	return nil
}

// remove takes an identifier away from the profile that has it.
func (p *pass) remove(r *pipeline.Record, res *Resolution, id event.Identifier) error {
	rs, err := p.rulesFor(r.Snapshot)
	if err != nil {
		return err
	}
	id = rs.normal(id)
	owner, err := p.owner(id)
	if err != nil || owner.IsZero() {
		return err
	}
	if err := p.takeAway(id, owner); err != nil {
		return err
	}
	if id.Collection == event.Accounts {
		res.Account = owner
	} else {
		res.Profile = owner
	}
	r.Profile, r.Account = res.Profile, res.Account
	res.Removed = append(res.Removed, id)
	p.emit(r, owner, pipeline.Change{Kind: pipeline.IdentifierRemoved, Subject: id.Type + ":" + id.Value})
	return nil
}

// leave ends the membership of a user in an account, under whichever of their
// ids it was written. It says whose the identifiers are also where one of them
// is nobody's: a revision that gives it an owner takes the other as it was.
func (p *pass) leave(r *pipeline.Record, res *Resolution, user, account event.Identifier) error {
	rs, err := p.rulesFor(r.Snapshot)
	if err != nil {
		return err
	}
	u, err := p.ownedBy(rs.normal(user), r.Offset)
	if err != nil {
		return err
	}
	a, err := p.ownedBy(rs.normal(account), r.Offset)
	if err != nil {
		return err
	}
	res.Profile, res.Account = u, a
	r.Profile, r.Account = u, a
	if u.IsZero() || a.IsZero() {
		return nil
	}
	pairs, err := p.memberships(u, a, r.Offset)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		p.members[pair] = nil
		p.linked = append(p.linked, pair)
	}
	if len(pairs) > 0 {
		res.Left = true
		p.emit(r, u, pipeline.Change{Kind: pipeline.AccountLeft, Other: a})
	}
	return nil
}

// ownedBy returns whose an identifier that a record names is, or was where its
// collection is given; the zero id for nobody's.
func (p *pass) ownedBy(id event.Identifier, at commitlog.Offset) (event.ProfileID, error) {
	if owner, given := p.stage.owned(id.Collection, at); given {
		return owner, nil
	}
	return p.owner(id)
}

// partOf returns what a profile is part of, or was at a record where its
// collection is given.
func (p *pass) partOf(collection string, id event.ProfileID, at commitlog.Offset) (event.ProfileID, error) {
	if p.stage.given == nil || p.stage.given.Collection != collection {
		return p.resolve(id, p.seq)
	}
	for {
		l, err := p.link(id)
		if err != nil || l.Link == nil || l.Offset > at {
			return id, err
		}
		id = l.Parent
	}
}

// memberships returns the links between a user and an account as they are
// written: between any of those that the two have become of by the record at
// an offset.
func (p *pass) memberships(user, account event.ProfileID, at commitlog.Offset) ([][2]event.ProfileID, error) {
	n, err := p.newest(user)
	if err != nil {
		return nil, err
	}
	if n == nil {
		if p.stage.given != nil {
			return nil, nil // a user who is given and gone
		}
		return nil, errStored
	}
	var pairs [][2]event.ProfileID
	seen := map[[2]event.ProfileID]bool{}
	consider := func(pair [2]event.ProfileID) error {
		if seen[pair] {
			return nil
		}
		seen[pair] = true
		u, err := p.partOf(event.Users, pair[0], at)
		if err != nil {
			return err
		}
		a, err := p.partOf(event.Accounts, pair[1], at)
		if err == nil && u == user && a == account {
			pairs = append(pairs, pair)
		}
		return err
	}
	whole, err := n.profile()
	if err != nil {
		return nil, err
	}
	for _, of := range whole.Family() {
		stem := p.read.keys.members(of)
		for pair, err := range p.batch.Tx.Scan(kv.Prefix(stem)) {
			if err != nil {
				return nil, err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			found := [2]event.ProfileID{of, event.ProfileID(parts.Fixed(16))}
			if !parts.OK() {
				return nil, errStored
			}
			if m, ok := p.members[found]; ok && m == nil {
				continue // has left in this batch
			}
			if err := consider(found); err != nil {
				return nil, err
			}
		}
	}
	// And those of this batch, which are not written yet.
	for _, pair := range p.linked {
		if p.members[pair] != nil {
			if err := consider(pair); err != nil {
				return nil, err
			}
		}
	}
	return pairs, nil
}
