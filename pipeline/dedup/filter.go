package dedup

import (
	"encoding/binary"
	"slices"
	"sort"

	"kith/kv"
)

// A bloom is a blocked Bloom filter: what it is asked for stands in one line of
// the processor's cache, so that a question costs one look into memory. Seven
// bits are set for a key.
//
// The bits come from the second half of the ID, the line from the second
// quarter: the first quarter says which part of a sealed filter is asked.
type bloom [][8]uint64

const lineBytes = 64

// How many bits a key there are. Of keys that were never added, about 4 in
// 1,000 look as if they had been with the first, 3 in 10,000 with the second.
const (
	bits     = 12
	moreBits = 20
)

// newBloom returns an empty filter for a number of keys, of so many bits a key.
func newBloom(keys, bits int) bloom { return make(bloom, bloomBytes(keys, bits)/lineBytes) }

// bloomBytes returns what such a filter takes.
func bloomBytes(keys, bits int) int64 {
	const line = 8 * lineBytes
	return int64(max(1, (keys*bits+line-1)/line)) * lineBytes
}

func (b bloom) line(id *ID) *[8]uint64 {
	return &b[uint64(binary.BigEndian.Uint32(id[4:8]))*uint64(len(b))>>32]
}

func (b bloom) add(id *ID) {
	line, which := b.line(id), binary.BigEndian.Uint64(id[8:])
	for range 7 {
		line[which>>6&7] |= 1 << (which & 63)
		which >>= 9
	}
}

// has reports whether a key may have been added; false is certain.
func (b bloom) has(id *ID) bool {
	line, which := b.line(id), binary.BigEndian.Uint64(id[8:])
	for range 7 {
		if line[which>>6&7]>>(which&63)&1 == 0 {
			return false
		}
		which >>= 9
	}
	return true
}

func (b bloom) bytes() int64 { return int64(len(b)) * lineBytes }

// growing is a filter for as many keys as come: a chain of blooms, each for
// twice as many keys as the one before. A key that is not there must be ruled
// out by each of them, so the small ones, which cost little, are more precise.
type growing struct {
	chain []bloom
	room  int // how many keys the last one still takes
}

// firstKeys is how many keys the first bloom of a chain takes.
const firstKeys = 1 << 14

// next returns for how many keys a bloom is to be added before the next key
// is, with how many bits each; no keys when there is room.
func (g *growing) next() (keys, perKey int) {
	if g.room > 0 {
		return 0, 0
	}
	keys = firstKeys << len(g.chain)
	if keys > 1<<20 {
		return keys, bits
	}
	return keys, moreBits
}

func (g *growing) grow(keys, perKey int) {
	g.chain, g.room = append(g.chain, newBloom(keys, perKey)), keys
}

func (g *growing) add(id *ID) {
	g.chain[len(g.chain)-1].add(id)
	g.room--
}

func (g *growing) has(id *ID) bool {
	for i := len(g.chain) - 1; i >= 0; i-- {
		if g.chain[i].has(id) {
			return true
		}
	}
	return false
}

func (g *growing) bytes() (n int64) {
	for _, b := range g.chain {
		n += b.bytes()
	}
	return n
}

// sealed is the filter of the keys that a bucket has in the store: a bloom for
// each run of partKeys of them, in their order. It is built in one pass over
// the keys, of which nobody need know how many there are, and never changes.
type sealed struct {
	from  []uint64 // the place of the first key of each part
	parts []bloom
	// whole says that the bucket gets no more keys.
	whole bool
}

// partKeys is how many keys stand in one part.
const partKeys = 1 << 16

func (s *sealed) has(id *ID) bool {
	place := id.place()
	// From the last part that begins at or before the key; keys of one place
	// may stand on both sides of a border.
	for i := sort.Search(len(s.from), func(i int) bool { return s.from[i] > place }) - 1; i >= 0; i-- {
		if s.parts[i].has(id) {
			return true
		}
		if s.from[i] < place {
			return false
		}
	}
	return false
}

func (s *sealed) bytes() (n int64) {
	for _, b := range s.parts {
		n += b.bytes() + 8
	}
	return n
}

// add adds a part: a run of IDs in their order, all after those before.
func (s *sealed) add(ids []ID) {
	b := newBloom(len(ids), bits)
	for i := range ids {
		b.add(&ids[i])
	}
	s.from, s.parts = append(s.from, ids[0].place()), append(s.parts, b)
}

// encodePart returns part n as it is stored; n one beyond the last is the end.
func (s *sealed) encodePart(n int) kv.Value {
	if n == len(s.parts) {
		return kv.Value{filterFormat}.Uvarint(0)
	}
	v := make(kv.Value, 0, 16+len(s.parts[n])*lineBytes)
	v = v.Byte(filterFormat).Uvarint(uint64(len(s.parts[n]))).Fixed(binary.BigEndian.AppendUint64(nil, s.from[n]))
	for i := range s.parts[n] {
		for _, word := range s.parts[n][i] {
			v = binary.LittleEndian.AppendUint64(v, word)
		}
	}
	return v
}

// decodePart adds a stored part. It reports that nothing follows, and whether
// the value can be read.
func (s *sealed) decodePart(value []byte) (end, ok bool) {
	f := kv.FieldsOf(value)
	known := f.Byte() == filterFormat
	lines := f.Count(len(value) / lineBytes)
	if !known || !f.OK() || lines == 0 {
		return true, known && f.OK()
	}
	from, words := f.Fixed(8), f.Fixed(lines*lineBytes)
	if !f.OK() || len(f.Rest()) > 0 {
		return true, false
	}
	b := make(bloom, lines)
	for i := range b {
		for j := range b[i] {
			b[i][j] = binary.LittleEndian.Uint64(words[(8*i+j)*8:])
		}
	}
	s.from, s.parts = append(s.from, binary.BigEndian.Uint64(from)), append(s.parts, b)
	return false, slices.IsSorted(s.from[max(0, len(s.from)-2):])
}
