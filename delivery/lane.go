package delivery

import (
	"kith/commitlog"
	"kith/event"
	"kith/pipeline"
)

// lane is one space as a destination sees it: how far it has read the space's
// resolved log, and which of the outputs read are still under way.
type lane struct {
	feed   *feed
	space  uint32
	base   commitlog.Offset // everything before is settled
	open   []bool           // from base on: whether the output is under way
	multi  map[commitlog.Offset]*multi
	counts Counts
	dirty  bool  // since the last commit
	until  int64 // not read before, after an error; in milliseconds
	ledger ledger

	// resume are the runs before resumeEnd that were under way at the last
	// commit before a restart. They are read again, what lies between is not.
	resume    []run
	resumeEnd commitlog.Offset
}

// multi is an output that goes out for several subscriptions. What becomes of
// each is kept together until all are settled, so that an output is either
// read again after a crash, whole, or not at all.
type multi struct {
	left     int
	counts   Counts
	changes  map[string][]byte
	outcomes []Outcome
}

func newLane(f *feed, c cursor, counts Counts) *lane {
	return &lane{feed: f, space: f.space, base: c.base, resume: c.pending, resumeEnd: c.frontier, counts: counts, multi: map[commitlog.Offset]*multi{}, ledger: ledger{}}
}

// frontier is the output that is read next.
func (l *lane) frontier() commitlog.Offset { return l.base + commitlog.Offset(len(l.open)) }

// known reports whether the output at the frontier was settled before a
// restart.
func (l *lane) known() bool {
	at := l.frontier()
	if at >= l.resumeEnd {
		return false
	}
	for len(l.resume) > 0 && l.resume[0].end <= at {
		l.resume = l.resume[1:]
	}
	return len(l.resume) == 0 || at < l.resume[0].first
}

// pass moves the frontier over an output that has n units under way.
func (l *lane) pass(n int) {
	l.dirty = true
	if n == 0 && len(l.open) == 0 {
		l.base++
		return
	}
	if n > 1 {
		l.multi[l.frontier()] = &multi{left: n, changes: map[string][]byte{}}
	}
	l.open = append(l.open, n > 0)
}

// settle closes an output.
func (l *lane) settle(at commitlog.Offset) {
	l.dirty = true
	l.open[at-l.base] = false
	n := 0
	for n < len(l.open) && !l.open[n] {
		n++
	}
	l.base += commitlog.Offset(n)
	l.open = l.open[n:]
}

// cursor returns what to store.
func (l *lane) cursor() cursor {
	c := cursor{base: l.base, frontier: max(l.frontier(), l.resumeEnd)}
	for i := 0; i < len(l.open); i++ {
		if !l.open[i] {
			continue
		}
		first := i
		for i < len(l.open) && l.open[i] {
			i++
		}
		c.pending = append(c.pending, run{l.base + commitlog.Offset(first), l.base + commitlog.Offset(i)})
	}
	for _, r := range l.resume {
		if r.first = max(r.first, l.frontier()); r.first < r.end {
			c.pending = append(c.pending, r)
		}
	}
	return c
}

// unit is an output for one subscription: what is sent, counted and stored.
type unit struct {
	lane *lane
	place
	waiting
	arrived int64 // when it was read, in milliseconds; zero when it has waited enough
	stored  bool  // there is a waiting record of it
	settled bool  // its output's cursor has moved on
	// addressed says that it is a message of Kith's own.
	addressed bool
	seen      uint64 // session.successes when it failed last

	// What is at hand of it; nil for one that waits.
	output *pipeline.Output
	body   []byte
	rules  *rules // that let it pass
}

// resent reports whether the unit is a dead letter that is sent again.
func (u *unit) resent() bool { return u.died != 0 }

// letter returns the id of the dead letter that is sent again.
func (u *unit) letter() deadID { return deadID{at: u.died, space: u.lane.space, place: u.place} }

// drop forgets what is at hand.
func (u *unit) drop() { u.output, u.body, u.rules = nil, nil, nil }

// nobody is the profile of what belongs to no profile: such outputs have no
// order among each other.
func nobody(p event.ProfileID) bool { return p.IsZero() }
