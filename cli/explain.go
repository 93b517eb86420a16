package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"

	"kith/identity"
)

// explainCommand says why a profile is what it is, or why two identifiers are
// one person or not.
type explainCommand struct {
	remote
	ID      string `arg:"" name:"type:value" help:"An identifier, as email:jo@example.com, or a profile's id, use_…"`
	With    string `arg:"" optional:"" name:"other" help:"Another identifier: are the two one person, and why?"`
	Space   string `default:"default" placeholder:"SLUG" help:"The space."`
	Dot     bool   `help:"Write the graph for Graphviz: kith explain … --dot | dot -Tsvg > graph.svg"`
	Mermaid bool   `help:"Write the graph for Mermaid, as Markdown pages draw it."`
}

// Run explains.
func (c *explainCommand) Run(r *run) error {
	if c.Dot && c.Mermaid {
		return usage{errors.New("--dot and --mermaid: one of the two")}
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	q := url.Values{"id": {c.ID}}
	if c.With != "" {
		q.Set("with", c.With)
	}
	x := &identity.Explanation{}
	if err := server.Call(r.ctx, "GET", "/spaces/"+url.PathEscape(c.Space)+"/identity/explain?"+q.Encode(), nil, x); err != nil {
		return c.explain(err)
	}
	switch {
	case r.json:
		return r.encode(x)
	case c.Dot:
		return writeDot(r.Stdout, &x.Graph)
	case c.Mermaid:
		return writeMermaid(r.Stdout, &x.Graph)
	}
	return printExplanation(r.Stdout, x)
}

// printExplanation writes an explanation for people.
func printExplanation(to io.Writer, x *identity.Explanation) error {
	var b strings.Builder
	if x.With != nil {
		for _, s := range x.With.Sentences {
			fmt.Fprintln(&b, s)
		}
	} else {
		head := x.ProfileID
		if x.Asked != nil {
			head = x.Asked.Type + ":" + x.Asked.ID
			if x.ProfileID != "" {
				head += " is " + x.ProfileID
			}
		}
		if x.ProfileID != "" {
			fmt.Fprintf(&b, "%s: %s, %s\n\n", head, count(len(x.Identifiers), "identifier"), count(len(x.Merges), "merge"))
		}
		for _, s := range x.Sentences {
			fmt.Fprintln(&b, s)
		}
		if len(x.Identifiers) > 0 {
			b.WriteString("\nIdentifiers\n")
			w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
			for i := range x.Identifiers {
				id := &x.Identifiers[i]
				fmt.Fprintf(w, "  %s:%s\tsince %s\tmessage %s\n", id.Type, id.ID, id.Attached.Timestamp, id.Attached.MessageID)
			}
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	for i, note := range x.Notes {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintln(&b, note)
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// writeDot writes a graph in the language of Graphviz.
func writeDot(to io.Writer, g *identity.Graph) error {
	var b strings.Builder
	b.WriteString("digraph identity {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n")
	for i := range g.Nodes {
		n := &g.Nodes[i]
		shape, style := "ellipse", "solid"
		if n.Kind == "profile" {
			shape = "box"
		}
		switch n.State {
		case "living":
			style = "bold"
		case "merged", "removed", "other":
			style = "dashed"
		}
		label := n.Label
		if n.Kind == "profile" && label != n.ID {
			label += "\n" + n.ID
		}
		fmt.Fprintf(&b, "  %s [label=%s, shape=%s, style=%s];\n", dotText(n.ID), dotText(label), shape, style)
	}
	for i := range g.Edges {
		e := &g.Edges[i]
		style := "solid"
		if e.Kind == "refused" || e.Kind == "separated" || e.Kind == "removed" {
			style = "dashed, color=red"
		}
		fmt.Fprintf(&b, "  %s -> %s [label=%s, style=%s];\n", dotText(e.From), dotText(e.To), dotText(strings.TrimSpace(e.Label+"\n"+e.At)), style)
	}
	b.WriteString("}\n")
	_, err := io.WriteString(to, b.String())
	return err
}

// dotText quotes a text for Graphviz, where a backslash begins an escape.
func dotText(s string) string {
	s = strings.ReplaceAll(s, `\`, `\\`)
	s = strings.ReplaceAll(s, `"`, `\"`)
	s = strings.ReplaceAll(s, "\n", `\n`)
	return `"` + s + `"`
}

// writeMermaid writes a graph in the language of Mermaid.
func writeMermaid(to io.Writer, g *identity.Graph) error {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	names := map[string]string{}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		names[n.ID] = fmt.Sprintf("n%d", i)
		form := "%s([%s])\n"
		if n.Kind == "profile" {
			form = "%s[%s]\n"
		}
		fmt.Fprintf(&b, "  "+form, names[n.ID], mermaidText(n.Label))
	}
	for i := range g.Edges {
		e := &g.Edges[i]
		arrow := "-->"
		if e.Kind == "refused" || e.Kind == "separated" || e.Kind == "removed" {
			arrow = "-.->"
		}
		fmt.Fprintf(&b, "  %s %s|%s| %s\n", names[e.From], arrow, mermaidText(strings.TrimSpace(e.Label+" "+e.At)), names[e.To])
	}
	_, err := io.WriteString(to, b.String())
	return err
}

// mermaidText quotes a text for Mermaid, which knows entities and no escapes.
func mermaidText(s string) string {
	return `"` + strings.NewReplacer(`#`, "#35;", `"`, "#quot;", "<", "#lt;", ">", "#gt;", "\n", " ").Replace(s) + `"`
}
