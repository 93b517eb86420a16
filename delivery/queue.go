package delivery

import (
	"container/heap"

	"kith/destination"
	"kith/event"
)

// queue holds the units of one profile in their order. Only its first units
// are ever sent, and never in two batches at once.
type queue struct {
	profile event.ProfileID
	units   []*unit
	state   state
	taken   int   // inFlight: how many units are in the batch
	due     int64 // onHold: when the first is tried again, in milliseconds
	index   int   // onHold: the place among those on hold

	group *group // ready: where it stands
	run   int    // ready: how many of its first units may go together
}

// state is where a queue stands.
type state uint8

const (
	idle     state = iota // not yet placed
	ready                 // in a group, to be sent
	inFlight              // in a batch that is under way
	onHold                // its first unit waits for a retry
)

// groupKey says which units may share a batch. Dead letters that are sent
// again go alone.
type groupKey struct {
	subscription string
	resent       bool
}

// group holds the queues that are ready for one kind of batch, in the order in
// which they became so.
type group struct {
	key    groupKey
	list   []*queue
	units  int   // that may go, over all queues
	bytes  int   // of their bodies, as far as they are known
	oldest int64 // when the first of them was read
	stale  bool  // oldest may have been taken
}

// queues are all queues of a destination.
type queues struct {
	of     map[event.ProfileID]*queue // without those of nobody
	groups map[groupKey]*group
	order  []*group // in which groups are served
	turn   int
	hold   holdHeap
	whole  bool // several units of a queue may share a batch
}

func newQueues() *queues {
	return &queues{of: map[event.ProfileID]*queue{}, groups: map[groupKey]*group{}}
}

// queueOf returns the queue of a profile, a new one if it has none.
func (qs *queues) queueOf(p event.ProfileID) *queue {
	if nobody(p) {
		return &queue{}
	}
	q := qs.of[p]
	if q == nil {
		q = &queue{profile: p}
		qs.of[p] = q
	}
	return q
}

func keyOf(u *unit) groupKey { return groupKey{u.subscription, u.resent()} }

// joins reports whether a unit may follow the first of its queue into a batch.
func (qs *queues) joins(first, u *unit) bool {
	return qs.whole && !first.resent() && keyOf(first) == keyOf(u)
}

// appended tells that q has got one more unit at its end.
func (qs *queues) appended(q *queue) {
	u := q.units[len(q.units)-1]
	if q.state == ready && q.run == len(q.units)-1 && qs.joins(q.units[0], u) {
		q.run++
		q.group.units++
		q.group.bytes += len(u.body)
	}
}

// makeReady puts a queue at the end of its group, or forgets it when it is
// empty.
func (qs *queues) makeReady(q *queue) {
	if len(q.units) == 0 {
		q.state = idle
		if !nobody(q.profile) {
			delete(qs.of, q.profile)
		}
		return
	}
	key := keyOf(q.units[0])
	g := qs.groups[key]
	if g == nil {
		g = &group{key: key}
		qs.groups[key] = g
		qs.order = append(qs.order, g)
	}
	q.state, q.group = ready, g
	if len(g.list) == 0 || q.units[0].arrived < g.oldest {
		g.oldest, g.stale = q.units[0].arrived, g.stale && len(g.list) > 0
	}
	g.list = append(g.list, q)
	qs.measure(q, +1)
}

// measure adds a ready queue to the sums of its group, or takes it away.
func (qs *queues) measure(q *queue, sign int) {
	if sign > 0 {
		q.run = 1
		for q.run < len(q.units) && qs.joins(q.units[0], q.units[q.run]) {
			q.run++
		}
	}
	q.group.units += sign * q.run
	for _, u := range q.units[:q.run] {
		q.group.bytes += sign * len(u.body)
	}
}

// first takes the first queue of a group.
func (qs *queues) first(g *group) *queue {
	q := g.list[0]
	g.list, g.stale = g.list[1:], true
	qs.measure(q, -1)
	q.group, q.run = nil, 0
	return q
}

// putBack puts a queue that was taken at the front of its group again.
func (qs *queues) putBack(g *group, q *queue) {
	q.state, q.group = ready, g
	g.list = append([]*queue{q}, g.list...)
	qs.measure(q, +1)
}

// due reports whether a batch of the group is to be sent now.
func (g *group) due(b destination.Batching, now int64, flush bool) bool {
	switch {
	case len(g.list) == 0:
		return false
	case flush, g.key.resent, g.units >= b.Size, b.Bytes > 0 && g.bytes >= b.Bytes:
		return true
	}
	return now >= g.ripe(b)
}

// ripe is when the group's oldest unit has waited long enough for others.
func (g *group) ripe(b destination.Batching) int64 {
	if g.stale {
		g.stale, g.oldest = false, g.list[0].units[0].arrived
		for _, q := range g.list {
			g.oldest = min(g.oldest, q.units[0].arrived)
		}
	}
	return g.oldest + b.MaxAge.Milliseconds()
}

// next returns the next group in turn that is due, or nil.
func (qs *queues) next(b destination.Batching, now int64, flush bool) *group {
	for range qs.order {
		qs.turn = (qs.turn + 1) % len(qs.order)
		if g := qs.order[qs.turn]; g.due(b, now, flush) {
			return g
		}
	}
	return nil
}

// putOnHold keeps a queue until its first unit is due.
func (qs *queues) putOnHold(q *queue) {
	q.state, q.due = onHold, q.units[0].due
	heap.Push(&qs.hold, q)
}

// release takes a queue off hold.
func (qs *queues) release(q *queue) { heap.Remove(&qs.hold, q.index) }

// regroup sorts all ready queues into groups anew, after the rules for batches
// have changed.
func (qs *queues) regroup(whole bool) {
	var all []*queue
	for _, g := range qs.order {
		all = append(all, g.list...)
	}
	qs.groups, qs.order, qs.turn, qs.whole = map[groupKey]*group{}, nil, 0, whole
	for _, q := range all {
		qs.makeReady(q)
	}
}

// holdHeap is the queues on hold, the one that is due first at the root.
type holdHeap []*queue

// Len returns how many there are.
func (h holdHeap) Len() int { return len(h) }

// Less orders by due.
func (h holdHeap) Less(i, j int) bool { return h[i].due < h[j].due }

// Swap swaps two.
func (h holdHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is for package heap.
func (h *holdHeap) Push(x any) {
	q := x.(*queue)
	q.index = len(*h)
	*h = append(*h, q)
}

// Pop is for package heap.
func (h *holdHeap) Pop() any {
	old := *h
	q := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return q
}
