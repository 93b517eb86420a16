package profile

import (
	"bytes"

	"kith/event"
	"kith/kv"
)

// Held returns the keys of all that this room keeps of one profile in an
// epoch, under its own id: its pages of traits, and its places in the search
// index.
func Held(r kv.Reader, space, epoch uint32, profile event.ProfileID) (held [][]byte, err error) {
	stem := keys{space, epoch}.pages(profile)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		held = append(held, bytes.Clone(pair.Key))
	}
	entries, err := heldEntries(r, keys{space, epoch}, profile)
	return append(held, entries...), err
}

// Forget removes all that this room keeps of profiles in an epoch: of a person
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
