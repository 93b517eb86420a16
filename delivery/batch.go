package delivery

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"kith/commitlog"
	"kith/destination"
	"kith/fault"
	"kith/pipeline"
)

// maxSpan bounds how many outputs of a log are looked at behind one that is
// still under way.
const maxSpan = 1 << 17

// batch is a request under way.
type batch struct {
	opened *opened
	items  []destination.Item
	queues []*queue // each with as many of its first units as it says (taken)
}

// result is how a batch went.
type result struct {
	batch    *batch
	outcomes []destination.Outcome
}

// read takes outputs off the logs, at most a block of each space, while there
// is room for them. more says that there may be more to take at once.
func (s *session) read(ctx context.Context) (more bool) {
	now := s.now()
	for range s.order {
		s.turn = (s.turn + 1) % len(s.order)
		l := s.order[s.turn]
		if l.until > now {
			continue
		}
		l.until = 0
		progress, err := s.readBlock(ctx, l)
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.Error("a log cannot be read; delivery tries again", "destination", s.w.id, "space", l.space, "err", err)
			l.until = now + pause.Milliseconds()
		}
		more = more || progress && err == nil
	}
	return more
}

func (s *session) readBlock(ctx context.Context, l *lane) (progress bool, err error) {
	if !s.room(l) {
		return false, nil
	}
	b, err := l.feed.at(ctx, l.frontier())
	if err != nil || b == nil {
		return false, err
	}
	for at := l.frontier(); at < b.end(); at = l.frontier() {
		if !s.room(l) {
			return false, nil // an outcome will make some
		}
		if l.known() {
			l.pass(0)
			continue
		}
		if err := s.take(ctx, l, &b.outputs[at-b.first]); err != nil {
			return true, err
		}
	}
	return true, nil
}

// room reports whether another output may be read.
func (s *session) room(l *lane) bool {
	most := max(s.limits.MaxPending, 4*s.opened.batching.Size)
	mostBytes := max(s.limits.MaxPendingBytes, 4*s.opened.batching.Bytes)
	return s.pending < most && s.pendingBytes < mostBytes && s.stored+s.pending < s.limits.MaxWaiting && len(l.open) < maxSpan
}

// take judges the output at a lane's frontier and queues it.
func (s *session) take(ctx context.Context, l *lane, o *pipeline.Output) error {
	at := l.frontier()
	block, err := s.blockAt(l, at)
	if err != nil {
		return err
	}
	_, i := blockOf(at)
	if !s.rules.concerns(o) {
		block.pass(i, o.At/minute)
		block.setNone(i)
		s.unread++
		l.pass(0)
		return nil
	}
	body, to, gate, err := s.judge(ctx, l, o)
	if err != nil {
		return err
	}
	l.pass(len(to))
	block.pass(i, o.At/minute)
	if len(to) == 0 {
		block.put(i, Outcome{State: StateFiltered, Gate: gate, Addressed: o.Message != nil})
		l.counts.Filtered[gate]++
		s.unread++
		return nil
	}
	now := s.now()
	for _, subscription := range to {
		u := &unit{lane: l, place: place{at, subscription}, arrived: now, output: o, body: body, rules: s.rules, addressed: o.Message != nil}
		u.profile = o.Profile
		s.enqueue(u)
	}
	return nil
}

// judge asks the gates about an output. Without any subscription for which it
// goes out, gate says why.
func (s *session) judge(ctx context.Context, l *lane, o *pipeline.Output) (body []byte, to []string, gate Gate, err error) {
	if o.Message != nil {
		if body = o.Message.Body; len(body) == 0 { // erased
			return nil, nil, GateGone, nil
		}
	} else {
		if o.Event.Source != s.rules.source {
			return nil, nil, GateSource, nil
		}
		body, err = s.cfg.Bodies.Body(ctx, l.space, commitlog.Offset(o.Event.Offset))
		switch {
		case fault.Is(err, fault.NotFound):
			return nil, nil, GateGone, nil
		case err != nil:
			return nil, nil, 0, fmt.Errorf("body of event %d: %w", o.Event.Offset, err)
		case len(body) == 0: // erased
			return nil, nil, GateGone, nil
		}
	}
	to, gate = s.rules.judge(o, body, nil)
	return body, to, gate, nil
}

// enqueue puts a unit that was just read into the queue of its profile. Behind
// one that has failed it does not stay at hand.
func (s *session) enqueue(u *unit) {
	q := s.queues.queueOf(u.profile)
	q.units = append(q.units, u)
	s.pending++
	s.pendingBytes += len(u.body)
	switch {
	case q.state == idle:
		s.queues.makeReady(q)
	case q.state == onHold:
		s.store(u)
		if len(q.units)-1 > s.limits.MaxBehind {
			s.queues.release(q)
			s.place(q)
		}
	case q.units[0].attempts > 0:
		s.store(u)
		s.queues.appended(q)
	default:
		s.queues.appended(q)
	}
}

