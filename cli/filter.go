package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
)

// filterCommand says what an event filter would do.
type filterCommand struct {
	remote
	Condition string `arg:"" help:"The condition, in the filter query language: \"event = 'Heartbeat'\"."`
	Space     string `default:"default" placeholder:"SLUG" help:"The space."`
	Count     int    `default:"1000" help:"How many of the newest events to look at, up to 20,000."`
	Samples   int    `default:"5" help:"How many of those that match to show."`
}

// filterPreview is a preview as the API writes it.
type filterPreview struct {
	Condition string `json:"condition"`
	Looked    int    `json:"looked"`
	Matched   int    `json:"matched"`
	Profiles  int    `json:"profiles"`
	Oldest    string `json:"oldest,omitempty"`
	Newest    string `json:"newest,omitempty"`
	Names     []struct {
		Type  string `json:"type"`
		Event string `json:"event,omitempty"`
		Count int    `json:"count"`
	} `json:"names"`
	Samples []struct {
		MessageID  string          `json:"messageId"`
		Type       string          `json:"type"`
		Event      string          `json:"event,omitempty"`
		Source     string          `json:"source,omitempty"`
		ReceivedAt string          `json:"receivedAt"`
		ProfileID  string          `json:"profileId,omitempty"`
		Body       json.RawMessage `json:"body"`
	} `json:"samples"`
}

// Run shows what a condition would keep out.
func (c *filterCommand) Run(r *run) error {
	if c.Count < 1 || c.Samples < 0 {
		return wrong("--count: want at least 1; --samples: at least 0")
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	var p filterPreview
	ask := map[string]any{"if": c.Condition, "count": c.Count, "samples": c.Samples}
	if err := server.Call(r.ctx, "POST", "/spaces/"+url.PathEscape(c.Space)+"/filters/preview", ask, &p); err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(p)
	}
	return printPreview(r.Stdout, &p)
}

func printPreview(out io.Writer, p *filterPreview) error {
	if p.Looked == 0 {
		_, err := fmt.Fprintln(out, "There are no events yet.")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\n\n", p.Condition)
	fmt.Fprintf(w, "%d of the newest %d events match (%.1f%%). Profiles that they belong to: %d. Looked back to %s.\n",
		p.Matched, p.Looked, 100*float64(p.Matched)/float64(p.Looked), p.Profiles, p.Oldest)
	if p.Matched == 0 {
		return w.Flush()
	}
	fmt.Fprintln(w)
	for _, n := range p.Names {
		fmt.Fprintf(w, "  %d\t%s\n", n.Count, strings.TrimSpace(n.Type+" "+n.Event))
	}
	fmt.Fprintln(w)
	for _, s := range p.Samples {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", s.ReceivedAt, strings.TrimSpace(s.Type+" "+s.Event), s.Source, s.MessageID, cmp.Or(s.ProfileID, "nobody's"))
	}
	return w.Flush()
}
