package archive

import (
	"context"

	"kith/commitlog"
	"kith/kv"
	"kith/pipeline"
)

// Follow calls fn with the records that the loop has passed, from one offset
// on, in order, until about maxBytes of the packed log are read, and returns
// where to go on: from itself when nothing more has passed. What fn gets it may
// keep. Verdicts are those of one moment of the store, 32 MB of
// them at most, with which it ends early; fn runs outside of it. An error of fn
// ends it. It fails with fault.Conflict before the horizon.
func (a *Archive) Follow(ctx context.Context, space uint32, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (next commitlog.Offset, err error) {
	h, err := a.Horizon(ctx, space)
	if err != nil {
		return from, err
	}
	if from < h.Offset {
		return from, h.errTrimmed(from)
	}
	return a.FollowHeads(ctx, space, from, maxBytes, fn)
}

// FollowHeads is Follow for those who need no bodies: it goes on before the
// horizon too, where bodies are empty but for those of configuration and
// commands.
func (a *Archive) FollowHeads(ctx context.Context, space uint32, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (next commitlog.Offset, err error) {
	log, err := a.raw(space)
	if err != nil {
		return from, err
	}
	blocks, err := log.Read(ctx, from, maxBytes)
	if err != nil || len(blocks) == 0 {
		return from, err
	}
	runs, err := a.verdictsOf(ctx, space, from, blocks[len(blocks)-1].End())
	if err != nil {
		return from, err
	}
	next = from
	for _, blk := range blocks {
		if len(runs) == 0 {
			return next, nil // spare unpacking what has not passed
		}
		p, err := a.page(ctx, space, blk)
		if err != nil {
			return next, err
		}
		bodies, err := p.bodies(blk)
		if err != nil {
			return next, err
		}
		for i := range p.heads {
			at := blk.First + commitlog.Offset(i)
			if at < next {
				continue
			}
			for len(runs) > 0 && !runs[0].covers(at) {
				runs = runs[1:]
			}
			if len(runs) == 0 {
				return next, nil
			}
			e := Entry{Offset: at, Head: p.heads[i]}
			runs[0].judge(&e, p)
			if err := fn(&pipeline.Judged{Offset: at, Head: e.Head, Raw: bodies[i], Verdict: e.Verdict}); err != nil {
				return next, err
			}
			next = at + 1
		}
	}
	return next, nil
}

// verdictsOf returns the runs of verdicts that cover the records from one
// offset up to another, in order: all, or those that are no more than
// maxVerdictBytes.
func (a *Archive) verdictsOf(ctx context.Context, space uint32, from, to commitlog.Offset) ([]*verdictRun, error) {
	var runs []*verdictRun
	err := a.db.View(ctx, func(r kv.Reader) error {
		reader := runReader{reader: r, space: space}
		first, err := reader.verdicts(from)
		if err != nil || first == nil {
			return err
		}
		runs = append(runs, first)
		stem, bytes := verdictStem(space), 0
		for pair, err := range r.Scan(kv.Range{From: runKey(stem, first.first+1), To: runKey(stem, to)}) {
			if err != nil {
				return err
			}
			if bytes += len(pair.Value); bytes > maxVerdictBytes {
				return nil
			}
			parts := kv.PartsAfter(pair.Key, stem)
			run, err := decodeVerdicts(commitlog.Offset(parts.Uint64()), append([]byte{}, pair.Value...))
			if err != nil {
				return err
			}
			runs = append(runs, run)
		}
		return nil
	})
	return runs, err
}
