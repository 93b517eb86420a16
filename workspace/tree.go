package workspace

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"kith/fault"
)

// node is one value of a workspace file, between YAML, JSON and the types. It
// keeps numbers as the text they were written as, and knows its line.
type node struct {
	kind   kind
	text   string // texts, numbers and booleans
	list   []*node
	fields []field
	line   int // 0: not from a file
}

type field struct {
	name  string
	value *node
}

type kind uint8

const (
	isNull kind = iota
	isText
	isNumber
	isFlag
	isList
	isObject
)

var kindNames = [...]string{"nothing", "a text", "a number", "true or false", "a list", "an object"}

func textNode(s string) *node         { return &node{kind: isText, text: s} }
func numberNode(n int) *node          { return &node{kind: isNumber, text: strconv.Itoa(n)} }
func listNode(l []*node) *node        { return &node{kind: isList, list: l} }
func objectNode() *node               { return &node{kind: isObject} }
func (n *node) empty() bool           { return len(n.list)+len(n.fields) == 0 }
func (n *node) set(s string, v *node) { n.fields = append(n.fields, field{s, v}) }

func flagNode(b bool) *node { return &node{kind: isFlag, text: strconv.FormatBool(b)} }

func textNodes(texts []string) *node {
	n := listNode(nil)
	for _, t := range texts {
		n.list = append(n.list, textNode(t))
	}
	return n
}

// get returns the value of a name, or nil.
func (n *node) get(name string) *node {
	for _, f := range n.fields {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// jsonNode reads a raw document, with sorted names. Nothing gives null.
func jsonNode(doc json.RawMessage) *node {
	if len(bytes.TrimSpace(doc)) == 0 {
		return &node{}
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return textNode(string(doc))
	}
	return anyNode(v)
}

func anyNode(v any) *node {
	switch v := v.(type) {
	case string:
		return textNode(v)
	case json.Number:
		return &node{kind: isNumber, text: v.String()}
	case bool:
		return flagNode(v)
	case []any:
		n := listNode(nil)
		for _, item := range v {
			n.list = append(n.list, anyNode(item))
		}
		return n
	case map[string]any:
		n := objectNode()
		for _, name := range slices.Sorted(maps.Keys(v)) {
			n.set(name, anyNode(v[name]))
		}
		return n
	}
	return &node{}
}

// json writes the node as a JSON document; texts are passed through fn.
func (n *node) json(fn func(*node) (string, error)) (json.RawMessage, error) {
	var b bytes.Buffer
	err := n.appendJSON(&b, fn)
	return b.Bytes(), err
}

func (n *node) appendJSON(b *bytes.Buffer, fn func(*node) (string, error)) error {
	switch n.kind {
	case isNull:
		b.WriteString("null")
	case isNumber, isFlag:
		b.WriteString(n.text)
	case isText:
		text, err := fn(n)
		if err != nil {
			return err
		}
		return writeJSONText(b, text)
	case isList:
		b.WriteByte('[')
		for i, item := range n.list {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := item.appendJSON(b, fn); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case isObject:
		b.WriteByte('{')
		for i, f := range n.fields {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeJSONText(b, f.name); err != nil {
				return err
			}
			b.WriteByte(':')
			if err := f.value.appendJSON(b, fn); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	}
	return nil
}

func writeJSONText(b *bytes.Buffer, s string) error {
	doc, err := marshal(s)
	b.Write(doc)
	return err
}

func verbatim(n *node) (string, error) { return n.text, nil }

// object reads the fields of one object of a file and notes what is wrong.
type object struct {
	p    *problems
	path string
	n    *node
	used map[string]bool
}

func (o *object) bad(name string, n *node, format string, args ...any) {
	at := o.path
	if name != "" {
		at = join(o.path, name)
	}
	line := o.n.line
	if n != nil && n.line > 0 {
		line = n.line
	}
	o.p.add(at, "line "+decimal(line)+": "+format, args...)
}

// field returns the value of a name if it is there and of that kind.
func (o *object) field(name string, want kind) *node {
	o.used[name] = true
	n := o.n.get(name)
	if n == nil || n.kind == isNull {
		return nil
	}
	if n.kind != want {
		o.bad(name, n, "want %s, not %s", kindNames[want], kindNames[n.kind])
		return nil
	}
	return n
}

func (o *object) textOr(name, otherwise string) string {
	if n := o.field(name, isText); n != nil {
		return n.text
	}
	return otherwise
}

func (o *object) must(name string) string {
	n := o.field(name, isText)
	if n == nil {
		if v := o.n.get(name); v == nil || v.kind == isNull {
			o.bad(name, nil, "%s is missing", name)
		}
		return ""
	}
	return n.text
}

func (o *object) flagOr(name string, otherwise bool) bool {
	if n := o.field(name, isFlag); n != nil {
		return n.text == "true"
	}
	return otherwise
}

func (o *object) numberOr(name string, otherwise int) int {
	n := o.field(name, isNumber)
	if n == nil {
		return otherwise
	}
	v, err := strconv.Atoi(n.text)
	if err != nil {
		o.bad(name, n, "want a whole number, not %s", n.text)
	}
	return v
}

func (o *object) texts(name string) []string {
	n := o.field(name, isList)
	if n == nil {
		return nil
	}
	var out []string
	for i, item := range n.list {
		if item.kind != isText {
			o.bad(name+"."+decimal(i), item, "want a text, not %s: put quotes around it", kindNames[item.kind])
			continue
		}
		out = append(out, item.text)
	}
	return out
}

// raw returns a document as JSON.
func (o *object) raw(name string) json.RawMessage {
	n := o.field(name, isObject)
	if n == nil {
		return nil
	}
	doc, err := n.json(verbatim)
	if err != nil {
		o.bad(name, n, "%v", err)
	}
	return doc
}

// within reads the object of a name, an empty one if there is none.
func (o *object) within(name string, fn func(*object)) {
	n := o.field(name, isObject)
	if n == nil {
		n = &node{kind: isObject, line: o.n.line}
	}
	in := &object{p: o.p, path: join(o.path, name), n: n, used: map[string]bool{}}
	fn(in)
	in.done()
}

// each reads a list of objects; it reports whether the list is there.
func (o *object) each(name string, fn func(*object)) bool {
	n := o.field(name, isList)
	if n == nil {
		return false
	}
	for i, item := range n.list {
		if item.kind != isObject {
			o.bad(name+"."+decimal(i), item, "want an object, not %s", kindNames[item.kind])
			continue
		}
		in := &object{p: o.p, path: join(o.path, name+"."+decimal(i)), n: item, used: map[string]bool{}}
		fn(in)
		in.done()
	}
	return true
}

// done complains about names that nobody asked for.
func (o *object) done() {
	for _, f := range o.n.fields {
		if !o.used[f.name] {
			o.bad(f.name, f.value, "there is no field %q here; there are: %s", f.name, joinSorted(o.used))
		}
	}
}

func joinSorted(set map[string]bool) string {
	var b bytes.Buffer
	for i, name := range slices.Sorted(maps.Keys(set)) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(name)
	}
	return b.String()
}

// lineError is an error at a line of a file.
func lineError(at string, line int, format string, args ...any) error {
	return fault.Field(at, "line "+decimal(line)+": "+format, args...)
}
