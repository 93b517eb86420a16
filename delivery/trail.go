package delivery

import (
	"context"
	"fmt"
	"time"

	"kith/commitlog"
	"kith/kv"
)

// Trail is what became of one output at one destination, by what is committed.
type Trail struct {
	// Behind is how many outputs the destination has yet to read before it
	// comes to this one, which it counts; zero: it has read it.
	Behind uint64
	// Unknown says that the ledger knows nothing of it any more: it has
	// expired, or the destination is newer than the output.
	Unknown bool
	// Open says that the output was read and is under way, or is about to be.
	Open bool
	// Steps are what became of it, by subscription; empty without Open when
	// the output is none of the destination's business.
	Steps []Step
}

// Step is what became of an output for one subscription.
type Step struct {
	Outcome
	// Reason says why it was not delivered last, while it waits or is dead.
	Reason string
	// Tries is how often it was tried, Attempts without a limit; known while it
	// waits or is dead.
	Tries      int
	FirstTried time.Time // zero: never, or not known
	// Due is when it is tried again, of StateWaiting; zero: once those of its
	// profile before it are done with.
	Due time.Time
	// Letter is the id of its dead letter, of StateDead, and while one is sent
	// again; LetterAt is when it was given up and ResentAt when it was last
	// sent again.
	Letter             string
	LetterAt, ResentAt time.Time
}

// Trail returns what became of an output of a space's resolved log at a
// destination.
func (d *Delivery) Trail(ctx context.Context, destination string, space uint32, at commitlog.Offset) (t Trail, err error) {
	err = d.cfg.DB.View(ctx, func(r kv.Reader) error {
		t, err = readTrail(r, destination, space, at)
		return err
	})
	if err != nil {
		return Trail{}, fmt.Errorf("what became of output %d at %s: %w", at, destination, err)
	}
	return t, nil
}

func readTrail(r kv.Reader, destination string, space uint32, at commitlog.Offset) (Trail, error) {
	value, err := r.Get(cursorKey(destination, space))
	if err != nil || value == nil {
		return Trail{Unknown: true}, err
	}
	c, err := decodeCursor(value)
	if err != nil {
		return Trail{}, err
	}
	if at >= c.frontier {
		return Trail{Behind: uint64(at-c.frontier) + 1}, nil
	}
	number, i := blockOf(at)
	b, err := readLedger(r, destination, space, number)
	if err != nil {
		return Trail{}, err
	}
	if b == nil || i < b.first || i >= b.end {
		return Trail{Unknown: true}, nil
	}
	outcomes, settled := b.outcomes(i)
	t := Trail{Open: !settled}
	for _, o := range outcomes {
		step, err := readStep(r, destination, space, place{at, o.Subscription}, o)
		if err != nil {
			return Trail{}, err
		}
		t.Steps = append(t.Steps, step)
	}
	return t, nil
}

// readStep reads what is kept beside the ledger.
func readStep(r kv.Reader, destination string, space uint32, at place, o Outcome) (Step, error) {
	step := Step{Outcome: o}
	switch o.State {
	case StateWaiting:
		value, err := r.Get(waitingKey(destination, space, at))
		if err != nil || value == nil {
			return step, err
		}
		w, err := decodeWaiting(value)
		if err != nil {
			return step, err
		}
		step.Reason, step.Tries, step.FirstTried, step.Due = w.reason, w.attempts, instant(w.first), instant(w.due)
		if w.died != 0 {
			step.Letter, step.LetterAt = deadID{at: w.died, space: space, place: at}.String(), instant(w.died)
		}
	case StateDead:
		value, err := r.Get(letterKey(destination, space, at))
		if err != nil || value == nil {
			return step, err
		}
		died, err := decodeLetter(value)
		if err != nil {
			return step, err
		}
		id := deadID{at: died, space: space, place: at}
		if value, err = r.Get(deadKey(destination, id)); err != nil || value == nil {
			return step, err
		}
		l, err := decodeDead(value)
		if err != nil {
			return step, err
		}
		step.Reason, step.Tries, step.FirstTried = l.reason, l.attempts, instant(l.first)
		step.Letter, step.LetterAt, step.ResentAt = id.String(), instant(died), instant(l.resentAt)
	}
	return step, nil
}

// instant makes a time of milliseconds; zero stays zero.
func instant(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
