package fql

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"kith/fault"
)

// exprParser reads the words of an expression.
type exprParser struct {
	src   string
	words []word
	depth int
}

// parseExpr compiles an expression.
func parseExpr(src string) (*node, error) {
	switch {
	case len(src) > MaxBytes:
		return nil, fault.New(fault.Invalid, "an expression is at most %d bytes long, this one is %d", MaxBytes, len(src))
	case !utf8.ValidString(src):
		return nil, fault.New(fault.Invalid, "the expression is not UTF-8")
	}
	words, err := scan(src)
	if err != nil {
		return nil, err
	}
	if words[0].kind == eos {
		return nil, failAt(src, 0, "there is no expression; to match every event say: all")
	}
	if words[0].text == "all" && words[1].kind == eos {
		return &node{form: everything, at: words[0].at}, nil
	}
	p := &exprParser{src: src, words: words}
	n, err := p.either()
	if err != nil {
		return nil, err
	}
	if w := p.words[0]; w.kind != eos {
		return nil, p.left(w, n)
	}
	return n, nil
}

// left says what is wrong with a word behind what can be read.
func (p *exprParser) left(w word, n *node) error {
	switch {
	case w.kind == parenRight:
		return p.fail(w, `this ")" closes nothing`)
	case w.kind == operator && w.text != "!":
		return p.fail(w, `%s cannot follow %s; join comparisons with "and" and "or", or put parentheses around one`, w, n.phrase())
	case w.kind == ident && len(w.path) == 1:
		switch small := strings.ToLower(w.text); small {
		case "and", "or", "in":
			return p.fail(w, `%q is written in small letters: %s`, w.text, small)
		case "is", "equals", "eq", "like", "not", "contains", "match":
			return p.fail(w, `%q is no operator; there are = != < <= > >= in, and the functions contains(field, 'text') and match(field, 'pat*')`, w.text)
		}
	}
	return p.fail(w, "after %s an operator (= != < <= > >= in), \"and\" or \"or\" is expected, not %s", n.phrase(), w)
}

func (p *exprParser) next() word {
	w := p.words[0]
	if w.kind != eos {
		p.words = p.words[1:]
	}
	return w
}

// either reads conditions joined by or.
func (p *exprParser) either() (*node, error) { return p.join("or", anyOf, p.both) }

// both reads conditions joined by and.
func (p *exprParser) both() (*node, error) { return p.join("and", allOf, p.comparison) }

