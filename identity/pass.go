package identity

import (
	"sync"

	"kith/event"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

// pass is the stage at work on one batch. What it reads and writes is kept
// until Finish, so that a profile is read and written once a batch however
// many events touch it.
//
// Rooms behind identity may still ask about a record when identity has gone
// further, even from several goroutines: a profile that changes within a batch
// gets a new version, and each record asks for the one of its own time.
type pass struct {
	stage *Identity
	batch *pipeline.Batch
	read  Reader

	snapshot *workspace.Snapshot // that rules are of
	rules    *rules

	mu    sync.Mutex // guards all below
	seq   int        // the number of the record at hand, from 1
	spare []Resolution
	// owners says whose identifiers are, the zero id for nobody's; moved are
	// those that changed hands.
	owners map[event.Identifier]event.ProfileID
	moved  []event.Identifier
	// nodes are the newest versions of profiles; changed are those to write.
	nodes   map[event.ProfileID]*node
	changed []event.ProfileID
	// links are the links of profiles to their survivors, without one for a
	// profile that has none; joined are the children of those made in this
	// batch, in order.
	links  map[event.ProfileID]link
	joined []event.ProfileID
	// members are links between user and account, in that order; nil: one that
	// has ended in this batch. linked are those that changed.
	members map[[2]event.ProfileID]*Member
	linked  [][2]event.ProfileID
	types   []RegisteredType
	retyped bool

	digest   []byte    // of the standing commands; nil when there are none
	orders   *orders   // those, under rules
	override *override // nil where every record goes by the rules of its time
	refused  refused
	grown    grown
	sighted  map[sighting]bool // what the batch did not use; whether it was taken away
}

// link is a profile's link to its survivor; nil when it has none.
type link struct {
	*Link
	seq int // of the record that made it; zero as it was stored
}

// Handle decides whose a record is.
func (p *pass) Handle(r *pipeline.Record) error {
	if r.Verdict.Code != pipeline.Admitted || (r.Event == nil && r.Firing == nil && r.Work == nil && r.Command == nil) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seq++
	res := p.resolution(r)
	if r.Command != nil {
		return p.command(r, res)
	}
	if r.Event == nil {
		return p.revisit(r, res)
	}
	rs, err := p.rulesFor(r.Snapshot)
	if err != nil {
		return err
	}
	if err := res.look(rs, r); err != nil {
		return err
	}
	return p.decide(r, rs, res)
}

// resolution gives the record an empty Resolution, in which only what Prepare
// found is left: the record may have been through a transaction that failed.
func (p *pass) resolution(r *pipeline.Record) *Resolution {
	res := p.stage.slot.Get(r)
	if res == nil {
		if len(p.spare) == 0 {
			p.spare = make([]Resolution, 64)
		}
		res, p.spare = &p.spare[0], p.spare[1:]
		p.stage.slot.Set(r, res)
	}
	*res = Resolution{found: res.found, pass: p, seq: p.seq}
	return res
}

// rulesFor returns the rules of the batch's space under a snapshot, or under
// a later one that holds from the start of this epoch.
func (p *pass) rulesFor(s *workspace.Snapshot) (*rules, error) {
	if p.rules != nil && p.snapshot == s {
		return p.rules, nil
	}
	var space *workspace.Space
	if s != nil {
		space = s.SpaceByNumber(p.batch.Space)
	}
	if o := p.override; o != nil && (s == nil || s.Number < o.number) {
		space = o.space
	}
	rs, err := p.stage.rulesOf(space)
	if err == nil {
		p.rules, p.snapshot = rs, s
	}
	return rs, err
}

// look makes sure that found is what the record carries under these rules:
// Prepare may have met other rules (an event of another space's source), or an
// event that intake has changed since.
func (r *Resolution) look(rs *rules, rec *pipeline.Record) error {
	if r.found.rules == rs && r.found.event == rec.Event {
		return nil
	}
	r.found = find(rs, rec)
	return nil
}

// revisit leads a firing or a piece of work to the profile that the one it
// names is part of now.
func (p *pass) revisit(r *pipeline.Record, res *Resolution) (err error) {
	if !r.Profile.IsZero() {
		if r.Profile, err = p.resolve(r.Profile, p.seq); err != nil {
			return err
		}
	}
	if !r.Account.IsZero() {
		if r.Account, err = p.resolve(r.Account, p.seq); err != nil {
			return err
		}
	}
	res.Profile, res.Account = r.Profile, r.Account
	return nil
}

// owner returns whose an identifier is; the zero id for nobody's.
func (p *pass) owner(id event.Identifier) (event.ProfileID, error) {
	if o, ok := p.owners[id]; ok {
		return o, nil
	}
	o, err := p.read.owner(id)
	if err == nil {
		p.owners[id] = o
	}
	return o, err
}

func (p *pass) own(id event.Identifier, profile event.ProfileID) {
	p.owners[id] = profile
	p.moved = append(p.moved, id)
}

// resolve follows the links that there are after record seq of the batch.
func (p *pass) resolve(id event.ProfileID, seq int) (event.ProfileID, error) {
	for {
		l, err := p.link(id)
		if err != nil {
			return id, err
		}
		if l.Link == nil || l.seq > seq {
			return id, nil
		}
		id = l.Parent
	}
}

func (p *pass) link(child event.ProfileID) (link, error) {
	if l, ok := p.links[child]; ok {
		return l, nil
	}
	stored, err := p.read.Link(child)
	if err != nil {
		return link{}, err
	}
	l := link{Link: stored}
	p.links[child] = l
	return l, nil
}

// profile returns a profile as it is after record seq of the batch, nil when
// there is none. It does not follow links.
func (p *pass) profile(id event.ProfileID, seq int) (*Profile, error) {
	n, err := p.version(id, seq)
	if err != nil || n == nil {
		return nil, err
	}
	return n.profile()
}

// version returns the version of a profile after record seq of the batch, nil
// when there is none.
func (p *pass) version(id event.ProfileID, seq int) (*node, error) {
	n, err := p.newest(id)
	if err != nil {
		return nil, err
	}
	for n != nil && n.seq > seq {
		n = n.before
	}
	return n, nil
}

func (p *pass) newest(id event.ProfileID) (*node, error) {
	if n, ok := p.nodes[id]; ok {
		return n, nil
	}
	n, err := p.read.node(id)
	if err == nil {
		p.nodes[id] = n
	}
	return n, err
}

// put makes a profile's new version, which the caller has filled in, the
// newest. A record makes at most one.
func (p *pass) put(n *node) {
	before := p.nodes[n.id]
	n.seq, n.before, n.written = p.seq, before, true
	if len(n.ids.tail) > maxTail {
		p.batch.Full = true // what is in memory only costs more with each record
	}
	if before == nil || !before.written {
		p.changed = append(p.changed, n.id)
	}
	p.nodes[n.id] = n
}

// maxTail is how many identifiers beyond its pages a profile may have in a
// transaction before that ends.
const maxTail = 16 << 10

// Finish writes what the batch has changed.
func (p *pass) Finish() error {
	tx, k := p.batch.Tx, p.read.keys
	for _, id := range p.moved {
		owner := p.owners[id]
		if owner.IsZero() {
			if err := tx.Delete(k.owner(id)); err != nil {
				return err
			}
			continue
		}
		if err := tx.Set(k.owner(id), encodeOwner(owner)); err != nil {
			return err
		}
	}
	for _, id := range p.changed {
		if err := p.nodes[id].write(tx, k); err != nil {
			return err
		}
	}
	for _, child := range p.joined {
		if err := tx.Set(k.link(child), encodeLink(p.links[child].Link)); err != nil {
			return err
		}
	}
	for _, pair := range p.linked {
		for _, key := range []kv.Key{k.member(pair[0], pair[1]), k.member(pair[1], pair[0])} {
			var err error
			if m := p.members[pair]; m == nil {
				err = tx.Delete(key)
			} else {
				err = tx.Set(key, encodeMember(*m))
			}
			if err != nil {
				return err
			}
		}
	}
	if err := p.refused.write(tx, k); err != nil {
		return err
	}
	if err := p.writeClusters(); err != nil { // which asks what was sighted before
		return err
	}
	if err := p.writeSightings(); err != nil {
		return err
	}
	if p.retyped {
		return tx.Set(k.types(), encodeTypes(p.types))
	}
	return nil
}
