package object

import (
	"kith/commitlog"
	"kith/fault"
	"kith/kv"
)

// Keys, all written under the fence of the space's loop:
//
//	s space Room 'o' source collection id  → the object
//	s space Room 'c' source collection     → how many objects there are
//
// Not under the epoch. Erasure class: objects by record, counts none.
const (
	Room = 'b'

	objects byte = 'o'
	counts  byte = 'c'
)

// format is the first byte of both values.
const format = 1

func objectStem(space uint32, source, collection string) kv.Key {
	return kv.SpaceKey(space, Room).Byte(objects).String(source).String(collection)
}

func countStem(space uint32, source string) kv.Key {
	return kv.SpaceKey(space, Room).Byte(counts).String(source)
}

// state is the value of an object: the first record that set it, the last one,
// and what all of them have set.
type state struct {
	first, last     commitlog.Offset
	firstAt, lastAt int64  // milliseconds since 1970
	properties      string // raw JSON object
	changed         bool   // since it was read
}

func (s *state) encode() kv.Value {
	v := make(kv.Value, 0, len(s.properties)+40).Byte(format).Uvarint(uint64(s.first)).Varint(s.firstAt)
	return v.Uvarint(uint64(s.last)).Varint(s.lastAt).String(s.properties)
}

func decodeState(value []byte) (*state, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == format
	s := &state{first: commitlog.Offset(f.Uvarint()), firstAt: f.Varint(), last: commitlog.Offset(f.Uvarint()), lastAt: f.Varint(), properties: f.String()}
	if !known || !f.OK() {
		return nil, fault.New(fault.Internal, "an object is damaged or of an unknown format")
	}
	return s, nil
}

// tally is the value of a collection.
type tally struct {
	objects uint64
	lastAt  int64 // when one of them was last set, in milliseconds since 1970
	changed bool  // since it was read
}

func (t *tally) encode() kv.Value {
	return kv.Value{format}.Uvarint(t.objects).Varint(t.lastAt)
}

func decodeTally(value []byte) (*tally, error) {
	if value == nil {
		return &tally{}, nil
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == format
	t := &tally{objects: f.Uvarint(), lastAt: f.Varint()}
	if !known || !f.OK() {
		return nil, fault.New(fault.Internal, "the count of a collection is damaged or of an unknown format")
	}
	return t, nil
}
