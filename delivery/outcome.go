package delivery

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"kith/destination"
)

// maxReason bounds the reasons that are kept.
const maxReason = 500

// outcomes takes what became of a batch.
func (s *session) outcomes(r result) {
	b := r.batch
	s.inFlight--
	b.opened.inFlight--
	s.closeRetired(b.opened)
	delete(s.sending, b)
	at := 0
	s.spread = s.w.d.chance() // the same for all, so that they are tried again together
	for _, q := range b.queues {
		n := q.taken
		q.taken = 0
		s.settleQueue(q, r.outcomes[at:at+n], len(b.items), b.opened.batching.Whole)
		at += n
	}
}

// settleQueue takes what became of the first units of a queue, which were in a
// batch of the given size, and finds the queue its next place.
func (s *session) settleQueue(q *queue, outcomes []destination.Outcome, size int, whole bool) {
	shared := whole && size > 1
	for i, o := range outcomes {
		n := s.count(q.units[i])
		n.Attempts++
		if o.Status != destination.Delivered {
			n.Failures++
			s.lastFailure = clip(o.Reason)
			s.failed(q.units[i], &o)
		}
	}
	for i, o := range outcomes {
		u := q.units[0]
		switch {
		case o.Status == destination.Delivered:
			s.lastSuccess = s.cfg.Clock.Now()
			s.successes++
			u.attempts++
			s.delivered(u)
		case o.Status == destination.Permanent && (!shared || o.Regardless):
			u.attempts++
			s.bury(u, codeOf(&o), o.Reason)
		case o.Status == destination.Permanent: // which of them was it?
			for _, u := range q.units[:len(outcomes)-i] {
				u.split++
				u.arrived = 0
			}
			s.queues.makeReady(q)
			return
		default:
			if shared {
				s.suspect(q.units[:len(outcomes)-i])
			}
			if s.putBackLater(u, o) {
				s.place(q)
				return
			}
		}
		q.units = q.units[1:]
	}
	s.place(q)
}

// patience is how often a batch is tried as it is while nothing at all is
// delivered. Then it may be one of its events.
const patience = 4

// suspect has units that failed together be tried in smaller batches, in case
// one of them spoils it for the others: at once while others are delivered,
// after a while when the destination seems to be down, which smaller batches
// would not help.
func (s *session) suspect(units []*unit) {
	for _, u := range units {
		if s.successes > u.seen || u.attempts >= patience {
			u.split++
		}
		u.seen = s.successes
	}
}

// place finds a queue its place after its first unit has changed: on hold
// while that waits for a retry, else ready. Where too many wait behind, the
// first becomes a dead letter.
func (s *session) place(q *queue) {
	if len(q.units) == 0 || q.units[0].due == 0 {
		s.queues.makeReady(q)
		return
	}
	if behind := len(q.units) - 1; behind > s.limits.MaxBehind {
		u := q.units[0]
		s.bury(u, codeCrowded, fmt.Sprintf("%d later events of its profile waited behind it; %s", behind, u.reason))
		q.units = q.units[1:]
		s.queues.makeReady(q) // the next has not been tried yet
		return
	}
	s.storeAll(q)
	s.queues.putOnHold(q)
}

// putBackLater has a unit wait for its next try, or buries it when it is too
// old for another.
func (s *session) putBackLater(u *unit, o destination.Outcome) (waits bool) {
	now := s.now()
	u.attempts++
	if u.first == 0 {
		u.first = now
	}
	limit := u.first + s.limits.MaxAge.Milliseconds()
	if now >= limit {
		s.bury(u, codeOf(&o), fmt.Sprintf("given up after %d attempts in %s: %s", u.attempts, time.Duration(now-u.first)*time.Millisecond, o.Reason))
		return false
	}
	delay := o.After
	if delay <= 0 {
		delay = s.backoff(time.Duration(now-u.first) * time.Millisecond)
	}
	u.due = min(limit, now+max(1, delay.Milliseconds()))
	u.reason = clip(o.Reason)
	s.report(u, destination.Retry, u.reason)
	s.store(u)
	return true
}

// backoff is how long a unit waits that has been tried for a while: as long
// again, so that the waits double, a quarter more or less by chance.
func (s *session) backoff(tried time.Duration) time.Duration {
	d := min(max(tried, s.limits.Backoff), s.limits.MaxBackoff)
	return d - d/4 + time.Duration(s.spread*float64(d)/2)
}

