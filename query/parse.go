package query

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a query's text.
const (
	MaxTextBytes   = 64 << 10
	MaxNesting     = 200  // parentheses, prefixes and calls within each other
	MaxExpressions = 1000 // calls and literals; Segment's own limit is 50 primary expressions
)

// Parse reads a query by the whole grammar of the language. Its errors are
// fault.Invalid with an *Error in them.
//
//	expr    := and ("OR" and)*
//	and     := unary ("AND" unary)*
//	unary   := ("NOT" | "ANY" | "ALL") unary | operand [sign operand]
//	operand := (call | literal | "(" expr ")") ("." call)*
//	call    := name "(" ["{"] [arg ("," arg)*] ["}"] ")"
//	arg     := [label ":"] (value | "[" value ("," value)* "]")
//	value   := number unit | expr ["as" type]
//
// Keywords may be written in small letters. Braces and brackets around
// arguments, as some of Segment's examples have them, mean nothing.
func Parse(text string) (Node, error) {
	start := Pos{Line: 1, Column: 1}
	if len(text) > MaxTextBytes {
		return nil, refuse(start, "the query has %d bytes; at most %d are read", len(text), MaxTextBytes)
	}
	if !utf8.ValidString(text) {
		return nil, refuse(start, "the query is not valid UTF-8")
	}
	p := &parser{lex: lexer{text: text, pos: start}}
	if err := p.fill(); err != nil {
		return nil, err
	}
	if p.tok.kind == tokenEnd {
		return nil, refuse(p.tok.at, "the query is empty; %s", beginnings)
	}
	n, err := p.expr()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenEnd {
		return nil, refuse(p.tok.at, "found %s after a complete expression; AND, OR or the end can stand here", p.tok)
	}
	return n, nil
}

const beginnings = "an expression begins with event('…'), trait('…'), NOT or a parenthesis"

type parser struct {
	lex   lexer
	tok   token // the token looked at
	ahead token // the one behind it
	depth int
	count int
}

// fill loads the first two tokens.
func (p *parser) fill() (err error) {
	if p.tok, err = p.lex.next(); err != nil {
		return err
	}
	p.ahead, err = p.lex.next()
	return err
}

func (p *parser) advance() (err error) {
	p.tok = p.ahead
	if p.tok.kind != tokenEnd {
		p.ahead, err = p.lex.next()
	}
	return err
}

// keyword returns the keyword that t is, in capitals, or nothing.
func (t token) keyword() string {
	if t.kind == tokenWord {
		switch k := strings.ToUpper(t.text); k {
		case "AND", "OR", "NOT", "ANY", "ALL":
			return k
		}
	}
	return ""
}

func (t token) isSign(s string) bool { return t.kind == tokenSign && t.text == s }

