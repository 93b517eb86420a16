package event

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"slices"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"kith/fault"
)

// MaxDepth is how deep the objects and arrays of an event may nest. Every
// reader behind may therefore recurse.
const MaxDepth = 200

// fewKeys is how many keys of one object CheckJSON compares with each other.
// Objects that have more are left to LastWins, which needs no comparing.
const fewKeys = 64

// CheckJSON reports whether b is one JSON value (RFC 8259) that nests no
// deeper than MaxDepth; if not, the error is fault.Invalid and says where and
// why. It uses neither recursion nor memory that grows with what it reads.
//
// With no error, repeated says whether some object may hold a key twice. It is
// never false when one does; it may be true when none does. LastWins settles
// such values.
//
// Bytes that are not UTF-8 are not looked for; see ValidUTF8.
func CheckJSON(b []byte) (repeated bool, err error) {
	c := checker{b: b, seed: maphash.MakeSeed()}
	if at, why := c.value(); why != "" {
		return false, fault.New(fault.Invalid, "not valid JSON at byte %d: %s", at, why)
	}
	return c.repeated, nil
}

// checker reads one JSON value from its beginning to its end. What it keeps of
// the objects that are open lies on the stack of value.
type checker struct {
	b        []byte
	seed     maphash.Seed
	repeated bool
}

// value reads the value and what surrounds it. It returns what is wrong and at
// which byte, or the empty string.
func (c *checker) value() (at int, why string) {
	const array = -1
	var (
		levels [MaxDepth]int32 // of each that is open: array, or where in hashes the keys of the object begin
		store  [128]uint32     // what hashes lies in, mostly
		hashes = store[:0]     // of the keys of the open objects, outermost first
	)
	b, i, depth := c.b, 0, 0
	for {
		// Here a value begins.
		if i = skipSpace(b, i); i == len(b) {
			return i, "it ends where a value should be"
		}
		switch ch := b[i]; {
		case ch == '"':
			if i, why = skipString(b, i+1); why != "" {
				return i, why
			}
		case ch == '{' || ch == '[':
			if depth == MaxDepth {
				return i, "it nests too deep"
			}
			object := ch == '{'
			if i = skipSpace(b, i+1); i < len(b) && (object && b[i] == '}' || !object && b[i] == ']') {
				i++
				break
			}
			levels[depth] = array
			if object {
				levels[depth] = int32(len(hashes))
				if hashes, i, why = c.key(hashes, len(hashes), i); why != "" {
					return i, why
				}
			}
			depth++
			continue
		case ch == '-' || ch >= '0' && ch <= '9':
			if i, why = skipNumber(b, i); why != "" {
				return i, why
			}
		case bytes.HasPrefix(b[i:], []byte("true")), bytes.HasPrefix(b[i:], []byte("null")):
			i += 4
		case bytes.HasPrefix(b[i:], []byte("false")):
			i += 5
		default:
			return i, "no value begins like this"
		}

		// Here a value has ended, and perhaps the ones around it.
		for more := false; !more; {
			i = skipSpace(b, i)
			if depth == 0 {
				if i < len(b) {
					return i, "something follows the value"
				}
				return i, ""
			}
			keys := int(levels[depth-1])
			switch {
			case i == len(b):
				return i, "an object or array is not closed"
			case b[i] == ',':
				if i++; keys != array {
					if hashes, i, why = c.key(hashes, keys, skipSpace(b, i)); why != "" {
						return i, why
					}
				}
				more = true
			case keys != array && b[i] == '}':
				hashes = hashes[:keys]
				depth--
				i++
			case keys == array && b[i] == ']':
				depth--
				i++
			default:
				return i, "want a comma or the end of the object or array"
			}
		}
	}
}

