package pebblekv

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"kith/kv"
)

// kept is what the updates under one fence have read lately, missing keys too,
// and what they have made of it since: the newest state of those keys. To find
// a key in Pebble takes some microseconds, even in memory.
//
// Keys and values lie in pieces of memory one behind another, so that the
// garbage collector has nothing to look through. The oldest piece makes room
// for the next; what is asked for again before that moves on.
//
// Keys are of kinds, by the two bytes behind the stem. What is written of a kind
// that was ever read is kept too, for it will be read. Of a kind of which there
// was nothing in the store at first, all is kept until the first entry has to
// go, or until much of it was written and nothing read: as long as it is, what
// is not here is nowhere.
type kept struct {
	stem []byte
	seed maphash.Seed

	mu     sync.Mutex
	at     map[uint64]uint32 // where an entry begins, by the hash of its key
	pieces [][]byte          // a ring; nil for one that was not needed yet
	now    int               // the piece that is being filled
	size   int               // of a piece
	kinds  map[kind]*kindKept
	vacant bool // the store has nothing of kinds that are not in kinds
}

// kind is the two bytes behind the stem. Shorter keys are not kept.
type kind [2]byte

// kindKept is what is known of a kind.
type kindKept struct {
	read    bool
	all     bool // all there is is here
	written int  // bytes, before it was read
}

const (
	// keptPieces is how many pieces there are; what lies in the older half
	// moves on when it is asked for.
	keptPieces = 16
	// keptValue is the largest value that is kept.
	keptValue = 16 << 10
	// keptHead is the head of an entry: the length of the key, the room for the
	// value, and the length of the value plus one, or zero for a key that is not
	// there. A value has some room to grow.
	keptHead = 2 + 4 + 4
	keptRoom = 32
	// keptSmallest is the size of a piece below which nothing is kept.
	keptSmallest = 2 * (keptHead + kv.MaxKeyBytes + keptValue + keptRoom)
	// keptLargest is the size of a piece that a place in the map can tell.
	keptLargest = 1<<32/keptPieces - 1
)

func newKept(stem []byte, maxBytes int) *kept {
	// Entries of about a hundred bytes: a fifth goes to the map.
	size := min(maxBytes/keptPieces*4/5, keptLargest)
	if size < keptSmallest {
		return nil
	}
	return &kept{
		stem: bytes.Clone(stem), seed: maphash.MakeSeed(),
		at: map[uint64]uint32{}, pieces: make([][]byte, keptPieces), size: size, kinds: map[kind]*kindKept{},
	}
}

// keeps are those of a store, by their fences.
type keeps struct {
	mu   sync.RWMutex
	left int // bytes that may still be given
	all  map[kv.Fence]*kept
}

// keepBytes is what is given at most where Options say nothing.
const keepBytes = 256 << 20

// Keep keeps what is read under a fence; see kv.Keeper.
func (db *DB) Keep(f kv.Fence, stem []byte, maxBytes int) (end func()) {
	if err := db.guard.Enter(context.Background()); err != nil {
		return func() {} // it is closed
	}
	defer db.guard.Leave()
	k := &db.keeps
	k.mu.Lock()
	defer k.mu.Unlock()
	given := min(maxBytes, k.left/2)
	c := newKept(stem, given)
	if c == nil {
		delete(k.all, f)
		return func() {}
	}
	c.begin(reader{db.pebble})
	k.all[f] = c
	k.left -= given
	return sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.left += given
		if k.all[f] == c {
			delete(k.all, f)
		}
	})
}

func (k *keeps) of(f kv.Fence) *kept {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.all[f]
}

