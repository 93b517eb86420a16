package kv

import (
	"bytes"
	"encoding/binary"
)

// The scopes, the first byte of every key.
const (
	scopeEpoch     = 'e' // derived state of a space, by epoch
	scopeSpace     = 's' // a space's logs, verdicts, what was told
	scopeWorkspace = 'w' // configuration, jobs, destinations' delivery
)

// Key builds a key, part by part. Parts sort as their values do, and a part
// never runs into the next, so that prefixes of parts are prefixes of ranges.
// Every method appends in place, as append does.
type Key []byte

// WorkspaceKey starts a key that belongs to no space.
func WorkspaceKey(room byte) Key { return Key{scopeWorkspace, room} }

// SpaceKey starts a key of a space that is under no epoch.
func SpaceKey(space uint32, room byte) Key {
	k := make(Key, 0, 48)
	k = append(k, scopeSpace)
	return append(binary.BigEndian.AppendUint32(k, space), room)
}

// EpochKey starts a key of a space's derived state.
func EpochKey(space, epoch uint32, room byte) Key {
	k := make(Key, 0, 64)
	k = append(k, scopeEpoch)
	k = binary.BigEndian.AppendUint32(k, space)
	k = binary.BigEndian.AppendUint32(k, epoch)
	return append(k, room)
}

// SpaceRange returns the two ranges that hold all of a space.
func SpaceRange(space uint32) [2]Range {
	return [2]Range{
		Prefix(binary.BigEndian.AppendUint32([]byte{scopeSpace}, space)),
		Prefix(binary.BigEndian.AppendUint32([]byte{scopeEpoch}, space)),
	}
}

// EpochRange returns the range that holds all of a space's derived state in one
// epoch.
func EpochRange(space, epoch uint32) Range {
	return Prefix(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte{scopeEpoch}, space), epoch))
}

// InEpoch returns the key that a key of a space's derived state has in another
// epoch.
func InEpoch(key []byte, epoch uint32) Key {
	k := append(make(Key, 0, len(key)), key...)
	binary.BigEndian.PutUint32(k[5:], epoch)
	return k
}

// Clone returns a copy with room to grow, so that two keys can be built from
// one stem.
func (k Key) Clone() Key { return append(make(Key, 0, len(k)+40), k...) }

// Byte appends one byte.
func (k Key) Byte(b byte) Key { return append(k, b) }

// Uint32 appends v, big-endian.
func (k Key) Uint32(v uint32) Key { return binary.BigEndian.AppendUint32(k, v) }

// Uint64 appends v, big-endian.
func (k Key) Uint64(v uint64) Key { return binary.BigEndian.AppendUint64(k, v) }

// Int64 appends v so that negative values sort before positive ones.
func (k Key) Int64(v int64) Key { return k.Uint64(uint64(v) ^ 1<<63) }

// Fixed appends bytes of a length the reader of the key knows.
func (k Key) Fixed(b []byte) Key { return append(k, b...) }

// String appends s in a form that ends itself: a zero byte becomes 00 FF and
// the end is 00 01, so that "a" sorts before "a\x00" and before "ab".
func (k Key) String(s string) Key {
	for i := range len(s) {
		k = append(k, s[i])
		if s[i] == 0 {
			k = append(k, 0xff)
		}
	}
	return append(k, 0, 1)
}

// Parts reads the parts of a key back, in the order in which they were
// appended. After a part that is not there OK is false and every part is zero.
type Parts struct {
	rest []byte
	bad  bool
}

// PartsAfter reads the parts of key that follow stem.
func PartsAfter(key []byte, stem Key) Parts {
	if !bytes.HasPrefix(key, stem) {
		return Parts{bad: true}
	}
	return Parts{rest: key[len(stem):]}
}

// OK reports whether every part asked for was there.
func (p *Parts) OK() bool { return !p.bad }

// Rest returns the bytes not read yet.
func (p *Parts) Rest() []byte { return p.rest }

// Fixed reads n bytes. The slice points into the key.
func (p *Parts) Fixed(n int) []byte {
	if p.bad || len(p.rest) < n {
		p.bad, p.rest = true, nil
		return make([]byte, n)
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

// Byte reads one byte.
func (p *Parts) Byte() byte { return p.Fixed(1)[0] }

// Uint32 reads what Key.Uint32 wrote.
func (p *Parts) Uint32() uint32 { return binary.BigEndian.Uint32(p.Fixed(4)) }

// Uint64 reads what Key.Uint64 wrote.
func (p *Parts) Uint64() uint64 { return binary.BigEndian.Uint64(p.Fixed(8)) }

// Int64 reads what Key.Int64 wrote.
func (p *Parts) Int64() int64 { return int64(p.Uint64() ^ 1<<63) }

// String reads what Key.String wrote.
func (p *Parts) String() string {
	var s []byte
	for i := 0; i+1 < len(p.rest); i++ {
		if p.rest[i] != 0 {
			s = append(s, p.rest[i])
			continue
		}
		i++
		switch p.rest[i] {
		case 0xff:
			s = append(s, 0)
		case 1:
			p.rest = p.rest[i+1:]
			return string(s)
		default:
			i = len(p.rest)
		}
	}
	p.bad, p.rest = true, nil
	return ""
}

// PrefixEnd returns the first key after all keys that begin with p, or nil
// when there is none.
func PrefixEnd(p []byte) []byte {
	end := bytes.Clone(p)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}
