package fql

import (
	"strings"

	"github.com/tidwall/gjson"
)

// Bounds of an expression.
const (
	// MaxBytes is the longest expression that is read (sheet
	// connections_protocols §3.4).
	MaxBytes = 5 << 10
	// MaxDepth is how deep parentheses, negations and functions may nest.
	MaxDepth = 50
)

// Expr is a compiled expression of Segment's filter query language. It is never
// changed and safe for concurrent use. To evaluate it cannot fail: what the
// language has no answer for is null, and a condition that is null is false.
type Expr struct {
	src  string
	root *node
}

// Parse compiles a condition: an expression that is true or false, or the word
// all, which is always true. Errors are fault.Invalid and begin with the number
// of the character at which the expression cannot be read. The language, after
// Segment's documents (public-api/fql, sheet connections_protocols §3.4):
//
//	fields     userId, context.library.name, properties.products.0.sku: a path
//	           into the event. Anything in a name but A-Z a-z 0-9 _ - wants a
//	           \ before it. A field that is missing is null
//	values     'text' or "text" (no escapes within), 19, -0.5, true, false,
//	           null, ['a', 1]
//	compare    = != for all values: equal are values of one kind that are the
//	           same. < <= > >= for numbers. in for a value and a list
//	joining    and, or, !, parentheses. and binds closer than or
//	functions  contains(s, sub) match(s, pattern) length(s) lowercase(s)
//	           uppercase(s) snakecase(s) kebabcase(s) titlecase(s) typeof(v)
//	           bool(v) string(v) number(v) semver(v, '>=', v)
//
// A function that gets a value of a wrong kind at evaluation is null, and
// contains, match, semver, in and < <= > >= are false; length of null is 0 and
// typeof of null is 'null'. Where the text alone shows that a value is of a
// wrong kind, that is an error.
func Parse(src string) (*Expr, error) {
	e, err := ParseValue(src)
	if err != nil {
		return nil, err
	}
	if e.root.kinds()&aBool == 0 {
		return nil, failAt(src, e.root.at, "%s is no condition: it is %s; compare it with something", e.root.phrase(), e.root.kinds())
	}
	return e, nil
}

// ParseValue is Parse for an expression that may be a value of any kind, as
// those by which Segment's transformations define new properties.
func ParseValue(src string) (*Expr, error) {
	root, err := parseExpr(src)
	if err != nil {
		return nil, err
	}
	return &Expr{src: src, root: root}, nil
}

// Source returns the expression as it was written.
func (e *Expr) Source() string { return e.src }

// String returns the expression in its one canonical form, which reads as the
// same expression.
func (e *Expr) String() string {
	var b strings.Builder
	e.root.print(&b)
	return b.String()
}

// Match reports whether the condition is true of an event. body is the event's
// JSON object; in an object that has a name twice the first counts. Bytes that
// are no JSON are no event: all its fields are null or nonsense, and nothing
// worse comes of it.
func (e *Expr) Match(body []byte) bool {
	var d Document
	d.read(body)
	return e.root.eval(&d).isTrue()
}

// Value returns what the expression is for an event.
func (e *Expr) Value(body []byte) Value {
	var d Document
	d.read(body)
	return e.root.eval(&d)
}

// MatchDocument is Match for many expressions that are asked of one event.
func (e *Expr) MatchDocument(d *Document) bool { return e.root.eval(d).isTrue() }

// documentFields is how many of an event's fields a Document keeps at hand.
// Segment's calls have up to 17 (sheet connections_protocols §1.2).
const documentFields = 24

// Document is an event that was read once and may be asked often. It is not
// changed by that, and safe for concurrent use.
type Document struct {
	body   string
	fields [documentFields]struct{ name, raw string }
	count  int
	more   bool // there are others behind these
}

// NewDocument reads an event; see Expr.Match.
func NewDocument(body []byte) *Document {
	d := &Document{}
	d.read(body)
	return d
}

func (d *Document) read(body []byte) {
	d.body = string(body)
	root := gjson.Parse(d.body)
	if !root.IsObject() {
		return
	}
	root.ForEach(func(key, v gjson.Result) bool {
		if d.more = d.count == documentFields; d.more {
			return false
		}
		d.fields[d.count].name, d.fields[d.count].raw = key.Str, v.Raw
		d.count++
		return true
	})
}

// field returns the JSON of a field of the event, nothing when it is missing.
func (d *Document) field(name string) string {
	for i := range d.fields[:d.count] {
		if d.fields[i].name == name {
			return d.fields[i].raw
		}
	}
	if d.more {
		return memberOf(gjson.Parse(d.body), name).Raw
	}
	return ""
}

// path leads to a value in an event.
type path struct {
	parts []string
	// rest is what follows the first part as a path of gjson, if it can be
	// written as one that means nothing else.
	rest string
}

func newPath(parts []string) path {
	p := path{parts: parts}
	for _, part := range parts[1:] {
		if !plainName(part) {
			return p
		}
	}
	p.rest = strings.Join(parts[1:], ".")
	return p
}

// plainName reports whether gjson reads a name as nothing but that name.
func plainName(name string) bool {
	for i := range len(name) {
		if c := int(name[i]); !isLetter(c) && c != '_' && (i == 0 || !isDigit(c) && c != '-') {
			return false
		}
	}
	return name != ""
}

// in returns the value that the path leads to, null when there is none. A
// number names an item of a list, from 0.
func (p *path) in(d *Document) Value {
	raw := d.field(p.parts[0])
	switch {
	case raw == "":
		return Value{}
	case len(p.parts) == 1:
		return valueOf(gjson.Parse(raw))
	case p.rest != "":
		return valueOf(gjson.Get(raw, p.rest))
	}
	v := gjson.Parse(raw)
	for _, part := range p.parts[1:] {
		switch {
		case v.IsObject():
			v = memberOf(v, part)
		case v.IsArray():
			v = itemOf(v, part)
		default:
			return Value{}
		}
	}
	return valueOf(v)
}

func memberOf(object gjson.Result, name string) (found gjson.Result) {
	object.ForEach(func(key, v gjson.Result) bool {
		if key.Str != name {
			return true
		}
		found = v
		return false
	})
	return found
}

func itemOf(list gjson.Result, number string) (found gjson.Result) {
	want, ok := index(number)
	if !ok {
		return found
	}
	list.ForEach(func(_, v gjson.Result) bool {
		if want--; want >= 0 {
			return true
		}
		found = v
		return false
	})
	return found
}
