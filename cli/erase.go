package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"kith/api"
	"kith/client"
	"kith/fault"
)

// eraseCommand forgets persons.
type eraseCommand struct {
	remote
	Space string   `default:"default" placeholder:"SLUG" help:"The space, default by default."`
	Note  string   `placeholder:"TEXT" help:"Why, for people."`
	Wait  bool     `help:"Begin with the files at once, and wait until no file holds anything of them."`
	IDs   []string `arg:"" name:"id" help:"Whom: identifiers such as email:jo@example.com or user_id:42, or ids of profiles, use_…"`
}

// Run orders an erasure, and waits for its receipt when it is asked to.
func (c *eraseCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	in := map[string]any{"note": c.Note, "now": c.Wait}
	var profiles []string
	var ids []identityID
	for _, text := range c.IDs {
		kind, value, named := strings.Cut(text, ":")
		switch {
		case strings.HasPrefix(text, "use_") && !named:
			profiles = append(profiles, text)
		case !named || kind == "" || value == "":
			return fault.Field("id", "%q names nobody: want an identifier as type:value, such as email:jo@example.com, or a profile's id, use_…", text)
		default:
			ids = append(ids, identityID{Type: kind, ID: value})
		}
	}
	in["profiles"], in["identifiers"] = profiles, ids
	path := "/spaces/" + url.PathEscape(c.Space) + "/erasures"
	one, err := c.call(r.ctx, server, "POST", path, in)
	if err != nil {
		return err
	}
	if c.Wait {
		if one, err = c.complete(r, server, fmt.Sprintf("%s/%d", path, one.ID)); err != nil {
			return err
		}
	}
	if r.json {
		return r.encode(one)
	}
	fmt.Fprintf(r.Stdout, "erasure %d: persons erased: %d\n", one.ID, one.Persons)
	if one.Persons == 0 {
		fmt.Fprintln(r.Stdout, "nobody has an identifier of these now: is it spelt right?")
	}
	if one.State != "complete" {
		fmt.Fprintf(r.Stdout, "their events are hidden from now on, and gone from all files by %s\n", one.CompleteBy)
		return nil
	}
	fmt.Fprintf(r.Stdout, "events erased: %d, events of others redacted: %d, blocks written anew: %d; complete at %s\nreceipt %s\n",
		one.Receipt.Erased, one.Receipt.Redacted, one.Receipt.Blocks, one.Receipt.CompletedAt, one.Receipt.Hash)
	if one.Receipt.Uploads > 0 {
		fmt.Fprintf(r.Stdout, "unfinished imports whose files may name them: %d; the files go when the imports end, 7 days after a pause at the latest\n", one.Receipt.Uploads)
	}
	if one.Receipt.Left != "" {
		fmt.Fprintln(r.Stdout, one.Receipt.Left)
	}
	return nil
}

func (c *eraseCommand) call(ctx context.Context, server *client.Client, method, path string, in any) (*api.Erased, error) {
	var out struct {
		Erasure *api.Erased `json:"erasure"`
	}
	if err := server.Call(ctx, method, path, in, &out); err != nil {
		return nil, c.explain(err)
	}
	return out.Erasure, nil
}

// complete follows the erasure until it is complete.
func (c *eraseCommand) complete(r *run, server *client.Client, at string) (*api.Erased, error) {
	left := "the erasure goes on in the server; how it stands is at GET /api" + at
	return follow(r, following[*api.Erased]{
		ask: func() (*api.Erased, error) { return c.call(r.ctx, server, "GET", at, nil) },
		tell: func(one *api.Erased) (string, bool) {
			if one.Error != "" {
				return "its last try failed: " + one.Error, one.State != "complete"
			}
			return fmt.Sprintf("%s of %s records and outputs read", grouped(one.Done), grouped(one.Total)), one.State != "complete"
		},
		left: left, gone: left,
	})
}
