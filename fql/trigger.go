package fql

import (
	"strings"

	"github.com/tidwall/gjson"
)

// MaxTriggerBytes is the longest trigger that is read.
const MaxTriggerBytes = 16 << 10

// Trigger is a compiled trigger. It is never changed and safe for concurrent
// use.
type Trigger struct {
	text     string
	root     condition
	warnings []Warning
}

// Warning says that a trigger does something other than it seems to say. It is
// no error: Segment's own parser reads the trigger in the same way.
type Warning struct {
	Character int // counted from one
	Message   string
}

// String returns the trigger as it was written.
func (t *Trigger) String() string { return t.text }

// Warnings returns what a person should know about the trigger, in the order
// of the text.
func (t *Trigger) Warnings() []Warning { return t.warnings }

// Match reports whether an event fits. body is the event's JSON object, in
// Segment's shape; of a name that stands twice in an object the last counts.
func (t *Trigger) Match(body []byte) bool {
	var e envelope
	gjson.ParseBytes(body).ForEach(func(key, v gjson.Result) bool {
		if f := fieldNamed(key.Str); f != fieldNone {
			e[f] = v
		}
		return true
	})
	return t.root.match(&e)
}

// field is a part of the event that a trigger can ask for.
type field uint8

const (
	fieldNone field = iota
	fieldType
	fieldEvent
	fieldName
	fieldUserID
	fieldProperties
	fieldTraits
	fieldContext
	fieldCount
)

var fieldNames = [fieldCount]string{"", "type", "event", "name", "userId", "properties", "traits", "context"}

// String returns the field's name in an event.
func (f field) String() string { return fieldNames[f] }

// fieldNamed returns the field of that name, or fieldNone.
func fieldNamed(name string) field {
	for f := fieldType; f < fieldCount; f++ {
		if fieldNames[f] == name {
			return f
		}
	}
	return fieldNone
}

// document reports whether a path into the field may be given.
func (f field) document() bool { return f >= fieldProperties }

// envelope holds an event's fields.
type envelope [fieldCount]gjson.Result

// condition is a group, when it has children, or a comparison.
type condition struct {
	any      bool // one child is enough
	children []condition

	field field
	path  []string // within properties, traits and context
	op    op
	text  string  // the expected value as a string
	num   float64 // the expected value as a number, NaN when it is none
}

// op is a comparison.
type op uint8

const (
	equal op = iota
	notEqual
	less
	lessEqual
	greater
	greaterEqual
	numberEqual
	numberNotEqual
	contains
	notContains
	startsWith
	notStartsWith
	endsWith
	notEndsWith
	exists
	notExists
	isTrue
	isFalse
)

func (c *condition) match(e *envelope) bool {
	if c.children != nil {
		for i := range c.children {
			if c.children[i].match(e) == c.any {
				return c.any
			}
		}
		return !c.any
	}
	actual := e[c.field]
	if c.path != nil {
		actual = dig(actual, c.path)
	}
	return c.holds(actual)
}

// holds compares as the published validator does: texts with texts, numbers
// with numbers, and a missing value is unequal to everything but fits no
// negated function.
func (c *condition) holds(actual gjson.Result) bool {
	isText := actual.Type == gjson.String
	isNumber := actual.Type == gjson.Number
	missing := actual.Type == gjson.Null // JSON null, too
	switch c.op {
	case equal:
		return isText && actual.Str == c.text
	case notEqual:
		return !isText || actual.Str != c.text
	case less:
		return isNumber && actual.Num < c.num
	case lessEqual:
		return isNumber && actual.Num <= c.num
	case greater:
		return isNumber && actual.Num > c.num
	case greaterEqual:
		return isNumber && actual.Num >= c.num
	case numberEqual:
		return isNumber && actual.Num == c.num
	case numberNotEqual:
		return isNumber && actual.Num != c.num
	case contains:
		return isText && strings.Contains(actual.Str, c.text)
	case notContains:
		return isText && !strings.Contains(actual.Str, c.text)
	case startsWith:
		return isText && strings.HasPrefix(actual.Str, c.text)
	case notStartsWith:
		return isText && !strings.HasPrefix(actual.Str, c.text)
	case endsWith:
		return isText && strings.HasSuffix(actual.Str, c.text)
	case notEndsWith:
		return isText && !strings.HasSuffix(actual.Str, c.text)
	case exists:
		return !missing
	case notExists:
		return missing
	case isTrue:
		return actual.Type == gjson.True
	case isFalse:
		return actual.Type == gjson.False
	}
	return false
}
