package delivery

import (
	"context"
	"fmt"
	"slices"
	"time"

	"kith/commitlog"
	"kith/destination"
	"kith/fault"
	"kith/kv"
)

// What is kept of failures, for each destination: the newest ones of each of
// the kinds that were seen last, and none that is older.
const (
	FailuresKept = 10
	maxKinds     = 50
	failuresFor  = 7 * 24 * time.Hour
)

// Failure is an attempt that did not deliver an event.
type Failure struct {
	At           time.Time
	Space        uint32
	Offset       commitlog.Offset // of the output in the resolved log
	Subscription string           // its id; empty without one
	Attempt      int              // the how manyeth it was, from 1 on
	Permanent    bool             // the remote side will never take it
	Reason       string           // what the remote side or the network said, without secrets
}

// Failures are the newest failures of one kind.
type Failures struct {
	Code string    // destination.Outcome.Code
	List []Failure // the newest first
}

// failures are the newest of a destination by their code, the oldest first.
type failures map[string]*kind

type kind struct {
	list  []Failure
	dirty bool
}

func (k *kind) last() time.Time { return k.list[len(k.list)-1].At }

// failed keeps an attempt as a sample.
func (s *session) failed(u *unit, o *destination.Outcome) {
	code := codeOf(o)
	k := s.failures[code]
	if k == nil {
		if len(s.failures) >= maxKinds {
			s.forgetKind()
		}
		k = &kind{}
		s.failures[code] = k
	}
	if len(k.list) == FailuresKept {
		k.list = slices.Delete(k.list, 0, 1)
	}
	k.list = append(k.list, Failure{
		At: s.cfg.Clock.Now().UTC(), Space: u.lane.space, Offset: u.offset, Subscription: u.subscription,
		Attempt: u.attempts + 1, Permanent: o.Status == destination.Permanent, Reason: clip(o.Reason),
	})
	k.dirty = true
}

// forgetKind makes room for another kind of failure.
func (s *session) forgetKind() {
	oldest := ""
	for code, k := range s.failures {
		if oldest == "" || k.last().Before(s.failures[oldest].last()) {
			oldest = code
		}
	}
	delete(s.failures, oldest)
	s.changes[string(failureKey(s.w.id, oldest))] = nil
}

// expireFailures forgets what is too old, or will be before it is called again.
func (s *session) expireFailures(now int64) {
	limit := time.UnixMilli(now).Add(sweepEvery - failuresFor)
	for code, k := range s.failures {
		n := len(k.list)
		k.list = slices.DeleteFunc(k.list, func(f Failure) bool { return f.At.Before(limit) })
		switch {
		case len(k.list) == 0:
			delete(s.failures, code)
			s.changes[string(failureKey(s.w.id, code))] = nil
			s.unsaved++
		case len(k.list) < n:
			k.dirty = true
			s.unsaved++
		}
	}
}

// writeFailures adds the kinds that have new ones to a commit.
func (s *session) writeFailures(changes map[string][]byte) {
	for code, k := range s.failures {
		if k.dirty {
			changes[string(failureKey(s.w.id, code))] = encodeFailures(k.list)
			k.dirty = false
		}
	}
}

// loadFailures reads what is stored.
func (s *session) loadFailures(ctx context.Context) error {
	return s.cfg.DB.View(ctx, func(r kv.Reader) error {
		return scanFailures(r, s.w.id, func(code string, list []Failure) {
			s.failures[code] = &kind{list: list}
		})
	})
}

func scanFailures(r kv.Reader, destination string, fn func(code string, list []Failure)) error {
	stem := failureStem(destination)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		code := parts.String()
		list, err := decodeFailures(pair.Value)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			fn(code, list)
		}
	}
	return nil
}

// Failures returns the newest failures of a destination by their kind, the kind
// that was seen last first. A destination that is not known has none.
func (d *Delivery) Failures(ctx context.Context, destination string) ([]Failures, error) {
	var all []Failures
	limit := d.cfg.Clock.Now().Add(-failuresFor)
	err := d.cfg.DB.View(ctx, func(r kv.Reader) error {
		return scanFailures(r, destination, func(code string, list []Failure) {
			list = slices.DeleteFunc(list, func(f Failure) bool { return f.At.Before(limit) })
			if len(list) > 0 {
				slices.Reverse(list)
				all = append(all, Failures{code, list})
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("failures of %s: %w", destination, err)
	}
	slices.SortStableFunc(all, func(a, b Failures) int { return b.List[0].At.Compare(a.List[0].At) })
	return all, nil
}

// FailureBody returns the event of a failure; it is fault.NotFound when the
// event is no longer kept.
func (d *Delivery) FailureBody(ctx context.Context, f *Failure) ([]byte, error) {
	feed, err := d.feed(f.Space)
	if err != nil {
		return nil, err
	}
	o, err := feed.output(ctx, f.Offset)
	switch {
	case err != nil:
		return nil, err
	case o.Message != nil:
		return o.Message.Body, nil
	case o.Event == nil:
		return nil, fault.New(fault.NotFound, "the output is no event")
	}
	return d.cfg.Bodies.Body(ctx, f.Space, commitlog.Offset(o.Event.Offset))
}

func encodeFailures(list []Failure) []byte {
	v := kv.Value{failureFormat}.Uvarint(uint64(len(list)))
	for i := range list {
		f := &list[i]
		permanent := uint64(0)
		if f.Permanent {
			permanent = 1
		}
		v = v.Varint(f.At.UnixMilli()).Uvarint(uint64(f.Space)).Uvarint(uint64(f.Offset)).String(f.Subscription).
			Uvarint(uint64(f.Attempt)).Uvarint(permanent).String(f.Reason)
	}
	return v
}

func decodeFailures(value []byte) ([]Failure, error) {
	f := kv.FieldsOf(value)
	known := f.Byte() == failureFormat
	list := make([]Failure, f.Count(min(1<<10, len(f.Rest()))))
	for i := range list {
		list[i] = Failure{
			At: time.UnixMilli(f.Varint()).UTC(), Space: uint32(f.Uvarint()), Offset: commitlog.Offset(f.Uvarint()), Subscription: f.String(),
			Attempt: int(f.Uvarint()), Permanent: f.Uvarint() == 1, Reason: f.String(),
		}
	}
	if !known || !f.OK() {
		return nil, errDamaged("sample of failures")
	}
	return list, nil
}
