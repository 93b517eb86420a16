package retention

import (
	"context"

	"kith/archive"
	"kith/fault"
	"kith/job"
	"kith/kv"
)

type params struct {
	Space uint32 `json:"space"`
}

// stepBytes is how much of the raw log is trimmed at a time, as it is packed.
const stepBytes = 4 << 20

// JobKind returns the kind of job that trims spaces.
func (r *Retention) JobKind() job.Kind { return job.Kind{Name: Kind, Run: r.trim} }

// trim is the work of a job: until no file holds anything from before the
// horizon. Each step is written down by the archive.
func (r *Retention) trim(ctx context.Context, h *job.Handle) error {
	var p params
	if err := h.Params(&p); err != nil {
		return err
	}
	for behind := true; behind; {
		if err := r.bodies(ctx, h, p.Space); err != nil {
			return err
		}
		if err := r.outputs(ctx, p.Space); err != nil {
			return err
		}
		if err := r.scrub(ctx, p.Space); err != nil {
			return err
		}
		var err error
		if behind, err = r.behind(ctx, p.Space); err != nil {
			return err
		}
	}
	return nil
}

func (r *Retention) fence(space uint32) (kv.Fence, error) {
	fence, ok := r.cfg.Live(space)
	if !ok {
		return "", fault.New(fault.Unavailable, "space %d is not open", space)
	}
	return fence, nil
}

// bodies takes the bodies behind the horizon out of the raw log.
func (r *Retention) bodies(ctx context.Context, h *job.Handle, space uint32) error {
	for more := true; more; {
		fence, err := r.fence(space) // again: the live epoch may be another
		if err != nil {
			return err
		}
		var t archive.Trimmed
		if t, more, err = r.cfg.Archive.Trim(ctx, space, fence, stepBytes); err != nil {
			return err
		}
		horizon, err := r.cfg.Archive.Horizon(ctx, space)
		if err != nil {
			return err
		}
		if err := h.Save(ctx, nil, uint64(t.Next), uint64(horizon.Offset)); err != nil {
			return err
		}
	}
	return nil
}

// outputs forgets the outputs that are older than the horizon and that nobody
// needs any more.
func (r *Retention) outputs(ctx context.Context, space uint32) error {
	fence, err := r.fence(space)
	if err != nil {
		return err
	}
	log, needed, err := r.cfg.Outputs(ctx, space)
	if err != nil {
		return err
	}
	_, err = r.cfg.Archive.TrimOutputs(ctx, space, fence, log, needed)
	return err
}

// scrub makes what is gone leave the files.
func (r *Retention) scrub(ctx context.Context, space uint32) error {
	var t archive.Trimmed
	var ranges []kv.Range
	err := r.cfg.DB.View(ctx, func(reader kv.Reader) (err error) {
		if t, err = archive.TrimmedOf(reader, space); err != nil || t.Clean() {
			return err
		}
		verdicts, err := archive.VerdictRange(reader, space, t.Scrubbed, t.Next)
		ranges = []kv.Range{verdicts}
		return err
	})
	if err != nil || t.Clean() {
		return err
	}
	if scrubber, ok := r.cfg.DB.(kv.Scrubber); ok {
		logs, err := r.cfg.Ranges(ctx, space, t)
		if err != nil {
			return err
		}
		if err := scrubber.Scrub(ctx, append(ranges, logs...)...); err != nil {
			return err
		}
	}
	fence, err := r.fence(space)
	if err != nil {
		return err
	}
	return r.cfg.Archive.Scrubbed(ctx, space, fence, t)
}
