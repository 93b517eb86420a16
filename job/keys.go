package job

import (
	"encoding/json"
	"time"

	"kith/fault"
	"kith/kv"
)

// Keys: w JobRoom id → the job, as a format byte and JSON. Written under the
// fence "job/<id>", under no epoch. Erasure class: none; parameters and cursor
// name configuration and profile ids, never an identifier.
const JobRoom = 'j'

const jobFormat = 1

func jobKey(id string) kv.Key  { return kv.WorkspaceKey(JobRoom).String(id) }
func fence(id string) kv.Fence { return kv.Fence("job/" + id) }
func encode(s Status) ([]byte, error) {
	b, err := json.Marshal(s)
	return append([]byte{jobFormat}, b...), err
}

func decode(value []byte) (Status, error) {
	var s Status
	if len(value) == 0 || value[0] != jobFormat {
		return s, fault.New(fault.Internal, "a stored job is damaged or of an unknown format")
	}
	err := json.Unmarshal(value[1:], &s)
	return s, err
}

// State is what a job is doing.
type State string

// The states.
const (
	Running  State = "running"  // has an owner, or gets one at the next start
	Paused   State = "paused"   // stands until it is resumed
	Canceled State = "canceled" // stopped for good by somebody
	Failed   State = "failed"   // stopped for good by an error
	Finished State = "finished"
)

// ended reports whether nothing will happen to the job any more.
func (s State) ended() bool { return s == Canceled || s == Failed || s == Finished }

// goesOn reports whether now is the same run of the job, and still running.
func (s *Status) goesOn(now *Status) bool { return now.State == Running && now.Run == s.Run }

// Status is a job as it stands.
type Status struct {
	ID      string          `json:"id"`
	Kind    string          `json:"kind"`
	Params  json.RawMessage `json:"params,omitempty"`
	Cursor  []byte          `json:"cursor,omitempty"` // the kind knows its meaning; nil at the beginning
	Done    uint64          `json:"done"`             // units of work done
	Total   uint64          `json:"total"`            // units in all, as far as known; zero: unknown
	State   State           `json:"state"`
	Error   string          `json:"error,omitempty"` // why it failed
	Run     uint64          `json:"run"`             // which run of this id it is: each Start of an ended job makes another
	Created time.Time       `json:"createdAt"`
	Updated time.Time       `json:"updatedAt"`
}
