package profile

import (
	"kith/event"
	"kith/identity"
	"kith/kv"
)

// CopyBase copies to an epoch of another store, of which the index row and the
// graph of these profiles are there, the traits that the base of a space keeps of
// profiles, under their own ids; who was not merged away gets places in the
// search index.
func CopyBase(from kv.Reader, base uint32, to kv.Tx, space, epoch uint32, profiles []event.ProfileID) error {
	at, err := readIndex(to, keys{space, epoch})
	if err != nil {
		return err
	}
	for _, p := range profiles {
		for pair, err := range from.Scan(kv.Prefix(keys{space, base}.pages(p))) {
			if err != nil {
				return err
			}
			if err := to.Set(kv.InEpoch(pair.Key, epoch), pair.Value); err != nil {
				return err
			}
		}
		link, err := identity.NewReader(to, space, epoch).Link(p)
		if err != nil {
			return err
		}
		if link != nil {
			continue
		}
		if err := enter(to, keys{space, epoch}, at, p, at.kept); err != nil {
			return err
		}
	}
	return nil
}
