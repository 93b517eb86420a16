package revision

import (
	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
)

// redacted returns the identifiers of the persons whose events an erasure has
// redacted: what they are is worked out again from what their events say now.
// The command is that of the erasure; of any other there are none.
func redacted(v kv.Reader, space, epoch uint32, command commitlog.Offset) (ids []event.Identifier, err error) {
	e, err := archive.ErasureAt(v, space, command)
	if err != nil || e == nil {
		return nil, err
	}
	reader := identity.NewReader(v, space, epoch)
	for _, other := range e.Others {
		p, err := reader.Profile(other)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if p.Collection != event.Users {
			continue
		}
		for i := range p.Identifiers {
			ids = append(ids, p.Identifiers[i].Identifier)
		}
	}
	return ids, nil
}
