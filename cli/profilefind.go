package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"kith/client"
	"kith/fault"
)

// searchCommand finds profiles.
type searchCommand struct {
	remote
	among
	waiting
	Beginning  string            `arg:"" optional:"" name:"beginning" help:"What an identifier begins with, as type:beginning or without a type: email:jo, or jo."`
	Trait      map[string]string `placeholder:"NAME=VALUE" mapsep:"none" help:"A trait and its value; may be given several times."`
	Prefix     bool              `help:"It is enough when a trait begins with the value."`
	IgnoreCase bool              `help:"Letter case of traits does not count."`
	Show       string            `default:"name,email" placeholder:"TRAITS" help:"Traits to show, comma between."`
	Limit      int               `default:"50" help:"How many profiles to show at most."`
}

// Run searches.
func (c *searchCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	if c.Beginning == "" && len(c.Trait) == 0 {
		return wrong("nothing to search by: give the beginning of an identifier, or --trait lastName=Smith")
	}
	s := client.Search{
		Space: c.Space, Collection: c.Collection, ExternalID: c.Beginning, Traits: c.Trait, Prefix: c.Prefix, IgnoreCase: c.IgnoreCase,
		Show: c.Show, Wait: c.wait(),
	}
	if name, value, ok := strings.Cut(c.Beginning, ":"); ok {
		s.Type, s.ExternalID = name, value
	}
	var found []client.Found
	complete, more := true, true
	for more && len(found) < c.Limit {
		s.Limit = min(c.Limit-len(found), profilePage)
		page, err := server.Search(r.ctx, s)
		if err != nil {
			return c.explain(err)
		}
		found = append(found, page.Data...)
		complete = complete && page.Complete
		s.Next, more = page.Cursor.Next, page.Cursor.HasMore
	}
	if r.json {
		return r.encode(map[string]any{"data": slices.Concat([]client.Found{}, found), "complete": complete, "has_more": more})
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	for _, f := range found {
		fmt.Fprint(w, f.ID)
		if f.Matched != nil {
			fmt.Fprintf(w, "\t%s:%s", f.Matched.Type, f.Matched.ID)
		}
		for _, name := range strings.Split(c.Show, ",") {
			if value, ok := f.Traits[name]; ok {
				fmt.Fprintf(w, "\t%s %s", name, value)
			}
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case !complete:
		fmt.Fprintln(r.Stderr, "The search index is still being filled: profiles may be missing.")
	case more:
		fmt.Fprintf(r.Stderr, "There are more: show up to N with --limit N.\n")
	case len(found) == 0:
		fmt.Fprintln(r.Stderr, "Nobody was found.")
	}
	return nil
}

// getProfilesCommand reads many profiles.
type getProfilesCommand struct {
	remote
	among
	waiting
	IDs     []string `arg:"" name:"type:value" help:"Identifiers, as user_id:u1, or ids of profiles, use_…"`
	Read    string   `default:"traits" enum:"traits,external_ids,metadata" help:"traits, external_ids or metadata."`
	Include []string `placeholder:"NAMES" help:"Traits, or types of identifiers, comma between."`
}

// Run reads them, in one moment of the store.
func (c *getProfilesCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	items, err := server.Batch(r.ctx, client.Batch{
		Space: c.Space, Collection: c.Collection, IDs: c.IDs, Read: c.Read, Include: c.Include, Wait: c.wait(),
	})
	if err != nil {
		return c.explain(err)
	}
	if r.json {
		for _, item := range items {
			if err := r.encode(item); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	for _, item := range items {
		fmt.Fprintln(w, item.ID)
		for _, name := range slices.Sorted(maps.Keys(item.Traits)) {
			fmt.Fprintf(w, "  %s\t%s\n", name, item.Traits[name])
		}
		for _, id := range item.ExternalIDs {
			fmt.Fprintf(w, "  %s\t%s\tsince %s\n", id.Type, id.ID, id.CreatedAt)
		}
		var metadata map[string]json.RawMessage
		_ = json.Unmarshal(item.Metadata, &metadata) // there may be none
		for _, name := range slices.Sorted(maps.Keys(metadata)) {
			fmt.Fprintf(w, "  %s\t%s\n", name, metadata[name])
		}
		if item.Error != nil {
			fmt.Fprintf(w, "  %s\n", item.Error.Message)
		}
	}
	return w.Flush()
}

// deleteIdentifierCommand takes identifiers away from a profile.
type deleteIdentifierCommand struct {
	remote
	among
	ID    string   `arg:"" name:"of" help:"Whose: an identifier, as user_id:u1, or a profile's id, use_…"`
	IDs   []string `arg:"" name:"type:value" help:"The identifiers to delete, up to 100: all of them are, or none."`
	Note  string   `placeholder:"TEXT" help:"Why, for those who look later."`
	Force bool     `help:"Also delete the identifier that the profile is named by, its last user_id, or one of an account."`
}

// Run orders the deletion and waits until it is carried out.
func (c *deleteIdentifierCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	var ids []client.ExternalID
	for _, text := range c.IDs {
		name, value, ok := strings.Cut(text, ":")
		if !ok || name == "" || value == "" {
			return wrong("%q is no identifier: want type:value, as in email:jo@example.com", text)
		}
		ids = append(ids, client.ExternalID{Type: name, ID: value})
	}
	done, err := server.DeleteIdentifiers(r.ctx, client.Profile{Space: c.Space, Collection: c.Collection, ID: c.ID}, ids, c.Note, c.Force)
	if fault.Is(err, fault.Invalid) && !c.Force {
		return fmt.Errorf("%w (--force does it, if it can be done)", err)
	}
	if err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(done)
	}
	_, err = fmt.Fprintln(r.Stdout, done.Message)
	return err
}

// clientTokenCommand makes a client token.
type clientTokenCommand struct {
	remote
	Space      string   `default:"default" placeholder:"SLUG" help:"The space."`
	Collection string   `default:"users" enum:"users,accounts" help:"users or accounts."`
	Profile    string   `arg:"" name:"type:value" help:"Whose profile it reads: an identifier, a profile's id, or * for all of the collection."`
	Reads      []string `default:"traits" help:"What it reads: traits, external_ids, events, metadata, links, comma between."`
	Include    []string `placeholder:"TRAITS" help:"The traits that it reads, comma between; all by default."`
	For        duration `default:"15m" placeholder:"TIME" help:"How long it lives: 15m by default, at most a day."`
	Origin     []string `placeholder:"URL" help:"Web pages that may use it, as https://app.example.com; may be given several times."`
}

// Run makes the token and prints it.
func (c *clientTokenCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	made, err := server.NewClientToken(r.ctx, c.Space, client.ClientToken{
		Profile: c.Profile, Collection: c.Collection, Reads: c.Reads, Include: c.Include, ExpiresIn: int(time.Duration(c.For) / time.Second), Origins: c.Origin,
	})
	if err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(made)
	}
	fmt.Fprintf(r.Stderr, "%s, until %s\n", made.ID, made.ExpiresAt)
	_, err = fmt.Fprintln(r.Stdout, made.Token)
	return err
}
