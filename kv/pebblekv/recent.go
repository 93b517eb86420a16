package pebblekv

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// recent keeps what views have read lately, absent keys too: to find a key
// again in Pebble's memory of pending writes costs some microseconds.
//
// It is exact. Commits are counted when they end. An entry remembers the count
// of the moment that it was read at, and each key has a mark, shared with keys
// of the same hash: how many commits that write it are on their way, and the
// count at which the last of them ended. A commit marks its keys before anybody
// can see it and until its end. So an entry whose key is not being written, and
// has not been since the entry's count, is what every moment has of that count
// or later. Who looks into the marks has taken its moment before.
type recent struct {
	commits atomic.Uint64
	seed    maphash.Seed
	marks   []atomic.Uint64 // a power of two of them
	all     atomic.Uint64   // a mark that all keys have besides, for ranges
	parts   [recentParts]recentPart
	room    int // bytes of a generation of a part
}

const (
	recentMarks = 1 << 20
	recentParts = 64
	// recentBytes is about how much is kept, keys and what the maps take among
	// it; recentValue is the largest value.
	recentBytes = 32 << 20
	recentValue = 16 << 10
	recentEach  = 128 // what an entry takes besides its key and value
)

// A mark is a number of commits on their way above markBits bits of a count: as
// long as there is one it is greater than every count.
const (
	markBits  = 48
	markCount = 1<<markBits - 1
)

// recentPart is the entries of some hashes, in two generations: what is asked
// for goes into the younger; when that is full, it becomes the older, and what
// nobody has asked for since goes.
type recentPart struct {
	mu         sync.Mutex
	young, old map[string]recentEntry
	bytes      int // of young
}

type recentEntry struct {
	value   []byte // nil for a key that is not there
	commits uint64
}

func (e *recentEntry) size(key int) int { return key + len(e.value) + recentEach }

func newRecent(marks, bytes int) *recent {
	r := &recent{seed: maphash.MakeSeed(), marks: make([]atomic.Uint64, marks), room: bytes / 2 / recentParts}
	for i := range r.parts {
		r.parts[i].young = map[string]recentEntry{}
	}
	return r
}

func (c *recent) hash(key []byte) uint64 { return maphash.Bytes(c.seed, key) }

func (c *recent) mark(hash uint64) *atomic.Uint64 { return &c.marks[hash&uint64(len(c.marks)-1)] }

func (c *recent) part(hash uint64) *recentPart { return &c.parts[hash>>58] }

// holds reports whether what was read of a key at some count of commits is what
// it is at all moments of that count or later, up to now.
func (c *recent) holds(hash, commits uint64) bool {
	return c.mark(hash).Load() <= commits && c.all.Load() <= commits
}

// begin notes in a mark that a commit is on its way that nobody sees yet.
func begin(mark *atomic.Uint64) { mark.Add(1 << markBits) }

// end notes in a mark that it has ended, as that many have.
func end(mark *atomic.Uint64, commits uint64) {
	for {
		old := mark.Load()
		ways := old>>markBits - 1
		if mark.CompareAndSwap(old, ways<<markBits|max(old&markCount, commits)) {
			return
		}
	}
}

// writing runs a commit that writes keys of these hashes.
func (c *recent) writing(hashes []uint64, commit func() error) error {
	for _, h := range hashes {
		begin(c.mark(h))
	}
	err := commit()
	count := c.commits.Add(1)
	for _, h := range hashes {
		end(c.mark(h), count)
	}
	return err
}

// writingAny runs a commit that writes who knows which keys.
func (c *recent) writingAny(commit func() error) error {
	begin(&c.all)
	err := commit()
	end(&c.all, c.commits.Add(1))
	return err
}

// clear lets all entries go.
func (c *recent) clear() {
	for i := range c.parts {
		p := &c.parts[i]
		p.mu.Lock()
		p.young, p.old, p.bytes = map[string]recentEntry{}, nil, 0
		p.mu.Unlock()
	}
}

func (c *recent) get(hash uint64, key []byte) (recentEntry, bool) {
	p := c.part(hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.young[string(key)]; ok {
		return e, true
	}
	e, ok := p.old[string(key)]
	if ok {
		p.add(string(key), e, c.room)
	}
	return e, ok
}

// put keeps an entry unless there is a newer one.
func (c *recent) put(hash uint64, key string, e recentEntry) {
	p := c.part(hash)
	p.mu.Lock()
	defer p.mu.Unlock()
	if had, ok := p.young[key]; ok {
		if had.commits > e.commits {
			return
		}
		p.bytes -= had.size(len(key))
	}
	p.add(key, e, c.room)
}

func (p *recentPart) add(key string, e recentEntry, room int) {
	p.young[key] = e
	if p.bytes += e.size(len(key)); p.bytes > room {
		p.young, p.old, p.bytes = map[string]recentEntry{}, p.young, 0
	}
}

// view reads one moment.
type view struct {
	reader
	recent  *recent
	commits uint64
}

func (v view) Get(key []byte) ([]byte, error) {
	hash := v.recent.hash(key)
	if e, ok := v.recent.get(hash, key); ok && e.commits <= v.commits && v.recent.holds(hash, e.commits) {
		if e.value == nil {
			return nil, nil
		}
		return append(make([]byte, 0, len(e.value)), e.value...), nil
	}
	value, err := v.reader.Get(key)
	if err == nil && len(value) <= recentValue && v.recent.holds(hash, v.commits) {
		e := recentEntry{commits: v.commits}
		if value != nil {
			e.value = append(make([]byte, 0, len(value)), value...)
		}
		v.recent.put(hash, string(key), e)
	}
	return value, err
}

func (v view) GetMany(keys [][]byte) ([][]byte, error) { return getMany(v, keys) }
