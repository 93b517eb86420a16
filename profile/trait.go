package profile

import (
	"kith/commitlog"
	"kith/kv"
)

// Trait is what was last said under one name.
type Trait struct {
	Name  string
	Value string // JSON as it was sent; empty for a trait that was removed
	// Derived says that the value was not sent but made of others.
	Derived  bool
	Time     int64 // the effective time of the record that said so, in milliseconds
	Offset   commitlog.Offset
	SourceID string
}

// Removed reports whether the trait is a tombstone.
func (t *Trait) Removed() bool { return t.Value == "" }

// over reports whether t holds when both were said of one profile. It is an
// order over all that can be said under a name, so that the sequence in which
// things are learned, merges among them, does not matter. Of two keys of the
// same name in one call it is the later.
func (t *Trait) over(other *Trait) bool {
	switch {
	case t.Derived != other.Derived:
		return other.Derived
	case t.Time != other.Time:
		return t.Time > other.Time
	}
	return t.Offset >= other.Offset
}

// size is about what the trait takes in a page.
func (t *Trait) size() int { return len(t.Name) + len(t.Value) + 16 }

// The flags of a stored trait.
const (
	flagRemoved = 1
	flagDerived = 2
)

// encodePage writes a page: how many pages there are (as a power of two) and
// how large they are together, both only meant in page 0, then the ids of the
// sources and the traits in the order of their names.
func encodePage(depth uint8, bytes int, traits []Trait) kv.Value {
	size := 16
	var sources []string
	numbers := make([]int, len(traits))
	for i := range traits {
		size += traits[i].size()
		n := 0
		for n < len(sources) && sources[n] != traits[i].SourceID {
			n++
		}
		if n == len(sources) {
			sources = append(sources, traits[i].SourceID)
			size += len(traits[i].SourceID) + 1
		}
		numbers[i] = n
	}
	v := make(kv.Value, 0, size).Byte(pageFormat).Byte(depth).Uvarint(uint64(bytes)).Uvarint(uint64(len(sources)))
	for _, s := range sources {
		v = v.String(s)
	}
	v = v.Uvarint(uint64(len(traits)))
	for i := range traits {
		t := &traits[i]
		var flags byte
		if t.Removed() {
			flags |= flagRemoved
		}
		if t.Derived {
			flags |= flagDerived
		}
		v = v.String(t.Name).Byte(flags).Varint(t.Time).Uvarint(uint64(t.Offset)).Uvarint(uint64(numbers[i]))
		if !t.Removed() {
			v = v.String(t.Value)
		}
	}
	return v
}

func decodePage(value []byte) (depth uint8, bytes int, traits []Trait, err error) {
	f := kv.FieldsOf(value)
	if f.Byte() != pageFormat {
		return 0, 0, nil, errStored
	}
	depth = f.Byte()
	bytes = f.Count(1 << 40)
	sources := make([]string, f.Count(len(value)))
	for i := range sources {
		sources[i] = f.String()
	}
	traits = make([]Trait, f.Count(len(value)))
	for i := range traits {
		t := &traits[i]
		t.Name = f.String()
		flags := f.Byte()
		t.Derived = flags&flagDerived != 0
		t.Time, t.Offset = f.Varint(), commitlog.Offset(f.Uvarint())
		if n := f.Uvarint(); n < uint64(len(sources)) {
			t.SourceID = sources[n]
		} else {
			f.Fail()
		}
		if flags&flagRemoved == 0 {
			if t.Value = f.String(); t.Value == "" {
				f.Fail()
			}
		}
	}
	if !f.OK() || depth > maxDepth {
		return 0, 0, nil, errStored
	}
	return depth, bytes, traits, nil
}
