package workspace

import "fmt"

// defaultSearchTraits are what people are looked for by, under the names that
// Segment gives these traits (its spec of identify calls).
func defaultSearchTraits() []string {
	return []string{"email", "firstName", "lastName", "name", "phone"}
}

// SearchedTraits returns the traits that the profiles of the space can be
// searched by: SearchTraits, or the default ones where none are declared. Each
// costs a small key for every profile that has it, and one write whenever its
// value changes.
func (s *Space) SearchedTraits() []string {
	if s.SearchTraits == nil {
		return defaultSearchTraits()
	}
	return s.SearchTraits
}

func checkSearchTraits(p *problems, at string, names []string) {
	if len(names) > maxSearchTraits {
		p.add(at, "%d traits; a space is searched by at most %d", len(names), maxSearchTraits)
		return
	}
	seen := map[string]bool{}
	for i, name := range names {
		place := fmt.Sprintf("%s.%d", at, i)
		named(p, place, name, true)
		if seen[name] {
			p.add(place, "%q is listed twice", name)
		}
		seen[name] = true
	}
}
