package trackingplan

import (
	"kith/commitlog"
	"kith/kv"
)

// Room is the room byte of quarantine's keys.
//
// Form: space scope, Room, source id (string), at (int64, ms), offset of the raw
// record (uint64). Fence: loop/<space>/<epoch>. Not under the epoch: a verdict is
// found once and never computed again. Value: format byte 1, then the JSON of
// stored. Erasure class: by record; it holds no values of the event, but its
// message id and the names of fields.
const Room = 'q'

// format is the first byte of a quarantine value.
const format = 1

// sourceStem is the stem of all that rests in quarantine of one source.
func sourceStem(space uint32, source string) kv.Key {
	return kv.SpaceKey(space, Room).String(source)
}

func quarantineKey(space uint32, source string, at int64, offset commitlog.Offset) kv.Key {
	return sourceStem(space, source).Int64(at).Uint64(uint64(offset))
}
