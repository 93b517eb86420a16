package fql

import (
	"strconv"
	"strings"
	"unicode"
)

// function is a function of the language.
type function struct {
	name   string
	usage  string
	params []kinds // which a call must be able to have; null may stand for each
	result kinds
	apply  func(args arguments) Value
}

// arguments are what a function is called with. They are handed over as a
// value, so that a call needs no memory.
type arguments [3]Value

// functions are those of Segment's documents (public-api/fql), and semver,
// which its published matcher has.
var functions = [...]function{
	{"contains", "contains(s, sub)", []kinds{aString, aString}, aBool, func(a arguments) Value {
		return boolean(a[0].kind == String && a[1].kind == String && strings.Contains(a[0].text, a[1].text))
	}},
	{"match", "match(s, pattern)", []kinds{aString, aString}, aBool, func(a arguments) Value {
		if a[0].kind != String || a[1].kind != String {
			return boolean(false)
		}
		g, wrong := compileGlob(a[1].text)
		return boolean(wrong == "" && g.match(a[0].text))
	}},
	{"length", "length(s)", []kinds{aString | aList}, aNumber | aNull, func(a arguments) Value {
		switch a[0].kind {
		case Null:
			return numeral(0)
		case String:
			return numeral(float64(len(a[0].text)))
		case List:
			n := 0.0
			a[0].each(func(Value) bool { n++; return true })
			return numeral(n)
		}
		return Value{}
	}},
	{"lowercase", "lowercase(s)", []kinds{aString}, aString | aNull, onText(strings.ToLower)},
	{"uppercase", "uppercase(s)", []kinds{aString}, aString | aNull, onText(strings.ToUpper)},
	{"snakecase", "snakecase(s)", []kinds{aString}, aString | aNull, onText(func(s string) string { return strings.ReplaceAll(s, " ", "_") })},
	{"kebabcase", "kebabcase(s)", []kinds{aString}, aString | aNull, onText(func(s string) string { return strings.ReplaceAll(s, " ", "-") })},
	{"titlecase", "titlecase(s)", []kinds{aString}, aString | aNull, onText(titleCase)},
	{"typeof", "typeof(v)", []kinds{anything}, aString, func(a arguments) Value { return texts(a[0].kind.String()) }},
	{"bool", "bool(v)", []kinds{anything}, aBool, func(a arguments) Value { return boolean(truth(a[0])) }},
	{"string", "string(v)", []kinds{anything}, aString, func(a arguments) Value {
		switch a[0].kind {
		case Null:
			return texts("")
		case String:
			return a[0]
		}
		return texts(a[0].JSON())
	}},
	{"number", "number(v)", []kinds{aNumber | aString}, aNumber | aNull, func(a arguments) Value {
		if a[0].kind == String {
			f, err := strconv.ParseFloat(strings.TrimSpace(a[0].text), 64)
			if err != nil || !decimalNumber.MatchString(strings.TrimSpace(a[0].text)) {
				return Value{}
			}
			return numeral(f)
		}
		if a[0].kind == Number {
			return a[0]
		}
		return Value{}
	}},
	{"semver", "semver(version, '>=', version)", []kinds{aString, aString, aString}, aBool, func(a arguments) Value {
		return boolean(semver(a[0].Text(), a[1].Text(), a[2].Text()))
	}},
}

func functionNamed(name string) *function {
	for _, f := range functions {
		if f.name == name {
			return &f
		}
	}
	return nil
}

func functionNames() string {
	var names []string
	for i := range functions {
		names = append(names, functions[i].name)
	}
	return strings.Join(names, ", ")
}

// onText makes a function of texts one that leaves null, and all else, null.
func onText(fn func(string) string) func(arguments) Value {
	return func(a arguments) Value {
		if a[0].kind != String {
			return Value{}
		}
		return texts(fn(a[0].text))
	}
}

// titleCase writes the first letter of every word large.
func titleCase(s string) string {
	start := true
	return strings.Map(func(r rune) rune {
		first := start
		if start = unicode.IsSpace(r); first {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

// truth is how bool reads a value: false are null, 0, the texts "", "0" and
// "false", and a list or object without anything in it.
func truth(v Value) bool {
	switch v.kind {
	case Null:
		return false
	case Bool:
		return v.yes
	case Number:
		return v.num != 0
	case String:
		return v.text != "" && v.text != "0" && !strings.EqualFold(v.text, "false")
	case List:
		any := false
		v.each(func(Value) bool { any = true; return false })
		return any
	}
	names, _ := members(v.text)
	return len(names) > 0
}

func isComparison(sign string) bool {
	for _, s := range comparisons {
		if s == sign {
			return true
		}
	}
	return false
}

// semver compares versions of up to three numbers: "1.2" is "1.2.0". What
// follows a number ("3-beta") does not count, as in Segment's published
// matcher. Without two versions and a comparison it is false.
func semver(a, sign, b string) bool {
	x, okX := version(a)
	y, okY := version(b)
	if !okX || !okY || !isComparison(sign) {
		return false
	}
	c := 0
	for i := range x {
		if c == 0 && x[i] != y[i] {
			c = 1
			if x[i] < y[i] {
				c = -1
			}
		}
	}
	for o, s := range comparisons {
		if s == sign {
			return op(o).holds(numeral(float64(c)), numeral(0))
		}
	}
	return false
}

func isVersion(s string) bool {
	_, ok := version(s)
	return ok
}

func version(s string) (v [3]uint64, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) > len(v) {
		return v, false
	}
	for i, part := range parts {
		part = strings.TrimSpace(part)
		n := 0
		for n < len(part) && isDigit(int(part[n])) {
			n++
		}
		var err error
		if v[i], err = strconv.ParseUint(part[:n], 10, 64); err != nil {
			return v, false
		}
	}
	return v, true
}
