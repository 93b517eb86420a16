package cli

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"kith/fault"
)

// snippetCommand prints what a web page needs.
type snippetCommand struct {
	remote
	Source string `required:"" placeholder:"SLUG" help:"The source that the page sends to: its slug or id."`
}

// Run prints the snippet of a source.
func (c *snippetCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	sources, err := server.Sources(r.ctx)
	if err != nil {
		return c.explain(err)
	}
	var have []string
	for i := range sources {
		s := &sources[i]
		have = append(have, s.Slug)
		if s.Slug != c.Source && s.ID != c.Source {
			continue
		}
		snippet, err := server.Snippet(r.ctx, s.ID)
		if err != nil {
			return err
		}
		if r.json {
			return r.encode(snippet)
		}
		fmt.Fprint(r.Stdout, snippet.HTML)
		if local(snippet.Server) {
			fmt.Fprintf(r.Stderr, "this reaches %s from this machine only; a server that was started with --public-url says how others reach it\n", snippet.Server)
		}
		return nil
	}
	if len(have) == 0 {
		return fault.New(fault.NotFound, "there are no sources yet: declare one with \"kith apply\"")
	}
	return fault.New(fault.NotFound, "there is no source %q; there are: %s", c.Source, strings.Join(have, ", "))
}

// local reports whether a URL is of this machine.
func local(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.IsLoopback() || u.Hostname() == "localhost"
}
