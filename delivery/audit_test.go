package delivery

import (
	"fmt"

	"kith/commitlog"
	"kith/kv"
)

// Audit compares the ledger of a destination in a space with everything else
// that is kept of it: its cursor, its numbers, what waits and its dead letters.
// What is settled is in the ledger, and nothing else is.
func Audit(r kv.Reader, destination string, space uint32) error {
	value, err := r.Get(cursorKey(destination, space))
	if err != nil {
		return err
	}
	c, err := decodeCursor(value)
	if err != nil {
		return err
	}
	if value, err = r.Get(countKey(destination, space)); err != nil {
		return err
	}
	counts, err := decodeCounts(value)
	if err != nil {
		return err
	}
	pending := map[commitlog.Offset]bool{}
	for _, p := range c.pending {
		for at := p.first; at < p.end; at++ {
			pending[at] = true
		}
	}
	var sums Counts
	ledger := map[place]State{}
	end := commitlog.Offset(0)
	stem := ledgerStem(destination, space)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		b, err := decodeLedger(parts.Uint64(), pair.Value)
		if err != nil {
			return err
		}
		if end != 0 && b.offset(b.first) != end {
			return fmt.Errorf("the ledger has a hole before %d", b.offset(b.first))
		}
		b.runs(func(_ int64, first, n int, outcomes []Outcome, settled bool) {
			for i := first; i < first+n; i++ {
				if at := b.offset(i); settled == pending[at] {
					err = fmt.Errorf("output %d: settled %v in the ledger, under way %v by the cursor", at, settled, pending[at])
				}
				for _, o := range outcomes {
					ledger[place{b.offset(i), o.Subscription}] = o.State
				}
			}
			for _, o := range outcomes {
				switch o.State {
				case StateDelivered:
					sums.Delivered += uint64(n)
				case StateDead:
					sums.Dead += uint64(n)
				case StateWaiting:
					sums.Waiting += uint64(n)
				case StateFiltered:
					sums.Filtered[o.Gate] += uint64(n)
				}
			}
		})
		if err != nil {
			return err
		}
		end = b.offset(b.end)
	}
	if end != 0 && end != c.frontier {
		return fmt.Errorf("the ledger ends at %d, the cursor at %d", end, c.frontier)
	}
	sums.Attempts, sums.Failures = counts.Attempts, counts.Failures
	if sums != counts {
		return fmt.Errorf("the ledger sums up to %+v, counted are %+v", sums, counts)
	}
	waits, dead := 0, 0
	for at, state := range ledger {
		if state != StateWaiting && state != StateDead {
			continue
		}
		step, err := readStep(r, destination, space, at, Outcome{Subscription: at.subscription, State: state})
		if err != nil {
			return err
		}
		if step.FirstTried.IsZero() && state == StateDead || state == StateDead && step.Letter == "" {
			return fmt.Errorf("%v is dead in the ledger and has no dead letter: %+v", at, step)
		}
		if state == StateWaiting {
			waits++
			if value, err := r.Get(waitingKey(destination, space, at)); err != nil || value == nil {
				return fmt.Errorf("%v waits in the ledger, and is not kept as waiting: %w", at, err)
			}
		} else {
			dead++
		}
	}
	for pair, err := range r.Scan(kv.Prefix(waitingStem(destination, space))) {
		if err != nil {
			return err
		}
		parts := kv.PartsAfter(pair.Key, waitingStem(destination, space))
		if at := (place{commitlog.Offset(parts.Uint64()), parts.String()}); ledger[at] != StateWaiting {
			return fmt.Errorf("%v waits, and is %v in the ledger", at, ledger[at])
		}
		waits--
	}
	for pair, err := range r.Scan(kv.Prefix(deadStem(destination))) {
		if err != nil {
			return err
		}
		id, _ := deadIDAfter(pair.Key, deadStem(destination))
		l, err := decodeDead(pair.Value)
		if err != nil {
			return err
		}
		want := map[DeadState]State{Dead: StateDead, Resending: StateWaiting, Redelivered: StateDelivered}[l.state]
		if id.space == space && ledger[id.place] != want {
			return fmt.Errorf("dead letter %v is %v, and %v in the ledger", id.place, l.state, ledger[id.place])
		}
		if id.space == space && l.state == Dead {
			dead--
		}
	}
	if waits != 0 || dead != 0 {
		return fmt.Errorf("%d more wait in the ledger, and %d more are dead", waits, dead)
	}
	return nil
}
