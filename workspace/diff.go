package workspace

import (
	"slices"
	"strings"
)

// Change is one difference between two workspaces, for people.
type Change struct {
	Op       string   `json:"op"`       // "+" added, "~" changed, "-" removed
	Resource string   `json:"resource"` // "source", "destination", …
	Name     string   `json:"name"`     // the slug; an audience's space and key
	Fields   []string `json:"fields,omitempty"`
}

// String returns the change as lines: what, and under it, indented, each field.
func (c Change) String() string {
	var b strings.Builder
	b.WriteString(c.Op + " " + c.Resource)
	if c.Name != "" {
		b.WriteString(" " + c.Name)
	}
	b.WriteByte('\n')
	for _, f := range c.Fields {
		b.WriteString("    " + f + "\n")
	}
	return b.String()
}

// Diff returns what makes next of base, in the order of a file and by name.
// Secrets are not shown, only that they changed.
func Diff(base, next *Snapshot) []Change {
	a, b := diffTree(base), diffTree(next)
	var changes []Change
	top := &differ{}
	for _, name := range []string{"name", "slug"} {
		top.compare(name, a.get(name), b.get(name))
	}
	if len(top.lines) > 0 {
		changes = append(changes, Change{Op: "~", Resource: "workspace", Fields: top.lines})
	}
	for _, list := range []struct{ name, resource string }{
		{listSpaces, "space"}, {listSources, "source"}, {listDestinations, "destination"},
		{listPlans, "tracking plan"}, {listAudiences, "audience"},
	} {
		changes = append(changes, diffList(list.resource, a.get(list.name), b.get(list.name))...)
	}
	return changes
}

func diffTree(s *Snapshot) *node {
	x := exporter{s: s, secret: func(d *Destination, path []string) *node {
		var sealed string
		walkTexts(jsonNode(d.Settings), nil, func(p []string, text string) {
			if slices.Equal(p, path) {
				sealed = text
			}
		})
		return textNode(sealed)
	}}
	return x.file()
}

func walkTexts(n *node, path []string, fn func(path []string, text string)) {
	if n.kind == isText {
		fn(path, n.text)
	}
	for i, item := range n.list {
		walkTexts(item, append(slices.Clone(path), decimal(i)), fn)
	}
	for _, f := range n.fields {
		walkTexts(f.value, append(slices.Clone(path), f.name), fn)
	}
}

func diffList(resource string, a, b *node) []Change {
	var names []string
	before, after := byResource(a, &names), byResource(b, &names)
	slices.Sort(names)
	var changes []Change
	for _, name := range slices.Compact(names) {
		x, y := before[name], after[name]
		switch {
		case x == nil:
			changes = append(changes, Change{Op: "+", Resource: resource, Name: name})
		case y == nil:
			changes = append(changes, Change{Op: "-", Resource: resource, Name: name})
		default:
			d := &differ{}
			d.object("", x, y)
			if len(d.lines) > 0 {
				changes = append(changes, Change{Op: "~", Resource: resource, Name: name, Fields: d.lines})
			}
		}
	}
	return changes
}

func byResource(list *node, names *[]string) map[string]*node {
	byName := map[string]*node{}
	if list == nil {
		return byName
	}
	for _, n := range list.list {
		name := bySlugOrKey(n)
		byName[name] = n
		*names = append(*names, name)
	}
	return byName
}

func bySlugOrKey(n *node) string {
	if n.get("slug") != nil {
		return bySlug(n)
	}
	return bySpaceAndKey(n)
}

type differ struct{ lines []string }

func (d *differ) add(path, text string) { d.lines = append(d.lines, path+": "+text) }

func (d *differ) compare(path string, a, b *node) {
	switch {
	case a == nil && b == nil:
	case a == nil:
		d.add(path, "+ "+short(b))
	case b == nil:
		d.add(path, "- "+short(a))
	case a.kind == isObject && b.kind == isObject:
		d.object(path, a, b)
	case a.kind == isList && b.kind == isList && labelled(a) && labelled(b):
		d.list(path, a, b)
	case !same(a, b):
		d.add(path, short(a)+" → "+short(b))
	}
}

func (d *differ) object(path string, a, b *node) {
	var names []string
	for _, f := range append(slices.Clone(a.fields), b.fields...) {
		if !slices.Contains(names, f.name) {
			names = append(names, f.name)
		}
	}
	for _, name := range names {
		d.compare(join(path, name), a.get(name), b.get(name))
	}
}

// list compares lists of objects that have names of their own.
func (d *differ) list(path string, a, b *node) {
	var labels []string
	before, after := byLabel(a, &labels), byLabel(b, &labels)
	changed := false
	for _, l := range labels {
		n := len(d.lines)
		d.compare(path+"["+l+"]", before[l], after[l])
		changed = changed || len(d.lines) > n
	}
	if !changed && !same(a, b) {
		d.add(path, "another order")
	}
}

func byLabel(list *node, labels *[]string) map[string]*node {
	m := map[string]*node{}
	for _, item := range list.list {
		l := label(item)
		for i := 2; m[l] != nil; i++ {
			l = label(item) + " " + decimal(i)
		}
		m[l] = item
		if !slices.Contains(*labels, l) {
			*labels = append(*labels, l)
		}
	}
	return m
}

func labelled(list *node) bool {
	return !slices.ContainsFunc(list.list, func(n *node) bool { return label(n) == "" })
}

// label is what tells an object of a list from its neighbours: a rule's type,
// key and version, otherwise its name.
func label(n *node) string {
	if version := n.get("version"); version != nil {
		l := n.get("type").text
		if key := n.get("key"); key != nil {
			l += " " + key.text
		}
		return l + " " + version.text
	}
	for _, name := range []string{"name", "activationName", "destination", "type", "key"} {
		if v := n.get(name); v != nil && v.kind == isText {
			return v.text
		}
	}
	return ""
}

func same(a, b *node) bool {
	x, errX := a.json(verbatim)
	y, errY := b.json(verbatim)
	return errX == nil && errY == nil && sameJSON(x, y)
}

// short shows a value in one line, secrets masked.
func short(n *node) string {
	doc, err := n.json(func(n *node) (string, error) {
		if strings.HasPrefix(n.text, SealedPrefix) {
			return Mask, nil
		}
		return n.text, nil
	})
	if err != nil {
		return "?"
	}
	if r := []rune(string(doc)); len(r) > 120 {
		return string(r[:119]) + "…"
	}
	return string(doc)
}
