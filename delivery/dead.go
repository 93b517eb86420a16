package delivery

import (
	"context"
	"slices"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
)

// DeadState is what has become of a dead letter. The numbers are stored.
type DeadState uint8

// The states.
const (
	Dead        DeadState = 1 // given up
	Resending   DeadState = 2 // a person has sent it again; it waits or is under way
	Redelivered DeadState = 3 // it has arrived since
)

var deadStateNames = [...]string{"", "dead", "resending", "delivered"}

// String returns the state in one word.
func (s DeadState) String() string {
	if int(s) < len(deadStateNames) {
		return deadStateNames[s]
	}
	return "unknown"
}

// DeadLetter is something that could not be delivered.
type DeadLetter struct {
	ID           string // for Resend
	State        DeadState
	Space        uint32
	Offset       commitlog.Offset // of the output in the resolved log
	Subscription string           // its id; empty without one
	Profile      event.ProfileID
	Reason       string // why it was given up, or why sending it again failed
	Attempts     int
	FirstTried   time.Time
	At           time.Time // when it was given up
	ResentAt     time.Time // when it was last sent again or that ended; zero: never
	// Output is what it is; nil when it is no longer kept. It may not be
	// changed.
	Output *pipeline.Output
}

// Limits of the calls on dead letters.
const (
	MaxDeadPage   = 1000 // of one answer of DeadLetters
	MaxResendPage = 1000 // sent again by one Resend
)

