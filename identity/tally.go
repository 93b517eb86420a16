package identity

import (
	"sync"

	"kith/commitlog"
	"kith/pipeline"
)

// Prevented counts identifiers that events did not use.
type Prevented struct {
	Violation string `json:"violation"`
	Type      string `json:"type"` // of the identifier
	// Events is how many there were; Merges of them would have joined two
	// profiles.
	Events int `json:"events"`
	Merges int `json:"merges"`
}

// Tally is a stage behind identity that counts what rules refuse, from a record
// on: that of a simulation. It is safe for concurrent use.
type Tally struct {
	slot  pipeline.Slot[Resolution]
	since commitlog.Offset

	mu      sync.Mutex
	refused map[[2]string]*Prevented
}

// NewTally returns a Tally.
func NewTally(slot pipeline.Slot[Resolution], since commitlog.Offset) *Tally {
	return &Tally{slot: slot, since: since, refused: map[[2]string]*Prevented{}}
}

// Name returns "tally".
func (t *Tally) Name() string { return "tally" }

// Begin starts a pass over one batch.
func (t *Tally) Begin(b *pipeline.Batch) (pipeline.Pass, error) {
	return &tallying{tally: t, batch: b}, nil
}

// Prevented returns the counts so far.
func (t *Tally) Prevented() []Prevented {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []Prevented{}
	for _, r := range t.refused {
		list = append(list, *r)
	}
	return list
}

type tallying struct {
	tally   *Tally
	batch   *pipeline.Batch
	refused []Refusal
}

// Handle notes what the record's identifiers met.
func (p *tallying) Handle(r *pipeline.Record) error {
	if r.Offset >= p.tally.since {
		if res := p.tally.slot.Get(r); res != nil && r.Event != nil {
			p.refused = append(p.refused, res.Refused...)
		}
	}
	return nil
}

// Finish counts, once the batch has committed: a batch may run again.
func (p *tallying) Finish() error {
	p.batch.AfterCommit(func() {
		t := p.tally
		t.mu.Lock()
		defer t.mu.Unlock()
		for i := range p.refused {
			f := &p.refused[i]
			at := [2]string{f.Violation, f.Type}
			c := t.refused[at]
			if c == nil {
				c = &Prevented{Violation: f.Violation, Type: f.Type}
				t.refused[at] = c
			}
			c.Events++
			if !f.Owner.IsZero() {
				c.Merges++
			}
		}
	})
	return nil
}
