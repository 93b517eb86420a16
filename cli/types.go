package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"

	"kith/identity"
)

// typesCommand shows the types of identifiers of a space.
type typesCommand struct {
	remote
	Space string `default:"default" placeholder:"SLUG" help:"The space."`
}

// Run lists them.
func (c *typesCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		Types []identity.TypeInfo `json:"types"`
	}
	if err := server.Call(r.ctx, http.MethodGet, "/spaces/"+url.PathEscape(c.Space)+"/identity/types", nil, &out); err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(out)
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RANK\tTYPE\tCOLLECTION\tLIMIT\tORIGIN\tUNUSED")
	for i := range out.Types {
		fmt.Fprintln(w, typeLine(&out.Types[i]))
	}
	return w.Flush()
}

func typeLine(t *identity.TypeInfo) string {
	limit, rank, origin, unused := "", "", t.Origin, ""
	if t.Origin == identity.TypeNoRule {
		origin = "in no rule: identifies nobody"
	} else {
		limit, rank = fmt.Sprintf("%d %s", t.Limit, t.Window), fmt.Sprint(t.Priority)
	}
	if t.RegisteredAt != "" {
		origin += " at " + t.RegisteredAt
	}
	if u := t.Unused; u != nil {
		seen := u.Newest
		if len(seen) == 0 {
			seen = u.First
		}
		last := &seen[len(seen)-1]
		unused = fmt.Sprintf("on %s, the last of %s", count(int(u.Count), "event"), last.ReceivedAt)
		if last.MessageID != "" {
			unused += ", message " + last.MessageID
		}
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", rank, t.Type, t.Collection, limit, origin, unused)
}
