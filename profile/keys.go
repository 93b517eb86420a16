package profile

import (
	"errors"

	"kith/event"
	"kith/kv"
)

// Keys, under the epoch and written under the fence of the space's loop:
//
//	Room p profile page:u8   → a page of traits   erased by profile
//
// Page 0 is there when any is; it says how many there are.
const (
	Room = 'f'

	pageForm = 'p'
)

const pageFormat = 1

var errStored = errors.New("profile: a stored page is damaged or of an unknown format")

// keys builds the keys of one space and epoch.
type keys struct{ space, epoch uint32 }

func (k keys) pages(p event.ProfileID) kv.Key {
	return kv.EpochKey(k.space, k.epoch, Room).Byte(pageForm).Fixed(p[:])
}

func (k keys) page(p event.ProfileID, n int) kv.Key { return k.pages(p).Byte(byte(n)) }