func (p *exprParser) join(word string, f form, one func() (*node, error)) (*node, error) {
	first, err := one()
	if err != nil || p.words[0].kind != conjunction || p.words[0].text != word {
		return first, err
	}
	n := &node{form: f, at: first.at, args: []*node{first}}
	for p.words[0].kind == conjunction && p.words[0].text == word {
		p.next()
		if p.words[0].kind == eos || p.words[0].kind == conjunction {
			return nil, p.fail(p.words[0], "after %q a condition is expected, not %s", word, p.words[0])
		}
		a, err := one()
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, a)
	}
	for _, a := range n.args {
		if err := p.want(a, aBool|aNull, word+" joins conditions"); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// want checks that a node can be of one of some kinds. That a function may be
// null does not count; null itself does.
func (p *exprParser) want(n *node, wanted kinds, why string) error {
	if k := n.kinds(); k == wanted&aNull || k&^aNull&wanted != 0 {
		return nil
	}
	return failAt(p.src, n.at, "%s; %s is %s", why, n.phrase(), n.kinds())
}

func (p *exprParser) comparison() (*node, error) {
	if p.words[0].kind == operator && p.words[0].text == "!" {
		n, err := p.not()
		if w := p.words[0]; err == nil && w.kind == operator && w.text != "!" {
			return nil, p.fail(w, `"!" stands before a whole condition; write !(… %s …)`, w)
		}
		return n, err
	}
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	w := p.words[0]
	if w.kind != operator || w.text == "!" {
		return left, nil
	}
	p.next()
	if p.words[0].kind == eos || p.words[0].kind == conjunction || p.words[0].kind == parenRight {
		return nil, p.fail(p.words[0], "after %s a value is expected, not %s", w, p.words[0])
	}
	right, err := p.operand()
	if err != nil {
		return nil, err
	}
	n := &node{form: compare, at: left.at, args: []*node{left, right}}
	switch w.text {
	case "in":
		n.form = inside
		if err := p.want(left, anything&^aList&^anObject, `before "in" a single value is expected`); err != nil {
			return nil, err
		}
		return n, p.want(right, aList, `after "in" a list is expected, as ['a', 'b']`)
	case "=", "!=":
	default:
		for _, side := range n.args {
			if err := p.want(side, aNumber, w.text+" compares numbers"); err != nil {
				return nil, err
			}
		}
	}
	for o, sign := range comparisons {
		if sign == w.text {
			n.op = op(o)
		}
	}
	return n, nil
}

// not reads what follows "!".
func (p *exprParser) not() (*node, error) {
	w := p.next()
	if err := p.deeper(w); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	var n *node
	var err error
	if p.words[0].kind == operator && p.words[0].text == "!" {
		n, err = p.not()
	} else {
		n, err = p.operand()
	}
	if err != nil {
		return nil, err
	}
	return &node{form: negation, at: w.at, args: []*node{n}}, p.want(n, aBool|aNull, `"!" negates a condition`)
}

func (p *exprParser) deeper(w word) error {
	if p.depth++; p.depth > MaxDepth {
		return p.fail(w, "this nests deeper than %d levels", MaxDepth)
	}
	return nil
}

// operand reads a value, a field, a function, a list or a condition in
// parentheses.
func (p *exprParser) operand() (*node, error) {
	w := p.next()
	n := &node{form: literal, at: w.at}
	switch w.kind {
	case text:
		n.lit = texts(w.text[1 : len(w.text)-1])
	case number:
		f, err := strconv.ParseFloat(w.text, 64)
		if err != nil {
			return nil, p.fail(w, "the number is too large")
		}
		n.lit = numeral(f)
	case flag:
		n.lit = boolean(w.text == "true")
	case null:
	case ident:
		if p.words[0].kind == parenLeft {
			return p.function(w)
		}
		n.form, n.path = fieldForm, newPath(w.path)
	case parenLeft:
		return p.group(w)
	case bracket:
		if w.text == "[" {
			return p.list(w)
		}
		return nil, p.fail(w, `this "]" closes nothing`)
	default:
		return nil, p.fail(w, "a field, a value or a function is expected, not %s", w)
	}
	return n, nil
}

func (p *exprParser) group(open word) (*node, error) {
	if err := p.deeper(open); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	if p.words[0].kind == parenRight {
		return nil, p.fail(open, "there is no condition between the parentheses")
	}
	n, err := p.either()
	if err != nil {
		return nil, err
	}
	switch w := p.next(); {
	case w.kind == parenRight:
		return n, nil
	case w.kind == eos:
		return nil, p.fail(open, `this "(" is not closed`)
	default:
		return nil, p.left(w, n)
	}
}

func (p *exprParser) list(open word) (*node, error) {
	n := &node{form: listForm, at: open.at}
	var err error
	constant := true
	n.args, err = p.items(open, "[", func(w word) bool { return w.kind == bracket && w.text == "]" })
	for _, a := range n.args {
		constant = constant && a.form == literal
	}
	if err == nil && constant { // it need not be made for every event
		items := make([]Value, len(n.args))
		for i, a := range n.args {
			items[i] = a.lit
		}
		return &node{form: literal, at: open.at, lit: listed(items)}, nil
	}
	return n, err
}

// items reads expressions with commas between them, up to the end of a list.
func (p *exprParser) items(open word, sign string, closes func(word) bool) ([]*node, error) {
	if err := p.deeper(open); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	var list []*node
	if closes(p.words[0]) {
		p.next()
		return nil, nil
	}
	for {
		if p.words[0].kind == eos {
			return nil, p.fail(open, "this %q is not closed", sign)
		}
		n, err := p.either()
		if err != nil {
			return nil, err
		}
		list = append(list, n)
		switch w := p.next(); {
		case closes(w):
			return list, nil
		case w.kind == eos:
			return nil, p.fail(open, "this %q is not closed", sign)
		case w.kind != comma:
			return nil, p.fail(w, "after %s a comma or the end of the list is expected, not %s", n.phrase(), w)
		}
	}
}

// function reads the arguments of a function.
func (p *exprParser) function(name word) (*node, error) {
	fn := functionNamed(name.text)
	if fn == nil {
		hint := ""
		if known := functionNamed(strings.ToLower(name.text)); known != nil {
			hint = "; write " + known.name
		}
		return nil, p.fail(name, "there is no function %s%s; there are: %s", name.text, hint, functionNames())
	}
	open := p.next()
	args, err := p.items(open, "(", func(w word) bool { return w.kind == parenRight })
	if err != nil {
		return nil, err
	}
	n := &node{form: call, at: name.at, fn: fn, args: args}
	if len(args) != len(fn.params) {
		return nil, p.fail(name, "%s is written %s; here it has %d arguments", fn.name, fn.usage, len(args))
	}
	for i, a := range args {
		if err := p.want(a, fn.params[i]|aNull, fn.usage+" wants "+fn.params[i].String()+" there"); err != nil {
			return nil, err
		}
	}
	return n, p.settle(n)
}

// settle checks and compiles what a function is told by literals.
func (p *exprParser) settle(n *node) error {
	written := func(i int) (string, bool) {
		return n.args[i].lit.text, n.args[i].form == literal && n.args[i].lit.kind == String
	}
	switch n.fn.name {
	case "match":
		if pattern, ok := written(1); ok {
			g, wrong := compileGlob(pattern)
			if wrong != "" {
				return failAt(p.src, n.args[1].at, "%s", wrong)
			}
			n.glob = g
		}
	case "semver":
		if sign, ok := written(1); ok && !isComparison(sign) {
			return failAt(p.src, n.args[1].at, "semver compares with '=', '!=', '<', '<=', '>' or '>=', not with '%s'", sign)
		}
		for _, i := range []int{0, 2} {
			if version, ok := written(i); ok && !isVersion(version) {
				return failAt(p.src, n.args[i].at, "'%s' is no version; a version is written '1.2.3', '1.2' or '1'", version)
			}
		}
	}
	return nil
}

func (p *exprParser) fail(w word, format string, args ...any) error {
	return failAt(p.src, w.at, format, args...)
}
