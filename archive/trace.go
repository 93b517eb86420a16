package archive

import (
	"context"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// Link is where the outputs of a record are in the resolved log: Count of them
// from First on. They are its event, the changes that it caused and the
// messages that were made of these; what a timer or a job did later is not
// among them. Known is false for a record that passed before archive kept
// links.
type Link struct {
	First commitlog.Offset
	Count int
	Known bool
}

// Passed is one record that the loop has passed, of whatever kind and verdict.
type Passed struct {
	Entry
	Link Link
}

// Passed returns what became of a record of the raw log, with its profile at
// that epoch as it was when the record passed. An offset that the loop has not
// passed yet is fault.NotFound.
func (a *Archive) Passed(ctx context.Context, space, epoch uint32, at commitlog.Offset) (Passed, error) {
	e, err := a.event(ctx, space, at)
	if err != nil {
		return Passed{}, err
	}
	p := Passed{Entry: e}
	err = a.db.View(ctx, func(r kv.Reader) error {
		runs := runReader{reader: r, space: space, epoch: epoch}
		verdicts, err := runs.verdicts(at)
		if err != nil {
			return err
		}
		if verdicts != nil && verdicts.linked {
			p.Link.Known = true
			if p.Link.First, p.Link.Count, err = verdicts.outputs(at); err != nil {
				return err
			}
		}
		profiles, err := runs.profiles(at)
		if err != nil || profiles == nil {
			return err
		}
		p.Profile = profiles.profiles[at-profiles.first]
		p.Account = profiles.accounts[at-profiles.first]
		return nil
	})
	return p, err
}

// maxVerdictBytes bounds the verdicts that are read at once: they hold the bodies
// that intake has changed, which are not packed.
const maxVerdictBytes = 32 << 20

// Copies returns the offsets of later records that repeat the one at of, oldest
// first: those that the first runs batches of the loop after it hold, at most
// limit. complete says that these are all there are until now; they may not be
// either when verdicts are large, since no more than 32 MB of them are read.
func (a *Archive) Copies(ctx context.Context, space uint32, of commitlog.Offset, runs, limit int) (copies []commitlog.Offset, complete bool, err error) {
	stem := verdictStem(space)
	err = a.db.View(ctx, func(r kv.Reader) error {
		run, err := (&runReader{reader: r, space: space}).verdicts(of)
		if err != nil {
			return err
		}
		if run == nil {
			return fault.New(fault.NotFound, "the record at %d has not passed intake yet", of)
		}
		seen, bytes := 0, 0
		for pair, err := range r.Scan(kv.Range{From: runKey(stem, run.first), To: kv.PrefixEnd(stem), Limit: runs + 1}) {
			if err != nil {
				return err
			}
			if seen++; seen > runs || bytes > maxVerdictBytes {
				return nil
			}
			bytes += len(pair.Value)
			parts := kv.PartsAfter(pair.Key, stem)
			found, err := repeats(commitlog.Offset(parts.Uint64()), pair.Value, of)
			if err != nil {
				return err
			}
			if copies = append(copies, found...); len(copies) >= limit {
				copies = copies[:limit]
				return nil
			}
		}
		complete = true
		return nil
	})
	return copies, complete, err
}

// repeats returns which records of a stored run repeat the one at of.
func repeats(first commitlog.Offset, value []byte, of commitlog.Offset) (copies []commitlog.Offset, err error) {
	run, err := decodeVerdicts(first, value)
	if err != nil {
		return nil, err
	}
	for i := range run.count {
		if len(run.odd) == 0 {
			break
		}
		odd, ok := run.odd[i]
		if !ok {
			continue
		}
		delete(run.odd, i)
		if odd.verdict.Code == pipeline.Duplicate && odd.verdict.Of == of {
			copies = append(copies, first+commitlog.Offset(i))
		}
	}
	return copies, nil
}

// Raw returns a record as it lies in the raw log, whether the loop has passed
// it or not.
func (a *Archive) Raw(ctx context.Context, space uint32, at commitlog.Offset) (event.Record, error) {
	log, err := a.raw(space)
	if err != nil {
		return event.Record{}, err
	}
	blocks, err := log.Read(ctx, at, 1)
	if err != nil {
		return event.Record{}, err
	}
	if len(blocks) == 0 || at >= blocks[0].End() {
		return event.Record{}, fault.New(fault.NotFound, "the log has no record at %d", at)
	}
	p, err := a.page(ctx, space, blocks[0])
	if err != nil {
		return event.Record{}, err
	}
	bodies, err := p.bodies(blocks[0])
	if err != nil {
		return event.Record{}, err
	}
	i := at - blocks[0].First
	return event.Record{Head: p.heads[i], Body: bodies[i]}, nil
}

// Heads calls fn with the heads of the raw log from one offset up to another,
// in order, until fn returns false; those that the loop has not passed are
// among them. It returns where it stopped: at to, at the end of the log, or
// behind the block in which maxBytes of packed log were exceeded.
func (a *Archive) Heads(ctx context.Context, space uint32, from, to commitlog.Offset, maxBytes int, fn func(commitlog.Offset, *event.Head) bool) (commitlog.Offset, error) {
	log, err := a.raw(space)
	if err != nil {
		return from, err
	}
	for from < to && maxBytes > 0 {
		blocks, err := log.Read(ctx, from, min(scanBytes, maxBytes))
		if err != nil || len(blocks) == 0 {
			return from, err
		}
		for _, blk := range blocks {
			p, err := a.page(ctx, space, blk)
			if err != nil {
				return from, err
			}
			heads := p.heads
			for i := range heads {
				at := blk.First + commitlog.Offset(i)
				if at < from {
					continue
				}
				if at >= to {
					return to, nil
				}
				if !fn(at, &heads[i]) {
					return at, nil
				}
			}
			from = blk.End()
			maxBytes -= len(blk.Data)
		}
	}
	return from, nil
}

// idSlack is how far records of one log may stand from the order of their
// instants, in milliseconds: those of requests that were taken together.
const idSlack = 10_000

// Find returns the offset of the record with an id. It looks where the id's
// instant is in the raw log.
func (a *Archive) Find(ctx context.Context, space uint32, id event.RecordID) (at commitlog.Offset, found bool, err error) {
	log, err := a.raw(space)
	if err != nil {
		return 0, false, err
	}
	stamped := event.ProfileID(id).Time()
	end := log.End()
	from, err := seek(ctx, log, 0, end, func(data []byte) (bool, error) {
		heads, err := event.DecodeHeads(data)
		if err != nil || len(heads) == 0 {
			return false, err
		}
		return heads[len(heads)-1].At < stamped-idSlack, nil
	})
	if err != nil {
		return 0, false, err
	}
	_, err = a.Heads(ctx, space, from, end, 1<<30, func(o commitlog.Offset, h *event.Head) bool {
		if h.ID == id {
			at, found = o, true
		}
		return !found && h.At <= stamped+idSlack
	})
	return at, found, err
}

// seek returns the first offset of the first block between from and end that
// does not lie before what is sought; before is true for the earlier blocks.
func seek(ctx context.Context, log commitlog.Log, from, end commitlog.Offset, before func(data []byte) (bool, error)) (commitlog.Offset, error) {
	for from < end {
		blocks, err := log.Read(ctx, from+(end-from)/2, 1)
		if err != nil || len(blocks) == 0 {
			return from, err
		}
		is, err := before(blocks[0].Data)
		if err != nil {
			return from, err
		}
		if is {
			from = blocks[0].End()
		} else {
			end = blocks[0].First
		}
	}
	return from, nil
}

// Caused is an output with its place in the resolved log.
type Caused struct {
	At     commitlog.Offset
	Output pipeline.Output
}

// unlinkedBlocks is how many blocks of the resolved log are searched for the
// outputs of a record without a link.
const unlinkedBlocks = 64

// Outputs reads what a record brought about from the resolved log of its
// space. For a record without a link it looks where the record's instant is in
// that log, and finds the event and the changes, but no messages.
func (a *Archive) Outputs(ctx context.Context, resolved commitlog.Log, p *Passed) ([]Caused, error) {
	if !p.Link.Known {
		return searchOutputs(ctx, resolved, p)
	}
	var list []Caused
	end := p.Link.First + commitlog.Offset(p.Link.Count)
	for at := p.Link.First; at < end; {
		block, outputs, err := outputsAt(ctx, resolved, at)
		if err != nil {
			return nil, err
		}
		for ; at < min(block.End(), end); at++ {
			list = append(list, Caused{at, outputs[at-block.First]})
		}
	}
	return list, nil
}

func outputsAt(ctx context.Context, resolved commitlog.Log, at commitlog.Offset) (commitlog.Block, []pipeline.Output, error) {
	blocks, err := resolved.Read(ctx, at, 1)
	if err != nil {
		return commitlog.Block{}, nil, err
	}
	if len(blocks) == 0 {
		return commitlog.Block{}, nil, fault.New(fault.NotFound, "the resolved log has no output %d", at)
	}
	outputs, err := pipeline.DecodeOutputs(blocks[0].Data)
	if err == nil && len(outputs) != blocks[0].Count {
		err = fault.New(fault.Internal, "the block at %d of the resolved log holds %d outputs, not %d", blocks[0].First, len(outputs), blocks[0].Count)
	}
	return blocks[0], outputs, err
}

func searchOutputs(ctx context.Context, resolved commitlog.Log, p *Passed) ([]Caused, error) {
	end := resolved.End()
	at, err := seek(ctx, resolved, 0, end, func(data []byte) (bool, error) {
		outputs, err := pipeline.DecodeOutputs(data)
		if err != nil || len(outputs) == 0 {
			return false, err
		}
		return outputs[len(outputs)-1].At < p.Head.At, nil
	})
	if err != nil {
		return nil, err
	}
	var list []Caused
	for n := 0; at < end && n < unlinkedBlocks; n++ {
		block, outputs, err := outputsAt(ctx, resolved, at)
		if err != nil {
			return nil, err
		}
		for i := range outputs {
			o := &outputs[i]
			if o.At > p.Head.At {
				return list, nil
			}
			if o.Event != nil && o.Event.Offset == uint64(p.Offset) || o.Change != nil && o.Change.Cause == p.Head.ID {
				list = append(list, Caused{block.First + commitlog.Offset(i), *o})
			}
		}
		at = block.End()
	}
	return list, nil
}
