package revision

import (
	"context"
	"slices"
	"sync"

	"kith/commitlog"
	"kith/pipeline"
)

// past is the records that a scratch is led through, in the order of their
// offsets. It gives as many as it was told to let go.
type past struct {
	mu      sync.Mutex
	records []*pipeline.Judged
	gone    int // how many may be given
	ended   bool
	moved   chan struct{} // closed and replaced when there is more to give
}

func newPast() *past { return &past{moved: make(chan struct{})} }

// add adds records behind those that there are.
func (p *past) add(records ...*pipeline.Judged) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records = append(p.records, records...)
}

// letGo gives the first n records.
func (p *past) letGo(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = n
	close(p.moved)
	p.moved = make(chan struct{})
}

// end says that there will never be more.
func (p *past) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	close(p.moved)
	p.moved = make(chan struct{})
}

// Follow implements pipeline.Past.
func (p *past) Follow(_ context.Context, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (commitlog.Offset, error) {
	p.mu.Lock()
	ready := p.records[:p.gone]
	p.mu.Unlock()
	i, _ := slices.BinarySearchFunc(ready, from, func(j *pipeline.Judged, at commitlog.Offset) int {
		return int(int64(j.Offset) - int64(at))
	})
	next := from
	for _, j := range ready[i:] {
		if maxBytes <= 0 {
			break
		}
		if err := fn(j); err != nil {
			return j.Offset, err
		}
		next = j.Offset + 1
		maxBytes -= len(j.Raw)
	}
	return next, nil
}

// Wait implements pipeline.Past.
func (p *past) Wait(ctx context.Context, at commitlog.Offset) error {
	for {
		p.mu.Lock()
		more := p.gone > 0 && p.records[p.gone-1].Offset >= at
		ended, moved := p.ended, p.moved
		p.mu.Unlock()
		switch {
		case more:
			return nil
		case ended:
			return pipeline.ErrPastEnds
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