// wrote brings all that is kept up to date with a commit, of whatever fence, in
// the order of its keys. Of one that has failed nobody knows what it did.
func (k *keeps) wrote(writes []write, err error) {
	if err != nil {
		k.clear()
		return
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, c := range k.all {
		stem := string(c.stem)
		i, _ := slices.BinarySearchFunc(writes, stem, func(w write, stem string) int { return strings.Compare(w.key, stem) })
		c.mu.Lock()
		for ; i < len(writes) && strings.HasPrefix(writes[i].key, stem); i++ {
			c.wrote(&writes[i])
		}
		c.mu.Unlock()
	}
}

func (k *keeps) clear() {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, c := range k.all {
		c.clear()
	}
}

// wants reports whether a key is one of those that are kept.
func (c *kept) wants(key []byte) bool {
	return c != nil && len(key) >= len(c.stem)+len(kind{}) && bytes.HasPrefix(key, c.stem)
}

func (c *kept) kindOf(key []byte) (k kind) {
	copy(k[:], key[len(c.stem):])
	return k
}

// get returns a copy of what is kept of a key: nil for one that is not there.
func (c *kept) get(key []byte) (value []byte, known bool) {
	hash := maphash.Bytes(c.seed, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	at, known := c.at[hash]
	if !known || !bytes.Equal(c.entry(at).key(), key) {
		return nil, !known && c.read(c.kindOf(key)).all
	}
	if stored := c.entry(at).value(); stored != nil {
		value = append(make([]byte, 0, len(stored)), stored...)
	}
	if age := (c.now - int(at)/c.size + keptPieces) % keptPieces; age >= keptPieces/2 {
		c.add(hash, key, value)
	}
	return value, true
}

// read returns what is known of a kind, which is read.
func (c *kept) read(k kind) *kindKept {
	known := c.kind(k)
	known.read = true
	return known
}

func (c *kept) kind(k kind) *kindKept {
	known := c.kinds[k]
	if known == nil {
		known = &kindKept{all: c.vacant}
		c.kinds[k] = known
	}
	return known
}

// begin looks at what there is in the store.
func (c *kept) begin(r reader) {
	const few = 1000
	n := 0
	for pair, err := range r.Scan(kv.Range{From: c.stem, To: kv.PrefixEnd(c.stem), Limit: few}) {
		if err != nil {
			return
		}
		if n++; c.wants(pair.Key) {
			c.kinds[c.kindOf(pair.Key)] = &kindKept{}
		}
	}
	c.vacant = n < few
}

// lose notes that not all that there is of a key's kind is kept any more.
func (c *kept) lose(key []byte) {
	if known := c.kinds[c.kindOf(key)]; known != nil {
		known.all = false
	}
}

// put keeps what was read of a key.
func (c *kept) put(key, value []byte) {
	if len(value) > keptValue {
		return
	}
	hash := maphash.Bytes(c.seed, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(hash, key, value)
}

// wrote brings what is kept of a key up to date.
func (c *kept) wrote(w *write) {
	key := []byte(w.key)
	if !c.wants(key) {
		return
	}
	hash := maphash.Bytes(c.seed, key)
	at, known := c.at[hash]
	known = known && bytes.Equal(c.entry(at).key(), key)
	if known && c.entry(at).set(w.value) {
		return
	}
	k := c.kind(c.kindOf(key))
	if !k.read {
		k.written += keptHead + len(key) + len(w.value)
		k.all = k.all && k.written < c.size
	}
	if len(w.value) <= keptValue && (known || k.read || k.all) {
		c.add(hash, key, w.value)
		return
	}
	if known {
		delete(c.at, hash)
	}
	k.all = false
}

// clear lets everything go.
func (c *kept) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.at)
	clear(c.kinds)
	c.vacant = false
	for i := range c.pieces {
		c.pieces[i] = c.pieces[i][:0]
	}
}

// keptEntry is an entry, with what lies behind it.
type keptEntry []byte

func (e keptEntry) key() []byte {
	return e[keptHead : keptHead+int(binary.LittleEndian.Uint16(e))]
}

func (e keptEntry) room() int { return int(binary.LittleEndian.Uint32(e[2:])) }

// value is nil for a key that is not there.
func (e keptEntry) value() []byte {
	n := int(binary.LittleEndian.Uint32(e[6:]))
	if n == 0 {
		return nil
	}
	from := keptHead + len(e.key())
	return e[from : from+n-1]
}

// set puts another value in place of the one there is, if there is room.
func (e keptEntry) set(value []byte) bool {
	if len(value) > e.room() {
		return false
	}
	n := 0
	if value != nil {
		n = len(value) + 1
	}
	binary.LittleEndian.PutUint32(e[6:], uint32(n))
	copy(e[keptHead+len(e.key()):], value)
	return true
}

func (e keptEntry) len() int { return keptHead + len(e.key()) + e.room() }

func (c *kept) entry(at uint32) keptEntry {
	return keptEntry(c.pieces[int(at)/c.size][int(at)%c.size:])
}

// add writes an entry, in place of the one that the key, or another of the same
// hash, has.
func (c *kept) add(hash uint64, key, value []byte) {
	room := (len(value) + keptRoom - 1) / keptRoom * keptRoom
	n := keptHead + len(key) + room
	if len(c.pieces[c.now])+n > c.size {
		c.now = (c.now + 1) % keptPieces
		c.leave(c.now)
	}
	if at, known := c.at[hash]; known {
		if other := c.entry(at).key(); !bytes.Equal(other, key) {
			c.lose(other)
		}
	}
	p := &c.pieces[c.now]
	from := len(*p)
	c.at[hash] = uint32(c.now*c.size + from)
	*p = slices.Grow(*p, n)[:from+n]
	e := keptEntry((*p)[from:])
	binary.LittleEndian.PutUint16(e, uint16(len(key)))
	binary.LittleEndian.PutUint32(e[2:], uint32(room))
	copy(e[keptHead:], key)
	e.set(value)
}

// leave empties a piece.
func (c *kept) leave(piece int) {
	for from := 0; from < len(c.pieces[piece]); {
		e := keptEntry(c.pieces[piece][from:])
		hash := maphash.Bytes(c.seed, e.key())
		if c.at[hash] == uint32(piece*c.size+from) {
			delete(c.at, hash)
			c.lose(e.key())
		}
		from += e.len()
	}
	c.pieces[piece] = c.pieces[piece][:0]
}
