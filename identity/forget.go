package identity

import (
	"bytes"

	"kith/event"
	"kith/kv"
)

// Held returns the keys of all that identity keeps of one profile in an epoch,
// under its own id: its graph, its link, the identifiers that it owns now, its
// memberships, those that others have with it among them, and what protection
// refused: identifiers on its events, and its identifiers on all events. What
// was merged into it has keys of its own.
func Held(r kv.Reader, space, epoch uint32, profile event.ProfileID) (held [][]byte, err error) {
	k := keys{space, epoch}
	read := NewReader(r, space, epoch)
	hold := func(key kv.Key) error {
		value, err := r.Get(key)
		if err == nil && value != nil {
			held = append(held, key)
		}
		return err
	}
	p, err := read.Frozen(profile)
	if err != nil {
		return nil, err
	}
	if p != nil {
		held = append(held, k.graph(profile))
		for i := range p.Identifiers {
			id := p.Identifiers[i].Identifier
			owner, err := read.owner(id)
			if err != nil {
				return nil, err
			}
			if owner == profile {
				held = append(held, k.owner(id))
				if err := hold(k.refusalsOf(id)); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, key := range []kv.Key{k.link(profile), k.refusalsOn(profile)} {
		if err := hold(key); err != nil {
			return nil, err
		}
	}
	stem := k.members(profile)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		other := event.ProfileID(parts.Fixed(len(profile)))
		if !parts.OK() {
			return nil, errStored
		}
		held = append(held, bytes.Clone(pair.Key), k.member(other, profile))
	}
	return held, nil
}

// ForgetRefused removes what is kept of identifiers that events carried and did
// not use. Those that somebody owns go with their owner; these are nobody's.
func ForgetRefused(tx kv.Tx, space, epoch uint32, ids ...event.Identifier) error {
	for _, id := range ids {
		if err := tx.Delete(keys{space, epoch}.refusalsOf(id)); err != nil {
			return err
		}
	}
	return nil
}

// Forget removes all that identity keeps of profiles in an epoch: of a person
// or an account, all of its family must be named. It is called within a
// transaction of the loop, before the row looks at any of them.
func Forget(tx kv.Tx, space, epoch uint32, profiles ...event.ProfileID) error {
	for _, p := range profiles {
		held, err := Held(tx, space, epoch, p)
		if err != nil {
			return err
		}
		for _, key := range held {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
	}
	return nil
}
