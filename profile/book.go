package profile

import (
	"slices"
	"strings"

	"kith/event"
	"kith/kv"
)

const (
	// pageBytes is the size beyond which pages are split.
	pageBytes = 8 << 10
	// maxDepth bounds the pages of a profile: 1<<maxDepth.
	maxDepth = 7
	// MaxTraitsBytes is how much the traits of a profile take at most, by
	// their names and values and 16 bytes for each.
	MaxTraitsBytes = 1 << 20
)

// book is the pages of one profile, as far as they have been read.
type book struct {
	reader  kv.Reader
	keys    keys
	profile event.ProfileID

	depth uint8
	bytes int     // of all traits, tombstones among them
	pages []*page // 1<<depth; nil for one that has not been read
	// resized says that depth or bytes have changed, which page 0 tells.
	resized bool

	// index is what is indexed, nil for a book that is only read; before are
	// the values that the index has of traits that have changed since. merged
	// says that the profile was merged away.
	index  *index
	before map[string]string
	merged bool
}

type page struct {
	traits []Trait // by name
	dirty  bool
}

// open reads page 0 of a profile's book; one that was never written is empty.
func open(r kv.Reader, k keys, profile event.ProfileID) (*book, error) {
	b := &book{reader: r, keys: k, profile: profile}
	value, err := r.Get(k.page(profile, 0))
	if err != nil {
		return nil, err
	}
	first := &page{}
	if value != nil {
		if b.depth, b.bytes, first.traits, err = decodePage(value); err != nil {
			return nil, err
		}
	}
	b.pages = make([]*page, 1<<b.depth)
	b.pages[0] = first
	return b, nil
}

// page returns page n, reading it if need be.
func (b *book) page(n int) (*page, error) {
	if b.pages[n] != nil {
		return b.pages[n], nil
	}
	p := &page{}
	value, err := b.reader.Get(b.keys.page(b.profile, n))
	if err != nil {
		return nil, err
	}
	if value != nil {
		if _, _, p.traits, err = decodePage(value); err != nil {
			return nil, err
		}
	}
	b.pages[n] = p
	return p, nil
}

// find returns the page that a name belongs to, and its place there.
func (b *book) find(name string) (p *page, at int, found bool, err error) {
	if p, err = b.page(pageOf(name, b.depth)); err != nil {
		return nil, 0, false, err
	}
	at, found = slices.BinarySearchFunc(p.traits, name, func(t Trait, name string) int { return strings.Compare(t.Name, name) })
	return p, at, found, nil
}

// get returns what was last said under a name, nil for nothing.
func (b *book) get(name string) (*Trait, error) {
	p, at, found, err := b.find(name)
	if err != nil || !found {
		return nil, err
	}
	return &p.traits[at], nil
}

// set takes what was said if it holds. It returns the value that there was
// before, and whether there was room; a trait that finds none is not taken.
func (b *book) set(t Trait) (old string, fits bool, err error) {
	p, at, found, err := b.find(t.Name)
	if err != nil {
		return "", false, err
	}
	growth := t.size()
	if found {
		before := &p.traits[at]
		old = before.Value
		if !t.over(before) {
			return old, true, nil
		}
		growth -= before.size()
	}
	if growth > 0 && b.bytes+growth > MaxTraitsBytes {
		return old, false, nil
	}
	if found {
		p.traits[at] = t
	} else {
		p.traits = slices.Insert(p.traits, at, t)
	}
	b.bytes += growth
	b.resized = b.resized || growth != 0
	p.dirty = true
	return old, true, nil
}

// all returns all that was said, by name.
func (b *book) all() ([]Trait, error) {
	if b.depth == 0 {
		return b.pages[0].traits, nil
	}
	var list []Trait
	for n := range b.pages {
		p, err := b.page(n)
		if err != nil {
			return nil, err
		}
		list = append(list, p.traits...)
	}
	slices.SortFunc(list, func(a, b Trait) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// write writes the pages that have changed, after splitting those that have
// become too large.
func (b *book) write(tx kv.Tx) error {
	for b.crowded() {
		if err := b.split(); err != nil {
			return err
		}
	}
	for n, p := range b.pages {
		if p == nil || !(p.dirty || (n == 0 && b.resized)) {
			continue
		}
		depth, bytes := b.depth, b.bytes
		if n > 0 {
			depth, bytes = 0, 0
		}
		if err := tx.Set(b.keys.page(b.profile, n), encodePage(depth, bytes, p.traits)); err != nil {
			return err
		}
	}
	return nil
}

// crowded reports whether a changed page is too large and can be split.
func (b *book) crowded() bool {
	if b.depth == maxDepth {
		return false
	}
	for _, p := range b.pages {
		if p == nil || !p.dirty || len(p.traits) < 2 {
			continue
		}
		size := 0
		for i := range p.traits {
			size += p.traits[i].size()
		}
		if size > pageBytes {
			return true
		}
	}
	return false
}

// split doubles the number of pages.
func (b *book) split() error {
	all, err := b.all()
	if err != nil {
		return err
	}
	b.depth++
	b.pages = make([]*page, 1<<b.depth)
	for n := range b.pages {
		b.pages[n] = &page{dirty: true}
	}
	for _, t := range all {
		p := b.pages[pageOf(t.Name, b.depth)]
		p.traits = append(p.traits, t)
	}
	b.resized = true
	return nil
}

// pageOf returns the page that a name belongs to: the low bits of its 32-bit
// FNV-1a hash. Stored pages depend on it.
func pageOf(name string, depth uint8) int {
	if depth == 0 {
		return 0
	}
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return int(h & (1<<depth - 1))
}