// enter counts one more level and one more expression.
func (p *parser) enter() error {
	p.depth++
	p.count++
	if p.depth > MaxNesting {
		return refuse(p.tok.at, "the query is nested more than %d levels deep", MaxNesting)
	}
	if p.count > MaxExpressions {
		return refuse(p.tok.at, "the query has more than %d expressions", MaxExpressions)
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

func (p *parser) expr() (Node, error) { return p.junction("OR", p.and) }

func (p *parser) and() (Node, error) { return p.junction("AND", p.unary) }

func (p *parser) junction(op string, item func() (Node, error)) (Node, error) {
	first, err := item()
	if err != nil || p.tok.keyword() != op {
		return first, err
	}
	j := &Junction{At: first.Pos(), Op: op}
	j.add(first)
	for p.tok.keyword() == op {
		if err := p.advance(); err != nil {
			return nil, err
		}
		n, err := item()
		if err != nil {
			return nil, err
		}
		j.add(n)
	}
	return j, nil
}

// add appends n; a junction of the same kind gives its items.
func (n *Junction) add(item Node) {
	if same, ok := item.(*Junction); ok && same.Op == n.Op {
		n.Items = append(n.Items, same.Items...)
		return
	}
	n.Items = append(n.Items, item)
}

func (p *parser) unary() (Node, error) {
	op := p.tok.keyword()
	if op != "NOT" && op != "ANY" && op != "ALL" {
		return p.comparison()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	at := p.tok.at
	if err := p.advance(); err != nil {
		return nil, err
	}
	x, err := p.unary()
	if err != nil {
		return nil, err
	}
	return &Prefix{At: at, Op: op, X: x}, nil
}

func (p *parser) comparison() (Node, error) {
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	name := p.signName()
	if name == "" {
		return left, nil
	}
	at := p.tok.at
	if err := p.advance(); err != nil {
		return nil, err
	}
	right, err := p.operand()
	if err != nil {
		return nil, err
	}
	if p.signName() != "" {
		return nil, refuse(p.tok.at, "found %s after a complete comparison; join comparisons with AND or OR", p.tok)
	}
	return &Compare{At: at, Op: name, Left: left, Right: right}, nil
}

func (p *parser) signName() string {
	if p.tok.kind != tokenSign {
		return ""
	}
	return signNames[p.tok.text]
}

func (p *parser) operand() (Node, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	base, err := p.base()
	if err != nil {
		return nil, err
	}
	var calls []*Call
	for p.tok.isSign(".") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.tok.kind != tokenWord || !p.ahead.isSign("(") {
			return nil, refuse(p.tok.at, "found %s after a dot; a function such as count() can stand here", p.tok)
		}
		c, err := p.call()
		if err != nil {
			return nil, err
		}
		calls = append(calls, c)
	}
	return chain(base, calls), nil
}

// chain joins a base and what is chained to it, and gives the six functions
// that signs stand for their one form when they end the chain.
func chain(base Node, calls []*Call) Node {
	if len(calls) == 0 {
		return base
	}
	if c, ok := base.(*Chain); ok {
		base, calls = c.Base, append(append([]*Call{}, c.Calls...), calls...)
	}
	last := calls[len(calls)-1]
	if signs[last.Name] != "" && len(last.Args) == 1 && last.Args[0].plain() {
		return &Compare{At: last.At, Op: last.Name, Left: chain(base, calls[:len(calls)-1]), Right: last.Args[0].Value}
	}
	return &Chain{Base: base, Calls: calls}
}

func (a *Arg) plain() bool {
	_, duration := a.Value.(*Duration)
	return a.Label == "" && a.As == "" && !duration
}

func (p *parser) base() (Node, error) {
	t := p.tok
	switch {
	case t.kind == tokenString || t.kind == tokenNumber || t.kind == tokenDate:
		return p.literal()
	case t.isSign("("):
		if err := p.advance(); err != nil {
			return nil, err
		}
		n, err := p.expr()
		if err != nil {
			return nil, err
		}
		return n, p.expect(")", "AND, OR or the closing parenthesis of "+t.at.String())
	case t.kind == tokenWord && t.keyword() == "" && p.ahead.isSign("("):
		c, err := p.call()
		if err != nil {
			return nil, err
		}
		if c.Name != "literal" {
			return c, nil
		}
		if len(c.Args) == 1 && c.Args[0].plain() {
			if lit, ok := c.Args[0].Value.(*Literal); ok {
				lit.At = c.At
				return lit, nil
			}
		}
		return nil, refuse(c.At, "literal takes one value: a number, a string or a date")
	case t.kind == tokenWord && (t.text == "true" || t.text == "false"):
		// Segment's own way to write them is 'true' and 'false'.
		return &Literal{At: t.at, Kind: StringLiteral, Text: t.text}, p.advance()
	case t.kind == tokenWord && t.keyword() == "":
		return nil, refuse(t.at, "found %s; a string stands between single quotes, a function has parentheses, and %s", t, beginnings)
	}
	return nil, refuse(t.at, "found %s; %s", t, beginnings)
}

func (p *parser) literal() (Node, error) {
	t := p.tok
	lit := &Literal{At: t.at, Text: t.text}
	switch t.kind {
	case tokenNumber:
		lit.Kind = NumberLiteral
		if _, ok := parseDecimal(t.text); !ok {
			return nil, refuse(t.at, "found %s, which is not a number that can be used", t)
		}
	case tokenDate:
		lit.Kind = DateLiteral
		if _, ok := parseDate(t.text); !ok {
			return nil, refuse(t.at, "found %s, which is not a date: want 2023-12-07 or 2023-12-07T18:50:00Z", t)
		}
	}
	return lit, p.advance()
}

func (p *parser) call() (*Call, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	c := &Call{At: p.tok.at, Name: p.tok.text}
	if err := p.advance(); err != nil {
		return nil, err
	}
	open := p.tok.at
	if err := p.advance(); err != nil {
		return nil, err
	}
	brace := p.tok.isSign("{")
	if brace {
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if !p.tok.isSign(")") && !p.tok.isSign("}") {
		if err := p.args(c); err != nil {
			return nil, err
		}
	}
	if brace {
		if err := p.expect("}", "a comma or the closing brace"); err != nil {
			return nil, err
		}
	}
	return c, p.expect(")", "a comma or the closing parenthesis of "+open.String())
}

// args reads the arguments of c up to its closing sign. A bracketed list gives
// its elements as arguments, the first with the list's label.
func (p *parser) args(c *Call) error {
	for {
		at, label := p.tok.at, ""
		if p.tok.kind == tokenWord && p.ahead.isSign(":") {
			label = p.tok.text
			if err := p.advance(); err != nil {
				return err
			}
			if err := p.advance(); err != nil {
				return err
			}
		}
		first := len(c.Args)
		if p.tok.isSign("[") {
			if err := p.list(c); err != nil {
				return err
			}
		} else {
			a, err := p.arg()
			if err != nil {
				return err
			}
			c.Args = append(c.Args, a)
		}
		c.Args[first].At, c.Args[first].Label = at, label
		if !p.tok.isSign(",") {
			return nil
		}
		if err := p.advance(); err != nil {
			return err
		}
	}
}

// list reads a bracketed list of at least one value.
func (p *parser) list(c *Call) error {
	for {
		if err := p.advance(); err != nil { // the bracket or the comma
			return err
		}
		a, err := p.arg()
		if err != nil {
			return err
		}
		c.Args = append(c.Args, a)
		if !p.tok.isSign(",") {
			return p.expect("]", "a comma or the closing bracket")
		}
	}
}

func (p *parser) arg() (a Arg, err error) {
	a.At = p.tok.at
	if p.tok.kind == tokenNumber && p.ahead.kind == tokenWord && p.ahead.keyword() == "" && p.ahead.text != "as" {
		a.Value, err = p.duration()
		return a, err
	}
	if a.Value, err = p.expr(); err != nil {
		return a, err
	}
	if p.tok.kind == tokenWord && p.tok.text == "as" {
		if err = p.advance(); err != nil {
			return a, err
		}
		if p.tok.kind != tokenWord {
			return a, refuse(p.tok.at, `found %s; a type can stand behind "as": number, string or array`, p.tok)
		}
		a.As = p.tok.text
		err = p.advance()
	}
	return a, err
}

func (p *parser) duration() (Node, error) {
	t, unit := p.tok, p.ahead
	n, err := strconv.ParseInt(t.text, 10, 64)
	if err != nil {
		return nil, refuse(t.at, "found %s before %s; a whole number can stand here", t, unit)
	}
	name := strings.TrimSuffix(unit.text, "s")
	per := unitMillis[name]
	if per == 0 {
		return nil, refuse(unit.at, "found the unit %s; hours or days can stand here", unit)
	}
	if n < 0 || n > maxDurationMillis/per {
		return nil, refuse(t.at, "found %s %s; a duration is between 0 and %d days", t, unit, maxDurationMillis/unitMillis["day"])
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	return &Duration{At: t.at, N: n, Unit: name}, p.advance()
}

// maxDurationMillis is a hundred years.
const maxDurationMillis = 36500 * 24 * 3600 * 1000

func (p *parser) expect(sign, instead string) error {
	if !p.tok.isSign(sign) {
		return refuse(p.tok.at, "found %s; %s can stand here", p.tok, instead)
	}
	return p.advance()
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
