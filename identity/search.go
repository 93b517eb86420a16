package identity

import (
	"kith/event"
	"kith/kv"
)

// Owned is an identifier and the profile that has it.
type Owned struct {
	event.Identifier
	Profile event.ProfileID
}

// Owned calls fn with the identifiers of a collection whose value begins with
// prefix, by type and value, until fn returns false. name is the type; empty
// means all types. Behind after, unless that is nil: the last identifier of
// the page before. Letter case counts, as it does wherever identifiers are
// compared.
func (r Reader) Owned(collection, name, prefix string, after *event.Identifier, fn func(Owned) (bool, error)) error {
	if len(name) > MaxTypeBytes || len(prefix) > event.MaxIdentifierBytes {
		return nil // longer than what is stored
	}
	if name != "" {
		_, err := r.ownedOf(collection, name, prefix, after, fn)
		return err
	}
	stem := r.keys.owners(collection)
	from := stem
	if after != nil {
		from = stem.Clone().String(after.Type)
	}
	for {
		name, found, err := r.firstType(stem, from)
		if err != nil || !found {
			return err
		}
		more, err := r.ownedOf(collection, name, prefix, after, fn)
		if err != nil || !more {
			return err
		}
		if from = kv.PrefixEnd(stem.Clone().String(name)); from == nil {
			return nil
		}
	}
}

// firstType returns the type of the first owned identifier at or behind a key.
func (r Reader) firstType(stem kv.Key, from []byte) (name string, found bool, err error) {
	for pair, err := range r.r.Scan(kv.Range{From: from, To: kv.PrefixEnd(stem), Limit: 1}) {
		if err != nil {
			return "", false, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		name = parts.String()
		if !parts.OK() {
			return "", false, errStored
		}
		return name, true, nil
	}
	return "", false, nil
}

// ownedOf is Owned for one type; more is false when fn has had enough.
func (r Reader) ownedOf(collection, name, prefix string, after *event.Identifier, fn func(Owned) (bool, error)) (more bool, err error) {
	stem := r.keys.owners(collection).String(name)
	begin := stem.Clone().String(prefix)
	rng := kv.Prefix(begin[:len(begin)-2]) // without the end of the string
	if after != nil && after.Type == name {
		rng.From = append(r.keys.owner(*after), 0)
	}
	for pair, err := range r.r.Scan(rng) {
		if err != nil {
			return false, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		x := Owned{Identifier: event.Identifier{Collection: collection, Type: name, Value: parts.String()}}
		if !parts.OK() {
			return false, errStored
		}
		if x.Profile, err = decodeOwner(pair.Value); err != nil {
			return false, err
		}
		if more, err := fn(x); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// owners is the stem of the owner keys of a collection.
func (k keys) owners(collection string) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(ownerForm).Byte(collectionByte(collection))
}
