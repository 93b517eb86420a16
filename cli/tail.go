package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"strconv"
	"strings"
	"time"

	"kith/client"
	"kith/inspect"
)

// tailCommand shows live events.
type tailCommand struct {
	remote
	Stage       []string `placeholder:"STAGE,…" help:"Only these stages: ${stages}."`
	Space       string   `placeholder:"SLUG" help:"Only of this space."`
	Source      string   `placeholder:"SLUG" help:"Only of this source."`
	Destination string   `placeholder:"SLUG" help:"Only of this destination."`
	Of          string   `name:"profile" placeholder:"use_…" help:"Only of this profile."`
	ID          string   `name:"id" placeholder:"ID" help:"Only with this messageId, userId, anonymousId, groupId or other identifier, record id or profile."`
	Rejected    bool     `help:"Only what was not accepted; the same as --stage rejected."`
	Raw         bool     `help:"What came in, as it was accepted or refused; the same as --stage accepted,rejected --body."`
	Recent      int      `default:"20" help:"How many from before to begin with, at most 1,000. They come without the events themselves."`
	Body        bool     `help:"Show the events themselves too."`
}

// Run shows events until the process is told to stop.
func (c *tailCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	for _, s := range c.Stage {
		if !isStage(s) {
			return wrong("--stage: %q is no stage: want some of %s", s, stageNames())
		}
	}
	switch {
	case c.Raw && len(c.Stage) == 0 && !c.Rejected:
		c.Stage = []string{string(inspect.Accepted), string(inspect.Rejected)}
	case c.Rejected:
		c.Stage = append(c.Stage, string(inspect.Rejected))
	}
	c.Body = c.Body || c.Raw
	names, err := slugs(r.ctx, server)
	if err != nil {
		return c.explain(err)
	}
	q := url.Values{"stage": c.Stage, "recent": {strconv.Itoa(c.Recent)}}
	for name, value := range map[string]string{"space": c.Space, "source": c.Source, "destination": c.Destination, "profile": c.Of, "id": c.ID} {
		if value != "" {
			q.Set(name, value)
		}
	}
	fmt.Fprintf(r.Stderr, "watching %s; Ctrl-C stops\n", server.Base())
	return server.Stream(r.ctx, "/live?"+q.Encode(), func(m client.Message) error {
		if m.Event == "dropped" {
			var lost struct{ Dropped uint64 }
			if err := json.Unmarshal(m.Data, &lost); err != nil {
				return err
			}
			fmt.Fprintf(r.Stderr, "(%d so far came faster than they could be shown)\n", lost.Dropped)
			return nil
		}
		if r.json {
			_, err := fmt.Fprintf(r.Stdout, "%s\n", m.Data)
			return err
		}
		var item inspect.Item
		if err := json.Unmarshal(m.Data, &item); err != nil {
			return err
		}
		names.learn(r.ctx, server, item.Source, item.Destination)
		_, err := fmt.Fprintln(r.Stdout, tailLine(&item, names, c.Body))
		return err
	})
}

func isStage(name string) bool {
	for _, s := range inspect.Stages() {
		if string(s) == name {
			return true
		}
	}
	return false
}

func stageNames() string {
	var names []string
	for _, s := range inspect.Stages() {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

// slugNames are the slugs of sources and destinations by their ids.
type slugNames map[string]string

// learn asks again when an id is new, since sources and destinations are added
// while events are watched. An id that nothing has any more stands for itself,
// and so does one whose slug cannot be had now: it is no reason to stop.
func (n slugNames) learn(ctx context.Context, server *client.Client, ids ...string) {
	for _, id := range ids {
		if _, known := n[id]; known || id == "" {
			continue
		}
		now, err := slugs(ctx, server)
		if err != nil {
			return
		}
		maps.Copy(n, now)
		if _, known := n[id]; !known {
			n[id] = id
		}
	}
}

// slugs returns the slugs of sources and destinations by their ids.
func slugs(ctx context.Context, server *client.Client) (slugNames, error) {
	names := slugNames{}
	for _, list := range []string{"sources", "destinations"} {
		all, err := server.Slugs(ctx, list)
		if err != nil {
			return nil, err
		}
		for id, slug := range all {
			names[id] = slug
		}
	}
	return names, nil
}

// tailLine writes an item as one line, and its body under it.
func tailLine(i *inspect.Item, names slugNames, body bool) string {
	place := i.Source
	if i.Destination != "" {
		place = i.Destination
	}
	if slug, ok := names[place]; ok {
		place = slug
	}
	who := i.Who
	if i.Profile != "" {
		who = strings.TrimSpace(who + " " + i.Profile)
	}
	what := strings.TrimSpace(i.Type + " " + i.Name)
	if i.Type == "" {
		what = i.Name
	}
	line := fmt.Sprintf("%s  %-9s  %-16s  %-32s  %s", i.At.Local().Format(time.TimeOnly+".000"), i.Stage, place, what, who)
	if i.Detail != "" {
		line += "  " + i.Detail
	}
	line = strings.TrimRight(line, " ")
	if body && len(i.Body) > 0 {
		line += "\n    " + string(i.Body)
	}
	return line
}
