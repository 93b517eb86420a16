package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// OAuthApp is an OAuth application.
type OAuthApp struct {
	ID              string     `json:"id"` // the SDKs' clientId
	Name            string     `json:"name"`
	Keys            []OAuthKey `json:"keys"`
	Scopes          []string   `json:"scopes"`
	TokenTTLSeconds int64      `json:"tokenTtlSeconds"`
	AllSources      bool       `json:"allSources"`
	SourceIDs       []string   `json:"sourceIds"`
	CreatedAt       string     `json:"createdAt"`
}

// OAuthKey is a public key of an application.
type OAuthKey struct {
	ID        string `json:"id"` // the SDKs' keyId
	Name      string `json:"name"`
	PublicKey string `json:"publicKey"` // PEM
	CreatedAt string `json:"createdAt"`
}

// NewOAuthApp is what an application is made of.
type NewOAuthApp struct {
	Name            string   `json:"name"`
	PublicKey       string   `json:"publicKey,omitempty"` // PEM
	KeyName         string   `json:"keyName,omitempty"`
	TokenTTLSeconds int64    `json:"tokenTtlSeconds,omitempty"` // the server's default when zero
	AllSources      bool     `json:"allSources,omitempty"`
	Sources         []string `json:"sourceIds,omitempty"` // ids or slugs
}

// OAuthApps returns all OAuth applications.
func (c *Client) OAuthApps(ctx context.Context) ([]OAuthApp, error) {
	var all []OAuthApp
	err := c.pages(ctx, "/oauth/apps", "apps", func(list json.RawMessage) error {
		var page []OAuthApp
		err := json.Unmarshal(list, &page)
		all = append(all, page...)
		return err
	})
	return all, err
}

// CreateOAuthApp adds an OAuth application.
func (c *Client) CreateOAuthApp(ctx context.Context, a NewOAuthApp) (OAuthApp, error) {
	var out struct{ App OAuthApp }
	err := c.Call(ctx, http.MethodPost, "/oauth/apps", a, &out)
	return out.App, err
}

// DeleteOAuthApp deletes an application; its access tokens are worth nothing
// from then on.
func (c *Client) DeleteOAuthApp(ctx context.Context, id string) error {
	return c.Call(ctx, http.MethodDelete, "/oauth/apps/"+url.PathEscape(id), nil, nil)
}

// AddOAuthKey adds a public key in PEM to an application.
func (c *Client) AddOAuthKey(ctx context.Context, app, name, publicKey string) (OAuthApp, error) {
	var out struct{ App OAuthApp }
	err := c.Call(ctx, http.MethodPost, "/oauth/apps/"+url.PathEscape(app)+"/keys", map[string]string{"name": name, "publicKey": publicKey}, &out)
	return out.App, err
}

// DeleteOAuthKey deletes a key; the access tokens that were got with it are
// worth nothing from then on.
func (c *Client) DeleteOAuthKey(ctx context.Context, app, key string) error {
	return c.Call(ctx, http.MethodDelete, "/oauth/apps/"+url.PathEscape(app)+"/keys/"+url.PathEscape(key), nil, nil)
}

// RevokeOAuthToken makes an access token worthless.
func (c *Client) RevokeOAuthToken(ctx context.Context, token string) error {
	return c.Call(ctx, http.MethodPost, "/oauth/revoke", map[string]string{"token": token}, nil)
}
