package profile

import (
	"context"
	"slices"

	"kith/event"
	"kith/identity"
	"kith/kv"
)

// Own returns the identifiers of a profile, and for each of those named the one
// of them that it is: in the form that the space's rules give it or, from before
// they did, as it is. One that is not the profile's comes back without a value.
func (rd *Reader) Own(ctx context.Context, t Target, named []event.Identifier) (own, found []event.Identifier, err error) {
	err = rd.db.View(ctx, func(r kv.Reader) error {
		_, p, err := locate(r, t)
		if err != nil {
			return err
		}
		for _, x := range p.Identifiers {
			own = append(own, x.Identifier)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for _, id := range named {
		if normal := identity.Normalize(t.Space, id); slices.Contains(own, normal) {
			id = normal
		}
		if !slices.Contains(own, id) {
			id = event.Identifier{}
		}
		found = append(found, id)
	}
	return own, found, nil
}
