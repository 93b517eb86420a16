package retention

import (
	"encoding/json"
	"fmt"
	"time"

	"kith/fault"
	"kith/kv"
)

// Room is the room byte of what is kept of retention.
//
//	s space u → the newest Run
//
// Fence retention/<space>. Erasure class none: it names nobody.
const Room = 'u'

const runFormat = 1

func runKey(space uint32) kv.Key { return kv.SpaceKey(space, Room) }

// Fence returns the fence of what is kept of a space's retention.
func Fence(space uint32) kv.Fence { return kv.Fence(fmt.Sprintf("retention/%d", space)) }

// Run is one look at how far a horizon may move.
type Run struct {
	At     time.Time `json:"at"`
	Before time.Time `json:"before"`          // events from this instant on are kept
	Holds  []Hold    `json:"holds,omitempty"` // what made it earlier than the retention asks for
}

// Hold is somebody who still needs old events.
type Hold struct {
	Destination string    `json:"destination,omitempty"` // its id; empty: Kith itself
	Why         string    `json:"why"`                   // in plain words
	Since       time.Time `json:"since"`                 // the instant of the oldest record that is needed
}

func readRun(r kv.Reader, space uint32) (*Run, error) {
	value, err := r.Get(runKey(space))
	if err != nil || value == nil {
		return nil, err
	}
	var run Run
	if value[0] != runFormat || json.Unmarshal(value[1:], &run) != nil {
		return nil, fault.New(fault.Internal, "what is kept of the retention of space %d is damaged or of an unknown format", space)
	}
	return &run, nil
}

func writeRun(tx kv.Tx, space uint32, run *Run) error {
	text, err := json.Marshal(run)
	if err != nil {
		return err
	}
	return tx.Set(runKey(space), append(kv.Value{runFormat}, text...))
}
