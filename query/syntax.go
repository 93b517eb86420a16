package query

// Node is a piece of a parsed query: *Junction, *Prefix, *Compare, *Chain,
// *Call, *Literal or *Duration.
type Node interface {
	// Pos is where the piece begins; for a Compare it is the sign's place.
	Pos() Pos
	print(p *printer)
}

// Junction joins two or more expressions by AND or by OR.
type Junction struct {
	At    Pos
	Op    string // "AND" or "OR"
	Items []Node
}

// Prefix is NOT, ANY or ALL before an expression.
type Prefix struct {
	At Pos
	Op string
	X  Node
}

// Compare is a comparison, written with a sign or as one of the six functions
// that signs stand for.
type Compare struct {
	At    Pos
	Op    string // "equals", "differs", "greater_than", "at_least", "less_than", "at_most"
	Left  Node
	Right Node
}

// Chain is an expression with functions chained to it by dots.
type Chain struct {
	Base  Node
	Calls []*Call // at least one
}

// Call is a function with its arguments.
type Call struct {
	At   Pos
	Name string
	Args []Arg
}

// Arg is one argument of a call.
type Arg struct {
	At    Pos
	Label string // "parent", "exclude" or nothing
	Value Node
	As    string // the type behind "as", or nothing
}

// Literal is a value written in the query.
type Literal struct {
	At   Pos
	Kind LiteralKind
	Text string // a string's content, otherwise as written
}

// LiteralKind says how a literal was written.
type LiteralKind uint8

// The kinds of literal.
const (
	StringLiteral LiteralKind = iota
	NumberLiteral
	DateLiteral
)

// Duration is a number of hours, days or seconds.
type Duration struct {
	At   Pos
	N    int64
	Unit string // "hour", "day" or "second"
}

// Milliseconds returns the duration; a day is 24 hours.
func (d *Duration) Milliseconds() int64 { return d.N * unitMillis[d.Unit] }

var unitMillis = map[string]int64{"second": 1000, "hour": 3600 * 1000, "day": 24 * 3600 * 1000}

// Pos implements Node.
func (n *Junction) Pos() Pos { return n.At }

// Pos implements Node.
func (n *Prefix) Pos() Pos { return n.At }

// Pos implements Node.
func (n *Compare) Pos() Pos { return n.At }

// Pos implements Node.
func (n *Chain) Pos() Pos { return n.Base.Pos() }

// Pos implements Node.
func (n *Call) Pos() Pos { return n.At }

// Pos implements Node.
func (n *Literal) Pos() Pos { return n.At }

// Pos implements Node.
func (n *Duration) Pos() Pos { return n.At }
