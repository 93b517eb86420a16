package activation

import (
	"slices"
	"strings"

	"kith/event"
	"kith/fault"
	"kith/kv"
)

// Keys, written under the fence of the space's loop, under no epoch:
//
//	s space a i collection type value        → what was told under an identifier
//	s space a c audience destination         → a connection whose first sync is not finished: the
//	                                           number of the snapshot that made it
//
// Erasure class: the first by identifier, the second none.
const Room = 'a'

// The format bytes of the two values.
const (
	toldFormat    = 1
	pendingFormat = 1
)

var errTold = fault.New(fault.Internal, "what was told to destinations is damaged or of an unknown format")

func toldStem(space uint32) kv.Key { return kv.SpaceKey(space, Room).Byte('i') }

func toldKey(space uint32, id event.Identifier) kv.Key {
	return toldStem(space).String(id.Collection).String(id.Type).String(id.Value)
}

func pendingStem(space uint32) kv.Key { return kv.SpaceKey(space, Room).Byte('c') }

func pendingKey(space uint32, p pair) kv.Key {
	return pendingStem(space).String(p.audience).String(p.destination)
}

// pair is an audience connected to a destination, by their ids.
type pair struct{ audience, destination string }

func comparePairs(a, b pair) int {
	if c := strings.Compare(a.audience, b.audience); c != 0 {
		return c
	}
	return strings.Compare(a.destination, b.destination)
}

// told is what was last announced under one identifier. A pair that is missing
// was never announced.
type told map[pair]standing

// standing is what was last announced to a connection.
type standing struct {
	member bool
	// first is the number of the snapshot that made the connection, when that
	// was before the end of its first sync; else zero.
	first uint64
}

// The bits of a standing's stored form.
const (
	bitMember = 1 << iota
	bitFirst  // the number follows
)

func decodeTold(value []byte) (told, error) {
	if value == nil {
		return told{}, nil
	}
	f := kv.FieldsOf(value)
	if f.Byte() != toldFormat {
		return nil, errTold
	}
	t := told{}
	for len(f.Rest()) > 0 {
		p := pair{audience: f.String(), destination: f.String()}
		bits := f.Byte()
		s := standing{member: bits&bitMember != 0}
		if bits&bitFirst != 0 {
			s.first = f.Uvarint()
		}
		t[p] = s
	}
	if !f.OK() {
		return nil, errTold
	}
	return t, nil
}

func (t told) encode() kv.Value {
	pairs := make([]pair, 0, len(t))
	for p := range t {
		pairs = append(pairs, p)
	}
	slices.SortFunc(pairs, comparePairs)
	v := kv.Value{toldFormat}
	for _, p := range pairs {
		s, bits := t[p], byte(0)
		if s.member {
			bits |= bitMember
		}
		if s.first != 0 {
			bits |= bitFirst
		}
		v = v.String(p.audience).String(p.destination).Byte(bits)
		if s.first != 0 {
			v = v.Uvarint(s.first)
		}
	}
	return v
}

// any reports whether some destination was told of a membership.
func (t told) any() bool {
	for _, s := range t {
		if s.member {
			return true
		}
	}
	return false
}
