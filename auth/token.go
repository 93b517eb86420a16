package auth

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"

	"kith/kv"
)

// rightDelete is the right to delete identifiers, in a stored token.
const rightDelete = 1

func encode(t ProfileToken, space uint32) []byte {
	v := kv.Value{tokenFormat2}.String(t.ID).Uvarint(uint64(space)).String(t.Name).Varint(t.CreatedAt.UnixMilli())
	if t.Delete {
		return v.Byte(rightDelete)
	}
	return v.Byte(0)
}

func decode(stored []byte) (t ProfileToken, space uint32, err error) {
	f := kv.FieldsOf(stored)
	format := f.Byte()
	t.ID = f.String()
	space = uint32(f.Uvarint())
	t.Name = f.String()
	t.CreatedAt = time.UnixMilli(f.Varint()).UTC()
	if format == tokenFormat2 {
		t.Delete = f.Byte()&rightDelete != 0
	}
	if !f.OK() || format != tokenFormat1 && format != tokenFormat2 {
		return ProfileToken{}, 0, errors.New("a stored profile token is damaged or of an unknown format")
	}
	return t, space, nil
}

// each calls fn with every profile token; key may be kept.
func each(r kv.Reader, fn func(key []byte, t ProfileToken, space uint32) error) error {
	for pair, err := range r.Scan(kv.Prefix(kv.WorkspaceKey(room))) {
		if err != nil {
			return err
		}
		t, space, err := decode(pair.Value)
		if err != nil {
			return err
		}
		if err := fn(bytes.Clone(pair.Key), t, space); err != nil {
			return err
		}
	}
	return nil
}

func sortTokens(list []ProfileToken) {
	slices.SortFunc(list, func(a, b ProfileToken) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}
