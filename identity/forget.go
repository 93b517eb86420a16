package identity

import (
	"bytes"
	"slices"

	"kith/event"
	"kith/fault"
	"kith/kv"
)

// Held returns the keys of all that identity keeps of one profile in an epoch,
// under its own id: its graph, its link, the identifiers that it owns now, its
// memberships, those that others have with it among them, and the identifiers
// on its events that those did not use. What was merged into it has keys of its
// own, and so has what is kept of an identifier: see HeldOf.
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
		graph, err := read.graphKeys(profile)
		if err != nil {
			return nil, err
		}
		held = append(held, graph...)
		for i := range p.Identifiers {
			id := p.Identifiers[i].Identifier
			owner, err := read.owner(id)
			if err != nil {
				return nil, err
			}
			if owner == profile {
				held = append(held, k.owner(id))
			}
		}
	}
	for _, key := range []kv.Key{k.link(profile), k.refusalsOn(profile)} {
		if err := hold(key); err != nil {
			return nil, err
		}
	}
	cluster, err := read.clusterKeys(profile)
	if err != nil {
		return nil, err
	}
	held = append(held, cluster...)
	seen, err := read.Seen(profile)
	if err != nil {
		return nil, err
	}
	for _, id := range seen {
		held = append(held, sighting{id: id, profile: profile}.keysOf(k)...)
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

// HeldOf returns the keys of all that identity keeps of an identifier, whose
// ever it is, but for its owner: why events did not use it, and which.
func HeldOf(r kv.Reader, space, epoch uint32, id event.Identifier) (held [][]byte, err error) {
	if len(id.Value) > event.MaxIdentifierBytes || len(id.Type) > MaxTypeBytes {
		return nil, nil // too long to be a key
	}
	k := keys{space, epoch}
	value, err := r.Get(k.refusalsOf(id))
	if err != nil {
		return nil, err
	}
	if value != nil {
		held = append(held, k.refusalsOf(id))
	}
	profiles, nobodys, err := NewReader(r, space, epoch).Sightings(id)
	if err != nil {
		return nil, err
	}
	for _, p := range profiles {
		held = append(held, sighting{id: id, profile: p}.keysOf(k)...)
	}
	for _, at := range nobodys {
		held = append(held, sighting{id: id, at: at}.keysOf(k)...)
	}
	shared, err := NewReader(r, space, epoch).sharedKeys(id)
	return append(held, shared...), err
}

// ForgetRefused removes what is kept of identifiers that events carried and did
// not use, and of those that a command took away, with their traces in those who
// had them. Those that somebody owns go with their owner; these are nobody's.
func ForgetRefused(tx kv.Tx, space, epoch uint32, ids ...event.Identifier) error {
	for _, id := range ids {
		if err := forgetTraces(tx, space, epoch, id); err != nil {
			return err
		}
		held, err := HeldOf(tx, space, epoch, id)
		if err != nil {
			return err
		}
		if err := deleteAll(tx, held); err != nil {
			return err
		}
	}
	return nil
}

// forgetTraces takes an identifier out of those whom a command took it away from:
// out of what was frozen when a profile was merged away, and of why it was.
func forgetTraces(tx kv.Tx, space, epoch uint32, id event.Identifier) error {
	k, read := keys{space, epoch}, NewReader(tx, space, epoch)
	had, err := read.Had(id)
	if err != nil {
		return err
	}
	for _, p := range had {
		family, err := read.Family(p)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for _, member := range family[1:] {
			n, err := read.node(member)
			if err != nil {
				return err
			}
			if n != nil {
				_, found, err := n.find(id)
				if err != nil {
					return err
				}
				if found {
					if n, err = n.without(id); err == nil {
						err = n.write(tx, k)
					}
					if err != nil {
						return err
					}
				}
			}
			l, err := read.Link(member)
			if err != nil {
				return err
			}
			if l == nil || !slices.Contains(l.Via, id) {
				continue
			}
			l.Via = slices.DeleteFunc(l.Via, func(x event.Identifier) bool { return x == id })
			if err := tx.Set(k.link(member), encodeLink(l)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Forget removes all that identity keeps of profiles in an epoch, and of the
// identifiers that they own: of a person or an account, all of its family must
// be named. It is called within a transaction of the loop, before the row looks
// at any of them.
func Forget(tx kv.Tx, space, epoch uint32, profiles ...event.ProfileID) error {
	for _, p := range profiles {
		frozen, err := NewReader(tx, space, epoch).Frozen(p)
		if err != nil {
			return err
		}
		if frozen != nil {
			for i := range frozen.Identifiers {
				if err := ForgetRefused(tx, space, epoch, frozen.Identifiers[i].Identifier); err != nil {
					return err
				}
			}
		}
		held, err := Held(tx, space, epoch, p)
		if err != nil {
			return err
		}
		if err := deleteAll(tx, held); err != nil {
			return err
		}
	}
	return nil
}

func deleteAll(tx kv.Tx, keys [][]byte) error {
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}
