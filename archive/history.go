package archive

import (
	"bytes"
	"context"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// Window is a piece of a history: events whose time is at or after From and
// before To, in milliseconds; newest first when Reverse is set.
type Window struct {
	From, To int64
	Reverse  bool
	// After continues a listing behind this event; zero begins it.
	After Mark
}

// Mark is an event's place in a history.
type Mark struct {
	Time   int64
	Offset commitlog.Offset
}

// IsZero reports whether the mark names no place.
func (m Mark) IsZero() bool { return m == Mark{} }

// historyPage is how many marks are read in one moment of the store.
const historyPage = 256

// History calls fn with the events of a family of profiles (a profile and
// those merged into it) in the order of their time, ties by record order,
// until fn returns false. Those before the horizon have heads and no bodies.
func (a *Archive) History(ctx context.Context, space, epoch uint32, family []event.ProfileID, w Window, fn func(Entry) (bool, error)) error {
	for {
		marks, err := a.marks(ctx, space, epoch, family, w)
		if err != nil {
			return err
		}
		for _, m := range marks {
			e, err := a.event(ctx, space, m.Offset)
			if err != nil {
				return err
			}
			if w.After = m; e.Head.Kind == event.KindErased {
				continue
			}
			more, err := fn(e)
			if err != nil || !more {
				return err
			}
		}
		if len(marks) < historyPage {
			return nil
		}
	}
}

// marks returns the next page of a family's history: the pages of its members,
// merged.
func (a *Archive) marks(ctx context.Context, space, epoch uint32, family []event.ProfileID, w Window) ([]Mark, error) {
	var merged []Mark
	err := a.db.View(ctx, func(r kv.Reader) error {
		for _, p := range family {
			page, err := pageOf(r, historyStem(space, epoch, p), w)
			if err != nil {
				return err
			}
			merged = mergeMarks(merged, page, w.Reverse)
		}
		return nil
	})
	return merged[:min(len(merged), historyPage)], err
}

func pageOf(r kv.Reader, stem kv.Key, w Window) ([]Mark, error) {
	rng := kv.Range{From: stem.Clone().Int64(w.From), To: stem.Clone().Int64(w.To), Reverse: w.Reverse, Limit: historyPage}
	if !w.After.IsZero() {
		place := stem.Clone().Int64(w.After.Time)
		if w.Reverse {
			place = place.Uint64(uint64(w.After.Offset))
			if bytes.Compare(place, rng.To) < 0 {
				rng.To = place
			}
		} else if place = place.Uint64(uint64(w.After.Offset) + 1); bytes.Compare(place, rng.From) > 0 {
			rng.From = place
		}
	}
	var page []Mark
	for pair, err := range r.Scan(rng) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		page = append(page, Mark{Time: parts.Int64(), Offset: commitlog.Offset(parts.Uint64())})
		if !parts.OK() {
			return nil, errRun
		}
	}
	return page, nil
}

func mergeMarks(a, b []Mark, reverse bool) []Mark {
	if len(a) == 0 {
		return b
	}
	out := make([]Mark, 0, len(a)+len(b))
	before := func(x, y Mark) bool {
		if x.Time != y.Time {
			return (x.Time < y.Time) != reverse
		}
		return (x.Offset < y.Offset) != reverse
	}
	for len(a) > 0 && len(b) > 0 {
		if before(a[0], b[0]) {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}
