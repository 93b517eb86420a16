package rebuild

import (
	"encoding/json"
	"fmt"

	"kith/fault"
	"kith/kv"
)

// Keys, written under the fence "epochs/<space>", under no epoch:
//
//	s space Room 'e' epoch:u32 → an epoch, as a format byte and JSON   erasure class none
//	s space Room 'r' epoch:u32 → the report of a trial, as JSON        expires
//	s space Room 't' base:u32 epoch:u32 → how often something was taken out of an epoch while another was the base,
//	                             written under the fence of that epoch's loop   erasure class none
const Room = 'e'

const (
	epochForm  = 'e'
	reportForm = 'r'
	takenForm  = 't'
)

// epochFormat is the format byte of all.
const epochFormat = 1

var errReport = fault.New(fault.Internal, "a stored report is of an unknown format")

func epochStem(space uint32) kv.Key       { return kv.SpaceKey(space, Room).Byte(epochForm) }
func epochKey(space, epoch uint32) kv.Key { return epochStem(space).Uint32(epoch) }
func reportKey(space, epoch uint32) kv.Key {
	return kv.SpaceKey(space, Room).Byte(reportForm).Uint32(epoch)
}
func takenStem(space, base uint32) kv.Key {
	return kv.SpaceKey(space, Room).Byte(takenForm).Uint32(base)
}
func loopFence(space, epoch uint32) kv.Fence {
	return kv.Fence(fmt.Sprintf("loop/%d/%d", space, epoch))
}
func fence(space uint32) kv.Fence { return kv.Fence(fmt.Sprintf("epochs/%d", space)) }

func encode(e *Epoch) (kv.Value, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("epoch %d: %w", e.Number, err)
	}
	return append(kv.Value{epochFormat}, text...), nil
}

func decode(value []byte) (*Epoch, error) {
	e := &Epoch{}
	if len(value) == 0 || value[0] != epochFormat || json.Unmarshal(value[1:], e) != nil {
		return nil, fault.New(fault.Internal, "a stored epoch is damaged or of an unknown format")
	}
	return e, nil
}
