package identity

import (
	"bytes"
	"math/bits"
	"slices"

	"kith/event"
	"kith/kv"
	"kith/workspace"
)

// Suspicion is why a profile, or an identifier, may be no one person.
type Suspicion byte

// The suspicions. The numbers are stored.
const (
	ManyIdentifiers Suspicion = 1 // a profile has many
	ManyMerges      Suspicion = 2 // many profiles became one within 24 hours
	SharedValue     Suspicion = 3 // an identifier was on the events of many profiles and could not be used: a kiosk, a till
	ManyRefused     Suspicion = 4 // a profile's events carried many different identifiers that could not be used
)

// Suspicions are all of them.
func Suspicions() []Suspicion {
	return []Suspicion{ManyIdentifiers, ManyMerges, SharedValue, ManyRefused}
}

// String returns the word for it in the API.
func (s Suspicion) String() string {
	switch s {
	case ManyIdentifiers:
		return "identifiers"
	case ManyMerges:
		return "merges"
	case SharedValue:
		return "shared"
	case ManyRefused:
		return "refused"
	}
	return ""
}

// Floor is from which figure on there is a note of it: no threshold can be
// lower.
func (s Suspicion) Floor() int {
	return s.of(workspace.LeastSuspicious())
}

// Threshold is from which figure on a space lists it.
func (s Suspicion) Threshold(space *workspace.Space) int { return s.of(space.Suspicious.Thresholds()) }

func (s Suspicion) of(figures workspace.Suspicious) int {
	switch s {
	case ManyIdentifiers:
		return figures.Identifiers
	case ManyMerges:
		return figures.Merges
	case SharedValue:
		return figures.Shared
	}
	return figures.Refused
}

// Clusters are found as they grow. What crosses a floor gets a key in an index
// that is ordered by the magnitude of its figure, in steps of about a half, so
// that a step costs a write and the next identifier none. The figures are read
// where they are kept. A profile of an ordinary size never meets any of this.

// magnitude is a figure's place in the index: twice its binary logarithm.
func magnitude(n int) byte {
	if n < 2 {
		return byte(n)
	}
	log := bits.Len(uint(n)) - 1
	m := byte(2 * log)
	if n>>(log-1)&1 == 1 {
		m++
	}
	return m
}

// mark is what is counted of a profile that was once merged often, or whose
// events carried identifiers that they could not use.
type mark struct {
	hour   int64      // of the last merge, in hours since 1970
	merges [24]uint32 // in that hour and the 23 before it, by hour modulo 24
	peak   uint32     // the most within 24 hours
	peakAt int64      // when that was, in milliseconds
	seen   uint32     // different identifiers that its events could not use
}

// merge counts a merge.
func (m *mark) merge(at int64) {
	hour := at / 3_600_000
	for h := max(m.hour+1, hour-23); h <= hour; h++ {
		m.merges[h%24] = 0
	}
	if hour > m.hour {
		m.hour = hour
	}
	if hour > m.hour-24 {
		m.merges[hour%24]++
	}
	sum := uint32(0)
	for _, n := range m.merges {
		sum += n
	}
	if sum > m.peak {
		m.peak, m.peakAt = sum, at
	}
}

func (m *mark) encode() kv.Value {
	v := kv.Value{markFormat}.Varint(m.hour)
	for _, n := range m.merges {
		v = v.Uvarint(uint64(n))
	}
	return v.Uvarint(uint64(m.peak)).Varint(m.peakAt).Uvarint(uint64(m.seen))
}

