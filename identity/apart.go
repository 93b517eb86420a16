package identity

import (
	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// HeldApart returns the keys of what is kept of an identifier and of no
// profile: that events of nobody carried it, of the events that are asked for,
// and with refusals why events did not use it.
func HeldApart(r kv.Reader, space, epoch uint32, id event.Identifier, refusals bool, wanted func(commitlog.Offset) bool) (held [][]byte, err error) {
	k := keys{space, epoch}
	_, nobodys, err := NewReader(r, space, epoch).Sightings(id)
	if err != nil {
		return nil, err
	}
	for _, at := range nobodys {
		if wanted(at) {
			held = append(held, sighting{id: id, at: at}.keysOf(k)...)
		}
	}
	if refusals {
		held = append(held, k.refusalsOf(id))
	}
	return held, nil
}
