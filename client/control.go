package client

import (
	"context"
	"encoding/json"
	"net/url"
)

// Audience is an audience and how it stands.
type Audience struct {
	ID         string `json:"id"`
	SpaceID    string `json:"spaceId"`
	Name       string `json:"name"`
	Key        string `json:"key"`
	Enabled    bool   `json:"enabled"`
	Status     string `json:"status"` // "Live", "Computing", …
	Definition struct {
		Query string `json:"query"`
	} `json:"definition"`
	Size struct {
		Count uint64 `json:"count"`
	} `json:"size"`
	Since string `json:"since"` // since when the events are counted that it asks for; empty: all are
}

// Member is a profile in an audience.
type Member struct {
	ID    string `json:"id"`    // "use_…"
	Since string `json:"since"` // empty when it is not known
}

// Audiences lists the audiences of a space, given by id or slug.
func (c *Client) Audiences(ctx context.Context, space string) ([]Audience, error) {
	var all []Audience
	err := c.pages(ctx, "/spaces/"+url.PathEscape(space)+"/audiences", "audiences", func(list json.RawMessage) error {
		var page []Audience
		err := json.Unmarshal(list, &page)
		all = append(all, page...)
		return err
	})
	return all, err
}

// Members lists up to limit profiles of an audience, given by id, in the order
// of their ids.
func (c *Client) Members(ctx context.Context, space, audience string, limit int) ([]Member, error) {
	var all []Member
	err := c.pages(ctx, "/spaces/"+url.PathEscape(space)+"/audiences/"+url.PathEscape(audience)+"/members", "members", func(list json.RawMessage) error {
		var page []Member
		err := json.Unmarshal(list, &page)
		all = append(all, page...)
		if err == nil && len(all) >= limit {
			err = errEnough
		}
		return err
	})
	return all[:min(limit, len(all))], err
}

// enough ends a list before its end.
type enough struct{}

// Error says what it is.
func (enough) Error() string { return "that is enough" }

var errEnough error = enough{}

// pages calls fn with what stands under name in each page of a list, until fn
// returns errEnough.
func (c *Client) pages(ctx context.Context, path, name string, fn func(list json.RawMessage) error) error {
	cursor := ""
	for {
		q := url.Values{"pagination.count": {"200"}}
		if cursor != "" {
			q.Set("pagination.cursor", cursor)
		}
		var page map[string]json.RawMessage
		if err := c.Call(ctx, "GET", path+"?"+q.Encode(), nil, &page); err != nil {
			return err
		}
		if err := fn(page[name]); err == errEnough { //nolint:errorlint // it comes as it is
			return nil
		} else if err != nil {
			return err
		}
		var info struct {
			Next *string `json:"next"`
		}
		if err := json.Unmarshal(page["pagination"], &info); err != nil {
			return err
		}
		if info.Next == nil || *info.Next == "" {
			return nil
		}
		cursor = *info.Next
	}
}

// Applied is what applying a workspace file changes, or would change.
type Applied struct {
	Changes  json.RawMessage `json:"changes"`
	Diff     string          `json:"diff"` // for people; empty when nothing differs
	DryRun   bool            `json:"dryRun"`
	Snapshot uint64          `json:"snapshot"` // the configuration in force now
}

// Apply changes the workspace into what a file says. variables are the values
// of those that the file names. With prune, what is missing from a list that
// the file has is removed.
func (c *Client) Apply(ctx context.Context, file []byte, variables map[string]string, prune, dryRun bool) (Applied, error) {
	var out Applied
	err := c.Call(ctx, "POST", "/workspace/apply", map[string]any{
		"file": string(file), "variables": variables, "prune": prune, "dryRun": dryRun,
	}, &out)
	return out, err
}

// Export returns the workspace as a file.
func (c *Client) Export(ctx context.Context) ([]byte, error) {
	var file []byte
	err := c.do(ctx, "GET", "/api/workspace/export", bearer(c.token), nil, &file)
	return file, err
}

// Slugs returns the slugs of all "sources" or "destinations" by their ids.
func (c *Client) Slugs(ctx context.Context, list string) (map[string]string, error) {
	slugs := map[string]string{}
	err := c.pages(ctx, "/"+list, list, func(raw json.RawMessage) error {
		var page []struct{ ID, Slug string }
		err := json.Unmarshal(raw, &page)
		for _, x := range page {
			slugs[x.ID] = x.Slug
		}
		return err
	})
	return slugs, err
}
