package identity

import (
	"errors"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// Keys, all under the epoch and written under the fence of the space's loop:
//
//	Room k collection type value  → whose the identifier is   erased by identifier
//	Room g profile                → the head of the profile's graph       erased by profile
//	Room p profile page           → a page of the profile's identifiers   erased by profile
//	Room n profile page           → a page of those merged into it        erased by profile
//	Room l child                  → its link to the survivor  erased by profile
//	Room m profile profile        → a user's account, and an account's user; both directions are written
//	                                                          erased by profile
//	Room y                        → the types that were registered by themselves   erasure class none
//	Room c 0                      → a digest of the standing commands    erasure class none
//	Room c 1 offset               → a standing command                   erased by identifier
//	Room q offset                 → that a standing command's effect on what came before it is due   none
//	Room o                        → the rules that hold from the start   erasure class none
//	Room v 'i' collection type value → how often and why events did not use the identifier   erased by identifier
//	Room v 'p' profile            → how often and why the profile's events did not use identifiers   erased by profile
//	Room v 't' collection type    → how often events carried a standard type that no rule names, and the first
//	                                                          and the newest of them   erasure class none
//	Room x 'i' collection type value profile [offset]   → that an event of the profile did not use the identifier; with
//	                                                          the offset where the event is nobody's   erased by identifier
//	Room x 'p' profile collection type value            → the same   erased by profile
//	Room b profile                → how often others were merged into it lately, and how many identifiers its
//	                                                          events could not use   erased by profile
//	Room u collection type value  → on the events of how many profiles the identifier could not be used   erased by identifier
//	Room s suspicion magnitude profile or identifier    → that its figure is of that magnitude; the largest come
//	                                                          first   erased by profile and by identifier
//
// The profile under k is always a survivor: a merge rewrites it. The graph
// under g of a profile that was merged away stays as it was at that moment.
const (
	Room = 'i'

	ownerForm  = 'k'
	graphForm  = 'g'
	pageForm   = 'p'
	mergedForm = 'n'
	linkForm   = 'l'
	memberForm = 'm'
	typesForm  = 'y'

	standingForm = 'c'
	revisionForm = 'q'
	overrideForm = 'o'
	refusalForm  = 'v'
	sightingForm = 'x'
	markForm     = 'b'
	sharedForm   = 'u'
	suspectForm  = 's'

	byIdentifier = 'i' // refusals and sightings
	byProfile    = 'p'
	byType       = 't' // refusals
)

// The format bytes of the values.
const (
	ownerFormat  = 1
	graphWhole   = 1 // without pages; is read, and written no more
	graphFormat  = 2
	pageFormat   = 1
	linkFormat   = 1
	memberFormat = 1
	typesFormat  = 1

	digestFormat   = 1
	standingFormat = 1
	revisionFormat = 1
	overrideFormat = 1
	refusalFormat  = 1
	sightingFormat = 1
	markFormat     = 1
	sharedFormat   = 1
	suspectFormat  = 1
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

func (k keys) page(p event.ProfileID, page int) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(pageForm).Fixed(p[:]).Uint32(uint32(page))
}

func (k keys) mergedPage(p event.ProfileID, page int) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(mergedForm).Fixed(p[:]).Uint32(uint32(page))
}

func (k keys) link(child event.ProfileID) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(linkForm).Fixed(child[:])
}

func (k keys) members(of event.ProfileID) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(memberForm).Fixed(of[:])
}

func (k keys) member(of, other event.ProfileID) kv.Key { return k.members(of).Fixed(other[:]) }

func (k keys) mark(p event.ProfileID) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(markForm).Fixed(p[:])
}

func (k keys) shared(id event.Identifier) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(sharedForm).Byte(collectionByte(id.Collection)).String(id.Type).String(id.Value)
}

func (k keys) suspects(s Suspicion) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(suspectForm).Byte(byte(s))
}

func (k keys) types() kv.Key { return kv.EpochKey(k.space, k.epoch, Room).Byte(typesForm) }

func (k keys) digest() kv.Key { return kv.EpochKey(k.space, k.epoch, Room).Byte(standingForm).Byte(0) }

func (k keys) standings() kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(standingForm).Byte(1)
}

func (k keys) standing(at commitlog.Offset) kv.Key { return k.standings().Uint64(uint64(at)) }

func (k keys) revisions() kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(revisionForm)
}

func (k keys) revision(at commitlog.Offset) kv.Key { return k.revisions().Uint64(uint64(at)) }

func (k keys) override() kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(overrideForm)
}

func (k keys) refusalsOf(id event.Identifier) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(refusalForm).Byte(byIdentifier).Byte(collectionByte(id.Collection)).String(id.Type).String(id.Value)
}

func (k keys) refusalsOn(p event.ProfileID) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(refusalForm).Byte(byProfile).Fixed(p[:])
}

func (k keys) unwanted() kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(refusalForm).Byte(byType)
}

func (k keys) sightingsOf(id event.Identifier) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(sightingForm).Byte(byIdentifier).Byte(collectionByte(id.Collection)).String(id.Type).String(id.Value)
}

func (k keys) sightingsOn(p event.ProfileID) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(sightingForm).Byte(byProfile).Fixed(p[:])
}

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
