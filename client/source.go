package client

import (
	"context"
	"encoding/json"
	"net/url"
)

// Source is a source of events.
type Source struct {
	ID        string   `json:"id"`
	Slug      string   `json:"slug"`
	Name      string   `json:"name"`
	Enabled   bool     `json:"enabled"`
	WriteKeys []string `json:"writeKeys"`
}

// Snippet is what a web page needs to send to a source.
type Snippet struct {
	HTML     string `json:"html"`
	Server   string `json:"server"` // the URL in it
	WriteKey string `json:"writeKey"`
}

// Sources lists the sources.
func (c *Client) Sources(ctx context.Context) ([]Source, error) {
	var all []Source
	err := c.pages(ctx, "/sources", "sources", func(list json.RawMessage) error {
		var page []Source
		err := json.Unmarshal(list, &page)
		all = append(all, page...)
		return err
	})
	return all, err
}

// Snippet returns the snippet of a source, given by id, with its first write
// key.
func (c *Client) Snippet(ctx context.Context, source string) (Snippet, error) {
	var out struct {
		Snippet Snippet `json:"snippet"`
	}
	err := c.Call(ctx, "GET", "/sources/"+url.PathEscape(source)+"/snippet", nil, &out)
	return out.Snippet, err
}
