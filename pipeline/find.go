package pipeline

import (
	"kith/commitlog"
	"kith/kv"
	"kith/pipeline/dedup"
)

// FindMessage returns the offset, in the raw log of a space, of the first
// record with a messageId: of the copy that counted, never of one that was
// dropped as a duplicate. When an id came again after its window, the newest
// of those that counted is found. A message is found from the commit of its
// batch on, at least until the dedup window (Config.DedupWindow, by at) has
// passed over it; found is false some days after that, for an id that never
// came, and for what came while dedup was off.
func FindMessage(r kv.Reader, space uint32, messageID string) (offset commitlog.Offset, found bool, err error) {
	first, found, err := dedup.Find(r, space, messageID)
	return first.Offset, found, err
}
