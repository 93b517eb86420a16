package query

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// Value is one JSON value that is there, or a count: what conditions compare.
// Its text is kept as it was sent.
type Value struct {
	kind   valueKind
	text   string
	number decimal // of numbers
	at     int64   // of date literals, in milliseconds since 1970
}

type valueKind uint8

const (
	kindText   valueKind = iota // strings; objects and arrays as their JSON
	kindNumber                  // JSON numbers, counts, number literals
	kindBool
	kindDate // date literals
)

// Text returns a string value.
func Text(s string) Value { return Value{kind: kindText, text: s} }

// Bool returns a truth value, which is equal to the strings 'true' and 'false'.
func Bool(b bool) Value { return Value{kind: kindBool, text: strconv.FormatBool(b)} }

// Int returns a number.
func Int(n int64) Value { return number(strconv.FormatInt(n, 10)) }

func number(text string) Value {
	d, _ := parseDecimal(text)
	return Value{kind: kindNumber, text: text, number: d}
}

// FromJSON returns the value of a JSON result; null and nothing are not ok.
func FromJSON(r gjson.Result) (v Value, ok bool) {
	switch r.Type {
	case gjson.String:
		return Text(r.Str), true
	case gjson.Number:
		return number(r.Raw), true
	case gjson.True, gjson.False:
		return Bool(r.Type == gjson.True), true
	case gjson.JSON:
		return Text(r.Raw), true
	}
	return Value{}, false
}

// Path is a name taken apart at its dots. The element "$" stands for every
// element of an array.
type Path []string

// each is the path element for every element of an array.
const each = "$"

// ParsePath takes a name apart. "\." is a dot within an element and "\\" a
// backslash.
func ParsePath(name string) Path {
	var path Path
	var part strings.Builder
	for i := 0; i < len(name); i++ {
		switch {
		case name[i] == '\\' && i+1 < len(name) && (name[i+1] == '.' || name[i+1] == '\\'):
			i++
			part.WriteByte(name[i])
		case name[i] == '.':
			path = append(path, part.String())
			part.Reset()
		default:
			part.WriteByte(name[i])
		}
	}
	return append(path, part.String())
}

// Values appends to dst what the path leads to in a JSON document: nothing when
// it leads nowhere or to null, one value, or with "$" one for each element.
func (path Path) Values(dst []Value, doc gjson.Result) []Value {
	for i, name := range path {
		switch {
		case name == each && doc.IsArray():
			rest := path[i+1:]
			doc.ForEach(func(_, element gjson.Result) bool {
				dst = rest.Values(dst, element)
				return true
			})
			return dst
		case !doc.IsObject():
			return dst
		}
		doc = member(doc, name)
	}
	if v, ok := FromJSON(doc); ok {
		dst = append(dst, v)
	}
	return dst
}

// member returns an object's member. gjson's own paths give meaning to many
// characters; plain names take the fast way.
func member(doc gjson.Result, name string) gjson.Result {
	plain := name != ""
	for i := range len(name) {
		if c := name[i]; !(c == '_' || c == ' ' || c == '-' && i > 0 || isLetter(rune(c)) || isDigit(rune(c))) {
			plain = false
			break
		}
	}
	if plain {
		return doc.Get(name)
	}
	var found gjson.Result
	doc.ForEach(func(key, value gjson.Result) bool {
		if key.Str != name {
			return true
		}
		found = value
		return false
	})
	return found
}

// asNumber returns the number that v is, or that its string is the text of.
func (v *Value) asNumber() (decimal, bool) {
	switch v.kind {
	case kindNumber:
		return v.number, true
	case kindText:
		return parseDecimal(v.text)
	}
	return decimal{}, false
}

// asDate returns the instant that v is, or that its string is the text of.
func (v *Value) asDate() (int64, bool) {
	switch v.kind {
	case kindDate:
		return v.at, true
	case kindText:
		return parseDate(v.text)
	}
	return 0, false
}

var dateLayouts = []string{"2006-01-02T15:04:05.999999999", "2006-01-02T15:04"}

// parseDate reads a date or a timestamp; see the package's comment. The result
// is cut to milliseconds.
func parseDate(s string) (ms int64, ok bool) {
	if !shaped(s, "0000-00-00") || len(s) > 40 {
		return 0, false
	}
	if len(s) == 10 {
		t, err := time.Parse(time.DateOnly, s)
		return t.UnixMilli(), err == nil
	}
	if s[10] != 'T' {
		return 0, false
	}
	zone := ""
	switch i := strings.LastIndexAny(s, "Z+-"); {
	case i < 11:
	case s[i] == 'Z':
		zone = "Z"
	case len(s)-i == 6:
		zone = "-07:00"
	case len(s)-i == 5:
		zone = "-0700"
	default:
		zone = "-07"
	}
	if zone == "Z" && s[len(s)-1] != 'Z' {
		return 0, false
	}
	for _, layout := range dateLayouts {
		if zone == "Z" {
			layout += "Z"
		} else {
			layout += zone
		}
		if t, err := time.Parse(layout, s); err == nil {
			return t.UnixMilli(), true
		}
	}
	return 0, false
}

// equal reports whether two values are the same: as dates when one is a date,
// as numbers when one is a number, otherwise as text.
func equal(l, r *Value) bool {
	if l.kind == kindDate || r.kind == kindDate {
		a, ok := l.asDate()
		b, ok2 := r.asDate()
		return ok && ok2 && a == b
	}
	if l.kind == kindNumber || r.kind == kindNumber {
		a, ok := l.asNumber()
		b, ok2 := r.asNumber()
		return ok && ok2 && a.compare(b) == 0
	}
	return l.text == r.text
}

// compare orders two values: as dates when one is a date, otherwise as numbers
// when both read as such, as dates when both do, and two strings by their
// bytes. Anything else has no order.
func compare(l, r *Value) (int, bool) {
	if l.kind != kindDate && r.kind != kindDate {
		a, ok := l.asNumber()
		b, ok2 := r.asNumber()
		if ok && ok2 {
			return a.compare(b), true
		}
	}
	a, ok := l.asDate()
	b, ok2 := r.asDate()
	switch {
	case ok && ok2:
		return order(a, b), true
	case l.kind == kindText && r.kind == kindText:
		return strings.Compare(l.text, r.text), true
	}
	return 0, false
}

// Size returns the length of the value's text in bytes.
func (v Value) Size() int { return len(v.text) }

// Append appends v in a form that ReadValue reads, for whoever keeps the
// fields of events on which a filter depends.
func (v Value) Append(dst []byte) []byte {
	dst = append(dst, byte(v.kind))
	dst = binary.AppendUvarint(dst, uint64(len(v.text)))
	return append(dst, v.text...)
}

// ReadValue reads what Append wrote and returns what follows it.
func ReadValue(b []byte) (v Value, rest []byte, ok bool) {
	if len(b) == 0 || b[0] > byte(kindBool) {
		return Value{}, nil, false
	}
	kind := valueKind(b[0])
	n, size := binary.Uvarint(b[1:])
	if size <= 0 || n > uint64(len(b)-1-size) {
		return Value{}, nil, false
	}
	b = b[1+size:]
	text := string(b[:n])
	if kind == kindNumber {
		return number(text), b[n:], true
	}
	return Value{kind: kind, text: text}, b[n:], true
}
