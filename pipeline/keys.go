package pipeline

import (
	"crypto/sha256"

	"kith/commitlog"
	"kith/kv"
)

// Keys, all written under the fence of the space's loop:
//
//	PositionRoom  e space epoch p          → offset, at, snapshot
//	DedupRoom     s space d hash           → offset and instant of the first record with that messageId
//
// hash is the first 16 bytes of SHA-256 over the messageId: nobody can make
// two messageIds that meet in it. Erasure class: PositionRoom none, DedupRoom
// none (a hash of a random id).
const (
	PositionRoom = 'p'
	DedupRoom    = 'd'
)

const (
	positionFormat = 1
	dedupFormat    = 1
)

// Position is how far a loop has come.
type Position struct {
	Next     commitlog.Offset // the raw record that comes next
	At       int64            // the instant of the last record or firing, in milliseconds
	Snapshot uint64           // the configuration in force; zero before the first config record
}

func encodePosition(p Position) kv.Value {
	return kv.Value{positionFormat}.Uvarint(uint64(p.Next)).Varint(p.At).Uvarint(p.Snapshot)
}

func decodePosition(value []byte) (Position, bool) {
	if value == nil {
		return Position{}, true
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == positionFormat
	p := Position{Next: commitlog.Offset(f.Uvarint()), At: f.Varint(), Snapshot: f.Uvarint()}
	return p, known && f.OK()
}

// ReadPosition returns how far the loop of a space and epoch has come.
func ReadPosition(r kv.Reader, space, epoch uint32) (Position, error) {
	value, err := r.Get(kv.EpochKey(space, epoch, PositionRoom))
	if err != nil {
		return Position{}, err
	}
	p, ok := decodePosition(value)
	if !ok {
		return Position{}, errPosition
	}
	return p, nil
}

func dedupKey(space uint32, messageID string) kv.Key {
	sum := sha256.Sum256([]byte(messageID))
	return kv.SpaceKey(space, DedupRoom).Fixed(sum[:16])
}

func encodeSeen(r *Record) kv.Value {
	return kv.Value{dedupFormat}.Uvarint(uint64(r.Offset)).Varint(r.At)
}

// decodeSeen returns offset and instant of the first record.
func decodeSeen(value []byte) (offset commitlog.Offset, at int64, ok bool) {
	f := kv.FieldsOf(value)
	known := f.Byte() == dedupFormat
	offset, at = commitlog.Offset(f.Uvarint()), f.Varint()
	return offset, at, known && f.OK()
}
