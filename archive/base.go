package archive

import (
	"kith/event"
	"kith/kv"
)

// CopyBase copies to an epoch of another store the history that the base of a
// space keeps of one profile, under its own id.
func CopyBase(from kv.Reader, base uint32, to kv.Tx, space, epoch uint32, profile event.ProfileID) error {
	for pair, err := range from.Scan(kv.Prefix(historyStem(space, base, profile))) {
		if err != nil {
			return err
		}
		if err := to.Set(kv.InEpoch(pair.Key, epoch), pair.Value); err != nil {
			return err
		}
	}
	return nil
}
