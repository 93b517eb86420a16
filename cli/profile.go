package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"kith/client"
	"kith/fault"
)

// profileCommand is what there is to do with profiles.
type profileCommand struct {
	Show             showProfileCommand      `cmd:"" default:"withargs" help:"Show a profile: identifiers, traits, audiences, events."`
	Search           searchCommand           `cmd:"" help:"Find profiles by the beginning of an identifier, or by traits."`
	Get              getProfilesCommand      `cmd:"" help:"Read traits, identifiers or metadata of many profiles at once."`
	DeleteIdentifier deleteIdentifierCommand `cmd:"" help:"Take identifiers away from a profile, which keeps its traits and events."`
	ClientToken      clientTokenCommand      `cmd:"" help:"Make a short-lived token with which an app reads profiles itself."`
}

// among says which profiles are meant.
type among struct {
	Space      string `default:"default" placeholder:"SLUG" help:"The space."`
	Collection string `default:"users" enum:"users,accounts" help:"users or accounts."`
}

// waiting has a read see a message that was accepted before it.
type waiting struct {
	WaitFor     string `placeholder:"ID" help:"Wait until the message of this messageId is processed."`
	WaitTimeout int    `placeholder:"SECONDS" help:"How long to wait for it: 5 by default, at most 30."`
}

func (w *waiting) wait() client.Wait { return client.Wait{For: w.WaitFor, Limit: w.WaitTimeout} }

// showProfileCommand shows one profile.
type showProfileCommand struct {
	remote
	among
	waiting
	ID     string `arg:"" name:"type:value" help:"An identifier, as user_id:u1 or email:jo@example.com, or a profile's id, use_…"`
	Events int    `default:"10" help:"How many events to show, newest first, at most 100."`
	Types  string `placeholder:"TYPES" help:"Kinds of call to show: track, page, screen, identify, group, alias, comma between. By default the first three."`
}

// shownProfile is a profile as --json prints it.
type shownProfile struct {
	Identifiers []client.ExternalID        `json:"external_ids"`
	Traits      map[string]json.RawMessage `json:"traits"`
	Audiences   map[string]json.RawMessage `json:"audiences"`
	Links       []client.Link              `json:"links"`
	Events      []client.ProfileEvent      `json:"events"`
	Metadata    json.RawMessage            `json:"metadata"`
}

// Run shows the profile.
func (c *showProfileCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	p, err := c.read(r, server)
	if fault.Is(err, fault.NotFound) {
		return fmt.Errorf("nobody in the space %s has the identifier %s: %w", c.Space, c.ID, err)
	}
	if err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(p)
	}
	return p.print(r.Stdout)
}

// profilePage is how much of a profile is read at a time.
const profilePage = 100

func (c *showProfileCommand) read(r *run, server *client.Client) (p *shownProfile, err error) {
	of := client.Profile{Space: c.Space, Collection: c.Collection, ID: c.ID}
	p = &shownProfile{}
	// What is waited for first is in all reads behind it.
	if p.Metadata, err = server.Metadata(r.ctx, of, c.wait()); err != nil {
		return nil, err
	}
	p.Identifiers, err = everything(func(page client.Page) ([]client.ExternalID, client.Cursor, error) {
		return server.ExternalIDs(r.ctx, of, page)
	})
	if err != nil {
		return nil, err
	}
	if p.Traits, err = traits(r, server, of, ""); err != nil {
		return nil, err
	}
	if p.Audiences, err = traits(r, server, of, "audience"); err != nil {
		return nil, err
	}
	for key := range p.Audiences {
		delete(p.Traits, key)
	}
	if p.Links, _, err = server.Links(r.ctx, of, client.Page{Limit: 20}); err != nil {
		return nil, err
	}
	if c.Events > 0 {
		if p.Events, _, err = server.Events(r.ctx, of, client.Page{Limit: c.Events, Types: c.Types}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func traits(r *run, server *client.Client, of client.Profile, class string) (map[string]json.RawMessage, error) {
	all := map[string]json.RawMessage{}
	page := client.Page{Limit: profilePage, Class: class}
	for {
		some, cursor, err := server.Traits(r.ctx, of, page)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, some)
		if !cursor.HasMore {
			return all, nil
		}
		page.Next = cursor.Next
	}
}

// everything reads all pages of a list.
func everything[T any](read func(client.Page) ([]T, client.Cursor, error)) (all []T, err error) {
	page := client.Page{Limit: profilePage}
	for {
		some, cursor, err := read(page)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if !cursor.HasMore {
			return all, nil
		}
		page.Next = cursor.Next
	}
}

// print writes the profile for people.
func (p *shownProfile) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "Identifiers")
	for _, id := range p.Identifiers {
		fmt.Fprintf(w, "  %s\t%s\tsince %s\n", id.Type, id.ID, id.CreatedAt)
	}
	section(w, "Traits", p.Traits)
	section(w, "Audiences", p.Audiences)
	if len(p.Links) > 0 {
		fmt.Fprintln(w, "Linked to")
		for _, l := range p.Links {
			for _, id := range l.ExternalIDs {
				fmt.Fprintf(w, "  %s\t%s\t%s\n", l.ToCollection, id.Type, id.ID)
			}
		}
	}
	if len(p.Events) > 0 {
		fmt.Fprintln(w, "Events, newest first")
		for _, e := range p.Events {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", e.Timestamp, cmp.Or(e.Event, e.Type), said(e))
		}
	}
	return w.Flush()
}

// said returns what a call says: its properties, or of calls without any the
// traits.
func said(e client.ProfileEvent) json.RawMessage {
	if e.Trimmed {
		return json.RawMessage("(trimmed)")
	}
	if len(e.Traits) > 0 {
		return e.Traits
	}
	return e.Properties
}

func section(w io.Writer, title string, values map[string]json.RawMessage) {
	if len(values) == 0 {
		return
	}
	fmt.Fprintln(w, title)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(w, "  %s\t%s\n", name, values[name])
	}
}
