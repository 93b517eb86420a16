package identity

import (
	"slices"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// Stayed is a profile with which remained what lies behind an epoch's position
// when a standing command took identifiers away from it.
type Stayed struct {
	Command commitlog.Offset
	Profile event.ProfileID
}

// Stand puts standing commands in force in an epoch whose records cannot be led
// through it again, at the position where it stands; those that it knows change
// nothing. A value that is blocked is nobody's from there on. Of the identifiers
// that are to be apart and belong to one profile, the side stays that has the
// oldest of them, the left one if both came with one record; those of the other
// are nobody's until an event carries them. All else stays with the profile, and
// Stand returns which these are. What one profile loses depends on no other, so
// that the outcome is the same for a whole epoch and for some of its profiles.
//
// The batch has the configuration in force at that position. Stand is called
// under the fence of the epoch's loop, while that does not run.
func (s *Identity) Stand(b *pipeline.Batch, list []Standing) ([]Stayed, error) {
	opened, err := s.Begin(b)
	if err != nil {
		return nil, err
	}
	p := opened.(*pass)
	var added []Standing
	for _, x := range list {
		known, err := b.Tx.Get(p.read.keys.standing(x.Offset))
		if err != nil {
			return nil, err
		}
		if known != nil {
			continue
		}
		if err := addStanding(b.Tx, p.read.keys, x); err != nil {
			return nil, err
		}
		added = append(added, x)
	}
	if len(added) == 0 {
		return nil, nil
	}
	all, err := p.read.Standing()
	if err != nil {
		return nil, err
	}
	rs, err := p.rulesFor(b.Snapshot)
	if err != nil {
		return nil, err
	}
	lifted := liftedIn(all)
	var stayed []Stayed
	for _, x := range added {
		if lifted[x.Offset] {
			continue
		}
		with, err := p.part(x.Command, rs)
		if err != nil {
			return nil, err
		}
		for _, id := range with {
			stayed = append(stayed, Stayed{x.Offset, id})
		}
	}
	return stayed, p.Finish()
}

// part takes away what a standing command does not leave with its owners, and
// returns these.
func (p *pass) part(c *event.Command, rs *rules) (with []event.ProfileID, err error) {
	if c.Block != nil {
		id := rs.normal(c.Block.Identifier())
		owner, err := p.owner(id)
		if err != nil || owner.IsZero() {
			return nil, err
		}
		p.seq++
		return []event.ProfileID{owner}, p.takeAway(id, owner)
	}
	if c.Separate == nil {
		return nil, nil
	}
	left, err := p.owned(c.Separate.Left, rs)
	if err != nil {
		return nil, err
	}
	right, err := p.owned(c.Separate.Right, rs)
	if err != nil {
		return nil, err
	}
	for _, of := range left {
		at := slices.IndexFunc(right, func(x possession) bool { return x.owner == of.owner })
		if at < 0 {
			continue
		}
		loser := right[at]
		if loser.oldest < of.oldest {
			loser = of
		}
		for _, id := range loser.ids {
			p.seq++ // a version of the profile each
			if err := p.takeAway(id, of.owner); err != nil {
				return nil, err
			}
		}
		with = append(with, of.owner)
	}
	return with, nil
}

// possession is the identifiers on one side of a separation that one profile
// has, and the record that brought the oldest of them.
type possession struct {
	owner  event.ProfileID
	ids    []event.Identifier
	oldest commitlog.Offset
}

// owned returns who has the identifiers of a side, in their order.
func (p *pass) owned(side []event.ExternalID, rs *rules) (list []possession, err error) {
	seen := map[event.Identifier]bool{}
	for _, x := range side {
		id := rs.normal(x.Identifier())
		owner, err := p.owner(id)
		if err != nil {
			return nil, err
		}
		if owner.IsZero() || seen[id] {
			continue
		}
		seen[id] = true
		n, err := p.newest(owner)
		if err != nil {
			return nil, err
		}
		if n == nil {
			return nil, errStored
		}
		attached, found, err := n.find(id)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, errStored
		}
		at := slices.IndexFunc(list, func(x possession) bool { return x.owner == owner })
		if at < 0 {
			at, list = len(list), append(list, possession{owner: owner, oldest: attached.Offset})
		}
		list[at].ids, list[at].oldest = append(list[at].ids, id), min(list[at].oldest, attached.Offset)
	}
	return list, nil
}

// takeAway makes an identifier nobody's that a profile has.
func (p *pass) takeAway(id event.Identifier, owner event.ProfileID) error {
	before, err := p.newest(owner)
	if err != nil {
		return err
	}
	if before == nil {
		return errStored
	}
	next, err := before.without(id)
	if err != nil {
		return err
	}
	p.own(id, event.ProfileID{})
	p.put(next)
	p.parted(id, owner)
	return nil
}

// Ordered puts a standing command in force in an epoch that its record has not
// come to, and notes that its effect on what came before is due. One that the
// epoch knows changes nothing. It is called within a transaction of the epoch's
// loop.
func Ordered(tx kv.Tx, space, epoch uint32, s Standing) error {
	k := keys{space, epoch}
	known, err := tx.Get(k.standing(s.Offset))
	if err != nil || known != nil {
		return err
	}
	if err := addStanding(tx, k, s); err != nil {
		return err
	}
	return Due(tx, space, epoch, s.Offset, s.At)
}
