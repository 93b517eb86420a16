package identity

import (
	"bytes"
	"math/bits"
	"slices"

	"kith/event"
	"kith/kv"
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
	switch s {
	case ManyIdentifiers:
		return 8
	case ManyMerges:
		return 4
	}
	return 3
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

// fold adds the figures of a profile that became part of this one.
func (m *mark) fold(child *mark) {
	m.seen += child.seen
	if child.peak > m.peak {
		m.peak, m.peakAt = child.peak, child.peakAt
	}
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

// grown is what a batch has changed of clusters.
type grown struct {
	merged map[event.ProfileID][]int64 // survivors, and when
	seen   map[event.ProfileID]uint32  // new identifiers that a profile's events could not use
	shared map[event.Identifier]uint32 // new profiles whose events could not use an identifier
}

func (g *grown) merge(survivor event.ProfileID, at int64) {
	if g.merged == nil {
		g.merged = map[event.ProfileID][]int64{}
	}
	g.merged[survivor] = append(g.merged[survivor], at)
}

func (g *grown) sighted(s sighting) {
	if s.profile.IsZero() {
		return
	}
	if g.seen == nil {
		g.seen, g.shared = map[event.ProfileID]uint32{}, map[event.Identifier]uint32{}
	}
	g.seen[s.profile]++
	g.shared[s.id]++
}

// writeClusters brings the index up to date with the batch, before the batch's
// sightings are written.
func (p *pass) writeClusters() error {
	k := p.read.keys
	for s := range p.sighted {
		known, err := p.batch.Tx.Get(s.keysOf(k)[0])
		if err != nil {
			return err
		}
		if known == nil {
			p.grown.sighted(s)
		}
	}
	if err := p.writeSizes(); err != nil {
		return err
	}
	if err := p.writeMarks(); err != nil {
		return err
	}
	for id, more := range p.grown.shared {
		value, err := p.batch.Tx.Get(k.shared(id))
		if err != nil {
			return err
		}
		before, err := decodeShared(value)
		if err != nil {
			return err
		}
		if value == nil { // it is counted from the floor on; what comes below is counted here
			few, err := p.few(k.sightingsOf(id), SharedValue.Floor())
			if err != nil {
				return err
			}
			if few+int(more) < SharedValue.Floor() {
				continue
			}
			more += uint32(few)
		}
		if err := p.batch.Tx.Set(k.shared(id), encodeShared(before+more)); err != nil {
			return err
		}
		if err := p.reindex(k.ofShared(id, before), k.ofShared(id, before+more)); err != nil {
			return err
		}
	}
	return nil
}

// few returns how many keys there are below a stem, at most limit.
func (p *pass) few(stem kv.Key, limit int) (n int, err error) {
	rng := kv.Prefix(stem)
	rng.Limit = limit
	for _, err := range p.batch.Tx.Scan(rng) {
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
			if err := p.reindex(k.ofSize(id, before), k.ofSize(id, now)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fewMerges is how many profiles may become one before it is counted when.
const fewMerges = 3

// writeMarks counts merges and what profiles could not use.
func (p *pass) writeMarks() error {
	if len(p.joined) == 0 && len(p.grown.seen) == 0 {
		return nil
	}
	k := p.read.keys
	marks, before := map[event.ProfileID]*mark{}, map[event.ProfileID]mark{}
	of := func(id event.ProfileID) (*mark, error) {
		if m := marks[id]; m != nil {
			return m, nil
		}
		value, err := p.batch.Tx.Get(k.mark(id))
		if err != nil {
			return nil, err
		}
		m, err := decodeMark(value)
		marks[id], before[id] = &m, m
		return &m, err
	}
	for id, more := range p.grown.seen {
		m, err := of(id)
		if err != nil {
			return err
		}
		if m.seen == 0 {
			few, err := p.few(k.sightingsOn(id), ManyRefused.Floor())
			if err != nil {
				return err
			}
			if few+int(more) < ManyRefused.Floor() {
				continue
			}
			more += uint32(few)
		}
		m.seen += more
	}
	for survivor, times := range p.grown.merged {
		n := p.nodes[survivor]
		if n == nil || n.merged.len() <= fewMerges {
			continue
		}
		m, err := of(survivor)
		if err != nil {
			return err
		}
		for _, at := range times {
			m.merge(at)
		}
	}
	for _, child := range p.joined { // in order: a child's own children first
		c, err := of(child)
		if err != nil {
			return err
		}
		if *c == (mark{}) {
			continue
		}
		m, err := of(p.links[child].Parent)
		if err != nil {
			return err
		}
		m.fold(c)
		*c = mark{}
	}
	for id, m := range marks {
		old := before[id]
		if *m == old {
			continue
		}
		if *m == (mark{}) {
			if err := p.batch.Tx.Delete(k.mark(id)); err != nil {
				return err
			}
		} else if err := p.batch.Tx.Set(k.mark(id), m.encode()); err != nil {
			return err
		}
		if err := p.reindex(k.ofMark(id, &old), k.ofMark(id, m)); err != nil {
			return err
		}
	}
	return nil
}

// reindex puts keys of the index in the place of others.
func (p *pass) reindex(before, now [][]byte) error {
	has := func(list [][]byte, key []byte) bool {
		return slices.ContainsFunc(list, func(x []byte) bool { return bytes.Equal(x, key) })
	}
	for _, key := range before {
		if !has(now, key) {
			if err := p.batch.Tx.Delete(key); err != nil {
				return err
			}
		}
	}
	for _, key := range now {
		if !has(before, key) {
			if err := p.batch.Tx.Set(key, []byte{suspectFormat}); err != nil {
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
