package rebuild

import (
	"encoding/json"
	"fmt"

	"kith/fault"
	"kith/kv"
)

// Keys: s space Room epoch:u32 → an epoch, as a format byte and JSON. Written
// under the fence "epochs/<space>", under no epoch. Erasure class: none.
const Room = 'e'

const epochFormat = 1

func epochStem(space uint32) kv.Key       { return kv.SpaceKey(space, Room) }
func epochKey(space, epoch uint32) kv.Key { return epochStem(space).Uint32(epoch) }
func fence(space uint32) kv.Fence         { return kv.Fence(fmt.Sprintf("epochs/%d", space)) }

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
