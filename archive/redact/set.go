package redact

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"

	"kith/event"
)

// MinValue is how many bytes a value has at least that is found wherever it
// stands. A shorter one is found in heads, and in the bodies of these records.
const MinValue = 6

// Erased stands in a text for what was taken out of its middle.
const Erased = "(erased)"

// Set is the identifiers to be taken out. It is safe for concurrent use; nil
// and the empty set find nothing.
type Set struct {
	ids    map[event.Identifier]bool
	folded map[string]bool // values with an "@", in small letters
	long   map[string]bool // values that are found wherever they stand; likewise folded

	// grams holds the first bytes of each long value, regardless of letter
	// case: whatever cannot begin a value is passed over by one look into
	// filter.
	grams  map[uint64][]int // the lengths of the values that begin like this, the greatest first
	filter []uint64
	shift  uint
}

// New returns the set of some identifiers.
func New(ids []event.Identifier) *Set {
	s := &Set{ids: map[event.Identifier]bool{}, folded: map[string]bool{}, long: map[string]bool{}, grams: map[uint64][]int{}}
	for _, id := range ids {
		s.ids[id] = true
		value := fold(id.Value)
		if strings.Contains(value, "@") {
			s.folded[value] = true
		}
		if len(value) >= MinValue && !s.long[value] {
			s.long[value] = true
			g := gram([]byte(value))
			if !slices.Contains(s.grams[g], len(value)) {
				s.grams[g] = append(s.grams[g], len(value))
			}
		}
	}
	for _, lengths := range s.grams {
		slices.SortFunc(lengths, func(a, b int) int { return b - a })
	}
	// 64 bits for each value, so that few other places look like one.
	size := min(max(bits.Len(uint(64*len(s.long))), 10), 24)
	s.filter = make([]uint64, 1<<(size-6))
	s.shift = 64 - uint(size)
	for g := range s.grams {
		h := g * spread >> s.shift
		s.filter[h/64] |= 1 << (h % 64)
	}
	return s
}

// Empty reports whether there is nothing to find.
func (s *Set) Empty() bool { return s == nil || len(s.ids) == 0 }

// Has reports whether an identifier is in the set: itself, or an address of
// the set under whatever type.
func (s *Set) Has(id event.Identifier) bool {
	if s == nil {
		return false
	}
	return s.ids[id] || len(s.folded) > 0 && strings.Contains(id.Value, "@") && s.folded[fold(id.Value)]
}

// fold returns a value in the form in which it is compared.
func fold(value string) string {
	if strings.Contains(value, "@") {
		return strings.ToLower(value)
	}
	return value
}

const (
	gramBits = 8*MinValue - 1
	gramMask = 1<<(gramBits+1) - 1
	anyCase  = 0x2020202020202020
	spread   = 0x9e3779b97f4a7c15
)

// gram returns the first MinValue bytes of b regardless of letter case.
func gram(b []byte) uint64 {
	var eight [8]byte
	copy(eight[:], b)
	return (binary.LittleEndian.Uint64(eight[:]) | anyCase) & gramMask
}

// next returns where the next long value begins in b at or behind i, and its
// length; n is zero when there is none. Whether it is a word of its own is
// another question.
func (s *Set) next(b []byte, i int) (at, n int) {
	if s == nil || len(s.long) == 0 {
		return len(b), 0
	}
	for ; i+8 <= len(b); i++ {
		g := (binary.LittleEndian.Uint64(b[i:]) | anyCase) & gramMask
		h := g * spread >> s.shift
		if s.filter[h/64]&(1<<(h%64)) == 0 {
			continue
		}
		if n := s.valueAt(b[i:], g); n > 0 {
			return i, n
		}
	}
	for ; i+MinValue <= len(b); i++ {
		if n := s.valueAt(b[i:], gram(b[i:])); n > 0 {
			return i, n
		}
	}
	return len(b), 0
}

// valueAt returns the length of the longest value that b begins with.
func (s *Set) valueAt(b []byte, g uint64) int {
	for _, n := range s.grams[g] {
		if n > len(b) {
			continue
		}
		if s.long[string(b[:n])] {
			return n
		}
		if len(s.folded) > 0 && bytes.IndexByte(b[:n], '@') > 0 && s.folded[strings.ToLower(string(b[:n]))] {
			return n
		}
	}
	return 0
}

// In reports whether a long value of the set stands in b as a word of its own,
// or may stand there escaped. It is the quick look before JSON, which decides.
func (s *Set) In(b []byte) bool {
	return s.Stands(b) || s != nil && len(s.long) > 0 && bytes.Contains(b, []byte(`\u`))
}

// Stands reports whether a long value of the set stands in b, whatever b is, as
// a word of its own.
func (s *Set) Stands(b []byte) bool {
	for i := 0; ; {
		at, n := s.next(b, i)
		if n == 0 {
			return false
		}
		if alone(b, at, n) {
			return true
		}
		i = at + 1
	}
}

// alone reports whether what stands at a place in a text is no part of a longer
// word or address.
func alone(b []byte, at, n int) bool {
	if at > 0 && (inWord(b[at-1]) || strings.IndexByte(".+%", b[at-1]) >= 0) {
		return false
	}
	if end := at + n; end < len(b) {
		return !inWord(b[end]) && (b[end] != '.' || end+1 == len(b) || !inWord(b[end+1]))
	}
	return true
}

func inWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-' || c >= 0x80
}

// Text returns a text without the values of the set.
func (s *Set) Text(text string) string {
	b := []byte(text)
	var out []byte
	from := 0
	for i := 0; ; {
		at, n := s.next(b, i)
		if n == 0 {
			break
		}
		if !alone(b, at, n) {
			i = at + 1
			continue
		}
		out = append(append(out, b[from:at]...), Erased...)
		i, from = at+n, at+n
	}
	if from == 0 {
		return text
	}
	return string(append(out, b[from:]...))
}

// whole reports whether a text is a value of the set and nothing else.
func (s *Set) whole(text string) bool { return s.long[fold(text)] }
