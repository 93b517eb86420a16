package archive

import (
	"context"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// Trimmed is how far a space's past has been trimmed. The horizon goes before:
// readers hide what lies behind it whether it is trimmed or not.
type Trimmed struct {
	Next    commitlog.Offset // of the raw log: the bodies before it are out of the blocks
	Outputs commitlog.Offset // of the resolved log: the blocks before it are gone
	Records uint64           // whose bodies are gone
	Bytes   int64            // by how much the blocks have become smaller, as they are packed
	// The store has been scrubbed of what was trimmed before these, and no file
	// holds it any more.
	Scrubbed        commitlog.Offset // of the raw log
	ScrubbedOutputs commitlog.Offset // of the resolved log
}

// Clean reports whether no file holds anything of what was trimmed.
func (t *Trimmed) Clean() bool { return t.Scrubbed == t.Next && t.ScrubbedOutputs == t.Outputs }

func (t *Trimmed) encode() kv.Value {
	return kv.Value{trimmedFormat}.Uvarint(uint64(t.Next)).Uvarint(uint64(t.Outputs)).Uvarint(t.Records).Varint(t.Bytes).
		Uvarint(uint64(t.Scrubbed)).Uvarint(uint64(t.ScrubbedOutputs))
}

// TrimmedOf returns how far a space's past has been trimmed.
func TrimmedOf(r kv.Reader, space uint32) (t Trimmed, err error) {
	value, err := r.Get(trimmedKey(space))
	if err != nil || value == nil {
		return t, err
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == trimmedFormat
	t = Trimmed{
		Next: commitlog.Offset(f.Uvarint()), Outputs: commitlog.Offset(f.Uvarint()), Records: f.Uvarint(), Bytes: f.Varint(),
		Scrubbed: commitlog.Offset(f.Uvarint()), ScrubbedOutputs: commitlog.Offset(f.Uvarint()),
	}
	if !known || !f.OK() {
		return Trimmed{}, errHorizon
	}
	return t, nil
}

// Trim takes the bodies before the horizon out of the blocks of the raw log and
// out of the verdicts: of about maxBytes of the packed log, from where it left.
// more says that there are others. It may be done again after a crash. Behind a
// body that the tracking plan has changed, the head keeps the identifiers that
// were left in it, which are those that identified somebody.
func (a *Archive) Trim(ctx context.Context, space uint32, fence kv.Fence, maxBytes int) (t Trimmed, more bool, err error) {
	a.rewriting.Lock()
	defer a.rewriting.Unlock()
	var h Horizon
	err = a.db.View(ctx, func(r kv.Reader) (err error) {
		if h, err = HorizonOf(r, space); err == nil {
			t, err = TrimmedOf(r, space)
		}
		return err
	})
	if err != nil || t.Next >= h.Offset {
		return t, false, err
	}
	log, err := a.raw(space)
	if err != nil {
		return t, false, err
	}
	replacer, ok := log.(commitlog.Replacer)
	if !ok {
		return t, false, fault.New(fault.Internal, "the raw log cannot replace blocks")
	}
	blocks, err := log.Read(ctx, t.Next, maxBytes)
	if err != nil || len(blocks) == 0 {
		return t, false, err
	}
	var others []commitlog.Block
	for i := range blocks {
		blk := &blocks[i]
		if blk.First >= h.Offset {
			blocks = blocks[:i]
			break
		}
		size := len(blk.Data)
		n, err := a.trimBlock(ctx, space, h, blk)
		if err != nil {
			return t, false, err
		}
		if n > 0 {
			others = append(others, *blk)
			t.Records += n
			t.Bytes += int64(size - len(blk.Data))
		}
	}
	if err := replacer.Replace(ctx, others...); err != nil {
		return t, false, err
	}
	end := min(blocks[len(blocks)-1].End(), h.Offset)
	if err := a.trimVerdicts(ctx, space, fence, t.Next, end); err != nil {
		return t, false, err
	}
	t.Next = end
	a.Forgotten(space)
	return t, end < h.Offset, a.saveTrimmed(ctx, space, fence, t)
}

// trimBlock takes the bodies before the horizon out of a block, and returns how
// many.
func (a *Archive) trimBlock(ctx context.Context, space uint32, h Horizon, blk *commitlog.Block) (n uint64, err error) {
	records, err := event.DecodeBlock(blk.Data)
	if err != nil {
		return 0, err
	}
	for i := range records {
		if h.trims(blk.First+commitlog.Offset(i), records[i].Kind) && len(records[i].Body) > 0 {
			records[i].Body = nil
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	err = a.eachVerdicts(ctx, space, blk.First, blk.End(), func(run *verdictRun) error {
		for i, odd := range run.odd {
			at := run.first + commitlog.Offset(i)
			if odd.verdict.Body == nil || at < blk.First || at >= min(blk.End(), h.Offset) {
				continue
			}
			r := &records[at-blk.First]
			if r.Kind != event.KindEvent {
				continue
			}
			e, err := event.ParseTrusted(odd.verdict.Body)
			if err != nil {
				return err
			}
			r.IDs = event.StandardIdentifiers(e)
		}
		return nil
	})
	blk.Payload = event.EncodeBlock(records)
	return n, err
}

// trimVerdicts takes the bodies out of the verdicts on records from one offset
// up to another.
func (a *Archive) trimVerdicts(ctx context.Context, space uint32, fence kv.Fence, from, to commitlog.Offset) error {
	return a.eachVerdicts(ctx, space, from, to, func(run *verdictRun) error {
		changed := false
		for i, odd := range run.odd {
			if odd.verdict.Body == nil || run.first+commitlog.Offset(i) >= to {
				continue
			}
			odd.verdict.Body, changed = nil, true
			run.odd[i] = odd
		}
		if !changed {
			return nil
		}
		return a.db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
			return tx.Set(runKey(verdictStem(space), run.first), run.encode())
		})
	})
}

// eachVerdicts calls fn with the runs of verdicts that cover the records from
// one offset up to another.
func (a *Archive) eachVerdicts(ctx context.Context, space uint32, from, to commitlog.Offset, fn func(*verdictRun) error) error {
	for from < to {
		runs, err := a.verdictsOf(ctx, space, from, to)
		if err != nil || len(runs) == 0 {
			return err
		}
		for _, run := range runs {
			if err := fn(run); err != nil {
				return err
			}
			from = run.first + commitlog.Offset(run.count)
		}
	}
	return nil
}

// TrimOutputs forgets the blocks of a space's resolved log all of whose outputs
// lie before an offset and are older than the horizon. The last block stays. It
// may be done again after a crash.
func (a *Archive) TrimOutputs(ctx context.Context, space uint32, fence kv.Fence, log commitlog.Log, before commitlog.Offset) (t Trimmed, err error) {
	a.rewriting.Lock()
	defer a.rewriting.Unlock()
	var h Horizon
	err = a.db.View(ctx, func(r kv.Reader) (err error) {
		if h, err = HorizonOf(r, space); err == nil {
			t, err = TrimmedOf(r, space)
		}
		return err
	})
	end := log.End()
	if err != nil || h.IsZero() || end == 0 {
		return t, err
	}
	last, err := log.Read(ctx, end-1, 1)
	if err != nil || len(last) == 0 {
		return t, err
	}
	before = min(before, last[0].First)
	if before > t.Outputs { // whole blocks
		blocks, err := log.Read(ctx, before, 1)
		if err != nil || len(blocks) == 0 {
			return t, err
		}
		before = blocks[0].First
	}
	cut, err := seek(ctx, log, t.Outputs, before, func(data []byte) (bool, error) {
		outputs, err := pipeline.DecodeOutputs(data)
		if err != nil || len(outputs) == 0 {
			return false, err
		}
		return outputs[len(outputs)-1].At < h.At, nil
	})
	if err != nil {
		return t, err
	}
	if cut > t.Outputs { // it is noted first, so that nobody looks for what is gone
		t.Outputs = cut
		if err := a.saveTrimmed(ctx, space, fence, t); err != nil {
			return t, err
		}
	}
	return t, log.Trim(ctx, t.Outputs)
}

// Scrubbed notes that the store has been scrubbed of what was trimmed.
func (a *Archive) Scrubbed(ctx context.Context, space uint32, fence kv.Fence, of Trimmed) error {
	a.rewriting.Lock()
	defer a.rewriting.Unlock()
	of.Scrubbed, of.ScrubbedOutputs = of.Next, of.Outputs
	return a.saveTrimmed(ctx, space, fence, of)
}

func (a *Archive) saveTrimmed(ctx context.Context, space uint32, fence kv.Fence, t Trimmed) error {
	return a.db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error { return tx.Set(trimmedKey(space), t.encode()) })
}

// VerdictRange returns the keys of the verdicts on records from one offset up to
// another, for a scrubbing of the store.
func VerdictRange(r kv.Reader, space uint32, from, to commitlog.Offset) (kv.Range, error) {
	stem := verdictStem(space)
	run, err := (&runReader{reader: r, space: space}).verdicts(from)
	if err == nil && run != nil {
		from = run.first
	}
	return kv.Range{From: runKey(stem, from), To: runKey(stem, to)}, err
}