// key reads the key at i and its colon. The keys of its object begin at keys in
// hashes; that of this one is added.
func (c *checker) key(hashes []uint32, keys, i int) (_ []uint32, end int, why string) {
	b := c.b
	if i == len(b) || b[i] != '"' {
		return hashes, i, "want a key in double quotes"
	}
	end, why = skipString(b, i+1)
	if why != "" {
		return hashes, end, why
	}
	if !c.repeated {
		name := b[i+1 : end-1]
		hash := uint32(maphash.Bytes(c.seed, name))
		mine := hashes[keys:]
		// An escape may hide any character: "\u0061" is "a".
		c.repeated = len(mine) == fewKeys || slices.Contains(mine, hash) || bytes.IndexByte(name, '\\') >= 0
		hashes = append(hashes, hash)
	}
	end = skipSpace(b, end)
	if end == len(b) || b[end] != ':' {
		return hashes, end, "want a colon"
	}
	return hashes, end + 1, ""
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipString returns the index behind a string whose first character is at i.
func skipString(b []byte, i int) (end int, why string) {
	for {
		// Eight at a time, up to a quote, a backslash or a control character.
		for i+8 <= len(b) {
			const ones, tops = 0x0101010101010101, 0x8080808080808080
			w := binary.LittleEndian.Uint64(b[i:])
			quote, slash := w^ones*'"', w^ones*'\\'
			stop := ((w-ones*' ') & ^w | (quote-ones) & ^quote | (slash-ones) & ^slash) & tops
			if stop != 0 {
				i += bits.TrailingZeros64(stop) / 8
				break
			}
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= ' ' {
			i++
		}
		switch {
		case i == len(b):
			return i, "a string is not closed"
		case b[i] == '"':
			return i + 1, ""
		case b[i] < ' ':
			return i, "a control character in a string must be escaped"
		case i+1 == len(b):
			return i, "a string is not closed"
		}
		switch b[i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i += 2
		case 'u':
			if i+6 > len(b) || !hex(b[i+2]) || !hex(b[i+3]) || !hex(b[i+4]) || !hex(b[i+5]) {
				return i, `want four hex digits after \u`
			}
			i += 6
		default:
			return i, "no such escape in JSON"
		}
	}
}

func hex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func skipNumber(b []byte, i int) (end int, why string) {
	if b[i] == '-' {
		i++
	}
	var n int
	switch {
	case i < len(b) && b[i] == '0':
		i++
	default:
		if i, n = skipDigits(b, i); n == 0 {
			return i, "want a digit"
		}
	}
	if i < len(b) && b[i] == '.' {
		if i, n = skipDigits(b, i+1); n == 0 {
			return i, "want a digit after the decimal point"
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if i, n = skipDigits(b, i); n == 0 {
			return i, "want a digit in the exponent"
		}
	}
	return i, ""
}

func skipDigits(b []byte, i int) (end, n int) {
	for end = i; end < len(b) && b[end] >= '0' && b[end] <= '9'; end++ {
	}
	return end, end - i
}

// LastWins removes from a JSON value, at every level, the members of an object
// whose key comes again later, so that all readers see what JSON.parse sees.
// b must have passed CheckJSON. It is returned as it is when nothing is
// repeated; otherwise the result is new.
func LastWins(b []byte) []byte {
	type object struct {
		last map[string]int // a key's last place among the members
		at   []int          // where each member's key begins
	}
	type span struct{ from, to int }
	var open []*object // nil for an array
	var dead []span
	key := false // the next string is a key
	for i := 0; i < len(b); {
		switch b[i] {
		case '{':
			open, key = append(open, &object{last: map[string]int{}}), true
		case '[':
			open, key = append(open, nil), false
		case '}', ']':
			open, key = open[:len(open)-1], false
		case ',':
			key = open[len(open)-1] != nil
		case '"':
			end, _ := skipString(b, i+1)
			if key {
				o := open[len(open)-1]
				name := gjson.ParseBytes(b[i:end]).Str
				o.at = append(o.at, i)
				if n, ok := o.last[name]; ok {
					// The earlier member goes as far as the next one's key,
					// the comma between them included; there is a next one.
					dead = append(dead, span{o.at[n], o.at[n+1]})
				}
				o.last[name] = len(o.at) - 1
				key = false
			}
			i = end
			continue
		}
		i++
	}
	if len(dead) == 0 {
		return b
	}
	slices.SortFunc(dead, func(x, y span) int { return x.from - y.from })
	out, from := make([]byte, 0, len(b)), 0
	for _, d := range dead {
		if d.from > from {
			out = append(out, b[from:d.from]...)
		}
		from = max(from, d.to)
	}
	return append(out, b[from:]...)
}

// ValidUTF8 returns b with every run of bytes that are not UTF-8 replaced by
// one U+FFFD, and b itself when there is none.
func ValidUTF8(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	return bytes.ToValidUTF8(b, []byte("\uFFFD"))
}
