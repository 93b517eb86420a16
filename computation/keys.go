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
//	Room a profile aggregate  → a cell                                erased by profile
//	Room p profile            → a page                                erased by profile
//	Room m build profile      → that the profile is a member          erased by profile
//	Room s build              → how many members a build has          none
//
// Builds and aggregates are 32-bit numbers that the registry gives. The cells
// of a profile that was merged away stay as they were at that moment; its page
// and memberships go.
const (
	Room = 'c'

	registryForm = 'r'
	digestForm   = 'v'
	cursorForm   = 'w'
	cellForm     = 'a'
	pageForm     = 'p'
	memberForm   = 'm'
	sizeForm     = 's'
)

// The format bytes of the values.
const (
	registryFormat = 1
	digestFormat   = 1
	cursorFormat   = 1
	cellFormat     = 1
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

func (k keys) cells(p event.ProfileID) kv.Key { return k.form(cellForm).Fixed(p[:]) }

func (k keys) cell(p event.ProfileID, aggregate uint32) kv.Key { return k.cells(p).Uint32(aggregate) }

func (k keys) page(p event.ProfileID) kv.Key { return k.form(pageForm).Fixed(p[:]) }

func (k keys) members(build uint32) kv.Key { return k.form(memberForm).Uint32(build) }

func (k keys) member(build uint32, p event.ProfileID) kv.Key { return k.members(build).Fixed(p[:]) }

func (k keys) size(build uint32) kv.Key { return k.form(sizeForm).Uint32(build) }
