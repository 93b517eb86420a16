package fql

// Cost returns what the expression costs at most on one event, in readings of
// it: one for each field that is looked for, some for each function. A match
// with a pattern that is written down costs four for each of its signs that
// stand in a run with a ? or a […], since such a run is tried at each character
// of the text; one whose pattern stands in the event costs as much as the
// longest pattern. A reading of the largest event that is taken (32 KB) is about
// 16 µs at worst.
func (e *Expr) Cost() int { return e.root.cost() }

const (
	costOfSign = 4
	costOfCall = 2 // a text is walked through, and perhaps written anew
)

func (n *node) cost() int {
	total := 0
	switch {
	case n.form == fieldForm:
		total = 1
	case n.form == call && n.glob != nil:
		total = costOfCall
		for i := range n.glob.chunks {
			total += costOfSign * len(n.glob.chunks[i].signs)
		}
	case n.form == call && n.fn.name == "match":
		total = costOfCall + costOfSign*MaxPatternBytes
	case n.form == call:
		total = costOfCall
	}
	for _, a := range n.args {
		total += a.cost()
	}
	return total
}
