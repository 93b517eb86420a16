package identity

import (
	"encoding/json"
	"fmt"

	"kith/fault"
	"kith/kv"
	"kith/workspace"
)

// An override says that the identity rules of a later configuration hold from
// the start of an epoch: that of a rebuild under other rules, or of a
// simulation. The space is kept with it, since the rules that are tried in a
// simulation are in no snapshot.
type override struct {
	value  string // as stored
	number uint64
	space  *workspace.Space
}

// SetOverride has the rules of a snapshot's space hold in an epoch for all
// records whose own snapshot is older. It is written before the epoch's first
// record. It fails with fault.NotFound when the snapshot has no such space.
func SetOverride(tx kv.Tx, space, epoch uint32, s *workspace.Snapshot) error {
	found := s.SpaceByNumber(space)
	if found == nil {
		return fault.New(fault.NotFound, "snapshot %d has no space %d", s.Number, space)
	}
	body, err := json.Marshal(found)
	if err != nil {
		return fmt.Errorf("encode the rules of space %d: %w", space, err)
	}
	return tx.Set(keys{space, epoch}.override(), kv.Value{overrideFormat}.Uvarint(s.Number).Bytes(body))
}

// DropOverride has every record of an epoch go by the rules of its own time
// again, from where the epoch stands.
func DropOverride(tx kv.Tx, space, epoch uint32) error {
	return tx.Delete(keys{space, epoch}.override())
}

// Override returns the number of the snapshot whose rules hold in this epoch
// from its start, and the space with those rules; zero and nil when every
// record goes by the rules of its own time.
func (r Reader) Override() (uint64, *workspace.Space, error) {
	value, err := r.r.Get(r.keys.override())
	if err != nil || value == nil {
		return 0, nil, err
	}
	o, err := decodeOverride(value)
	if err != nil {
		return 0, nil, err
	}
	return o.number, o.space, nil
}

func decodeOverride(value []byte) (*override, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == overrideFormat
	o := &override{value: string(value), number: f.Uvarint(), space: &workspace.Space{}}
	body := f.Bytes()
	if !known || !f.OK() || json.Unmarshal(body, o.space) != nil {
		return nil, errStored
	}
	return o, nil
}

// overrideOf returns the override of an epoch, read and compiled once while it
// stays the same.
func (s *Identity) overrideOf(r Reader) (*override, error) {
	value, err := r.r.Get(r.keys.override())
	if err != nil || value == nil {
		return nil, err
	}
	s.mu.RLock()
	last := s.override
	s.mu.RUnlock()
	if last != nil && last.value == string(value) {
		return last, nil
	}
	o, err := decodeOverride(value)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.override = o
	return o, nil
}
