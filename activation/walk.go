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

// walkChunk is how many profiles, or identifiers, a walk looks at in one
// transaction.
const walkChunk = 500

// params are the parameters of a walk: a connection's first sync, or all
// connections of a space where none is named.
type params struct {
	Space       uint32 `json:"space"`
	Audience    string `json:"audience,omitempty"`
	Destination string `json:"destination,omitempty"`
	Snapshot    uint64 `json:"snapshot,omitempty"` // that made the connection
}

func (p params) pair() pair { return pair{p.Audience, p.Destination} }

// first reports whether it is a first sync.
func (p params) first() bool { return p.pair() != pair{} }

// cursor is how far a walk through an epoch has come: first the members,
// audience by audience, then whoever was told something, by identifier: there
// may be memberships that ended while nobody listened. The place in the second
// half is an identifier, which must not rest in a job: after a restart that half
// begins again. In another epoch, after a swap, the walk begins again.
type cursor struct {
	Epoch    uint32          `json:"epoch"`
	Audience string          `json:"audience,omitempty"`
	Member   event.ProfileID `json:"member"`
	Second   bool            `json:"second,omitempty"`
	Done     uint64          `json:"done"` // profiles and identifiers looked at

	told []byte // the last key looked at in the second half; nil at its beginning
}

// run walks from the cursor on.
func (s *Syncs) run(ctx context.Context, h *job.Handle) error {
	var p params
	if err := h.Params(&p); err != nil {
		return err
	}
	var at cursor
	if c := h.Cursor(); c != nil {
		if err := json.Unmarshal(c, &at); err != nil {
			return fmt.Errorf("cursor of %s: %w", h.ID(), err)
		}
	}
	for {
		loop, err := s.loop(p.Space)
		if err != nil {
			return err
		}
		if at.Epoch != loop.Epoch() {
			at = cursor{Epoch: loop.Epoch(), Done: at.Done}
		}
		over, err := s.walk(ctx, loop, p, h.ID(), &at)
		if fault.Is(err, fault.Unavailable) && ctx.Err() == nil {
			if now, failed := s.loop(p.Space); failed == nil && now.Epoch() != loop.Epoch() {
				continue // a swap came between
			}
		}
		if err != nil || over {
			return err
		}
		text, err := json.Marshal(at)
		if err != nil {
			return fmt.Errorf("cursor of %s: %w", h.ID(), err)
		}
		if err := h.Save(ctx, text, at.Done, 0); err != nil {
			return err
		}
	}
}

// walk goes one piece on, and reports whether that was the last.
func (s *Syncs) walk(ctx context.Context, loop Loop, p params, run string, at *cursor) (over bool, err error) {
	changed := s.next(p.Space)
	now, err := s.look(ctx, loop, p)
	switch {
	case err != nil || now.over:
		return true, err
	case now.computing:
		select {
		case <-changed:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	case !at.Second:
		return false, s.walkMembers(ctx, loop, p, now.audiences, run, at)
	}
	more, err := s.walkTold(ctx, loop, p, run, at)
	if err != nil || more {
		return false, err
	}
	return true, s.finish(ctx, loop, p)
}

// outlook is what a walk finds before each piece.
type outlook struct {
	over      bool     // its connection is not waiting for it any more
	computing bool     // it is yet to be found who is in its audience
	audiences []string // whose members are looked at, in their order: those with history
}

func (s *Syncs) look(ctx context.Context, loop Loop, p params) (o outlook, err error) {
	err = loop.Do(ctx, func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		o = outlook{}
		plan := planOf(b.Snapshot, p.Space)
		if p.first() {
			mine, err := p.waits(b.Tx)
			if err != nil || !mine {
				o.over = true
				return err
			}
			if plan.connections[p.pair()] == nil {
				o.over = true
				return b.Tx.Delete(pendingKey(p.Space, p.pair()))
			}
			if o.computing, err = s.members.Computing(b.Tx, p.Space, b.Epoch, p.Audience); err != nil {
				return err
			}
		}
		for _, pr := range plan.pairs() {
			if (!p.first() || pr == p.pair()) && plan.connections[pr].history() && !slices.Contains(o.audiences, pr.audience) {
				o.audiences = append(o.audiences, pr.audience)
			}
		}
		return nil
	})
	return o, err
}

