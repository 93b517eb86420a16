package fql

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// Kind sorts the values of the language.
type Kind uint8

// The kinds of value. An object has no literal; only fields of an event have
// such values.
const (
	Null Kind = iota // JSON null, a field that is missing, or what a function makes of a value it cannot use
	Bool
	Number
	String
	List
	Object
)

var kindNames = [...]string{"null", "bool", "number", "string", "list", "object"}

// String returns the kind as typeof does: "null", "bool", "number", "string",
// "list" (Segment's filter query language, functions), and "object", on which
// Segment's documents are silent.
func (k Kind) String() string { return kindNames[k] }

// Value is a value of the language. The zero Value is null.
type Value struct {
	kind  Kind
	yes   bool
	num   float64
	text  string  // of a string its text, of a list or object of an event its JSON
	items []Value // of a list that was written down
}

// Kind returns which kind of value it is.
func (v Value) Kind() Kind { return v.kind }

// Text returns a string's text, and nothing for every other kind.
func (v Value) Text() string {
	if v.kind == String {
		return v.text
	}
	return ""
}

// JSON returns the value as JSON.
func (v Value) JSON() string {
	switch v.kind {
	case Null:
		return "null"
	case Bool:
		return strconv.FormatBool(v.yes)
	case Number:
		if math.IsInf(v.num, 0) || math.IsNaN(v.num) {
			return "null" // JSON has no such number
		}
		return numberText(v.num)
	case String:
		return quote(v.text)
	}
	if v.kind == Object || v.items == nil && v.text != "" {
		return v.text
	}
	var b strings.Builder
	b.WriteByte('[')
	for i, item := range v.items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(item.JSON())
	}
	b.WriteByte(']')
	return b.String()
}

// quote writes a text as JSON, with <, > and & as they are.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""` // a text can always be written
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func boolean(yes bool) Value     { return Value{kind: Bool, yes: yes} }
func numeral(f float64) Value    { return Value{kind: Number, num: f} }
func texts(s string) Value       { return Value{kind: String, text: s} }
func listed(items []Value) Value { return Value{kind: List, items: items} }
func (v Value) isTrue() bool     { return v.kind == Bool && v.yes }

// valueOf returns what stands in an event.
func valueOf(v gjson.Result) Value {
	switch v.Type {
	case gjson.True:
		return boolean(true)
	case gjson.False:
		return boolean(false)
	case gjson.Number:
		return numeral(v.Num)
	case gjson.String:
		return texts(v.Str)
	case gjson.JSON:
		if v.IsArray() {
			return Value{kind: List, text: v.Raw}
		}
		return Value{kind: Object, text: v.Raw}
	}
	return Value{}
}

// each calls fn with the items of a list until it returns false.
func (v Value) each(fn func(Value) bool) {
	if v.kind != List {
		return
	}
	if v.text == "" {
		for _, item := range v.items {
			if !fn(item) {
				return
			}
		}
		return
	}
	gjson.Parse(v.text).ForEach(func(_, item gjson.Result) bool { return fn(valueOf(item)) })
}

// same reports whether two values are of one kind and equal. Lists are when
// their items are, one by one; objects when they hold the same members in the
// same order, as in Segment's published matcher.
func same(a, b Value) bool {
	if a.kind != b.kind {
		return false
	}
	switch a.kind {
	case Bool:
		return a.yes == b.yes
	case Number:
		return a.num == b.num
	case String:
		return a.text == b.text
	case List:
		return sameItems(a.all(), b.all())
	case Object:
		namesA, a := members(a.text)
		namesB, b := members(b.text)
		if len(namesA) != len(namesB) {
			return false
		}
		for i := range namesA {
			if namesA[i] != namesB[i] {
				return false
			}
		}
		return sameItems(a, b)
	}
	return true
}

func sameItems(a, b []Value) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !same(a[i], b[i]) {
			return false
		}
	}
	return true
}

func (v Value) all() []Value {
	if v.text == "" {
		return v.items
	}
	var items []Value
	v.each(func(item Value) bool {
		items = append(items, item)
		return true
	})
	return items
}

func members(object string) (names []string, values []Value) {
	gjson.Parse(object).ForEach(func(key, v gjson.Result) bool {
		names, values = append(names, key.Str), append(values, valueOf(v))
		return true
	})
	return names, values
}

// kinds is a set of kinds.
type kinds uint8

const (
	aNull kinds = 1 << iota
	aBool
	aNumber
	aString
	aList
	anObject
	anything kinds = 1<<iota - 1
)

// String says in words what kinds are wanted.
func (k kinds) String() string {
	var names []string
	for kind := Bool; kind <= Object; kind++ {
		if k&(1<<kind) != 0 {
			names = append(names, "a "+kind.String())
		}
	}
	if k == aNull {
		return "null"
	}
	return strings.Replace(strings.Join(names, " or "), "a object", "an object", 1)
}
