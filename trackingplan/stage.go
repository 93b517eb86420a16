package trackingplan

import (
	"encoding/json"
	"fmt"
	"log/slog"

	"kith/event"
	"kith/pipeline"
)

// Stage is the room's door in the row: a pipeline.Stage and Preparer.
type Stage struct {
	slot  pipeline.Slot[Outcome]
	plans plans
}

// New returns the stage. It takes its slot from layout; log hears of rules that
// cannot be used.
func New(layout *pipeline.Layout, log *slog.Logger) *Stage {
	return &Stage{slot: pipeline.NewSlot[Outcome](layout), plans: plans{log: log}}
}

// Name returns "trackingplan".
func (s *Stage) Name() string { return "trackingplan" }

// Outcome returns what the plan said of a record, or nil when none holds for
// it. Rooms behind this one may read it.
func (s *Stage) Outcome(r *pipeline.Record) *Outcome { return s.slot.Get(r) }

// Prepare holds the record's event to the plan of its source. It needs the
// record's Event, Source and Snapshot and changes nothing but its slot.
func (s *Stage) Prepare(r *pipeline.Record) {
	if r.Event == nil || r.Source == nil || r.Snapshot == nil {
		return
	}
	p := r.Snapshot.PlanOf(r.Source.ID)
	if p == nil {
		return
	}
	s.slot.Set(r, judge(s.plans.get(r.Snapshot.Number, p), r.Source, r.Event))
}

// Begin starts a pass over a batch.
func (s *Stage) Begin(b *pipeline.Batch) (pipeline.Pass, error) {
	return &pass{stage: s, batch: b}, nil
}

type pass struct {
	stage *Stage
	batch *pipeline.Batch
}

// Handle gives the record its verdict: blocked, and into quarantine, or on its
// way as the plan has changed it.
// Identifiers are read again when something was taken out: what the plan
// refuses identifies nobody.
func (p *pass) Handle(r *pipeline.Record) error {
	if r.Event == nil || r.Verdict.Code != pipeline.Admitted {
		return nil
	}
	o := p.stage.slot.Get(r)
	if o == nil {
		return nil
	}
	if o.event != nil {
		r.Event = o.event
		r.Verdict.Body = o.event.Body
		if len(o.Omitted)+len(o.OmittedOnViolation) > 0 {
			r.IDs = event.StandardIdentifiers(o.event)
		}
	}
	if o.Code == "" {
		return nil
	}
	r.Verdict.Code = pipeline.Blocked
	r.Verdict.Reason = o.reason(r.Event.Event)
	return p.quarantine(r, o)
}

// Finish has nothing held back to write.
func (p *pass) Finish() error { return nil }

// quarantine leaves a reference to a blocked event.
func (p *pass) quarantine(r *pipeline.Record, o *Outcome) error {
	value, err := json.Marshal(stored{
		ID: r.ID.String(), MessageID: r.MessageID, Time: r.Time, Type: r.Type.String(), Event: event.Label(r.Type, r.Event.Event),
		Plan: o.Plan, Code: o.Code, Reason: r.Verdict.Reason, Violations: o.Violations,
	})
	if err != nil {
		return fmt.Errorf("quarantine of record %s: %w", r.ID, err)
	}
	return p.batch.Tx.Set(quarantineKey(p.batch.Space, r.Source.ID, r.At, r.Offset), append([]byte{format}, value...))
}
