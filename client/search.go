package client

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
)

// Search asks for profiles. Kith's own; Segment has none.
type Search struct {
	Space      string // id or slug
	Collection string // "users" or "accounts"; empty means users
	ExternalID string // what an identifier begins with
	Type       string // the identifier's type; empty means all
	// Traits and the values they should have. One of them must be listed in the
	// space's searchTraits, unless there is an ExternalID.
	Traits     map[string]string
	Prefix     bool   // it is enough when a trait begins with the value
	IgnoreCase bool   // of traits
	Show       string // traits to show, separated by commas
	Limit      int    // zero leaves it to the server
	Next       string // the cursor that the page before has given
	Wait       Wait
}

// Found is a profile that was found.
type Found struct {
	ID      string                     `json:"id"` // "use_…"
	Matched *ExternalID                `json:"matched,omitempty"`
	Traits  map[string]json.RawMessage `json:"traits,omitempty"`
}

// Results are a page of what was found.
type Results struct {
	Data []Found `json:"data"`
	// Complete is false while a trait that was listed lately is being indexed:
	// then profiles may be missing.
	Complete bool   `json:"complete"`
	Cursor   Cursor `json:"cursor"`
}

// Search looks for profiles.
func (c *Client) Search(ctx context.Context, s Search) (Results, error) {
	q := url.Values{}
	for name, value := range map[string]string{"external_id": s.ExternalID, "type": s.Type, "traits": s.Show, "next": s.Next} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, value := range s.Traits {
		q.Set("trait."+name, value)
	}
	if s.Prefix {
		q.Set("match", "prefix")
	}
	if s.IgnoreCase {
		q.Set("ignore_case", "true")
	}
	if s.Limit > 0 {
		q.Set("limit", strconv.Itoa(s.Limit))
	}
	s.Wait.set(q)
	var out Results
	err := c.do(ctx, "GET", profiles(s.Space, s.Collection)+"?"+q.Encode(), basic(c.token), nil, &out)
	return out, err
}

// Batch asks for the same of up to 1,000 profiles, of metadata 100.
type Batch struct {
	Space      string   `json:"-"`
	Collection string   `json:"-"`
	IDs        []string `json:"ids"`  // "type:value" or "use_…"
	Read       string   `json:"read"` // "traits", "external_ids" or "metadata"
	Include    []string `json:"include,omitempty"`
	Class      string   `json:"class,omitempty"`
	Verbose    bool     `json:"verbose,omitempty"`
	Limit      int      `json:"limit,omitempty"`
	Wait       Wait     `json:"-"`
}

// BatchItem is the answer for one profile: an error, or what was asked for.
type BatchItem struct {
	ID          string                     `json:"id"` // as it was asked for
	ProfileID   string                     `json:"profile_id,omitempty"`
	Traits      map[string]json.RawMessage `json:"traits,omitempty"`
	ExternalIDs []ExternalID               `json:"external_ids,omitempty"`
	Metadata    json.RawMessage            `json:"metadata,omitempty"`
	HasMore     bool                       `json:"has_more,omitempty"`
	Error       *BatchError                `json:"error,omitempty"`
}

// BatchError says why there is no answer for a profile.
type BatchError struct {
	Code    string `json:"code"` // "not_found", "validation_error", "too_large"
	Message string `json:"message"`
}

// Batch reads many profiles in one moment. The answers come in the order of
// the ids.
func (c *Client) Batch(ctx context.Context, b Batch) ([]BatchItem, error) {
	var out struct {
		Data []BatchItem `json:"data"`
	}
	q := url.Values{}
	b.Wait.set(q)
	path := profiles(b.Space, b.Collection) + "/batch"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	err := c.do(ctx, "POST", path, basic(c.token), b, &out)
	return out.Data, err
}

// Deleted says what became of identifiers that were to be deleted.
type Deleted struct {
	Code    string `json:"code"` // "success"; "accepted" when it is carried out later
	Message string `json:"message"`
	Deleted []struct {
		Type   string `json:"type"`
		ID     string `json:"id"`
		Offset uint64 `json:"offset"`
	} `json:"deleted"`
}

// DeleteIdentifiers takes identifiers away from a profile, all or none. force
// also deletes the one that the profile is named by, and the last user_id.
func (c *Client) DeleteIdentifiers(ctx context.Context, p Profile, ids []ExternalID, note string, force bool) (Deleted, error) {
	type one struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	}
	var body struct {
		IDs  []one  `json:"delete_external_ids"`
		Note string `json:"note,omitempty"`
	}
	body.Note = note
	for _, id := range ids {
		body.IDs = append(body.IDs, one{id.Type, id.ID})
	}
	path := profiles(p.Space, p.Collection) + "/" + url.PathEscape(p.ID) + "/external_ids/delete"
	if force {
		path += "?force=true"
	}
	var out Deleted
	err := c.do(ctx, "POST", path, basic(c.token), body, &out)
	return out, err
}

// ClientToken asks for a short-lived token with which an app reads profiles
// itself.
type ClientToken struct {
	Profile    string   `json:"profile"` // "type:value", "use_…", or "*" for all of the collection
	Collection string   `json:"collection,omitempty"`
	Reads      []string `json:"reads"`                // "traits", "external_ids", "events", "metadata", "links"
	Include    []string `json:"include,omitempty"`    // traits; empty: all
	ExpiresIn  int      `json:"expires_in,omitempty"` // seconds, up to a day; zero means 15 minutes
	Origins    []string `json:"origins,omitempty"`    // of web pages that may use it
}

// MadeClientToken is a client token.
type MadeClientToken struct {
	ID        string `json:"id"`
	Token     string `json:"token"`
	ExpiresAt string `json:"expires_at"`
}

// NewClientToken makes a client token for a space.
func (c *Client) NewClientToken(ctx context.Context, space string, t ClientToken) (MadeClientToken, error) {
	var out MadeClientToken
	err := c.do(ctx, "POST", "/v1/spaces/"+url.PathEscape(space)+"/client-tokens", basic(c.token), t, &out)
	return out, err
}

// RevokeClientToken makes a client token worthless before it ends; an empty id
// means all of the space.
func (c *Client) RevokeClientToken(ctx context.Context, space, id string) error {
	path := "/v1/spaces/" + url.PathEscape(space) + "/client-tokens"
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	return c.do(ctx, "DELETE", path, basic(c.token), nil, nil)
}
