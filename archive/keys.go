package archive

import (
	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// Keys, all written under the fence of the space's loop:
//
//	VerdictRoom  s space v offset                  → verdicts of a run of records, and where their outputs are
//	LandmarkRoom s space k                         → the offset from which on landmarks are listed
//	LandmarkRoom s space k offset                  → the kind of a record that is no event
//	ProfileRoom  e space epoch n offset            → profiles of a run of records
//	HistoryRoom  e space epoch h profile time off  → the type of that event
//	OverlayRoom  e space epoch w offset            → whose that record is, in place of what ProfileRoom says
//	ErasureRoom  s space z offset                  → an Erasure, by the offset of its command
//	HorizonRoom  s space y                         → the Horizon of the space
//	HorizonRoom  s space y t                       → how far the space is trimmed, a Trimmed
//
// The offset is that of the run's first record; a run is a batch of the loop.
// Erasure class: VerdictRoom by record (it holds the bodies that intake has
// changed), LandmarkRoom and HorizonRoom none, ErasureRoom expires (it holds whom it erases until its
// work is done), the others by profile.
const (
	VerdictRoom  = 'v'
	LandmarkRoom = 'k'
	ProfileRoom  = 'n'
	HistoryRoom  = 'h'
	OverlayRoom  = 'w'
	ErasureRoom  = 'z'
	HorizonRoom  = 'y'
)

// The format bytes of the values. Verdicts of format 1 do not say where
// the outputs of their records are.
const (
	verdictFormat  = 2
	verdictAlone   = 1
	landmarkFormat = 1
	profileFormat  = 1
	historyFormat  = 1
	overlayFormat  = 1
	erasureFormat  = 1
	horizonFormat  = 1
	trimmedFormat  = 1
)

func verdictStem(space uint32) kv.Key        { return kv.SpaceKey(space, VerdictRoom) }
func landmarkStem(space uint32) kv.Key       { return kv.SpaceKey(space, LandmarkRoom) }
func profileStem(space, epoch uint32) kv.Key { return kv.EpochKey(space, epoch, ProfileRoom) }
func overlayStem(space, epoch uint32) kv.Key { return kv.EpochKey(space, epoch, OverlayRoom) }
func historyStem(space, epoch uint32, p event.ProfileID) kv.Key {
	return kv.EpochKey(space, epoch, HistoryRoom).Fixed(p[:])
}

func horizonStem(space uint32) kv.Key { return kv.SpaceKey(space, HorizonRoom) }
func trimmedKey(space uint32) kv.Key  { return horizonStem(space).Byte('t') }
func erasureStem(space uint32) kv.Key { return kv.SpaceKey(space, ErasureRoom) }

func erasureKey(space uint32, command commitlog.Offset) kv.Key {
	return erasureStem(space).Uint64(uint64(command))
}

func runKey(stem kv.Key, first commitlog.Offset) kv.Key { return stem.Clone().Uint64(uint64(first)) }
