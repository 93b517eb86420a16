package cli

import (
	"fmt"
	"net/url"

	"kith/api"
	"kith/client"
)

// retentionCommand lets events go by their age.
type retentionCommand struct {
	Status retentionStatusCommand `cmd:"" default:"withargs" help:"Show how long a space keeps its events, how far they are trimmed, and what holds that back."`
	Set    retentionSetCommand    `cmd:"" help:"Say how long a space keeps the bodies of its events."`
	Run    retentionRunCommand    `cmd:"" help:"Trim what is too old now, and not at the next daily look."`
}

// retentionSpace is which space a retention is of.
type retentionSpace struct {
	remote
	Space string `default:"default" placeholder:"SLUG" help:"The space, default by default."`
}

func (c *retentionSpace) call(r *run, server *client.Client, method, verb string, in any) (*api.Retained, error) {
	var out struct {
		Retention *api.Retained `json:"retention"`
	}
	if err := server.Call(r.ctx, method, "/spaces/"+url.PathEscape(c.Space)+"/retention"+verb, in, &out); err != nil {
		return nil, c.explain(err)
	}
	return out.Retention, nil
}

// show prints how the retention of a space stands.
func (c *retentionSpace) show(r *run, one *api.Retained) error {
	if r.json {
		return r.encode(one)
	}
	keeps := one.Keeps
	if one.Setting == "" {
		keeps += ", as the server says"
	}
	fmt.Fprintf(r.Stdout, "keeps events: %s\n", keeps)
	if one.Horizon == 0 {
		fmt.Fprintln(r.Stdout, "nothing has been trimmed")
	} else {
		fmt.Fprintf(r.Stdout, "whole since: %s (record %s), moved there at %s\n", one.Since, grouped(one.Horizon), one.MovedAt)
		fmt.Fprintf(r.Stdout, "trimmed: %s bodies, %s bytes as they are packed\n", grouped(one.Trimmed), grouped(uint64(max(0, one.Bytes))))
	}
	switch one.State {
	case "advancing":
		fmt.Fprintln(r.Stdout, "under way: "+advanceText(one))
	case "trimming":
		fmt.Fprintln(r.Stdout, "under way: taking old bodies out of the files")
	case "failed":
		fmt.Fprintln(r.Stdout, "failed, and will be tried again: "+one.Error)
	}
	if x := one.LastRun; x != nil {
		fmt.Fprintf(r.Stdout, "last run: %s, to keep events since %s\n", x.At, x.Before)
		for _, h := range x.Holds {
			who := h.Destination
			if who == "" {
				who = h.DestinationID
			}
			if who != "" {
				who = "destination " + who + ": "
			}
			fmt.Fprintf(r.Stdout, "  held back since %s: %s%s\n", h.Since, who, h.Why)
		}
	}
	if one.NextRun != "" {
		fmt.Fprintf(r.Stdout, "next run: %s\n", one.NextRun)
	}
	return nil
}

func advanceText(one *api.Retained) string {
	text := fmt.Sprintf("keeping what old events made: %s of %s records", grouped(one.Done), grouped(one.Total))
	if one.Waits != "" {
		text += "; waits: " + one.Waits
	}
	return text
}

type retentionStatusCommand struct{ retentionSpace }

// Run shows how the retention of a space stands.
func (c *retentionStatusCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	one, err := c.call(r, server, "GET", "", nil)
	if err != nil {
		return err
	}
	return c.show(r, one)
}

type retentionSetCommand struct {
	retentionSpace
	Setting string `arg:"" help:"90d, 12w, 36h or forever; default: as the server says (--retention)."`
}

// Run changes how long a space keeps its events.
func (c *retentionSetCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	setting := c.Setting
	if setting == "default" {
		setting = ""
	}
	one, err := c.call(r, server, "PUT", "", map[string]any{"setting": setting})
	if err != nil {
		return err
	}
	return c.show(r, one)
}

type retentionRunCommand struct {
	retentionSpace
	Wait bool `help:"Wait until no file holds what was trimmed."`
}

// Run has the old events go now.
func (c *retentionRunCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	one, err := c.call(r, server, "POST", "/run", map[string]any{})
	if err != nil {
		return err
	}
	if c.Wait {
		left := "it goes on in the server; how it stands: kith retention" + spaceFlag(c.Space)
		if one, err = follow(r, following[*api.Retained]{
			ask: func() (*api.Retained, error) { return c.call(r, server, "GET", "", nil) },
			tell: func(one *api.Retained) (string, bool) {
				switch one.State {
				case "advancing":
					return advanceText(one), true
				case "trimming":
					return "taking old bodies out of the files", true
				}
				return "", false
			},
			left: left, gone: left,
		}); err != nil {
			return err
		}
	}
	return c.show(r, one)
}