func decodeMark(value []byte) (m mark, err error) {
	if value == nil {
		return m, nil
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == markFormat
	m.hour = f.Varint()
	for i := range m.merges {
		m.merges[i] = uint32(f.Uvarint())
	}
	m.peak, m.peakAt, m.seen = uint32(f.Uvarint()), f.Varint(), uint32(f.Uvarint())
	if !known || !f.OK() {
		return mark{}, errStored
	}
	return m, nil
}

func encodeShared(n uint32) kv.Value { return kv.Value{sharedFormat}.Uvarint(uint64(n)) }

func decodeShared(value []byte) (uint32, error) {
	if value == nil {
		return 0, nil
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == sharedFormat
	n := uint32(f.Uvarint())
	if !known || !f.OK() {
		return 0, errStored
	}
	return n, nil
}

// ofMark and ofShared return the index keys of figures; none below the floor.
func (k keys) ofMark(p event.ProfileID, m *mark) (list [][]byte) {
	return slices.Concat(k.indexed(ManyMerges, int(m.peak), p[:]), k.indexed(ManyRefused, int(m.seen), p[:]))
}

func (k keys) ofShared(id event.Identifier, n uint32) [][]byte {
	return k.indexed(SharedValue, int(n), kv.Key{collectionByte(id.Collection)}.String(id.Type).String(id.Value))
}

func (k keys) ofSize(p event.ProfileID, n int) [][]byte { return k.indexed(ManyIdentifiers, n, p[:]) }

func (k keys) indexed(s Suspicion, n int, subject []byte) [][]byte {
	if n < s.Floor() {
		return nil
	}
	return [][]byte{k.suspects(s).Byte(255 - magnitude(n)).Fixed(subject)}
}

// grown is what a batch has changed of clusters, in the order of its records:
// figures are counted one by one, so that they do not depend on where batches
// end.
type grown struct{ steps []clusterStep }

// clusterStep is a merge, or an identifier that was not used.
type clusterStep struct {
	sighting
	into  event.ProfileID // of a merge: the survivor; sighting.profile became part of it
	times []int64         // of a merge: when those were that are to be counted now
}

func (g *grown) sighted(s sighting) {
	if !s.profile.IsZero() {
		g.steps = append(g.steps, clusterStep{sighting: s})
	}
}

// fewMerges is how many profiles may become one before it is counted when.
const fewMerges = 3

// countMerge counts a merge of child into a survivor that has it not yet. Until
// the survivor has had more than a few, their times are in the links alone.
func (p *pass) countMerge(survivor, child *node, at int64) error {
	step := clusterStep{sighting: sighting{profile: child.id}, into: survivor.id}
	had := survivor.merged.len()
	if had+1+child.merged.len() > fewMerges {
		if had <= fewMerges {
			merged, err := survivor.merged.all()
			if err != nil {
				return err
			}
			for _, id := range merged {
				l, err := p.link(id)
				if err != nil {
					return err
				}
				if l.Link != nil && l.Parent == survivor.id {
					step.times = append(step.times, l.At)
				}
			}
		}
		step.times = append(step.times, at)
	}
	p.grown.steps = append(p.grown.steps, step)
	return nil
}

// writeClusters brings the index up to date with the batch, before the batch's
// sightings are written.
func (p *pass) writeClusters() error {
	if err := p.writeSizes(); err != nil {
		return err
	}
	c := marking{p: p, marks: map[event.ProfileID]*counted{}}
	shared := map[event.Identifier]int{} // new profiles whose events could not use an identifier
	for i := range p.grown.steps {
		s := &p.grown.steps[i]
		if !s.into.IsZero() {
			if err := c.merge(s); err != nil {
				return err
			}
			continue
		}
		known, err := p.batch.Tx.Get(s.keysOf(p.read.keys)[0])
		if err != nil {
			return err
		}
		if known != nil {
			continue
		}
		shared[s.id]++
		if err := c.refuse(s.profile); err != nil {
			return err
		}
	}
	if err := c.write(); err != nil {
		return err
	}
	for id, more := range shared {
		if err := countShared(p.batch.Tx, p.read.keys, id, more); err != nil {
			return err
		}
	}
	return nil
}

// countShared counts more profiles, or less, whose events could not use an
// identifier, before their sightings are written, or deleted. The number is
// kept from the floor on; below it the sightings are counted.
func countShared(tx kv.Tx, k keys, id event.Identifier, more int) error {
	value, err := tx.Get(k.shared(id))
	if err != nil {
		return err
	}
	before, err := decodeShared(value)
	if err != nil {
		return err
	}
	now := int(before) + more
	if value == nil {
		stem := k.sightingsOf(id)
		rng := kv.Range{From: kv.PrefixEnd(stem.Fixed(make([]byte, len(event.ProfileID{})))), To: kv.PrefixEnd(stem)} // without nobody's
		few, err := count(tx, rng, SharedValue.Floor())
		if err != nil {
			return err
		}
		now += few
	}
	switch {
	case now >= SharedValue.Floor():
		err = tx.Set(k.shared(id), encodeShared(uint32(now)))
	case value != nil:
		now, err = 0, tx.Delete(k.shared(id))
	default:
		now = 0
	}
	if err != nil {
		return err
	}
	return reindex(tx, k.ofShared(id, before), k.ofShared(id, uint32(now)))
}

// count returns how many keys there are in a range, at most limit.
func count(r kv.Reader, rng kv.Range, limit int) (n int, err error) {
	rng.Limit = limit
	for _, err := range r.Scan(rng) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// writeSizes indexes profiles by how many identifiers they have.
func (p *pass) writeSizes() error {
	k := p.read.keys
	for _, list := range [][]event.ProfileID{p.changed, p.joined} {
		for _, id := range list {
			n := p.nodes[id]
			if n == nil {
				continue
			}
			now := n.ids.len()
			if l := p.links[id]; l.Link != nil {
				now = 0
			}
			for n.before != nil {
				n = n.before
			}
			before := 0
			if n.seq == 0 {
				before = n.ids.len()
			}
			if err := reindex(p.batch.Tx, k.ofSize(id, before), k.ofSize(id, now)); err != nil {
				return err
			}
		}
	}
	return nil
}

// marking is the marks that a batch changes.
type marking struct {
	p     *pass
	marks map[event.ProfileID]*counted
}

// counted is a mark at work. mark.seen is kept from the floor on, and whenever
// some of it came with a merge: where it is zero, own is all.
type counted struct {
	mark
	before mark
	own    int // identifiers that events under this very id could not use, the floor at most; -1: not counted yet
}

func (c *marking) of(id event.ProfileID) (*counted, error) {
	if m := c.marks[id]; m != nil {
		return m, nil
	}
	m := &counted{}
	c.marks[id] = m
	if c.p.isNew(id) {
		return m, nil
	}
	value, err := c.p.batch.Tx.Get(c.p.read.keys.mark(id))
	if err != nil {
		return nil, err
	}
	m.before, err = decodeMark(value)
	m.mark, m.own = m.before, -1
	return m, err
}

// isNew reports whether a profile was created in this batch, so that nothing is
// stored of it.
func (p *pass) isNew(id event.ProfileID) bool {
	n := p.nodes[id]
	if n == nil {
		return false
	}
	for n.before != nil {
		n = n.before
	}
	return n.seq > 0
}

// total returns how many identifiers the events of a profile, and of those
// merged into it, could not use.
func (c *marking) total(id event.ProfileID, m *counted) (n int, err error) {
	if m.seen > 0 {
		return int(m.seen), nil
	}
	if m.own < 0 {
		m.own, err = count(c.p.batch.Tx, kv.Prefix(c.p.read.keys.sightingsOn(id)), ManyRefused.Floor())
	}
	return m.own, err
}

// refuse counts one more identifier that a profile's events could not use.
func (c *marking) refuse(id event.ProfileID) error {
	m, err := c.of(id)
	if err != nil {
		return err
	}
	n, err := c.total(id, m)
	if err != nil {
		return err
	}
	if m.seen > 0 || n+1 >= ManyRefused.Floor() {
		m.seen = uint32(n + 1)
	} else {
		m.own++
	}
	return nil
}

// merge counts a merge, and what comes with it.
func (c *marking) merge(s *clusterStep) error {
	child, err := c.of(s.profile)
	if err != nil {
		return err
	}
	came, err := c.total(s.profile, child)
	if err != nil {
		return err
	}
	if len(s.times) == 0 && came == 0 {
		return nil // nor has the child a peak, which takes more than a few merges
	}
	m, err := c.of(s.into)
	if err != nil {
		return err
	}
	for _, at := range s.times {
		m.merge(at)
	}
	if child.peak > m.peak {
		m.peak, m.peakAt = child.peak, child.peakAt
	}
	if came > 0 {
		had, err := c.total(s.into, m)
		if err != nil {
			return err
		}
		m.seen = uint32(had + came)
	}
	child.mark = mark{}
	return nil
}

func (c *marking) write() error {
	tx, k := c.p.batch.Tx, c.p.read.keys
	for id, m := range c.marks {
		if m.mark == m.before {
			continue
		}
		var err error
		if m.mark == (mark{}) {
			err = tx.Delete(k.mark(id))
		} else {
			err = tx.Set(k.mark(id), m.encode())
		}
		if err != nil {
			return err
		}
		if err := reindex(tx, k.ofMark(id, &m.before), k.ofMark(id, &m.mark)); err != nil {
			return err
		}
	}
	return nil
}

// reindex puts keys of the index in the place of others.
func reindex(tx kv.Tx, before, now [][]byte) error {
	has := func(list [][]byte, key []byte) bool {
		return slices.ContainsFunc(list, func(x []byte) bool { return bytes.Equal(x, key) })
	}
	for _, key := range before {
		if !has(now, key) {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
	}
	for _, key := range now {
		if !has(before, key) {
			if err := tx.Set(key, []byte{suspectFormat}); err != nil {
				return err
			}
		}
	}
	return nil
}

// clusterKeys returns what is kept of a profile's figures.
func (r Reader) clusterKeys(p event.ProfileID) (held [][]byte, err error) {
	value, err := r.r.Get(r.keys.mark(p))
	if err != nil {
		return nil, err
	}
	if value != nil {
		m, err := decodeMark(value)
		if err != nil {
			return nil, err
		}
		held = append(r.keys.ofMark(p, &m), r.keys.mark(p))
	}
	link, err := r.Link(p)
	if err != nil || link != nil {
		return held, err
	}
	graph, err := r.graph(p)
	if err != nil || graph == nil {
		return held, err
	}
	return append(held, r.keys.ofSize(p, len(graph.Identifiers))...), nil
}

// sharedKeys returns what is kept of how many could not use an identifier.
func (r Reader) sharedKeys(id event.Identifier) ([][]byte, error) {
	value, err := r.r.Get(r.keys.shared(id))
	if err != nil || value == nil {
		return nil, err
	}
	n, err := decodeShared(value)
	return append(r.keys.ofShared(id, n), r.keys.shared(id)), err
}

// Recount keeps right on the events of how many profiles identifiers could not
// be used, when a revision takes away keys and sets others: before it does,
// within the same transaction of the loop.
func Recount(tx kv.Tx, space, epoch uint32, removed [][]byte, set []kv.Pair) error {
	k := keys{space, epoch}
	stem := kv.EpochKey(space, epoch, Room).Byte(sightingForm).Byte(byIdentifier)
	more := map[event.Identifier]int{}
	change := func(key []byte, n int) error {
		if !bytes.HasPrefix(key, stem) {
			return nil
		}
		known, err := tx.Get(key)
		if err != nil || (known != nil) == (n > 0) {
			return err
		}
		parts := kv.PartsAfter(key, stem)
		id := event.Identifier{Collection: collectionOf(parts.Byte()), Type: parts.String(), Value: parts.String()}
		p := event.ProfileID(parts.Fixed(len(event.ProfileID{})))
		if !parts.OK() {
			return errStored
		}
		if !p.IsZero() {
			more[id] += n
		}
		return nil
	}
	for _, key := range removed {
		if err := change(key, -1); err != nil {
			return err
		}
	}
	for _, pair := range set {
		if err := change(pair.Key, 1); err != nil {
			return err
		}
	}
	for id, n := range more {
		if n == 0 {
			continue
		}
		if err := countShared(tx, k, id, n); err != nil {
			return err
		}
	}
	return nil
}
