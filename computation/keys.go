package computation

import (
	"errors"

	"kith/event"
	"kith/kv"
)

// Keys, all under the epoch and written under the fence of the space's loop:
//
//	Room r                    → the registry: builds and aggregates   none
//	Room v                    → the registry's digest                 none
//	Room w                    → how far the Builder has come          none
//	Room a profile shelf      → cells                                 erased by profile
//	Room p profile            → a page                                erased by profile
//	Room m build profile      → since when the profile is a member    erased by profile
//	Room s build              → how many members a build has          none
//
// Builds and shelves are 32-bit numbers that the registry gives. A shelf holds
// the cells of up to 64 aggregates of one event, so that an event reads and
// writes one key however many definitions count it. The shelves of a profile
// that was merged away stay as they were at that moment; its page and
// memberships go.
const (
	Room = 'c'

	registryForm = 'r'
	digestForm   = 'v'
	cursorForm   = 'w'
	shelfForm    = 'a'
	pageForm     = 'p'
	memberForm   = 'm'
	sizeForm     = 's'
)

// The format bytes of the values.
const (
	registryFormat = 2
	boundless      = 1 // a registry whose builds do not name their aggregates
	digestFormat   = 1
	cursorFormat   = 1
	shelfFormat    = 1
	pageFormat     = 1
	memberFormat   = 1
	sizeFormat     = 1
)

var errStored = errors.New("computation: a stored value is damaged or of an unknown format")

// keys builds the keys of one space and epoch.
type keys struct{ space, epoch uint32 }

func (k keys) form(f byte) kv.Key { return kv.EpochKey(k.space, k.epoch, Room).Byte(f) }

func (k keys) registry() kv.Key { return k.form(registryForm) }

func (k keys) digest() kv.Key { return k.form(digestForm) }

func (k keys) cursor() kv.Key { return k.form(cursorForm) }

func (k keys) shelves(p event.ProfileID) kv.Key { return k.form(shelfForm).Fixed(p[:]) }

func (k keys) shelf(p event.ProfileID, number uint32) kv.Key { return k.shelves(p).Uint32(number) }

func (k keys) page(p event.ProfileID) kv.Key { return k.form(pageForm).Fixed(p[:]) }

func (k keys) members(build uint32) kv.Key { return k.form(memberForm).Uint32(build) }

func (k keys) member(build uint32, p event.ProfileID) kv.Key { return k.members(build).Fixed(p[:]) }

func (k keys) size(build uint32) kv.Key { return k.form(sizeForm).Uint32(build) }
