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

// told is what was last announced under one identifier: whether its person is
// a member. A pair that is missing was never announced.
type told map[pair]bool

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
		t[p] = f.Byte() == 1
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
		member := byte(0)
		if t[p] {
			member = 1
		}
		v = v.String(p.audience).String(p.destination).Byte(member)
	}
	return v
}

// any reports whether some destination was told of a membership.
func (t told) any() bool {
	for _, member := range t {
		if member {
			return true
		}
	}
	return false
}
