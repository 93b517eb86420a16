package delivery

import (
	"context"
	"slices"

	"kith/commitlog"
	"kith/kv"
)

// Need is the oldest output of a space's resolved log that a destination may
// still read: what it refers to is kept.
type Need struct {
	Destination string // its id
	Offset      commitlog.Offset
	Why         NeedReason
}

// NeedReason says why an output is needed.
type NeedReason string

// The reasons.
const (
	NeedUnread  NeedReason = "unread"  // the destination has not come to it
	NeedWaiting NeedReason = "waiting" // it waits for a retry
	NeedDead    NeedReason = "dead"    // it is a dead letter
)

// Needs returns what the destinations may still read of a space's resolved log:
// for each of them, and each reason, the oldest output. Dead letters from before
// an instant, in milliseconds, are of no account, nor are those that have arrived
// since.
func (d *Delivery) Needs(ctx context.Context, space uint32, deadBefore int64) ([]Need, error) {
	f, err := d.feed(space)
	if err != nil {
		return nil, err
	}
	end := f.log.End() // first: what comes now is needed anyway
	ids, err := d.kept(ctx)
	if err != nil {
		return nil, err
	}
	var needs []Need
	err = d.cfg.DB.View(ctx, func(r kv.Reader) error {
		needs = nil
		for _, id := range ids {
			list, err := needsOf(r, id, space, end, deadBefore)
			if err != nil {
				return err
			}
			needs = append(needs, list...)
		}
		return nil
	})
	return needs, err
}

func needsOf(r kv.Reader, id string, space uint32, end commitlog.Offset, deadBefore int64) (needs []Need, err error) {
	value, err := r.Get(cursorKey(id, space))
	if err != nil || value == nil {
		return nil, err
	}
	c, err := decodeCursor(value)
	if err != nil {
		return nil, err
	}
	if c.base < end {
		needs = append(needs, Need{id, c.base, NeedUnread})
	}
	stem := waitingStem(id, space)
	first := kv.Prefix(stem)
	first.Limit = 1
	for pair, err := range r.Scan(first) {
		if err != nil {
			return nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		at := commitlog.Offset(parts.Uint64())
		if !parts.OK() {
			return nil, errDamaged("waiting output's key")
		}
		needs = append(needs, Need{id, at, NeedWaiting})
	}
	letters := stemOf(id).Byte(LetterKind).Uint32(space)
	for pair, err := range r.Scan(kv.Prefix(letters)) {
		if err != nil {
			return nil, err
		}
		died, err := decodeLetter(pair.Value)
		if err != nil {
			return nil, err
		}
		if died < deadBefore {
			continue
		}
		parts := kv.PartsAfter(pair.Key, letters)
		x := deadID{at: died, space: space, place: place{commitlog.Offset(parts.Uint64()), parts.String()}}
		if !parts.OK() {
			return nil, errDamaged("dead letter's place")
		}
		value, err := r.Get(deadKey(id, x))
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		letter, err := decodeDead(value)
		if err != nil {
			return nil, err
		}
		if letter.state != Redelivered {
			return append(needs, Need{id, x.offset, NeedDead}), nil
		}
	}
	return needs, nil
}

// expireLetters deletes the dead letters that are older than the retention of
// their space, but for those that are being sent again. It reports false when
// there may be more.
func (s *session) expireLetters(ctx context.Context, now int64) (all bool, err error) {
	if s.cfg.Retention == nil {
		return true, nil
	}
	before := map[uint32]int64{}
	newest := int64(0)
	for _, l := range s.order {
		if d := s.cfg.Retention(l.space); d > 0 {
			before[l.space] = now - d.Milliseconds()
			newest = max(newest, before[l.space])
		}
	}
	if len(before) == 0 {
		return true, nil
	}
	n := 0
	stem := deadStem(s.w.id)
	err = s.cfg.DB.View(ctx, func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Range{From: stem, To: stem.Clone().Int64(newest)}) {
			if err != nil {
				return err
			}
			id, ok := deadIDAfter(pair.Key, stem)
			if !ok {
				return errDamaged("dead letter's key")
			}
			if limit, ok := before[id.space]; !ok || id.at >= limit {
				continue
			}
			if _, changing := s.changes[string(pair.Key)]; changing {
				continue // next time
			}
			letter, err := decodeDead(pair.Value)
			if err != nil {
				return err
			}
			if letter.state == Resending {
				continue
			}
			l := s.lanes[id.space]
			if letter.state == Dead {
				l.counts.Dead--
				l.dirty = true
			}
			s.changes[string(pair.Key)] = nil
			place := letterKey(s.w.id, id.space, id.place)
			value, err := r.Get(place)
			if err != nil {
				return err
			}
			if value != nil {
				if died, err := decodeLetter(value); err != nil {
					return err
				} else if died == id.at {
					s.changes[string(place)] = nil
				}
			}
			s.unsaved++
			if n++; n == sweepBlocks {
				return nil
			}
		}
		return nil
	})
	return n < sweepBlocks, err
}

// OldestNeed returns the need whose output is the oldest, nil when there is
// none.
func OldestNeed(needs []Need) *Need {
	if len(needs) == 0 {
		return nil
	}
	oldest := slices.MinFunc(needs, func(a, b Need) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	return &oldest
}
