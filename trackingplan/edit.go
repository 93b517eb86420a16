package trackingplan

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"

	"kith/event"
)

// edit rewrites the JSON object obj at path and leaves every other byte of its
// members as it was: numbers keep their text. change gets the raw value that
// stands there ("" for none) and returns the one to put there, or "" to remove
// the member. Objects missing on the way are made, unless nothing is to be put
// there; a member on the way that is no object is replaced by one likewise. Of
// members with the same name the last one counts, as for every reader of
// events, and the others go.
func edit(obj string, path []string, change func(old string) string) string {
	name, rest := path[0], path[1:]
	old := ""
	var b strings.Builder
	b.Grow(len(obj) + 64)
	b.WriteByte('{')
	gjson.Parse(obj).ForEach(func(k, v gjson.Result) bool {
		if k.String() == name {
			old = v.Raw
			return true
		}
		member(&b, k.Raw, v.Raw)
		return true
	})
	put := ""
	switch {
	case len(rest) == 0:
		put = change(old)
	case gjson.Parse(old).IsObject():
		put = edit(old, rest, change)
	default:
		if put = edit("{}", rest, change); put == "{}" {
			put = old
		}
	}
	if put != "" {
		member(&b, quoted(name), put)
	}
	b.WriteByte('}')
	return b.String()
}

func member(b *strings.Builder, name, value string) {
	if b.Len() > 1 {
		b.WriteByte(',')
	}
	b.WriteString(name)
	b.WriteByte(':')
	b.WriteString(value)
}

func remove(string) string { return "" }

func quoted(s string) string {
	b, _ := json.Marshal(s) // a string always marshals
	return string(b)
}

// decode reads a JSON value for validation: numbers stay text, of members with
// the same name the last one counts.
func decode(v gjson.Result, depth int) any {
	switch v.Type {
	case gjson.String:
		return v.Str
	case gjson.Number:
		return bounded(v.Raw)
	case gjson.True, gjson.False:
		return v.Type == gjson.True
	case gjson.JSON:
		if depth == event.MaxDepth { // collect takes nothing deeper
			return nil
		}
		if v.IsArray() {
			list := []any{}
			v.ForEach(func(_, item gjson.Result) bool {
				list = append(list, decode(item, depth+1))
				return true
			})
			return list
		}
		object := make(map[string]any, 8)
		v.ForEach(func(k, item gjson.Result) bool {
			object[k.String()] = decode(item, depth+1)
			return true
		})
		return object
	}
	return nil
}

// bounded returns a number that is cheap to compare exactly. The validator
// computes with fractions, and an exponent of a million would cost it seconds
// or more digits than it takes; such a number is replaced by one of the same
// sign that is as large or as small against any bound a plan names.
func bounded(raw string) json.Number {
	i := strings.IndexAny(raw, "eE")
	if i < 0 || len(strings.TrimLeft(raw[i+1:], "+-0")) <= 3 {
		return json.Number(raw)
	}
	sign, digits := "", raw[:i]
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	switch {
	case strings.Trim(digits, "0.") == "":
		return "0"
	case raw[i+1] == '-':
		return json.Number(sign + "1e-999")
	}
	return json.Number(sign + "1e999")
}
