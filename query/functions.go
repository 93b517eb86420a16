package query

import (
	"slices"
	"strings"
)

// functionKind sorts the functions of the language by what they do, which says
// where they can stand. Zero is no function.
type functionKind uint8

const (
	extracting functionKind = iota + 1 // begins an expression
	filtering                          // narrows a stream
	reducing                           // makes a value of a stream
	comparing                          // makes a condition of a value, and ends it
)

var functions = map[string]functionKind{
	"event": extracting, "entity": extracting, "trait": extracting, "property": extracting, "context": extracting, "literal": extracting,
	"where": filtering, "sources": filtering, "within": filtering, "between": filtering, "expires_after": filtering,
	"count": reducing, "sum": reducing, "avg": reducing, "max": reducing, "min": reducing, "mode": reducing,
	"first": reducing, "last": reducing, "unique": reducing,
	"equals": comparing, "differs": comparing, "greater_than": comparing, "at_least": comparing, "less_than": comparing,
	"at_most": comparing, "exists": comparing, "absent": comparing, "contains": comparing, "omits": comparing,
	"starts_with": comparing, "ends_with": comparing, "one_of": comparing, "none_of": comparing, "before_date": comparing,
	"after_date": comparing, "within_last": comparing, "within_next": comparing, "before_last": comparing, "after_next": comparing,
}

// names lists the functions of some kinds.
func names(kinds ...functionKind) string {
	var list []string
	for name, kind := range functions {
		if slices.Contains(kinds, kind) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// suggest returns a question after the function that name may have been meant
// to be, or nothing.
func suggest(name string, kinds ...functionKind) string {
	best, least := "", 3
	for f, kind := range functions {
		if !slices.Contains(kinds, kind) {
			continue
		}
		if d := distance(strings.ToLower(name), f); d < least || d == least && best != "" && f < best {
			best, least = f, d
		}
	}
	if best == "" {
		return ""
	}
	return " (did you mean " + best + "?)"
}

// distance counts the letters to insert, delete, replace or exchange to make
// a of b, up to 3.
func distance(a, b string) int {
	const far = 3
	if len(a) > 20 || len(a)-len(b) >= far || len(b)-len(a) >= far {
		return far
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	older := make([]int, len(b)+1)
	for j := range row {
		before[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(before[j]+1, row[j-1]+1, before[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
		older, before, row = before, row, older
	}
	return min(before[len(b)], far)
}
