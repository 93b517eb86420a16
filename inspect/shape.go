package inspect

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"kith/event"
)

// section is the part of an event that a property lies in. The numbers are
// stored.
type section byte

// The sections.
const (
	inProperties section = 1
	inTraits     section = 2
	inContext    section = 3
)

// sectionOf returns the section that a member of a call is: the properties of
// track, page and screen calls, the traits of identify and group calls, the
// context of all.
func sectionOf(t event.Type, member string) section {
	switch member {
	case "context":
		return inContext
	case "properties":
		if t == event.Track || t == event.Page || t == event.Screen {
			return inProperties
		}
	case "traits":
		if t == event.Identify || t == event.Group {
			return inTraits
		}
	}
	return 0
}

// jsonType is a type of JSON. The numbers are stored.
type jsonType byte

// The types.
const (
	typeString jsonType = iota
	typeNumber
	typeBoolean
	typeObject
	typeArray
	typeNull
	typeCount
)

// String returns the type in the words of JSON Schema.
func (t jsonType) String() string {
	return [...]string{"string", "number", "boolean", "object", "array", "null"}[t]
}

func typeOf(first byte) jsonType {
	switch first {
	case '"':
		return typeString
	case '{':
		return typeObject
	case '[':
		return typeArray
	case 't', 'f':
		return typeBoolean
	case 'n':
		return typeNull
	}
	return typeNumber
}

// outline writes down the shape of calls: which names they hold, how nested, of
// which types, and no values. Calls of one shape have one outline. It is made
// for speed and takes its JSON for well formed, which collect has seen to; with
// anything else it stays within the bytes it is given.
type outline struct {
	json    []byte
	shape   []byte // what is written
	version []byte // context.app.version as it stands in the JSON, if it is a string
}

// maxKinds is how many kinds of item an array may hold before the rest are
// written down each by itself.
const maxKinds = 8

// call appends the outline of a call's sections.
func (o *outline) call(t event.Type, body []byte) {
	o.json, o.version = body, nil
	i := o.space(0)
	if !o.is(i, '{') {
		return
	}
	for i++; ; i++ {
		if i = o.space(i); !o.is(i, '"') {
			return
		}
		end := o.text(i)
		name := o.cut(i+1, end-1)
		if i = o.space(end); !o.is(i, ':') {
			return
		}
		i = o.space(i + 1)
		if s := sectionOf(t, string(name)); s != 0 && o.is(i, '{') {
			o.shape = append(o.shape, byte(s))
			i = o.object(i, s == inContext, false)
		} else {
			i = o.skip(i)
		}
		if i = o.space(i); !o.is(i, ',') {
			return
		}
	}
}

func (o *outline) is(i int, c byte) bool { return i < len(o.json) && o.json[i] == c }

func (o *outline) cut(from, to int) []byte {
	to = min(max(to, 0), len(o.json))
	return o.json[min(from, to):to]
}

func (o *outline) space(i int) int {
	for i < len(o.json) && o.json[i] <= ' ' {
		i++
	}
	return i
}

