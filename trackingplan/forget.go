package trackingplan

import (
	"kith/commitlog"
	"kith/kv"
)

// Forget removes a record from quarantine: it was erased. at is its instant as
// the row saw it. It is called under the fence of the space's loop.
func Forget(tx kv.Tx, space uint32, source string, at int64, offset commitlog.Offset) error {
	return tx.Delete(quarantineKey(space, source, at, offset))
}
