package kv

import (
	"encoding/binary"
)

// Value builds a stored value, field by field; it is the counterpart of Key
// for what need not sort. The first field of every stored value is its format
// byte.
type Value []byte

// Byte appends one byte.
func (v Value) Byte(b byte) Value { return append(v, b) }

// Fixed appends bytes of a length the reader knows.
func (v Value) Fixed(b []byte) Value { return append(v, b...) }

// Uvarint appends an unsigned number.
func (v Value) Uvarint(n uint64) Value { return binary.AppendUvarint(v, n) }

// Varint appends a signed number.
func (v Value) Varint(n int64) Value { return binary.AppendVarint(v, n) }

// String appends a string and its length.
func (v Value) String(s string) Value { return append(v.Uvarint(uint64(len(s))), s...) }

// Bytes appends bytes and their length.
func (v Value) Bytes(b []byte) Value { return append(v.Uvarint(uint64(len(b))), b...) }

// Fields reads a value back, in the order in which it was built. After a read
// beyond the end OK is false and everything read is zero, so that a whole
// value can be read before asking once.
type Fields struct {
	rest []byte
	bad  bool
}

// FieldsOf reads b. What Fixed and Bytes return points into it.
func FieldsOf(b []byte) Fields { return Fields{rest: b} }

// OK reports whether everything asked for was there.
func (f *Fields) OK() bool { return !f.bad }

// Fail marks the value as damaged, for a reader that finds nonsense.
func (f *Fields) Fail() { f.bad, f.rest = true, nil }

// Rest returns the bytes not read yet.
func (f *Fields) Rest() []byte { return f.rest }

// Fixed reads n bytes, or returns nil.
func (f *Fields) Fixed(n int) []byte {
	if n > len(f.rest) {
		f.Fail()
		return nil
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}

// Byte reads one byte.
func (f *Fields) Byte() byte {
	if b := f.Fixed(1); b != nil {
		return b[0]
	}
	return 0
}

// Uvarint reads an unsigned number.
func (f *Fields) Uvarint() uint64 {
	n, size := binary.Uvarint(f.rest)
	if size <= 0 {
		f.Fail()
		return 0
	}
	f.rest = f.rest[size:]
	return n
}

// Varint reads a signed number.
func (f *Fields) Varint() int64 {
	n, size := binary.Varint(f.rest)
	if size <= 0 {
		f.Fail()
		return 0
	}
	f.rest = f.rest[size:]
	return n
}

// Count reads a number of things of which there cannot be more than limit,
// which keeps a damaged value from asking for memory.
func (f *Fields) Count(limit int) int {
	n := f.Uvarint()
	if n > uint64(limit) {
		f.Fail()
		return 0
	}
	return int(n)
}

// Bytes reads what Value.Bytes wrote, or returns nil.
func (f *Fields) Bytes() []byte { return f.Fixed(f.Count(len(f.rest))) }

// String reads what Value.String wrote.
func (f *Fields) String() string { return string(f.Bytes()) }