// chance returns a number from 0 to 1.
func (d *Delivery) chance() float64 {
	d.random.Lock()
	defer d.random.Unlock()
	var b [8]byte
	if _, err := io.ReadFull(d.cfg.Random, b[:]); err != nil {
		return 0.5
	}
	return float64(binary.BigEndian.Uint64(b[:])>>11) / (1 << 53)
}

// delivered is the end of a unit.
func (s *session) delivered(u *unit) {
	n := s.count(u)
	n.Delivered++
	s.note(u, Outcome{State: StateDelivered, Attempts: counted(u.attempts)})
	s.report(u, destination.Delivered, "")
	if u.resent() {
		s.set(u, deadKey(s.w.id, u.letter()), (&dead{profile: u.profile, state: Redelivered, attempts: u.attempts, first: u.first,
			resentAt: s.now(), reason: u.reason}).encode())
	}
	s.gone(u)
}

// keepBack is the end of a unit that a gate does not let pass any more. A dead
// letter that was sent again stays one.
func (s *session) keepBack(u *unit, g Gate) {
	if u.resent() {
		s.bury(u, g.Code(), fmt.Sprintf("not sent again: kept back by the gate %q", g))
		return
	}
	s.count(u).Filtered[g]++
	s.note(u, Outcome{State: StateFiltered, Gate: g})
	s.gone(u)
}

// codeCrowded is the code of dead letters that held back too many others.
const codeCrowded = "TOO_MANY_BEHIND"

// codeOf returns the code of a failure.
func codeOf(o *destination.Outcome) string {
	if o.Code == "" {
		return destination.CodeInternal
	}
	return o.Code[:min(len(o.Code), maxCode)]
}

// maxCode bounds a code.
const maxCode = 64

func counted(attempts int) uint8 { return uint8(min(max(attempts, 0), MaxCountedAttempts)) }

// bury makes a unit a dead letter.
func (s *session) bury(u *unit, code, reason string) {
	if u.first == 0 {
		u.first = s.now()
	}
	reason = clip(reason)
	s.count(u).Dead++
	s.note(u, Outcome{State: StateDead, Attempts: counted(u.attempts), Code: code})
	id, d := deadID{at: s.now(), space: u.lane.space, place: u.place}, dead{profile: u.profile, state: Dead, attempts: u.attempts, first: u.first, reason: reason}
	if u.resent() {
		id, d.resentAt = u.letter(), s.now()
	}
	s.report(u, destination.Permanent, reason)
	s.set(u, deadKey(s.w.id, id), d.encode())
	s.set(u, letterKey(s.w.id, id.space, id.place), encodeLetter(id.at))
	s.gone(u)
}

// gone takes a unit off the numbers of those that wait or are at hand.
func (s *session) gone(u *unit) {
	if u.stored {
		s.count(u).Waiting--
		s.stored--
		s.set(u, waitingKey(s.w.id, u.lane.space, u.place), nil)
	} else {
		s.pending--
		s.pendingBytes -= len(u.body)
	}
	s.settle(u)
	u.drop()
}

// store writes that a unit waits, and lets go of what is at hand of it.
func (s *session) store(u *unit) {
	s.set(u, waitingKey(s.w.id, u.lane.space, u.place), u.waiting.encode())
	if !u.stored {
		s.count(u).Waiting++
		s.note(u, Outcome{State: StateWaiting})
		s.stored++
		s.pending--
		s.pendingBytes -= len(u.body)
		u.stored = true
		s.settle(u)
	}
	u.arrived = 0
	u.drop()
}

// storeAll stores those of a queue that are not.
func (s *session) storeAll(q *queue) {
	for _, u := range q.units {
		if !u.stored {
			s.store(u)
		}
	}
}

// wakeDue makes those ready whose retry is due.
func (s *session) wakeDue(now int64) {
	for len(s.queues.hold) > 0 && s.queues.hold[0].due <= now {
		q := s.queues.hold[0]
		s.queues.release(q)
		q.units[0].arrived = 0
		s.queues.makeReady(q)
	}
}

func (s *session) report(u *unit, status destination.Status, reason string) {
	if s.cfg.Tap == nil {
		return
	}
	s.reports = append(s.reports, Report{
		Destination: s.w.id, Subscription: u.subscription, Space: u.lane.space, Offset: u.offset, At: s.cfg.Clock.Now(),
		Status: status, Reason: reason, Attempts: u.attempts, Resent: u.resent(), Profile: u.profile, Output: u.output, Body: u.body,
	})
}

// clip bounds a reason.
func clip(reason string) string {
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	return reason
}
