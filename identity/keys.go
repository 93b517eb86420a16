package identity

import (
	"errors"

	"kith/event"
	"kith/kv"
)

// Keys, all under the epoch and written under the fence of the space's loop:
//
//	Room k collection type value  → whose the identifier is   erased by identifier
//	Room g profile                → the profile's graph       erased by profile
//	Room l child                  → its link to the survivor  erased by profile
//	Room m profile profile        → a user's account, and an account's user; both directions are written
//	                                                          erased by profile
//	Room y                        → the types that were registered by themselves   erasure class none
//
// The profile under k is always a survivor: a merge rewrites it. The graph
// under g of a profile that was merged away stays as it was at that moment.
const (
	Room = 'i'

	ownerForm  = 'k'
	graphForm  = 'g'
	linkForm   = 'l'
	memberForm = 'm'
	typesForm  = 'y'
)

// The format bytes of the values.
const (
	ownerFormat  = 1
	graphFormat  = 1
	linkFormat   = 1
	memberFormat = 1
	typesFormat  = 1
)

var errStored = errors.New("identity: a stored value is damaged or of an unknown format")

// The collections in keys and values.
const (
	usersByte    = 1
	accountsByte = 2
)

func collectionByte(collection string) byte {
	if collection == event.Accounts {
		return accountsByte
	}
	return usersByte
}

func collectionOf(b byte) string {
	if b == accountsByte {
		return event.Accounts
	}
	return event.Users
}

// keys builds the keys of one space and epoch.
type keys struct{ space, epoch uint32 }

func (k keys) owner(id event.Identifier) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(ownerForm).Byte(collectionByte(id.Collection)).String(id.Type).String(id.Value)
}

func (k keys) graph(p event.ProfileID) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(graphForm).Fixed(p[:])
}

func (k keys) link(child event.ProfileID) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(linkForm).Fixed(child[:])
}

func (k keys) members(of event.ProfileID) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(memberForm).Fixed(of[:])
}

func (k keys) member(of, other event.ProfileID) kv.Key { return k.members(of).Fixed(other[:]) }

func (k keys) types() kv.Key { return kv.EpochKey(k.space, k.epoch, Room).Byte(typesForm) }

func encodeOwner(p event.ProfileID) kv.Value { return kv.Value{ownerFormat}.Fixed(p[:]) }

func decodeOwner(value []byte) (p event.ProfileID, err error) {
	f := kv.FieldsOf(value)
	if f.Byte() != ownerFormat {
		return p, errStored
	}
	copy(p[:], f.Fixed(len(p)))
	if !f.OK() {
		return p, errStored
	}
	return p, nil
}
