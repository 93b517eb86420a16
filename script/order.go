package script

import (
	"fmt"
	"slices"
	"strings"
)

// from stands between the two sides of a separate.
const from = "from"

// order reads the rest of an order whose first word was read.
func (p *parser) order(pos Pos, verb string) (Statement, error) {
	o := &Order{Pos: pos, Verb: verb}
	if verb == "lift" {
		p.spaces()
		at := p.at
		o.Lift, o.Verb = true, p.peek()
		if o.Verb != "separate" && o.Verb != "block" {
			return nil, p.fail(at, `want "separate" or "block" behind "lift", and what was ordered`)
		}
		_ = p.bare("")
	}
	var err error
	switch o.Verb {
	case "separate":
		err = p.sides(o)
	case "block":
		o.IDs, err = p.some(1)
	case "delete":
		p.spaces()
		if at := p.at; p.peek() != "identifier" {
			return nil, p.fail(at, `want "identifier" behind "delete"; "erase" forgets a person`)
		}
		_ = p.bare("")
		o.IDs, err = p.some(1)
	case "leave":
		o.IDs, err = p.some(2)
	case "erase":
		o.IDs, err = p.ids(1)
	case "rebuild":
		p.spaces()
		at := p.at
		if o.Rules = p.peek(); o.Rules == "" {
			break
		}
		_ = p.bare("")
		if o.Rules != "recorded" && o.Rules != "current" {
			return nil, p.fail(at, fmt.Sprintf(`%q is neither: want "recorded" or "current" rules, or nothing`, o.Rules))
		}
	}
	return o, err
}

// some reads that many identifiers.
func (p *parser) some(n int) (list []string, err error) {
	for range n {
		id, err := p.id()
		if err != nil {
			return nil, err
		}
		list = append(list, id)
	}
	return list, nil
}

// sides reads identifiers, "from" and more of them.
func (p *parser) sides(o *Order) (err error) {
	for len(o.IDs) == 0 || p.peek() != from {
		if p.ended() && len(o.IDs) > 0 {
			return p.fail(p.at, `want "from" here, and the identifiers of the other side`)
		}
		id, err := p.id()
		if err != nil {
			return err
		}
		o.IDs = append(o.IDs, id)
	}
	_ = p.bare("")
	o.Apart, err = p.ids(1)
	return err
}

// same reports whether an order in force is the one that a lift names, whatever
// the order of its identifiers.
func (o *Order) same(verb string, left, right []string) bool {
	equal := func(a, b []string) bool {
		a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
		return slices.Equal(slices.Compact(a), slices.Compact(b))
	}
	return o.Verb == verb && (equal(o.IDs, left) && equal(o.Apart, right) || equal(o.IDs, right) && equal(o.Apart, left))
}

// String returns the order as a script has it.
func (o *Order) String() string {
	words := []string{o.Verb}
	if o.Lift {
		words = []string{"lift", o.Verb}
	}
	if o.Verb == "delete" {
		words = append(words, "identifier")
	}
	words = append(words, o.IDs...)
	if len(o.Apart) > 0 {
		words = append(append(words, from), o.Apart...)
	}
	if o.Rules != "" {
		words = append(words, o.Rules)
	}
	return strings.Join(words, " ")
}
