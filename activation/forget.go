package activation

import (
	"kith/event"
	"kith/kv"
)

// Told reports whether anything was ever announced under an identifier.
func Told(r kv.Reader, space uint32, id event.Identifier) (bool, error) {
	value, err := r.Get(toldKey(space, id))
	return value != nil, err
}

// Forget removes what was told under identifiers. From then on nobody knows
// that destinations were told anything: whoever has still to tell them that a
// membership has ended does that first, by a Retract. It is called within a
// transaction of the loop.
func Forget(tx kv.Tx, space uint32, identifiers ...event.Identifier) error {
	for _, id := range identifiers {
		if err := tx.Delete(toldKey(space, id)); err != nil {
			return err
		}
	}
	return nil
}
