package archive

import (
	"context"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// Horizon is where the events of a space begin. Of the records before it the
// bodies are gone: heads, and the bodies of configuration and commands, stay.
// The zero value says that nothing was ever trimmed. Readers go by the horizon
// from the moment it moves; the blocks behind it are written anew after that.
type Horizon struct {
	Offset commitlog.Offset // of the first record that is whole
	At     int64            // the instant since when all records are whole, in milliseconds
	Moved  int64            // when it came to stand here, in milliseconds
}

// IsZero reports whether nothing was ever trimmed.
func (h Horizon) IsZero() bool { return h == Horizon{} }

// trims reports whether the body of a record is gone.
func (h Horizon) trims(at commitlog.Offset, kind event.Kind) bool {
	return at < h.Offset && (kind == event.KindEvent || kind == event.KindObject)
}

// errTrimmed says that a record is not whole any more.
func (h Horizon) errTrimmed(at commitlog.Offset) error {
	return fault.New(fault.Conflict, "the events before %s (record %d) have been trimmed, as the retention of this space asks for: what begins at record %d cannot be replayed",
		time.UnixMilli(h.At).UTC().Format(time.RFC3339), h.Offset, at)
}

// HorizonOf returns the horizon of a space.
func HorizonOf(r kv.Reader, space uint32) (h Horizon, err error) {
	value, err := r.Get(horizonStem(space))
	if err != nil || value == nil {
		return h, err
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == horizonFormat
	h = Horizon{Offset: commitlog.Offset(f.Uvarint()), At: f.Varint(), Moved: f.Varint()}
	if !known || !f.OK() {
		return Horizon{}, errHorizon
	}
	return h, nil
}

var errHorizon = fault.New(fault.Internal, "a stored horizon is damaged or of an unknown format")

// Horizon returns the horizon of a space by which readers go now.
func (a *Archive) Horizon(ctx context.Context, space uint32) (Horizon, error) {
	v, err := a.veilOf(ctx, space)
	if err != nil {
		return Horizon{}, err
	}
	return v.horizon, nil
}

// MoveHorizon moves the horizon of the batch's space on. It is called within a
// transaction of the live loop, by whoever has an epoch that stands at the new
// horizon and keeps what the records before it made. It fails with
// fault.Conflict where that lies before the present one, or behind what the
// loop has passed.
func (a *Archive) MoveHorizon(b *pipeline.Batch, h Horizon) error {
	present, err := HorizonOf(b.Tx, b.Space)
	if err != nil {
		return err
	}
	pos, err := pipeline.ReadPosition(b.Tx, b.Space, b.Epoch)
	if err != nil {
		return err
	}
	if !b.Live || h.Offset < present.Offset || h.At < present.At || h.Offset > pos.Next {
		return fault.New(fault.Conflict, "the horizon cannot move from record %d to %d while the loop stands at %d", present.Offset, h.Offset, pos.Next)
	}
	value := kv.Value{horizonFormat}.Uvarint(uint64(h.Offset)).Varint(h.At).Varint(h.Moved)
	if err := b.Tx.Set(horizonStem(b.Space), value); err != nil {
		return err
	}
	space := b.Space
	b.AfterCommit(func() { a.moved(space, h) })
	return nil
}

// moved has every reader of a space go by a horizon.
func (a *Archive) moved(space uint32, h Horizon) {
	if _, err := a.veilOf(context.Background(), space); err != nil {
		return // readers read it from the store
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.veils[space] = NewVeil(a.veils[space].list).behind(h)
	a.drop(space)
}