// waits reports whether the connection waits for this first sync: it may have
// been broken and made again, which is another sync's.
func (p params) waits(r kv.Reader) (bool, error) {
	value, err := r.Get(pendingKey(p.Space, p.pair()))
	if err != nil || value == nil {
		return false, err
	}
	made, err := decodePending(value)
	return made == p.Snapshot, err
}

// finish ends a first sync.
func (s *Syncs) finish(ctx context.Context, loop Loop, p params) error {
	if !p.first() {
		return nil
	}
	return loop.Do(ctx, func(b *pipeline.Batch, _ func(*pipeline.Record) error) error {
		if mine, err := p.waits(b.Tx); err != nil || !mine {
			return err
		}
		return b.Tx.Delete(pendingKey(p.Space, p.pair()))
	})
}

// walkMembers has the loop look at the next members.
func (s *Syncs) walkMembers(ctx context.Context, loop Loop, p params, audiences []string, run string, at *cursor) error {
	var people []event.ProfileID
	err := s.db.View(ctx, func(r kv.Reader) error {
		for _, audience := range audiences {
			if audience < at.Audience {
				continue
			}
			if audience > at.Audience {
				at.Audience, at.Member = audience, event.ProfileID{}
			}
			var err error
			if people, err = s.members.Members(r, p.Space, loop.Epoch(), audience, at.Member, walkChunk); err != nil || len(people) > 0 {
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
	return s.compare(ctx, loop, p, run, people)
}

// walkTold has the loop look at the owners of the next identifiers that
// destinations were told something under, and take back what was told under
// those that are nobody's any more. Most owners are members still, and nothing
// comes of looking at them again.
func (s *Syncs) walkTold(ctx context.Context, loop Loop, p params, run string, at *cursor) (more bool, err error) {
	var people []event.ProfileID
	var nobodys []event.Identifier
	looked := 0
	err = s.db.View(ctx, func(r kv.Reader) error {
		stem := toldStem(p.Space)
		graph := identity.NewReader(r, p.Space, loop.Epoch())
		from := []byte(stem)
		if at.told != nil {
			from = append(bytes.Clone(at.told), 0)
		}
		for x, err := range r.Scan(kv.Range{From: from, To: kv.PrefixEnd(stem), Limit: walkChunk}) {
			if err != nil {
				return err
			}
			looked++
			at.told = bytes.Clone(x.Key)
			known, err := decodeTold(x.Value)
			if err != nil {
				return err
			}
			if _, told := known[p.pair()]; p.first() && !told {
				continue
			}
			parts := kv.PartsAfter(x.Key, stem)
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
	if err := s.compare(ctx, loop, p, run, slices.Compact(people)); err != nil {
		return false, err
	}
	return true, s.retract(ctx, loop, p.Space, run, nobodys)
}

// compare has the loop compare what each of the profiles is with what was told
// of it, in as many transactions as what is to be said of them takes.
func (s *Syncs) compare(ctx context.Context, loop Loop, p params, run string, people []event.ProfileID) error {
	return inParts(people, func(part []event.ProfileID) error {
		return loop.Do(ctx, func(_ *pipeline.Batch, step func(*pipeline.Record) error) error {
			for _, x := range part {
				if err := step(&pipeline.Record{Profile: x, Work: Sync{run, p.Audience, p.Destination}}); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// retract takes back what was told under identifiers that are nobody's, unless
// they have become somebody's meanwhile.
func (s *Syncs) retract(ctx context.Context, loop Loop, space uint32, run string, nobodys []event.Identifier) error {
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
