package fql

import (
	"strconv"
	"strings"
)

// form says what a node is.
type form uint8

const (
	literal    form = iota // lit
	fieldForm              // path
	listForm               // args, in brackets
	call                   // fn of args
	compare                // args[0] op args[1]
	inside                 // args[0] in args[1]
	negation               // ! args[0]
	allOf                  // and
	anyOf                  // or
	everything             // the word all
)

// node is a part of an expression.
type node struct {
	form form
	at   int // bytes from the beginning of the source
	lit  Value
	path path
	fn   *function
	glob *glob // of match with a pattern that is written down
	op   op
	args []*node
}

// kinds returns which kinds of value the node can have.
func (n *node) kinds() kinds {
	switch n.form {
	case literal:
		return 1 << n.lit.kind
	case fieldForm:
		return anything
	case listForm:
		return aList
	case call:
		return n.fn.result
	}
	return aBool
}

// phrase returns how to speak of the node.
func (n *node) phrase() string {
	if n.form == listForm {
		return "a list"
	}
	if n.form == call {
		return n.fn.name + "(…)"
	}
	var b strings.Builder
	n.print(&b)
	if b.Len() > 60 {
		return "what stands here"
	}
	return b.String()
}

// eval returns what the node is for an event.
func (n *node) eval(d *Document) Value {
	switch n.form {
	case literal:
		return n.lit
	case fieldForm:
		return n.path.in(d)
	case listForm:
		items := make([]Value, len(n.args))
		for i, a := range n.args {
			items[i] = a.eval(d)
		}
		return listed(items)
	case call:
		return n.call(d)
	case compare:
		return boolean(n.op.holds(n.args[0].eval(d), n.args[1].eval(d)))
	case inside:
		item, found := n.args[0].eval(d), false
		n.args[1].eval(d).each(func(v Value) bool {
			found = same(v, item)
			return !found
		})
		return boolean(found)
	case negation:
		return boolean(!n.args[0].eval(d).isTrue())
	case allOf:
		for _, a := range n.args {
			if !a.eval(d).isTrue() {
				return boolean(false)
			}
		}
		return boolean(true)
	case anyOf:
		for _, a := range n.args {
			if a.eval(d).isTrue() {
				return boolean(true)
			}
		}
		return boolean(false)
	}
	return boolean(true)
}

func (n *node) call(d *Document) Value {
	var args arguments
	if n.glob != nil {
		s := n.args[0].eval(d)
		return boolean(s.kind == String && n.glob.match(s.text))
	}
	for i, a := range n.args {
		args[i] = a.eval(d)
	}
	return n.fn.apply(args)
}

// holds compares two values.
func (o op) holds(a, b Value) bool {
	switch o {
	case equal:
		return same(a, b)
	case notEqual:
		return !same(a, b)
	}
	if a.kind != Number || b.kind != Number {
		return false
	}
	switch o {
	case less:
		return a.num < b.num
	case lessEqual:
		return a.num <= b.num
	case greater:
		return a.num > b.num
	}
	return a.num >= b.num
}

// comparisons are the signs as they are written.
var comparisons = [...]string{equal: "=", notEqual: "!=", less: "<", lessEqual: "<=", greater: ">", greaterEqual: ">="}

// print writes the node in its canonical form.
func (n *node) print(b *strings.Builder) {
	switch n.form {
	case literal:
		n.lit.print(b)
	case fieldForm:
		n.path.print(b)
	case listForm:
		b.WriteByte('[')
		n.printArgs(b)
		b.WriteByte(']')
	case call:
		b.WriteString(n.fn.name + "(")
		n.printArgs(b)
		b.WriteByte(')')
	case compare:
		n.args[0].printWithin(b, n)
		b.WriteString(" " + comparisons[n.op] + " ")
		n.args[1].printWithin(b, n)
	case inside:
		n.args[0].printWithin(b, n)
		b.WriteString(" in ")
		n.args[1].printWithin(b, n)
	case negation:
		b.WriteByte('!')
		n.args[0].printWithin(b, n)
	case allOf, anyOf:
		word := " and "
		if n.form == anyOf {
			word = " or "
		}
		for i, a := range n.args {
			if i > 0 {
				b.WriteString(word)
			}
			a.printWithin(b, n)
		}
	case everything:
		b.WriteString("all")
	}
}

func (n *node) printArgs(b *strings.Builder) {
	for i, a := range n.args {
		if i > 0 {
			b.WriteString(", ")
		}
		a.print(b)
	}
}

// printWithin writes the node as a part of another, in parentheses where it
// would be read otherwise without.
func (n *node) printWithin(b *strings.Builder, outer *node) {
	bare := n.binds() > outer.binds()
	if outer.form == negation { // it takes a field, a function, a group or another "!"
		bare = n.form == negation || n.binds() == tight
	}
	if bare {
		n.print(b)
		return
	}
	b.WriteByte('(')
	n.print(b)
	b.WriteByte(')')
}

// tight is how close fields, values and functions hold together.
const tight = 4

// binds returns how close the node holds together.
func (n *node) binds() int {
	switch n.form {
	case anyOf:
		return 0
	case allOf:
		return 1
	case negation:
		return 2 // it is no side of a comparison
	case compare, inside:
		return 3
	}
	return tight
}

func (v Value) print(b *strings.Builder) {
	switch v.kind {
	case String:
		quote := "'"
		if strings.Contains(v.text, quote) {
			quote = `"`
		}
		b.WriteString(quote + v.text + quote)
	case Number:
		b.WriteString(strconv.FormatFloat(v.num, 'f', -1, 64))
	case List:
		b.WriteByte('[')
		for i, item := range v.items {
			if i > 0 {
				b.WriteString(", ")
			}
			item.print(b)
		}
		b.WriteByte(']')
	default:
		b.WriteString(v.JSON())
	}
}

func (p *path) print(b *strings.Builder) {
	for i, part := range p.parts {
		if i > 0 {
			b.WriteByte('.')
		}
		for j, r := range part {
			first := i == 0 && j == 0
			if r == '\\' || r > 127 || !inName(int(r)) || first && !isLetter(int(r)) && r != '_' || first && len(p.parts) == 1 && reserved(part) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
	}
}

// reserved reports whether a name alone means something else.
func reserved(name string) bool {
	switch name {
	case "and", "or", "in", "null", "true", "false", "all":
		return true
	}
	return false
}