// DeadLetters returns up to limit dead letters of a destination, the newest
// first, that come after the one with the given id (empty: from the newest
// on). Without all it leaves out those that have arrived since. A destination
// that is not known has none.
func (d *Delivery) DeadLetters(ctx context.Context, destination, after string, limit int, all bool) ([]DeadLetter, error) {
	limit = min(max(1, limit), MaxDeadPage)
	stem := deadStem(destination)
	r := kv.Prefix(stem)
	r.Reverse = true
	if after != "" {
		id, err := parseDeadID(after)
		if err != nil {
			return nil, err
		}
		r.To = deadKey(destination, id)
	}
	var letters []DeadLetter
	err := d.cfg.DB.View(ctx, func(reader kv.Reader) error {
		for pair, err := range reader.Scan(r) {
			if err != nil {
				return err
			}
			id, ok := deadIDAfter(pair.Key, stem)
			if !ok {
				return errDamaged("dead letter's key")
			}
			stored, err := decodeDead(pair.Value)
			if err != nil {
				return err
			}
			if stored.state == Redelivered && !all {
				continue
			}
			letters = append(letters, letterOf(id, &stored))
			if len(letters) == limit {
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range letters {
		l := &letters[i]
		f, err := d.feed(l.Space)
		if err != nil {
			return nil, err
		}
		if l.Output, err = f.output(ctx, l.Offset); err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
	}
	return letters, nil
}

func letterOf(id deadID, d *dead) DeadLetter {
	l := DeadLetter{
		ID: id.String(), State: d.state, Space: id.space, Offset: id.offset, Subscription: id.subscription, Profile: d.profile,
		Reason: d.reason, Attempts: d.attempts, FirstTried: time.UnixMilli(d.first).UTC(), At: time.UnixMilli(id.at).UTC(),
	}
	if d.resentAt != 0 {
		l.ResentAt = time.UnixMilli(d.resentAt).UTC()
	}
	return l
}

// Body returns the event of a dead letter; it is fault.NotFound when it is no
// longer kept.
func (d *Delivery) Body(ctx context.Context, l *DeadLetter) ([]byte, error) {
	switch {
	case l.Output == nil:
		return nil, fault.New(fault.NotFound, "the event of this dead letter is no longer kept")
	case l.Output.Message != nil:
		return l.Output.Message.Body, nil
	}
	return d.cfg.Bodies.Body(ctx, l.Space, commitlog.Offset(l.Output.Event.Offset))
}

// Resend sends dead letters again: those with the given ids, or the oldest if
// there are none, at most MaxResendPage. It returns how many, once that is
// durable, and whether more are left. They are sent each in a request of its
// own that says so, behind what waits of their profile, and are tried for
// Limits.MaxAge again. Ids that are not known are a fault.NotFound error, and
// nothing is sent; those sent again already are passed over.
func (d *Delivery) Resend(ctx context.Context, destination string, ids []string) (n int, more bool, err error) {
	if len(ids) > MaxResendPage {
		return 0, false, fault.New(fault.Invalid, "%d dead letters at once; at most %d are sent again by one call", len(ids), MaxResendPage)
	}
	r := &resendRequest{}
	for _, s := range ids {
		id, err := parseDeadID(s)
		if err != nil {
			return 0, false, err
		}
		if !slices.Contains(r.ids, id) {
			r.ids = append(r.ids, id)
		}
	}
	a := d.askResend(ctx, destination, r)
	return a.n, a.more != nil, a.err
}

// ResendAll sends all dead letters of a destination again that there are now,
// each once, also those that die again meanwhile; see Resend. With an error it
// returns how many it has sent before.
func (d *Delivery) ResendAll(ctx context.Context, destination string) (n int, err error) {
	until := d.cfg.Clock.Now().UnixMilli()
	r := &resendRequest{until: until}
	for {
		a := d.askResend(ctx, destination, r)
		n += a.n
		if a.err != nil || a.more == nil {
			return n, a.err
		}
		r = &resendRequest{after: a.more, until: until}
	}
}

// askResend has the worker of a destination carry out a request.
func (d *Delivery) askResend(ctx context.Context, destination string, r *resendRequest) resendAnswer {
	w, err := d.worker(destination)
	if err != nil {
		return resendAnswer{err: err}
	}
	r.answer = make(chan resendAnswer, 1)
	w.resend(r)
	select {
	case a := <-r.answer:
		return a
	case <-ctx.Done():
		return resendAnswer{err: fault.Wrap(fault.Unavailable, ctx.Err())}
	}
}

// resend carries out a request, which is answered once it is committed. No
// commit is under way.
func (s *session) resend(ctx context.Context, r *resendRequest) {
	letters, more, err := s.letters(ctx, r)
	if err != nil {
		r.answer <- resendAnswer{err: err}
		return
	}
	n := 0
	for _, letter := range letters {
		l := s.lanes[letter.id.space]
		if l == nil {
			continue
		}
		u := &unit{lane: l, place: letter.id.place, stored: true, settled: true}
		u.waiting = waiting{profile: letter.profile, attempts: letter.attempts, died: letter.id.at, reason: letter.reason}
		letter.state, letter.resentAt = Resending, s.now()
		s.set(u, deadKey(s.w.id, letter.id), letter.dead.encode())
		s.set(u, waitingKey(s.w.id, l.space, u.place), u.waiting.encode())
		counts := s.count(u)
		counts.Dead--
		counts.Waiting++
		s.note(u, Outcome{State: StateWaiting})
		s.stored++
		n++
		q := s.queues.queueOf(u.profile)
		q.units = append(q.units, u)
		if q.state == idle {
			s.queues.makeReady(q)
		} else {
			s.queues.appended(q)
		}
	}
	s.durable = true
	s.replies = append(s.replies, func(err error) { r.answer <- resendAnswer{n, more, err} })
}

// letter is a dead letter with its id.
type letter struct {
	id deadID
	dead
}

// letters reads the dead letters that a request asks for; more is the last of
// them when there are others. Changes that are not committed yet count; no
// commit is under way.
func (s *session) letters(ctx context.Context, asked *resendRequest) (found []letter, more *deadID, err error) {
	add := func(id deadID, key, value []byte) error {
		if changed, ok := s.changes[string(key)]; ok {
			value = changed
		}
		d, err := decodeDead(value)
		if err == nil && d.state == Dead {
			found = append(found, letter{id, d})
		}
		return err
	}
	err = s.cfg.DB.View(ctx, func(r kv.Reader) error {
		for _, id := range asked.ids {
			key := deadKey(s.w.id, id)
			value, err := r.Get(key)
			if err != nil {
				return err
			}
			if value == nil {
				return fault.New(fault.NotFound, "there is no dead letter %s", id)
			}
			if err := add(id, key, value); err != nil {
				return err
			}
		}
		if len(asked.ids) > 0 {
			return nil
		}
		stem := deadStem(s.w.id)
		all := kv.Prefix(stem)
		if asked.after != nil {
			all.From = append(deadKey(s.w.id, *asked.after), 0)
		}
		if asked.until > 0 {
			all.To = stem.Clone().Int64(asked.until + 1)
		}
		for pair, err := range r.Scan(all) {
			if err != nil {
				return err
			}
			id, ok := deadIDAfter(pair.Key, stem)
			if !ok {
				return errDamaged("dead letter's key")
			}
			if err := add(id, pair.Key, pair.Value); err != nil {
				return err
			}
			if len(found) > MaxResendPage {
				found = found[:MaxResendPage]
				more = &found[MaxResendPage-1].id
				return nil
			}
		}
		return nil
	})
	return found, more, err
}
