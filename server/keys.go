package server

import (
	"kith/fault"
	"kith/kv"
)

// Keys:
//
//	w m c space:u32   format 1, the snapshot whose config record was last
//	                  appended to the space's raw log. Fence "workspace",
//	                  erasure none.
//	w m e space:u32   format 1, the live epoch of the space. Fence
//	                  "workspace", erasure none.
//	w m b space:u32   format 1, the epoch that stands at the horizon of the
//	                  space. Fence "loop/<space>/<epoch>" of the live epoch,
//	                  erasure none.
//	s space r …       the raw log, see commitlog/kvlog. Fence
//	                  "log/raw/<space>", erasure by record.
//	s space o …       the resolved log. Fence "loop/<space>/<epoch>", erasure
//	                  by profile.
const (
	room              = 'm'
	toldForm     byte = 'c'
	epochForm    byte = 'e'
	baseForm     byte = 'b'
	rawRoom           = 'r'
	resolvedRoom      = 'o'
)

const metaFormat = 1

const fence kv.Fence = "workspace"

func toldKey(space uint32) kv.Key  { return kv.WorkspaceKey(room).Byte(toldForm).Uint32(space) }
func epochKey(space uint32) kv.Key { return kv.WorkspaceKey(room).Byte(epochForm).Uint32(space) }
func baseKey(space uint32) kv.Key  { return kv.WorkspaceKey(room).Byte(baseForm).Uint32(space) }

func rawStem(space uint32) kv.Key      { return kv.SpaceKey(space, rawRoom) }
func resolvedStem(space uint32) kv.Key { return kv.SpaceKey(space, resolvedRoom) }

func encodeNumber(n uint64) kv.Value { return kv.Value{metaFormat}.Uvarint(n) }

// readNumber reads a number; a missing one is zero.
func readNumber(r kv.Reader, key kv.Key) (uint64, error) {
	value, err := r.Get(key)
	if err != nil || value == nil {
		return 0, err
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == metaFormat
	n := f.Uvarint()
	if !known || !f.OK() {
		return 0, fault.New(fault.Internal, "a number of the server is damaged or of an unknown format")
	}
	return n, nil
}
