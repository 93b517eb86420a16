package identity

import (
	"kith/event"
	"kith/kv"
)

// People returns the ids of people, in the order of their ids: at most limit
// of them (at least one) behind after, none at the end. Those that were merged
// away are among them.
func (r Reader) People(after event.ProfileID, limit int) ([]event.ProfileID, error) {
	stem := kv.EpochKey(r.keys.space, r.keys.epoch, Room).Byte(graphForm)
	rng := kv.Prefix(stem)
	if !after.IsZero() {
		rng.From = append(r.keys.graph(after), 0)
	}
	var list []event.ProfileID
	for pair, err := range r.r.Scan(rng) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		id := event.ProfileID(parts.Fixed(len(after)))
		if !parts.OK() || len(pair.Value) < 2 || pair.Value[0] != graphFormat && pair.Value[0] != graphWhole {
			return nil, errStored
		}
		if collectionOf(pair.Value[1]) != event.Users {
			continue
		}
		if list = append(list, id); len(list) == limit {
			break
		}
	}
	return list, nil
}
