package pipeline

import (
	"kith/commitlog"
	"kith/kv"
)

// Keys, all written under the fence of the space's loop:
//
//	PositionRoom  e space epoch p          → offset, at, snapshot
//
// The keys of dedup are in package dedup. Erasure class: none.
const PositionRoom = 'p'

const positionFormat = 1

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

// CopyPosition gives an epoch of another store the position of one of the same
// space, and returns it.
func CopyPosition(from kv.Reader, epoch uint32, to kv.Tx, space, into uint32) (Position, error) {
	p, err := ReadPosition(from, space, epoch)
	if err != nil {
		return Position{}, err
	}
	return p, to.Set(kv.EpochKey(space, into, PositionRoom), encodePosition(p))
}
