package query

import "strings"

// String returns a parsed query in canonical form: one line, signs instead of
// the functions they stand for, no parentheses that are not needed, strings in
// single quotes, the largest unit of time that fits. Parsing it gives the same
// tree again.
func String(n Node) string {
	var p printer
	n.print(&p)
	return p.String()
}

type printer struct{ strings.Builder }

var signs = map[string]string{
	"equals": "=", "differs": "!=", "greater_than": ">", "at_least": ">=", "less_than": "<", "at_most": "<=",
}

var signNames = map[string]string{
	"=": "equals", "==": "equals", "!=": "differs", ">": "greater_than", ">=": "at_least", "<": "less_than", "<=": "at_most",
}

func (n *Junction) print(p *printer) {
	for i, item := range n.Items {
		if i > 0 {
			p.WriteString(" " + n.Op + " ")
		}
		_, nested := item.(*Junction)
		p.node(item, nested && n.Op == "AND")
	}
}

func (n *Prefix) print(p *printer) {
	p.WriteString(n.Op + " ")
	_, nested := n.X.(*Junction)
	p.node(n.X, nested)
}

func (n *Compare) print(p *printer) {
	p.scalar(n.Left)
	p.WriteString(" " + signs[n.Op] + " ")
	p.node(n.Right, isBoolean(n.Right))
}

func (n *Chain) print(p *printer) {
	p.scalar(n.Base)
	for _, c := range n.Calls {
		p.WriteByte('.')
		c.print(p)
	}
}

func (n *Call) print(p *printer) {
	p.WriteString(n.Name + "(")
	for i, a := range n.Args {
		if i > 0 {
			p.WriteString(", ")
		}
		if a.Label != "" {
			p.WriteString(a.Label + ": ")
		}
		a.Value.print(p)
		if a.As != "" {
			p.WriteString(" as " + a.As)
		}
	}
	p.WriteByte(')')
}

func (n *Literal) print(p *printer) {
	switch n.Kind {
	case StringLiteral:
		p.WriteString(quote(n.Text))
	case NumberLiteral:
		d, _ := parseDecimal(n.Text)
		p.WriteString(d.canonical())
	case DateLiteral:
		p.WriteString(n.Text)
	}
}

func (n *Duration) print(p *printer) {
	count, unit := n.N, n.Unit
	if unit == "hour" && count > 0 && count%24 == 0 {
		count, unit = count/24, "day"
	}
	p.WriteString(itoa(count) + " " + unit)
	if count != 1 {
		p.WriteByte('s')
	}
}

// scalar prints what stands before a dot or a sign: a literal is wrapped, so
// that "5 = trait('a')" does not depend on how the reader splits it.
func (p *printer) scalar(n Node) {
	if lit, ok := n.(*Literal); ok {
		p.WriteString("literal(")
		lit.print(p)
		p.WriteByte(')')
		return
	}
	p.node(n, isBoolean(n))
}

func (p *printer) node(n Node, parentheses bool) {
	if parentheses {
		p.WriteByte('(')
	}
	n.print(p)
	if parentheses {
		p.WriteByte(')')
	}
}

func isBoolean(n Node) bool {
	switch n.(type) {
	case *Junction, *Prefix, *Compare:
		return true
	}
	return false
}

// quote writes a string as a query holds it.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\', '\'':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
