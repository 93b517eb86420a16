package cli

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"kith/client"
	"kith/fault"
)

// audienceCommand shows audiences.
type audienceCommand struct {
	remote
	Key   string `arg:"" optional:"" help:"An audience's key. Without it, all audiences are listed."`
	Space string `default:"default" placeholder:"SLUG" help:"The space."`
	Limit int    `default:"20" help:"How many members to show."`
}

// Run shows all audiences of a space, or one with its members.
func (c *audienceCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	all, err := server.Audiences(r.ctx, c.Space)
	if err != nil {
		return c.explain(err)
	}
	if c.Key == "" {
		return c.list(r, all)
	}
	for i := range all {
		if all[i].Key == c.Key || all[i].ID == c.Key {
			return c.show(r, server, &all[i])
		}
	}
	return fault.New(fault.NotFound, "there is no audience %q in the space %s; \"kith audience\" lists those there are", c.Key, c.Space)
}

func (c *audienceCommand) list(r *run, all []client.Audience) error {
	if r.json {
		if all == nil {
			all = []client.Audience{}
		}
		return r.encode(all)
	}
	if len(all) == 0 {
		fmt.Fprintf(r.Stderr, "there are no audiences in the space %s\n", c.Space)
		return nil
	}
	slices.SortFunc(all, func(a, b client.Audience) int { return strings.Compare(a.Key, b.Key) })
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY\tMEMBERS\tSTATUS\tQUERY")
	for i := range all {
		a := &all[i]
		status := a.Status
		if a.Since != "" {
			status += ", counts since " + a.Since
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", a.Key, a.Size.Count, status, strings.Join(strings.Fields(a.Definition.Query), " "))
	}
	return w.Flush()
}

func (c *audienceCommand) show(r *run, server *client.Client, a *client.Audience) error {
	members, err := server.Members(r.ctx, c.Space, a.ID, max(1, c.Limit))
	if err != nil {
		return err
	}
	if r.json {
		return r.encode(map[string]any{"audience": a, "members": members})
	}
	fmt.Fprintf(r.Stdout, "%s (%s), %s, members: %d\n%s\n", a.Name, a.Key, a.Status, a.Size.Count, strings.TrimSpace(a.Definition.Query))
	if a.Since != "" {
		fmt.Fprintf(r.Stdout, "counts events since %s; those before it had been trimmed\n", a.Since)
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	for _, m := range members {
		fmt.Fprintf(w, "  %s\tsince %s\n", m.ID, m.Since)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if uint64(len(members)) < a.Size.Count {
		fmt.Fprintf(r.Stderr, "these are %d of %d; --limit shows more\n", len(members), a.Size.Count)
	}
	return nil
}
