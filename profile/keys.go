package profile

import (
	"errors"

	"kith/event"
	"kith/kv"
)

// Keys, under the epoch and written under the fence of the space's loop:
//
//	Room p profile page:u8    → a page of traits                           erased by profile
//	Room s name text profile  → that the profile's trait has that value    erased by profile
//	Room t                    → which traits s holds, and how completely   erasure class none
//
// Page 0 is there when any is; it says how many there are. The text under s is
// the value as it is searched for; see folded.
const (
	Room = 'f'

	pageForm  = 'p'
	entryForm = 's'
	indexForm = 't'
)

// The format bytes of the values.
const (
	pageFormat  = 1
	entryFormat = 1
	indexFormat = 1
)

var errStored = errors.New("profile: a stored page is damaged or of an unknown format")

// keys builds the keys of one space and epoch.
type keys struct{ space, epoch uint32 }

// place is a space and an epoch.
type place struct{ space, epoch uint32 }

func (k keys) allPages() kv.Key { return kv.EpochKey(k.space, k.epoch, Room).Byte(pageForm) }

func (k keys) pages(p event.ProfileID) kv.Key { return k.allPages().Fixed(p[:]) }

func (k keys) page(p event.ProfileID, n int) kv.Key { return k.pages(p).Byte(byte(n)) }

// entries is the stem of the index of a trait.
func (k keys) entries(name string) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(entryForm).String(name)
}

func (k keys) entry(name, text string, p event.ProfileID) kv.Key {
	return k.entries(name).String(text).Fixed(p[:])
}

func (k keys) index() kv.Key { return kv.EpochKey(k.space, k.epoch, Room).Byte(indexForm) }
