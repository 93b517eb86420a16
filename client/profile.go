package client

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
)

// Profile names a profile in a space.
type Profile struct {
	Space      string // id or slug
	Collection string // "users" or "accounts"; empty means users
	ID         string // "type:value" or "use_…"
}

// Page asks for a part of a list.
type Page struct {
	Limit   int    // zero leaves it to the server
	Next    string // the cursor that the part before has given
	Include string // names or types, separated by commas
	Class   string // of traits: "audience" or "computed_trait"
	Verbose bool
	// Types are kinds of call, separated by commas, for which events are read;
	// empty: track, page and screen, all shown as track.
	Types string
	Wait  Wait
}

// Wait has a read see a message that was accepted before it.
type Wait struct {
	For   string // the message's id; empty: nothing is waited for
	Limit int    // seconds, at most 30; zero leaves it to the server
}

func (w Wait) set(q url.Values) {
	if w.For != "" {
		q.Set("wait_for", w.For)
	}
	if w.Limit > 0 {
		q.Set("wait_timeout", strconv.Itoa(w.Limit))
	}
}

// Cursor is where a list goes on.
type Cursor struct {
	HasMore bool   `json:"has_more"`
	Next    string `json:"next"`
	Limit   int    `json:"limit"`
	URL     string `json:"url"`
}

// ExternalID is an identifier of a profile, as the Profile API shows it.
type ExternalID struct {
	Collection string `json:"collection"`
	Type       string `json:"type"`
	ID         string `json:"id"`
	SourceID   string `json:"source_id,omitempty"`
	CreatedAt  string `json:"created_at,omitempty"`
}

// ProfileEvent is an event in a profile's history.
type ProfileEvent struct {
	Type        string          `json:"type"`
	Event       string          `json:"event"`
	MessageID   string          `json:"message_id"`
	SourceID    string          `json:"source_id"`
	Timestamp   string          `json:"timestamp"`
	Properties  json.RawMessage `json:"properties"`
	Traits      json.RawMessage `json:"traits,omitempty"` // of identify and group calls
	Context     json.RawMessage `json:"context,omitempty"`
	ExternalIDs []ExternalID    `json:"external_ids"`
	Trimmed     bool            `json:"trimmed,omitempty"` // older than the space's retention: only the head is kept
}

// Link is a profile of the other collection that a profile is linked to.
type Link struct {
	ToCollection string       `json:"to_collection"`
	ExternalIDs  []ExternalID `json:"external_ids"`
}

// Traits reads a profile's traits: by name the value, or with Verbose
// {"value","source_id","updated_at"}.
func (c *Client) Traits(ctx context.Context, p Profile, page Page) (map[string]json.RawMessage, Cursor, error) {
	var out struct {
		Traits map[string]json.RawMessage `json:"traits"`
		Cursor Cursor                     `json:"cursor"`
	}
	err := c.profile(ctx, p, "traits", page, &out)
	return out.Traits, out.Cursor, err
}

// ExternalIDs reads a profile's identifiers.
func (c *Client) ExternalIDs(ctx context.Context, p Profile, page Page) ([]ExternalID, Cursor, error) {
	var out struct {
		Data   []ExternalID `json:"data"`
		Cursor Cursor       `json:"cursor"`
	}
	err := c.profile(ctx, p, "external_ids", page, &out)
	return out.Data, out.Cursor, err
}

// Events reads a profile's events, newest first.
func (c *Client) Events(ctx context.Context, p Profile, page Page) ([]ProfileEvent, Cursor, error) {
	var out struct {
		Data   []ProfileEvent `json:"data"`
		Cursor Cursor         `json:"cursor"`
	}
	err := c.profile(ctx, p, "events", page, &out)
	return out.Data, out.Cursor, err
}

// Links reads the accounts of a person, or the people of an account.
func (c *Client) Links(ctx context.Context, p Profile, page Page) ([]Link, Cursor, error) {
	var out struct {
		Data   []Link `json:"data"`
		Cursor Cursor `json:"cursor"`
	}
	err := c.profile(ctx, p, "links", page, &out)
	return out.Data, out.Cursor, err
}

// Metadata reads when and from where a profile came, as the Profile API says
// it.
func (c *Client) Metadata(ctx context.Context, p Profile, wait Wait) (json.RawMessage, error) {
	var out struct {
		Metadata json.RawMessage `json:"metadata"`
	}
	err := c.profile(ctx, p, "metadata", Page{Wait: wait}, &out)
	return out.Metadata, err
}

func (c *Client) profile(ctx context.Context, p Profile, what string, page Page, out any) error {
	q := url.Values{}
	if page.Limit > 0 {
		q.Set("limit", strconv.Itoa(page.Limit))
	}
	for name, value := range map[string]string{"next": page.Next, "include": page.Include, "class": page.Class, "types": page.Types} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if page.Verbose {
		q.Set("verbose", "true")
	}
	page.Wait.set(q)
	path := profiles(p.Space, p.Collection) + "/" + url.PathEscape(p.ID) + "/" + what
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return c.do(ctx, "GET", path, basic(c.token), nil, out)
}

// profiles is the path of a space's profiles.
func profiles(space, collection string) string {
	if collection == "" {
		collection = "users"
	}
	return "/v1/spaces/" + url.PathEscape(space) + "/collections/" + url.PathEscape(collection) + "/profiles"
}
