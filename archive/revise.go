package archive

import (
	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// Index writes an admitted event into the history of its person and account in
// the batch's epoch.
func Index(b *pipeline.Batch, r *pipeline.Record) error {
	if r.Event == nil || r.Verdict.Code != pipeline.Admitted {
		return nil
	}
	value := kv.Value{historyFormat, byte(r.Type)}
	for _, p := range []event.ProfileID{r.Profile, r.Account} {
		if p.IsZero() {
			continue
		}
		key := historyStem(b.Space, b.Epoch, p).Int64(r.Time).Uint64(uint64(r.Offset))
		if err := b.Tx.Set(key, value); err != nil {
			return err
		}
	}
	return nil
}

// WhoseAre says whose the records at some offsets are in an epoch, under the
// ids of that time. It fails with fault.Internal for a record that the loop has
// not passed.
func WhoseAre(r kv.Reader, space, epoch uint32, offsets []commitlog.Offset) (map[commitlog.Offset]Whose, error) {
	runs := runReader{reader: r, space: space, epoch: epoch}
	whose := make(map[commitlog.Offset]Whose, len(offsets))
	for _, at := range offsets {
		run, err := runs.profiles(at)
		if err != nil {
			return nil, err
		}
		if run == nil {
			return nil, errRun
		}
		whose[at] = run.of(at)
	}
	return whose, nil
}

// Offsets returns the offsets of the events in the history of one profile,
// under its own id, in the order of their time, that are not before an offset:
// at most limit of them.
func Offsets(r kv.Reader, space, epoch uint32, profile event.ProfileID, from commitlog.Offset, limit int) (list []commitlog.Offset, err error) {
	stem := historyStem(space, epoch, profile)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, err
		}
		if len(list) == limit {
			break
		}
		parts := kv.PartsAfter(pair.Key, stem)
		parts.Int64()
		at := commitlog.Offset(parts.Uint64())
		if !parts.OK() {
			return nil, errRun
		}
		if at >= from {
			list = append(list, at)
		}
	}
	return list, nil
}
