package delivery

import (
	"context"
	"fmt"
	"time"

	"kith/kv"
)

// Outcomes are written when so many have gathered, when so much time has
// passed, or when there is nothing else to do. What was only read and kept
// back costs nothing but another look when it is lost, so it is written more
// seldom.
const (
	commitAt        = 256
	commitEvery     = 20 * time.Millisecond
	commitReadAt    = 8192
	commitReadEvery = time.Second
)

// commits is the part of a session that writes. One commit is under way at a
// time; meanwhile changes gather for the next.
type commits struct {
	changes    map[string][]byte // by key, nil: deleted
	unsaved    int               // outcomes since the last commit was begun
	unread     int               // outputs that were read and kept back since then
	savedAt    int64
	durable    bool // the next commit must be on disk when it is made
	committing bool
	committed  chan error
	replies    []func(error) // after the next commit
	awaited    []func(error) // after the commit under way
}

func newCommits() commits {
	return commits{changes: map[string][]byte{}, committed: make(chan error, 1)}
}

// set writes a pair with the next commit, or once all subscriptions of the
// output are settled.
func (s *session) set(u *unit, key kv.Key, value []byte) {
	s.unsaved++
	if m := u.lane.multi[u.offset]; m != nil {
		m.changes[string(key)] = value
		return
	}
	s.changes[string(key)] = value
}

// count returns the numbers that a unit is counted in.
func (s *session) count(u *unit) *Counts {
	s.unsaved++
	u.lane.dirty = true
	if m := u.lane.multi[u.offset]; m != nil {
		return &m.counts
	}
	return &u.lane.counts
}

// settle tells the lane that a unit needs no reading again: its outcome is in
// the changes.
func (s *session) settle(u *unit) {
	if u.settled {
		return
	}
	u.settled = true
	l := u.lane
	m := l.multi[u.offset]
	if m == nil {
		l.settle(u.offset)
		return
	}
	if m.left--; m.left > 0 {
		return
	}
	for key, value := range m.changes {
		s.changes[key] = value
	}
	l.counts.add(&m.counts)
	delete(l.multi, u.offset)
	for _, o := range m.outcomes {
		s.enter(l, u.offset, o)
	}
	l.settle(u.offset)
}

// startCommit begins a commit if one is called for.
func (s *session) startCommit() {
	if s.committing || s.unsaved+s.unread == 0 && len(s.replies) == 0 && !s.durable {
		return
	}
	urgent := s.durable || len(s.replies) > 0 || len(s.settles) > 0
	since := time.Duration(s.now()-s.savedAt) * time.Millisecond
	switch {
	case urgent, s.unsaved >= commitAt, s.unread >= commitReadAt:
	case s.unsaved > 0 && (since >= commitEvery || !s.busy()):
	case since >= commitReadEvery:
	default:
		return
	}
	changes := s.changes
	for _, l := range s.order {
		if l.dirty {
			c := l.cursor()
			changes[string(cursorKey(s.w.id, l.space))] = c.encode()
			changes[string(countKey(s.w.id, l.space))] = l.counts.encode()
			s.writeLedger(l, changes)
			l.dirty = false
		}
	}
	s.writeFailures(changes)
	d := kv.Durability(s.durable)
	s.changes, s.unsaved, s.unread, s.savedAt, s.durable = map[string][]byte{}, 0, 0, s.now(), false
	s.awaited, s.replies = s.replies, nil
	s.committing = true
	go func() { s.committed <- write(s.cfg.DB, s.w.id, d, changes) }()
}

// write makes one commit.
func write(db kv.DB, id string, d kv.Durability, changes map[string][]byte) error {
	return db.Update(context.Background(), Fence(id), d, func(tx kv.Tx) error {
		for key, value := range changes {
			var err error
			if value == nil {
				err = tx.Delete([]byte(key))
			} else {
				err = tx.Set([]byte(key), value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// endCommit takes note of how a commit went.
func (s *session) endCommit(err error) error {
	s.committing = false
	awaited := s.awaited
	s.awaited = nil
	for _, reply := range awaited {
		reply(err)
	}
	if err != nil {
		return fmt.Errorf("write down what became of events: %w", err)
	}
	for _, l := range s.order {
		l.forgetBlocks()
	}
	return nil
}

// fail answers everybody who waits for a commit.
func (s *session) fail(err error) {
	for _, reply := range append(s.awaited, s.replies...) {
		reply(err)
	}
	s.awaited, s.replies = nil, nil
}

// busy reports whether there will be outcomes soon.
func (s *session) busy() bool {
	if s.inFlight > 0 {
		return true
	}
	for _, g := range s.queues.order {
		if len(g.list) > 0 && s.problem == "" {
			return true
		}
	}
	return false
}
