package importer

import (
	"context"
	"encoding/json"
	"fmt"

	"kith/fault"
	"kith/kv"
)

// Key: w room space:u32 id → the import, as a format byte and JSON. Written
// under the fence "import/<id>", under no epoch. Erasure class: none; it holds
// numbers and the names of columns, never what stands in a row.
const room = 'i'

const format = 1

func importKey(space uint32, id string) kv.Key {
	return kv.WorkspaceKey(room).Uint32(space).String(id)
}

func fence(id string) kv.Fence { return kv.Fence("import/" + id) }

func jobID(id string) string { return "import/" + id }

func errNoImport(id string) error { return fault.New(fault.NotFound, "there is no import %q", id) }

func encode(i *Import) ([]byte, error) {
	b, err := json.Marshal(i)
	return append([]byte{format}, b...), err
}

func decode(value []byte) (*Import, error) {
	if len(value) == 0 || value[0] != format {
		return nil, fault.New(fault.Internal, "a stored import is damaged or of an unknown format")
	}
	i := &Import{}
	if err := json.Unmarshal(value[1:], i); err != nil {
		return nil, fmt.Errorf("a stored import: %w", err)
	}
	return i, nil
}

// progressOf reads the cursor of an import's job.
func progressOf(i *Import, cursor []byte) (Progress, error) {
	at := i.Begin
	if cursor == nil {
		return at, nil
	}
	if err := json.Unmarshal(cursor, &at); err != nil {
		return at, fmt.Errorf("cursor of import %s: %w", i.ID, err)
	}
	return at, nil
}

// read returns an import of a space.
func (m *Importer) read(ctx context.Context, space uint32, id string) (i *Import, err error) {
	err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
		value, err := r.Get(importKey(space, id))
		if err != nil {
			return err
		}
		if value == nil {
			return errNoImport(id)
		}
		i, err = decode(value)
		return err
	})
	return i, err
}

// readAll returns the imports of a space, or of all.
func (m *Importer) readAll(ctx context.Context, space *uint32) (all []*Import, err error) {
	stem := kv.WorkspaceKey(room)
	if space != nil {
		stem = stem.Uint32(*space)
	}
	err = m.cfg.DB.View(ctx, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			i, err := decode(p.Value)
			if err != nil {
				return err
			}
			all = append(all, i)
		}
		return nil
	})
	return all, err
}

// change changes an import that is kept.
func (m *Importer) change(ctx context.Context, space uint32, id string, fn func(*Import) error) error {
	return m.cfg.DB.Update(ctx, fence(id), kv.Durable, func(tx kv.Tx) error {
		value, err := tx.Get(importKey(space, id))
		if err != nil {
			return err
		}
		if value == nil {
			return errNoImport(id)
		}
		i, err := decode(value)
		if err != nil {
			return err
		}
		if err := fn(i); err != nil {
			return err
		}
		if value, err = encode(i); err != nil {
			return err
		}
		return tx.Set(importKey(space, id), value)
	})
}

// add keeps a new import.
func (m *Importer) add(ctx context.Context, i *Import) error {
	value, err := encode(i)
	if err != nil {
		return err
	}
	return m.cfg.DB.Update(ctx, fence(i.ID), kv.Durable, func(tx kv.Tx) error { return tx.Set(importKey(i.Space, i.ID), value) })
}

// forget removes what is kept of an import.
func (m *Importer) forget(ctx context.Context, i *Import) error {
	return m.cfg.DB.Update(ctx, fence(i.ID), kv.Lazy, func(tx kv.Tx) error { return tx.Delete(importKey(i.Space, i.ID)) })
}
