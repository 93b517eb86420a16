package fql

import (
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/tidwall/gjson"
)

// splitPath cuts "products[0].sku" at its dots and brackets.
func splitPath(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

// dig follows a path into a value as JavaScript does: lists and texts have
// numbered members and a length, and where the path meets a value that counts
// as false (0, "", false, null) that value is the answer. Names that every
// JavaScript object inherits ("constructor") are names like others here.
func dig(v gjson.Result, path []string) gjson.Result {
	for _, name := range path {
		switch v.Type {
		case gjson.Null, gjson.False:
			return v
		case gjson.True:
			return gjson.Result{}
		case gjson.Number:
			if v.Num == 0 {
				return v
			}
			return gjson.Result{}
		case gjson.String:
			if v.Str == "" {
				return v
			}
			v = textMember(v.Str, name)
		case gjson.JSON:
			if v.IsArray() {
				v = listMember(v, name)
			} else {
				v = member(v, name)
			}
		}
	}
	return v
}

// member returns an object's value of that name, the last of several.
func member(object gjson.Result, name string) (found gjson.Result) {
	object.ForEach(func(key, v gjson.Result) bool {
		if key.Str == name {
			found = v
		}
		return true
	})
	return found
}

func listMember(list gjson.Result, name string) (found gjson.Result) {
	want, ok := index(name)
	if !ok && name != "length" {
		return found
	}
	n := 0
	list.ForEach(func(_, v gjson.Result) bool {
		if ok && n == want {
			found = v
			return false
		}
		n++
		return true
	})
	if name == "length" {
		return gjson.Result{Type: gjson.Number, Num: float64(n)}
	}
	return found
}

// textMember counts as JavaScript does, in UTF-16 code units.
func textMember(s, name string) gjson.Result {
	units := utf16.Encode([]rune(s))
	if name == "length" {
		return gjson.Result{Type: gjson.Number, Num: float64(len(units))}
	}
	if i, ok := index(name); ok && i < len(units) {
		return gjson.Result{Type: gjson.String, Str: string(utf16.Decode(units[i : i+1]))}
	}
	return gjson.Result{}
}

// index reads a list index in the one form that names a member: "0", "12".
func index(name string) (int, bool) {
	i, err := strconv.Atoi(name)
	return i, err == nil && i >= 0 && strconv.Itoa(i) == name
}
