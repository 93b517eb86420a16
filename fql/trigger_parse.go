package fql

import (
	"math"
	"strings"
	"unicode/utf16"

	"kith/fault"
)

// ParseTrigger compiles a trigger. Errors are fault.Invalid and begin with the
// number of the character at which the trigger cannot be read. The language,
// with what it does unlike other languages:
//
//	fields     type, event, name, userId, and properties, traits and context
//	           with a path into them; any other field is ignored
//	values     "text" in double quotes, numbers, true, false, null; a
//	           single-quoted text keeps its quotes
//	compare    = != < <= > >=, with space after those of two signs
//	           = and != compare texts; with a number, numbers; = true, = false,
//	           = null and != null ask for just that. != "x" holds where there
//	           is no value; != true always holds. < <= > >= want a number
//	functions  contains(field, "x"), match(field, "x*"), match(field, "*x") and
//	           their negation with !, which hold only for texts. Of a pattern's
//	           stars only the last one, or else the first sign, is left out
//	joining    and, or: the last one in a group joins all its terms
//	groups     ( … ) one level deep. A group ends at the first ")", so that
//	           after a function within a group its other terms are outside it
func ParseTrigger(src string) (*Trigger, error) {
	if len(src) > MaxTriggerBytes {
		return nil, fault.New(fault.Invalid, "a trigger is at most %d bytes long, this one is %d", MaxTriggerBytes, len(src))
	}
	tokens, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &triggerParser{units: utf16.Encode([]rune(src))}
	root, err := p.group(tokens, false)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, p.fail(tokens[len(tokens)-1], "the trigger has no condition; to match everything say for instance: type != null")
	}
	return &Trigger{text: src, root: *root, warnings: p.warnings}, nil
}

// triggerParser reads the tokens of a trigger.
type triggerParser struct {
	units    []uint16
	warnings []Warning
}

// group reads tokens up to eos as one group, or returns nil when there is no
// condition among them. inner says that they stood between parentheses.
func (p *triggerParser) group(tokens []token, inner bool) (*condition, error) {
	g := condition{}
	var joined *token
	mixed := false
	i := 0
	for tokens[i].kind != eos {
		t := &tokens[i]
		i++
		var c *condition
		var err error
		switch {
		case t.kind == ident && fieldNamed(firstPart(t.text)) != fieldNone:
			c, err = p.comparison(*t, tokens[i:])
			i += 2
		case isFunction(*t):
			c, err = p.function(*t, tokens[i:], false, inner)
			i += 5
		case t.kind == operator && t.text == "!" && isFunction(tokens[i]):
			c, err = p.function(tokens[i], tokens[i+1:], true, inner)
			i += 6
		case t.kind == parenLeft:
			n := 0
			for ; tokens[i+n].kind != parenRight; n++ {
				if tokens[i+n].kind == eos {
					return nil, p.fail(*t, `this "(" is not closed; groups are one level deep`)
				}
			}
			within := append(tokens[i:i+n:i+n], token{kind: eos, at: tokens[i+n].at})
			if c, err = p.group(within, true); err == nil && c == nil {
				err = p.fail(*t, "there is no condition on a known field between the parentheses")
			}
			i += n + 1
		case t.kind == conjunction:
			if joined != nil && joined.text != t.text {
				mixed = true
			}
			joined = t
		default:
			p.ignored(*t)
		}
		if err != nil {
			return nil, err
		}
		if c != nil {
			g.children = append(g.children, *c)
		}
		if i >= len(tokens) {
			break // the end stood for the ")" of a function
		}
	}
	if mixed {
		p.warn(*joined, `"and" and "or" are mixed: the last one, %q, joins all conditions of the group; use parentheses`, joined.text)
	}
	g.any = joined != nil && joined.text == "or"
	switch len(g.children) {
	case 0:
		return nil, nil
	case 1:
		return &g.children[0], nil
	}
	return &g, nil
}

// comparison reads what follows a field: an operator and a value.
func (p *triggerParser) comparison(name token, rest []token) (*condition, error) {
	sign := rest[0]
	if sign.kind != operator || sign.text == "!" {
		return nil, p.fail(sign, "after %s one of = != < <= > >= is expected, not %s", name.text, sign)
	}
	value := rest[1]
	if !isValue(value) {
		if value.text == "=" && (sign.text == "<" || sign.text == ">") {
			return nil, p.fail(value, "put a space after %s=", sign.text)
		}
		return nil, p.fail(value, "after %s %s a value is expected, not %s", name.text, sign.text, value)
	}
	c, err := p.place(name)
	if err != nil {
		return nil, err
	}
	c.set(value)
	c.op = map[string]op{"=": equal, "!=": notEqual, "<": less, "<=": lessEqual, ">": greater, ">=": greaterEqual}[sign.text]
	f := c.field
	switch is := sign.text + value.text; {
	case is == "!=null" && (f == fieldName || f == fieldUserID || f.document()):
		c.op = exists
	case is == "=null" && (f == fieldName || f == fieldUserID || f.document()):
		c.op = notExists
	case is == "=true" && (f == fieldUserID || f.document()):
		c.op = isTrue
	case is == "=false" && (f == fieldUserID || f.document()):
		c.op = isFalse
	case sign.text == "=" && value.kind == number && f.document():
		c.op = numberEqual
	case sign.text == "!=" && value.kind == number && f.document():
		c.op = numberNotEqual
	}
	p.judge(c, name, sign, value)
	return c, nil
}

