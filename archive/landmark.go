package archive

import (
	"context"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// Landmark is a record of the raw log that is no event: the configuration, a
// command.
type Landmark struct {
	Offset commitlog.Offset
	Kind   event.Kind // KindConfig or KindCommand
}

// noteLandmarks writes down the landmarks among a batch's records, and where this list of
// them begins: an older binary kept none.
func noteLandmarks(b *pipeline.Batch, records []*pipeline.Record) error {
	begun, err := b.Tx.Get(landmarkStem(b.Space))
	if err != nil {
		return err
	}
	if begun == nil {
		value := kv.Value{landmarkFormat}.Uvarint(uint64(records[0].Offset))
		if err := b.Tx.Set(landmarkStem(b.Space), value); err != nil {
			return err
		}
	}
	for _, r := range records {
		if r.Kind != event.KindConfig && r.Kind != event.KindCommand {
			continue
		}
		if err := b.Tx.Set(runKey(landmarkStem(b.Space), r.Offset), kv.Value{landmarkFormat, byte(r.Kind)}); err != nil {
			return err
		}
	}
	return nil
}

// Landmarks returns the landmarks that the loop has passed before an offset, in
// order. Those from before the list was kept are looked for in the heads of the
// log.
func (a *Archive) Landmarks(ctx context.Context, space uint32, before commitlog.Offset) ([]Landmark, error) {
	var listed []Landmark
	begin := before
	err := a.db.View(ctx, func(r kv.Reader) error {
		listed = nil
		stem := landmarkStem(space)
		value, err := r.Get(stem)
		if err != nil || value == nil {
			return err
		}
		f := kv.FieldsOf(value)
		if f.Byte() != landmarkFormat {
			return errRun
		}
		begin = min(before, commitlog.Offset(f.Uvarint()))
		if !f.OK() {
			return errRun
		}
		for pair, err := range r.Scan(kv.Range{From: runKey(stem, 0), To: runKey(stem, before)}) {
			if err != nil {
				return err
			}
			parts, value := kv.PartsAfter(pair.Key, stem), kv.FieldsOf(pair.Value)
			known := value.Byte() == landmarkFormat
			m := Landmark{Offset: commitlog.Offset(parts.Uint64()), Kind: event.Kind(value.Byte())}
			if !known || !parts.OK() || !value.OK() {
				return errRun
			}
			listed = append(listed, m)
		}
		return nil
	})
	if err != nil || begin == 0 {
		return listed, err
	}
	older, err := a.lookForLandmarks(ctx, space, begin)
	return append(older, listed...), err
}

func (a *Archive) lookForLandmarks(ctx context.Context, space uint32, before commitlog.Offset) (found []Landmark, err error) {
	log, err := a.raw(space)
	if err != nil {
		return nil, err
	}
	for from := commitlog.Offset(0); from < before; {
		blocks, err := log.Read(ctx, from, scanBytes)
		if err != nil || len(blocks) == 0 {
			return found, err
		}
		for _, blk := range blocks {
			heads, err := event.DecodeHeads(blk.Data)
			if err != nil {
				return nil, err
			}
			for i := range heads {
				at := blk.First + commitlog.Offset(i)
				if k := heads[i].Kind; at < before && (k == event.KindConfig || k == event.KindCommand) {
					found = append(found, Landmark{Offset: at, Kind: k})
				}
			}
		}
		from = blocks[len(blocks)-1].End()
	}
	return found, nil
}
