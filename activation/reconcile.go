package activation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/job"
	"kith/kv"
	"kith/pipeline"
)

// ReconcileKind is the name of the job that compares everything that
// destinations were told in a space with its live epoch, and tells them the
// difference: after a rebuild.
const ReconcileKind = "activation.reconcile"

// StartReconcile starts a job of ReconcileKind. The id goes out as
// computation_run_id.
func StartReconcile(ctx context.Context, jobs *job.Jobs, space uint32, id string) error {
	return jobs.Start(ctx, ReconcileKind, id, reconcileParams{space})
}

type reconcileParams struct {
	Space uint32 `json:"space"`
}

// reconcileCursor is how far it has come: first the members of the audiences
// that are connected, audience by audience, then whoever was told of, by
// identifier. The place in the second half is an identifier, which must not
// rest in a job: after a restart that half begins again.
type reconcileCursor struct {
	Audience string          `json:"audience,omitempty"`
	Member   event.ProfileID `json:"member"`
	Second   bool            `json:"second,omitempty"`
	Done     uint64          `json:"done"` // profiles and identifiers looked at

	told []byte // the last key looked at in the second half; nil at its beginning
}

// Reconciles returns the kind of job that a reconciliation is.
func (s *Syncs) Reconciles() job.Kind { return job.Kind{Name: ReconcileKind, Run: s.runReconcile} }

func (s *Syncs) runReconcile(ctx context.Context, h *job.Handle) error {
	var params reconcileParams
	if err := h.Params(&params); err != nil {
		return err
	}
	var at reconcileCursor
	if c := h.Cursor(); c != nil {
		if err := json.Unmarshal(c, &at); err != nil {
			return fmt.Errorf("cursor of %s: %w", h.ID(), err)
		}
	}
	for more := true; more; {
		loop, err := s.loop(params.Space) // another, after another swap
		if err != nil {
			return err
		}
		if at.Second {
			more, err = s.reconcileTold(ctx, loop, params.Space, h.ID(), &at)
		} else {
			err = s.reconcileMembers(ctx, loop, params.Space, h.ID(), &at)
		}
		if err != nil {
			return err
		}
		cursor, err := json.Marshal(at)
		if err != nil {
			return fmt.Errorf("cursor of %s: %w", h.ID(), err)
		}
		if err := h.Save(ctx, cursor, at.Done, 0); err != nil {
			return err
		}
	}
	return nil
}

// reconcileMembers has the loop look at the next members of audiences that are
// connected.
func (s *Syncs) reconcileMembers(ctx context.Context, loop Loop, space uint32, run string, at *reconcileCursor) error {
	var connected []string
	err := loop.Do(ctx, func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		connected = nil
		for _, p := range planOf(b.Snapshot, space).pairs() { // in the order of the audiences
			if !slices.Contains(connected, p.audience) {
				connected = append(connected, p.audience)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var people []event.ProfileID
	err = s.db.View(ctx, func(r kv.Reader) error {
		for _, audience := range connected {
			if audience < at.Audience {
				continue
			}
			if audience > at.Audience {
				at.Audience, at.Member = audience, event.ProfileID{}
			}
			var err error
			if people, err = s.members.Members(r, space, loop.Epoch(), audience, at.Member, syncChunk); err != nil || len(people) > 0 {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(people) == 0 {
		at.Second = true
		return nil
	}
	at.Member = people[len(people)-1]
	at.Done += uint64(len(people))
	return s.correct(ctx, loop, run, people)
}

// reconcileTold has the loop look at the owners of the next identifiers that
// destinations were told something under, and take back what was told under
// those that are nobody's any more.
func (s *Syncs) reconcileTold(ctx context.Context, loop Loop, space uint32, run string, at *reconcileCursor) (more bool, err error) {
	var people []event.ProfileID
	var nobodys []event.Identifier
	looked := 0
	err = s.db.View(ctx, func(r kv.Reader) error {
		stem := toldStem(space)
		graph := identity.NewReader(r, space, loop.Epoch())
		from := []byte(stem)
		if at.told != nil {
			from = append(bytes.Clone(at.told), 0)
		}
		for p, err := range r.Scan(kv.Range{From: from, To: kv.PrefixEnd(stem), Limit: syncChunk}) {
			if err != nil {
				return err
			}
			looked++
			at.told = bytes.Clone(p.Key)
			known, err := decodeTold(p.Value)
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(p.Key, stem)
			id := event.Identifier{Collection: parts.String(), Type: parts.String(), Value: parts.String()}
			if !parts.OK() {
				return errTold
			}
			owner, err := graph.Lookup(id.Collection, id.Type, id.Value)
			switch {
			case err != nil:
				return err
			case !owner.IsZero():
				people = append(people, owner)
			case known.any():
				nobodys = append(nobodys, id)
			}
		}
		return nil
	})
	if err != nil || looked == 0 {
		return false, err
	}
	at.Done += uint64(looked)
	slices.SortFunc(people, func(a, b event.ProfileID) int { return bytes.Compare(a[:], b[:]) })
	if err := s.correct(ctx, loop, run, slices.Compact(people)); err != nil {
		return false, err
	}
	return true, s.retractAll(ctx, loop, space, run, nobodys)
}

// any reports whether some destination was told of a membership.
func (t told) any() bool {
	for _, member := range t {
		if member {
			return true
		}
	}
	return false
}

// correct has the loop compare what each of the profiles is with what was told
// of it, in as many transactions as what is to be said of them takes.
func (s *Syncs) correct(ctx context.Context, loop Loop, run string, people []event.ProfileID) error {
	return inParts(people, func(part []event.ProfileID) error {
		return loop.Do(ctx, func(_ *pipeline.Batch, step func(*pipeline.Record) error) error {
			for _, p := range part {
				if err := step(&pipeline.Record{Profile: p, Work: Sync{Run: run}}); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// retractAll takes back what was told under identifiers that are nobody's,
// unless they have become somebody's meanwhile.
func (s *Syncs) retractAll(ctx context.Context, loop Loop, space uint32, run string, nobodys []event.Identifier) error {
	return inParts(nobodys, func(part []event.Identifier) error {
		return loop.Do(ctx, func(b *pipeline.Batch, step func(*pipeline.Record) error) error {
			graph := identity.NewReader(b.Tx, space, b.Epoch)
			for _, id := range part {
				owner, err := graph.Lookup(id.Collection, id.Type, id.Value)
				if err != nil {
					return err
				}
				if !owner.IsZero() {
					continue
				}
				if err := step(&pipeline.Record{Work: Retract{Identifier: id, Run: run}}); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// inParts does something with a list, in halves where it is more than one
// transaction holds.
func inParts[T any](list []T, do func([]T) error) error {
	if len(list) == 0 {
		return nil
	}
	err := do(list)
	if half := len(list) / 2; half > 0 && fault.Is(err, fault.Invalid) {
		if err := inParts(list[:half], do); err != nil {
			return err
		}
		return inParts(list[half:], do)
	}
	return err
}
