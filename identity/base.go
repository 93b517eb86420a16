package identity

import (
	"kith/event"
	"kith/kv"
)

// CopyBase copies to an epoch of another store what the base of a space keeps of
// some profiles, under their own ids, and of some identifiers, and the standing
// commands that it knows in place of those that are there. Of events that are
// nobody's nothing is copied.
func CopyBase(from kv.Reader, base uint32, to kv.Tx, space, epoch uint32, profiles []event.ProfileID, ids []event.Identifier) error {
	var keysOf [][]byte
	for _, p := range profiles {
		held, err := Held(from, space, base, p)
		if err != nil {
			return err
		}
		keysOf = append(keysOf, held...)
	}
	for _, id := range ids {
		keysOf = append(keysOf, keys{space, base}.refusalsOf(id))
	}
	values, err := from.GetMany(keysOf)
	if err != nil {
		return err
	}
	for i, key := range keysOf {
		if values[i] == nil {
			continue
		}
		if err := to.Set(kv.InEpoch(key, epoch), values[i]); err != nil {
			return err
		}
	}
	return copyStanding(from, base, to, space, epoch)
}

func copyStanding(from kv.Reader, base uint32, to kv.Tx, space, epoch uint32) error {
	var old [][]byte
	for pair, err := range to.Scan(kv.Prefix(kv.EpochKey(space, epoch, Room).Byte(standingForm))) {
		if err != nil {
			return err
		}
		old = append(old, append([]byte{}, pair.Key...))
	}
	if err := deleteAll(to, old); err != nil {
		return err
	}
	for pair, err := range from.Scan(kv.Prefix(kv.EpochKey(space, base, Room).Byte(standingForm))) {
		if err != nil {
			return err
		}
		if err := to.Set(kv.InEpoch(pair.Key, epoch), pair.Value); err != nil {
			return err
		}
	}
	return nil
}
