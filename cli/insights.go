package cli

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
)

// insightsCommand shows what identity did and refused.
type insightsCommand struct {
	remote
	Space     string   `default:"default" placeholder:"SLUG" help:"The space."`
	Kind      []string `placeholder:"KIND" help:"violation, drop, merge, mapping, profile, trait, split, removal, account, erasure, rebuild or guard; several with commas."`
	Violation string   `placeholder:"NAME" help:"The name of a violation, whole: 'ID value blocked'."`
	Type      string   `placeholder:"TYPE" help:"The identifier's type."`
	Value     string   `placeholder:"VALUE" help:"The identifier's value."`
	Profile   string   `placeholder:"ID" help:"A profile's id, use_…"`
	Source    string   `placeholder:"SLUG" help:"The source."`
	Message   string   `placeholder:"ID" help:"A messageId."`
	From      string   `placeholder:"TIME" help:"Since when: 24h, 7d, or an instant as 2026-01-31T12:00:00Z."`
	To        string   `placeholder:"TIME" help:"Until when, likewise."`
	Limit     int      `default:"50" help:"How many to show, newest first."`
	Counts    bool     `help:"Count them in place of listing them."`
	Grain     string   `default:"day" enum:"minute,hour,day" help:"With --counts: minute, hour or day."`
	By        []string `placeholder:"WHAT" help:"With --counts: tell apart by source, type."`
}

// insight is an insight as the API writes it.
type insight struct {
	At         string `json:"at"`
	Kind       string `json:"kind"`
	What       string `json:"what"`
	Reason     string `json:"reason,omitempty"`
	Identifier *struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"identifier,omitempty"`
	Trait     string `json:"trait,omitempty"`
	Detail    string `json:"detail,omitempty"`
	ProfileID string `json:"profileId,omitempty"`
	OtherID   string `json:"otherId,omitempty"`
	RecordID  string `json:"recordId,omitempty"`
	Message   *struct {
		MessageID string `json:"messageId"`
		Offset    uint64 `json:"offset"`
		SourceID  string `json:"sourceId,omitempty"`
		Source    string `json:"source,omitempty"`
		Type      string `json:"type"`
		Event     string `json:"event,omitempty"`
	} `json:"message,omitempty"`
}

// maxInsightsPage is how many insights one call asks for.
const maxInsightsPage = 500

// Run shows insights or their counts.
func (c *insightsCommand) Run(r *run) error {
	if c.Counts {
		return c.counts(r)
	}
	if c.Limit < 1 {
		return wrong("--limit: want at least 1")
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	q := c.query()
	left := c.Limit
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	shown := 0
	for {
		q.Set("limit", strconv.Itoa(min(left, maxInsightsPage)))
		var page struct {
			Insights []insight `json:"insights"`
			Next     string    `json:"next"`
			Back     string    `json:"searchedBackTo"`
		}
		if err := server.Call(r.ctx, "GET", "/spaces/"+url.PathEscape(c.Space)+"/identity/insights?"+q.Encode(), nil, &page); err != nil {
			return c.explain(err)
		}
		for i := range page.Insights {
			shown++
			if r.json {
				if err := r.encode(page.Insights[i]); err != nil {
					return err
				}
				continue
			}
			page.Insights[i].print(w)
		}
		if left -= len(page.Insights); left == 0 || page.Next == "" {
			break
		}
		if len(page.Insights) == 0 {
			fmt.Fprintf(r.Stderr, "looked back to %s\n", page.Back)
		}
		q.Set("next", page.Next)
	}
	if shown == 0 && !r.json {
		fmt.Fprintln(r.Stderr, "There is nothing of that.")
	}
	return w.Flush()
}

func (c *insightsCommand) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"violation": c.Violation, "type": c.Type, "value": c.Value, "profile": c.Profile, "source": c.Source, "messageId": c.Message, "from": c.From, "to": c.To,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if len(c.Kind) > 0 {
		q["kind"] = c.Kind
	}
	return q
}

func (x *insight) print(w io.Writer) {
	var about []string
	say := func(format string, args ...any) { about = append(about, fmt.Sprintf(format, args...)) }
	if x.Identifier != nil {
		say("%s:%s", x.Identifier.Type, x.Identifier.ID)
	}
	if x.Trait != "" {
		say("trait %s", x.Trait)
	}
	if x.ProfileID != "" {
		say("%s", x.ProfileID)
	}
	if x.OtherID != "" {
		say("other %s", x.OtherID)
	}
	switch {
	case x.Reason != "" && x.Detail != "":
		say("%s: %s", x.Reason, x.Detail)
	case x.Reason+x.Detail != "":
		say("%s", cmp.Or(x.Reason, x.Detail))
	}
	by := "record " + x.RecordID
	if m := x.Message; m != nil {
		by = strings.TrimSpace(fmt.Sprintf("%s %s from %s", m.MessageID, cmp.Or(m.Event, m.Type), m.Source))
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.At, x.What, strings.Join(about, ", "), by)
}

// counts shows how many there were, over time.
func (c *insightsCommand) counts(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	q := url.Values{"grain": {c.Grain}}
	for name, list := range map[string][]string{"kind": c.Kind, "by": c.By} {
		if len(list) > 0 {
			q[name] = list
		}
	}
	for name, value := range map[string]string{"from": c.From, "to": c.To} {
		if value != "" {
			q.Set(name, value)
		}
	}
	var found struct {
		Counts []struct {
			Start    string `json:"start"`
			Kind     string `json:"kind"`
			Reason   string `json:"reason,omitempty"`
			Type     string `json:"type,omitempty"`
			SourceID string `json:"sourceId,omitempty"`
			Source   string `json:"source,omitempty"`
			Count    uint64 `json:"count"`
		} `json:"counts"`
	}
	if err := server.Call(r.ctx, "GET", "/spaces/"+url.PathEscape(c.Space)+"/identity/insights/counts?"+q.Encode(), nil, &found); err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(found)
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	for _, n := range found.Counts {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", n.Start, n.Count, n.Kind, strings.Join(kept(n.Reason, n.Type, n.Source), ", "))
	}
	return w.Flush()
}

// kept returns the words that are not empty.
func kept(words ...string) (list []string) {
	for _, w := range words {
		if w != "" {
			list = append(list, w)
		}
	}
	return list
}