// text returns the index behind the string that begins at i.
func (o *outline) text(i int) int {
	for i++; ; i++ {
		n := bytes.IndexByte(o.json[min(i, len(o.json)):], '"')
		if n < 0 {
			return len(o.json)
		}
		i += n
		slashes := 0
		for o.json[i-1-slashes] == '\\' { // stops at the quote before, at the latest
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
}

// skip returns the index behind the value that begins at i.
func (o *outline) skip(i int) int {
	if i >= len(o.json) {
		return i
	}
	switch o.json[i] {
	case '"':
		return o.text(i)
	case '{', '[':
		for depth := 0; i < len(o.json); {
			switch o.json[i] {
			case '"':
				i = o.text(i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return i
	}
	for i < len(o.json) {
		switch o.json[i] {
		case ',', '}', ']', ' ', '\n', '\r', '\t':
			return i
		}
		i++
	}
	return i
}

// object writes down the object that begins at i and returns the index behind
// it. context and app say that it is a call's context or its context.app.
func (o *outline) object(i int, context, app bool) int {
	o.shape = append(o.shape, '{')
	for i++; ; i++ {
		if i = o.space(i); !o.is(i, '"') {
			break
		}
		end := o.text(i)
		name := o.cut(i+1, end-1)
		if i = o.space(end); !o.is(i, ':') {
			break
		}
		i = o.space(i + 1)
		o.shape = binary.AppendUvarint(o.shape, uint64(len(name)))
		o.shape = append(o.shape, name...)
		if app && o.is(i, '"') && string(name) == "version" {
			o.version = o.cut(i, o.text(i))
		}
		i = o.value(i, context && string(name) == "app")
		if i = o.space(i); !o.is(i, ',') {
			break
		}
	}
	o.shape = append(o.shape, '}')
	return min(i+1, len(o.json))
}

// value writes down the value that begins at i and returns the index behind it.
func (o *outline) value(i int, app bool) int {
	if i >= len(o.json) {
		return i
	}
	t := typeOf(o.json[i])
	o.shape = append(o.shape, 'a'+byte(t))
	switch t {
	case typeObject:
		return o.object(i, false, app)
	case typeArray:
		return o.array(i)
	}
	return o.skip(i)
}

// array writes down each kind of item once, in the order in which they come.
func (o *outline) array(i int) int {
	var kinds [maxKinds + 1]int // where each begins in shape, and where the last ends
	n := 0
	kinds[0] = len(o.shape)
	for i++; ; i++ {
		if i = o.space(i); i >= len(o.json) || o.json[i] == ']' {
			break
		}
		begin := len(o.shape)
		i = o.value(i, false)
		item := o.shape[begin:]
		known := false
		for k := 0; k < n && !known; k++ {
			known = bytes.Equal(o.shape[kinds[k]:kinds[k+1]], item)
		}
		switch {
		case known:
			o.shape = o.shape[:begin]
		case n < maxKinds:
			n++
			kinds[n] = len(o.shape)
		}
		if i = o.space(i); !o.is(i, ',') {
			break
		}
	}
	o.shape = append(o.shape, ']')
	return min(i+1, len(o.json))
}

// visit calls fn with everything that a call holds in its sections, with what
// is nested: the path below the section, names joined by dots, "$" for the items
// of an array (sheet connections_protocols §3.3, "Schema page"), a dot or
// backslash in a name escaped by a backslash. What stands in an array comes once
// for each item.
func visit(t event.Type, body []byte, fn func(s section, path string, v gjson.Result)) {
	gjson.ParseBytes(body).ForEach(func(name, v gjson.Result) bool {
		if s := sectionOf(t, name.Str); s != 0 && v.IsObject() {
			visitMembers(s, "", v, fn)
		}
		return true
	})
}

func visitMembers(s section, above string, v gjson.Result, fn func(s section, path string, v gjson.Result)) {
	v.ForEach(func(name, v gjson.Result) bool {
		visitValue(s, above+escapeName(name.Str), v, fn)
		return true
	})
}

func visitValue(s section, path string, v gjson.Result, fn func(s section, path string, v gjson.Result)) {
	if v.Raw == "" {
		return
	}
	fn(s, path, v)
	switch {
	case v.IsObject():
		visitMembers(s, path+".", v, fn)
	case v.IsArray():
		v.ForEach(func(_, item gjson.Result) bool {
			visitValue(s, path+".$", item, fn)
			return true
		})
	}
}

func escapeName(name string) string {
	if !strings.ContainsAny(name, `.\`) {
		return name
	}
	return strings.NewReplacer(`\`, `\\`, `.`, `\.`).Replace(name)
}

// What is kept of the values of a property.
const (
	maxSamples     = 5   // a day
	maxSampleBytes = 120 // of one; what is longer is cut and ends in "…"
)

// sampleOf returns a value as a sample; objects, arrays, null and the empty
// string are none.
func sampleOf(v gjson.Result) (string, bool) {
	if v.Type == gjson.Null || v.Type == gjson.JSON {
		return "", false
	}
	text := v.String()
	if v.Type == gjson.Number {
		text = v.Raw
	}
	if len(text) > maxSampleBytes {
		n := maxSampleBytes
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n] + "…"
	}
	return strings.Clone(text), text != "" // holds on to no event
}