// dispatch sends batches while there are any and requests may be started.
func (s *session) dispatch(ctx context.Context) error {
	for s.inFlight < s.opened.limits.Concurrency {
		g := s.queues.next(s.opened.batching, s.now(), len(s.settles) > 0)
		if g == nil {
			return nil
		}
		b := s.form(ctx, g)
		if len(b.items) == 0 {
			continue // all of them were kept back or could not be read
		}
		s.inFlight++
		s.opened.inFlight++
		s.sending[b] = struct{}{}
		go s.send(b)
	}
	return nil
}

// form takes queues from a group and makes a batch of their first units.
func (s *session) form(ctx context.Context, g *group) *batch {
	b := &batch{opened: s.opened}
	rule := s.opened.batching
	size, bytes := rule.Size, 0
	if g.key.resent {
		size = 1
	}
	for len(g.list) > 0 && len(b.items) < size {
		q := s.queues.first(g)
		taken, full := 0, false
		for taken < len(q.units) && len(b.items) < size {
			u := q.units[taken]
			if taken > 0 && !s.queues.joins(q.units[0], u) {
				break
			}
			keep, err := s.fetch(ctx, u)
			if err != nil {
				s.putOff(q, taken, err)
				break
			}
			if !keep {
				q.units = slices.Delete(q.units, taken, taken+1)
				if taken == 0 && len(q.units) > 0 && keyOf(q.units[0]) != g.key {
					break // it goes on in another group
				}
				continue
			}
			most := min(size, fewer(rule.Size, u.split))
			if len(b.items) > 0 && (len(b.items) >= most || rule.Bytes > 0 && bytes+len(u.body) > rule.Bytes) {
				full = true
				break
			}
			size = most
			bytes += len(u.body)
			item := s.rules.item(u.subscription, u.body)
			item.Resent = g.key.resent
			b.items = append(b.items, item)
			taken++
		}
		switch {
		case taken > 0:
			q.state, q.taken = inFlight, taken
			b.queues = append(b.queues, q)
		case q.state == onHold:
		case full:
			s.queues.putBack(g, q)
		default:
			s.queues.makeReady(q)
		}
		if full {
			break
		}
	}
	return b
}

// fewer is how many units a batch may have whose unit was in n that failed: a
// quarter each time, so that one that spoils its batch is soon alone.
func fewer(size, n int) int { return max(1, size>>min(2*n, 62)) }

// fetch gets a unit's body, if it is not at hand, and asks the gates again, if
// they have not let it pass as they are now. A unit that they keep back is
// done with, and keep is false.
func (s *session) fetch(ctx context.Context, u *unit) (keep bool, err error) {
	if u.body != nil && u.rules == s.rules {
		return true, nil
	}
	if u.output == nil {
		if u.output, err = u.lane.feed.output(ctx, u.offset); err != nil && !fault.Is(err, fault.NotFound) {
			return false, err
		}
	}
	gate := GateGone
	if u.output != nil {
		body, to, why, err := s.judge(ctx, u.lane, u.output)
		if err != nil {
			return false, err
		}
		if slices.Contains(to, u.subscription) {
			if !u.stored {
				s.pendingBytes += len(body) - len(u.body)
			}
			u.body, u.rules = body, s.rules
			return true, nil
		}
		if gate = why; len(to) > 0 {
			gate = GateTrigger // it matches others now
		}
	}
	s.keepBack(u, gate)
	return false, nil
}

// putOff keeps a queue for a while whose first unit could not be read. Units
// that were taken before it go out.
func (s *session) putOff(q *queue, taken int, err error) {
	s.cfg.Logger.Error("an event cannot be read; delivery tries again", "destination", s.w.id, "err", err)
	if taken > 0 {
		return // it is the first when the queue's turn comes again
	}
	u := q.units[0]
	u.due = s.now() + pause.Milliseconds()
	if !u.stored {
		s.store(u)
	}
	s.storeAll(q)
	s.queues.putOnHold(q)
}

// send runs in a goroutine of its own.
func (s *session) send(b *batch) {
	ctx, cancel := context.WithTimeout(s.sendCtx, b.opened.limits.Timeout)
	defer cancel()
	s.results <- result{b, s.call(ctx, b)}
}

// call calls the connector and makes up for what it owes.
func (s *session) call(ctx context.Context, b *batch) (out []destination.Outcome) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Logger.Error("a connector panicked", "destination", s.w.id, "stack", string(debug.Stack()))
			out = destination.All(len(b.items), destination.Outcome{Reason: "internal: the connector failed on this event"})
		}
	}()
	out = b.opened.destination.Send(ctx, b.items)
	if len(out) != len(b.items) {
		err := errors.New("internal: the connector did not say what became of each event")
		return destination.All(len(b.items), destination.Outcome{Reason: err.Error()})
	}
	return out
}