// judge warns of comparisons that do not do what they seem to.
func (p *triggerParser) judge(c *condition, name, sign, value token) {
	if !c.field.document() && strings.Contains(name.text, ".") {
		p.warn(name, "%s has nothing within it; this is read as %s", firstPart(name.text), firstPart(name.text))
	}
	if value.kind == text && value.text[0] == '\'' {
		p.warn(value, "single quotes belong to the text that is compared; use double quotes")
	}
	switch c.op {
	case notEqual:
		if value.kind == ident && (value.text == "true" || value.text == "false") {
			p.warn(sign, `!= %s holds for every value but the text "%s"; use = %s`, value.text, value.text, map[string]string{"true": "false", "false": "true"}[value.text])
		}
	case less, lessEqual, greater, greaterEqual:
		if math.IsNaN(c.num) {
			p.warn(value, "%s wants a number; this never holds", sign.text)
		}
	}
}

// function reads what follows the name of a function: "(", a field, ",", a
// text and ")", for which the end of a group stands too.
func (p *triggerParser) function(name token, rest []token, negate, inner bool) (*condition, error) {
	for i, want := range []kind{parenLeft, ident, comma, eos, parenRight} {
		ok := rest[i].kind == want
		if i == 3 {
			ok = isValue(rest[i])
		}
		if i == 4 && inner {
			ok = ok || rest[i].kind == eos
		}
		if !ok {
			return nil, p.fail(rest[i], `%s is written %s(field, "text"); here it has %s`, name.text, name.text, rest[i])
		}
	}
	target, value := rest[1], rest[3]
	c := &condition{field: functionField(target.text)}
	if c.field == fieldNone {
		p.warn(target, "%s(%s, …) is ignored; it looks only at event, name, userId, properties, traits and context", name.text, target.text)
		return nil, nil
	}
	if c.field.document() {
		var err error
		if c, err = p.within(c, target); err != nil {
			return nil, err
		}
	}
	if value.kind == text && value.text[0] == '\'' {
		p.warn(value, "single quotes belong to the text that is looked for; use double quotes")
	}
	c.set(value)
	switch {
	case name.text == "contains":
		c.op = contains
	case strings.HasSuffix(value.text, `*"`):
		c.op = startsWith
		c.text = strings.TrimSuffix(c.text, "*")
		if strings.Contains(c.text, "*") {
			p.warn(value, "only the star at the end is a pattern; the others stand for themselves")
		}
	default:
		c.op = endsWith
		first := []rune(c.text)
		if len(first) == 0 || first[0] != '*' {
			p.warn(value, "match wants a star at the beginning or at the end; without one the first character is left out")
		} else if strings.Contains(c.text[1:], "*") {
			p.warn(value, "only the star at the beginning is a pattern; the others stand for themselves")
		}
		if len(first) > 0 {
			c.text = string(first[1:])
		}
	}
	if negate {
		c.op++
	}
	return c, nil
}

// place returns a condition on a field, without its comparison.
func (p *triggerParser) place(name token) (*condition, error) {
	c := &condition{field: fieldNamed(firstPart(name.text))}
	if !c.field.document() {
		return c, nil
	}
	return p.within(c, name)
}

// within gives c the path that name names within its document. A document's
// name alone is read as a member of that name.
func (p *triggerParser) within(c *condition, name token) (*condition, error) {
	path := strings.TrimPrefix(name.text, c.field.String()+".")
	if c.path = splitPath(path); len(c.path) == 0 {
		return nil, p.fail(name, "%s names nothing to look at", name.text)
	}
	if path == name.text {
		p.warn(name, "say what to look at in it, as in properties.plan; this asks for a member called %q", path)
	}
	return c, nil
}

// set takes the expected value as text and as number.
func (c *condition) set(value token) {
	switch {
	case value.kind == number:
		c.num = toNumber(value.text)
		c.text = numberText(c.num)
	case value.kind == text:
		c.text = unquote(value.text)
		c.num = toNumber(c.text)
	case value.text == "true":
		c.text, c.num = "true", 1
	case value.text == "false":
		c.text, c.num = "false", 0
	default:
		c.text, c.num = value.text, math.NaN()
	}
	if !c.field.document() {
		c.num = toNumber(c.text) // these fields keep every value as text
	}
}

// ignored warns of a token that has no meaning where it stands.
func (p *triggerParser) ignored(t token) {
	switch {
	case t.kind == ident:
		p.warn(t, "%q is no field that a trigger can ask for; it and what it is compared with are ignored", t.text)
	case t.kind == operator && t.text == "!":
		p.warn(t, `"!" is ignored before anything but contains and match`)
	case t.kind == parenRight:
		p.warn(t, "the group has ended before: its first function's parenthesis closed it, and what follows stands outside")
	}
}

func (p *triggerParser) warn(t token, format string, args ...any) {
	err := fail(p.units, t.at, format, args...)
	_, message, _ := strings.Cut(err.Error(), ": ")
	p.warnings = append(p.warnings, Warning{Character: character(p.units, t.at), Message: message})
}

func (p *triggerParser) fail(t token, format string, args ...any) error {
	return fail(p.units, t.at, format, args...)
}

func firstPart(name string) string {
	first, _, _ := strings.Cut(name, ".")
	return first
}

func isFunction(t token) bool {
	return t.kind == ident && (t.text == "contains" || t.text == "match")
}

func isValue(t token) bool {
	return t.kind == text || t.kind == number || t.kind == null || t.kind == ident
}

// functionField returns the field that a function looks at. Its first letters
// decide: "propertiesX" is looked for in properties.
func functionField(name string) field {
	switch {
	case name == "event":
		return fieldEvent
	case name == "name":
		return fieldName
	case name == "userId":
		return fieldUserID
	case strings.HasPrefix(name, "properties"):
		return fieldProperties
	case strings.HasPrefix(name, "traits"):
		return fieldTraits
	case strings.HasPrefix(name, "context"):
		return fieldContext
	}
	return fieldNone
}
