package delivery

import (
	"context"
	"fmt"
	"time"

	"kith/commitlog"
	"kith/kv"
)

// minute is what the ledger counts time in, in milliseconds.
const minute = 60_000

// What has expired is looked for so often, and so many blocks are deleted with
// one commit.
const (
	sweepEvery  = time.Hour
	sweepBlocks = 500
)

// ledger is the blocks of a lane that are at hand: those that are not written
// yet, and those whose outputs are still under way.
type ledger struct {
	blocks map[uint64]*ledgerBlock
	last   *ledgerBlock
}

// blockAt returns the block of the output at a lane's frontier, a new one if
// there is none.
func (s *session) blockAt(l *lane, at commitlog.Offset) (*ledgerBlock, error) {
	b, err := s.block(l, at)
	if b != nil || err != nil {
		return b, err
	}
	number, i := blockOf(at)
	b = &ledgerBlock{number: number, first: i, end: i}
	l.ledger.keep(b)
	return b, nil
}

func (g *ledger) keep(b *ledgerBlock) {
	if g.blocks == nil {
		g.blocks = map[uint64]*ledgerBlock{}
	}
	g.blocks[b.number], g.last = b, b
}

// block returns the block of an output, or nil when there is none: it has
// expired, or the output is older than the ledger.
func (s *session) block(l *lane, at commitlog.Offset) (*ledgerBlock, error) {
	number, _ := blockOf(at)
	g := &l.ledger
	if g.last != nil && g.last.number == number {
		return g.last, nil
	}
	if b := g.blocks[number]; b != nil {
		g.last = b
		return b, nil
	}
	var b *ledgerBlock
	err := s.cfg.DB.View(context.Background(), func(r kv.Reader) (err error) {
		b, err = readLedger(r, s.w.id, l.space, number)
		return err
	})
	if err != nil || b == nil {
		return nil, err
	}
	g.keep(b)
	return b, nil
}

// readLedger reads a block of the ledger; nil when there is none.
func readLedger(r kv.Reader, destination string, space uint32, number uint64) (*ledgerBlock, error) {
	value, err := r.Get(ledgerKey(destination, space, number))
	if err != nil || value == nil {
		return nil, err
	}
	return decodeLedger(number, value)
}

// note tells the ledger what became of a unit: at once, or once all
// subscriptions of the output are settled.
func (s *session) note(u *unit, o Outcome) {
	o.Subscription, o.Addressed = u.subscription, u.addressed
	if m := u.lane.multi[u.offset]; m != nil {
		for i := range m.outcomes {
			if m.outcomes[i].Subscription == o.Subscription {
				m.outcomes[i] = o
				return
			}
		}
		m.outcomes = append(m.outcomes, o)
		return
	}
	s.enter(u.lane, u.offset, o)
}

func (s *session) enter(l *lane, at commitlog.Offset, o Outcome) {
	b, err := s.block(l, at)
	if err != nil {
		s.broken = fmt.Errorf("read the ledger: %w", err)
		return
	}
	if b == nil {
		return
	}
	_, i := blockOf(at)
	b.put(i, o)
	l.dirty = true
}

// writeLedger adds the blocks of a lane that have changed to a commit.
func (s *session) writeLedger(l *lane, changes map[string][]byte) {
	for _, b := range l.ledger.blocks {
		if b.dirty {
			changes[string(ledgerKey(s.w.id, l.space, b.number))] = b.encode()
			b.dirty = false
		}
	}
}

// forgetBlocks lets go of the blocks that are written and all of whose outputs
// are settled. An outcome that changes later reads its block again.
func (l *lane) forgetBlocks() {
	for number, b := range l.ledger.blocks {
		if !b.dirty && b.offset(ledgerSpan) <= l.base {
			delete(l.ledger.blocks, number)
			if l.ledger.last == b {
				l.ledger.last = nil
			}
		}
	}
}

// sweep deletes what has expired, now and then.
func (s *session) sweep(ctx context.Context) {
	now := s.now()
	if s.swept != 0 && now < s.swept+sweepEvery.Milliseconds() {
		return
	}
	s.expireFailures(now)
	if all, err := s.expireLetters(ctx, now); err != nil || !all {
		if err != nil && ctx.Err() == nil {
			s.broken = fmt.Errorf("look for dead letters that have expired: %w", err)
		}
		return // the rest after the next commit
	}
	oldest := (now - s.limits.Ledger.Milliseconds()) / minute
	for _, l := range s.order {
		all, err := s.expireLedger(ctx, l, oldest)
		if err != nil {
			if ctx.Err() == nil {
				s.broken = fmt.Errorf("look for what has expired of the ledger: %w", err)
			}
			return
		}
		if !all {
			return // the rest after the next commit
		}
	}
	s.swept = now
}

// expireLedger deletes the blocks of a lane all of whose outputs are older than
// a minute. It reports false when there may be more.
func (s *session) expireLedger(ctx context.Context, l *lane, oldest int64) (all bool, err error) {
	stem := ledgerStem(s.w.id, l.space)
	n := 0
	err = s.cfg.DB.View(ctx, func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Range{From: stem, To: kv.PrefixEnd(stem), Limit: sweepBlocks}) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			b, err := decodeLedger(parts.Uint64(), pair.Value)
			if err != nil {
				return err
			}
			if b.newest() >= oldest || b.offset(ledgerSpan) > l.base || l.ledger.blocks[b.number] != nil {
				return nil
			}
			s.changes[string(pair.Key)] = nil
			s.unsaved++
			n++
		}
		return nil
	})
	return n < sweepBlocks, err
}
