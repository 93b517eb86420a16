package kvlog

import (
	"encoding/binary"

	"kith/commitlog"
	"kith/fault"
	"kith/kv"
)

// All keys of a log begin with the stem its owner gives to Open (room 'r' for
// a space's raw log, 'o' for its resolved log, both under no epoch), and are
// written under the fence its owner gives. The erasure class is the owner's:
// what a block holds of a person is found by record.
//
//	stem Uint64(first offset)    a block: formatBlock, Uvarint(count), the data
//	stem Uint64(offset)          a base: formatBase. Where the log goes on when
//	                             everything before has been trimmed. The next
//	                             block has the same key and takes its place.
const (
	formatBlock = 1
	formatBase  = 2
)

// blockOverhead is the most that a block takes beside its data and the stem.
const blockOverhead = 8 + 1 + binary.MaxVarintLen64

func blockKey(stem kv.Key, first commitlog.Offset) kv.Key {
	return stem.Clone().Uint64(uint64(first))
}

func blockValue(p commitlog.Payload) kv.Value {
	v := make(kv.Value, 0, blockOverhead+len(p.Data))
	return v.Byte(formatBlock).Uvarint(uint64(p.Count)).Fixed(p.Data)
}

// parse reads a pair of the log. A base is a block of no records. The data
// points into the value.
func parse(stem kv.Key, pair kv.Pair) (commitlog.Block, error) {
	key := kv.PartsAfter(pair.Key, stem)
	block := commitlog.Block{First: commitlog.Offset(key.Uint64())}
	value := kv.FieldsOf(pair.Value)
	format := value.Byte()
	switch format {
	case formatBlock:
		block.Count = value.Count(commitlog.MaxBlockBytes)
		block.Data = value.Rest()
	case formatBase:
	default:
		return block, fault.New(fault.Internal, "block %d of a log has format %d, which this version of kith does not know", block.First, format)
	}
	if !key.OK() || len(key.Rest()) > 0 || !value.OK() || format == formatBlock && block.Count == 0 {
		return block, fault.New(fault.Internal, "block %d of a log is damaged", block.First)
	}
	return block, nil
}
