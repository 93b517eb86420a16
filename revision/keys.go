package revision

import (
	"encoding/json"
	"fmt"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
)

// Keys, all under the epoch and written under the fence of the space's loop:
//
//	Room s command   → what became of a revision                    none
//	Room r command   → who is still to be looked at by activation   gone within moments
//
// The command is its offset in the raw log.
const (
	Room = 'z'

	stateForm = 's'
	restForm  = 'r'
)

// The format bytes of the values.
const (
	stateFormat = 1
	restFormat  = 1
)

var errStored = fault.New(fault.Internal, "what is kept of a revision is damaged or of an unknown format")

func stateStem(space, epoch uint32) kv.Key { return kv.EpochKey(space, epoch, Room).Byte(stateForm) }

func stateKey(space, epoch uint32, command commitlog.Offset) kv.Key {
	return stateStem(space, epoch).Uint64(uint64(command))
}

func restStem(space, epoch uint32) kv.Key { return kv.EpochKey(space, epoch, Room).Byte(restForm) }

func restKey(space, epoch uint32, command commitlog.Offset) kv.Key {
	return restStem(space, epoch).Uint64(uint64(command))
}

// Phase says how far the revision of a command is.
type Phase string

// The phases.
const (
	// Pending: not worked out yet.
	Pending Phase = "pending"
	// Announcing: worked out; destinations are being told of the difference.
	Announcing Phase = "announcing"
	// Done: worked out and told. So is every command that was in force when its
	// epoch began.
	Done Phase = "done"
	// NeedsRebuild: the set is too large to be worked out beside the loop; the
	// command holds from its record on, and a rebuild applies it to what was
	// before.
	NeedsRebuild Phase = "needs-rebuild"
)

// State is what became of the revision of one command.
type State struct {
	Phase  Phase  `json:"phase"`
	Reason string `json:"reason,omitempty"` // why it needs a rebuild
	Events int    `json:"events"`           // that were worked out again
	Before int    `json:"before"`           // profiles in the set
	After  int    `json:"after"`            // profiles that came of it
	// Changed is how many of those are others than before: in their
	// identifiers, traits, memberships or events.
	Changed   int `json:"changed"`
	Announced int `json:"announced"` // messages to destinations
	// Stayed are the profiles with which traits, counts and events remained that
	// came before Horizon, an instant in milliseconds: of that time only what came
	// of it is known, and not what was whose.
	Stayed  []event.ProfileID `json:"stayed,omitempty"`
	Horizon int64             `json:"horizon,omitempty"`
	// MaxEvents and MaxBytes are the bounds that it was beyond.
	MaxEvents int   `json:"maxEvents,omitempty"`
	MaxBytes  int64 `json:"maxBytes,omitempty"`
}

// rest is who is still to be looked at after a swap.
type rest struct {
	Profiles []event.ProfileID  `json:"profiles,omitempty"`
	Nobodys  []event.ExternalID `json:"nobodys,omitempty"` // identifiers that are nobody's any more
}

func read[T any](r kv.Reader, key kv.Key, format byte) (*T, error) {
	value, err := r.Get(key)
	if err != nil || value == nil {
		return nil, err
	}
	v := new(T)
	if value[0] != format || json.Unmarshal(value[1:], v) != nil {
		return nil, errStored
	}
	return v, nil
}

func write(tx kv.Tx, key kv.Key, format byte, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode what is kept of a revision: %w", err)
	}
	return tx.Set(key, append([]byte{format}, body...))
}

// offsets returns the commands of the keys below a stem.
func offsets(r kv.Reader, stem kv.Key) (list []commitlog.Offset, err error) {
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		list = append(list, commitlog.Offset(parts.Uint64()))
		if !parts.OK() {
			return nil, errStored
		}
	}
	return list, nil
}
