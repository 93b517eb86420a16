package cli

import (
	"fmt"
	"net/http"
	"net/url"
)

// leaveCommand ends the membership of a user in an account.
type leaveCommand struct {
	remote
	Space   string `default:"default" placeholder:"SLUG" help:"The space."`
	By      string `placeholder:"NAME" help:"Who orders it."`
	Note    string `placeholder:"TEXT" help:"Why."`
	User    string `arg:"" name:"user" help:"An identifier of the user, as user_id:u1."`
	Account string `arg:"" name:"account" help:"An identifier of the account, as group_id:g1."`
}

// Run orders it and waits until it is carried out.
func (c *leaveCommand) Run(r *run) error {
	ids, err := readIDs([]string{c.User, c.Account})
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		Offset uint64 `json:"offset"`
		Done   bool   `json:"done"`
	}
	body := map[string]any{"user": ids[0], "account": ids[1]}
	if c.By != "" {
		body["by"] = c.By
	}
	if c.Note != "" {
		body["note"] = c.Note
	}
	if err := server.Call(r.ctx, http.MethodPost, "/spaces/"+url.PathEscape(c.Space)+"/identity/leave", body, &out); err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(out)
	}
	if !out.Done {
		fmt.Fprintf(r.Stdout, "Ordered as %d; not carried out yet.\n", out.Offset)
		return nil
	}
	fmt.Fprintf(r.Stdout, "%s is no member of %s.\n", c.User, c.Account)
	return nil
}
