package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"kith/auth"
	"kith/fault"
	"kith/workspace"
)

const tagOAuth = "OAuth"

// OAuth keeps the applications that get access tokens; auth.OAuth has its
// methods.
type OAuth interface {
	// Apps returns all applications, the oldest first.
	Apps() []auth.App
	// App returns one; fault.NotFound.
	App(id string) (auth.App, error)
	// CreateApp adds one.
	CreateApp(ctx context.Context, a auth.App) (auth.App, error)
	// UpdateApp lets fn change one.
	UpdateApp(ctx context.Context, id string, fn func(*auth.App) error) (auth.App, error)
	// DeleteApp forgets one.
	DeleteApp(ctx context.Context, id string) error
	// RevokeToken makes one access token worthless.
	RevokeToken(ctx context.Context, token string) error
}

func (a *API) oauthRoutes() {
	handle(a, http.MethodGet, "/oauth/apps", "listOAuthApps", tagOAuth, a.listApps, about("Kith's own, as all of OAuth."))
	handle(a, http.MethodPost, "/oauth/apps", "createOAuthApp", tagOAuth, a.createApp, created,
		about("The SDKs are given the application's id as clientId, the key's id as keyId, the private key, and this server's URL as authServer."))
	handle(a, http.MethodGet, "/oauth/apps/{appId}", "getOAuthApp", tagOAuth, a.getApp)
	handle(a, http.MethodPatch, "/oauth/apps/{appId}", "updateOAuthApp", tagOAuth, a.updateApp,
		about("What is given takes the place of what there is; tokens that were given out are held to it at once, but keep their time."))
	handle(a, http.MethodDelete, "/oauth/apps/{appId}", "deleteOAuthApp", tagOAuth, a.deleteApp, about("Its access tokens are worth nothing from then on."))
	handle(a, http.MethodPost, "/oauth/apps/{appId}/keys", "addKeyToOAuthApp", tagOAuth, a.addAppKey, created)
	handle(a, http.MethodDelete, "/oauth/apps/{appId}/keys/{keyId}", "removeKeyFromOAuthApp", tagOAuth, a.removeAppKey,
		about("The access tokens that were got with it are worth nothing from then on."))
	handle(a, http.MethodPost, "/oauth/revoke", "revokeOAuthToken", tagOAuth, a.revokeAccess)
}

type appKeyBody struct {
	ID        string `json:"id" doc:"The SDKs' keyId, the JWT's kid"`
	Name      string `json:"name"`
	PublicKey string `json:"publicKey" doc:"PEM"`
	CreatedAt string `json:"createdAt"`
}

type appBody struct {
	ID              string       `json:"id" doc:"The SDKs' clientId, the JWT's sub"`
	Name            string       `json:"name"`
	Keys            []appKeyBody `json:"keys"`
	Scopes          []string     `json:"scopes"`
	TokenTTLSeconds int64        `json:"tokenTtlSeconds" doc:"How long an access token lives"`
	AllSources      bool         `json:"allSources" doc:"Tokens are good for all sources, those to come too"`
	SourceIDs       []string     `json:"sourceIds"`
	CreatedAt       string       `json:"createdAt"`
}

type appAnswer struct {
	App appBody `json:"app"`
}

type appsAnswer struct {
	Apps       []appBody `json:"apps"`
	Pagination pageInfo  `json:"pagination"`
}

func showApp(a *auth.App) appBody {
	b := appBody{
		ID: a.ID, Name: a.Name, Scopes: a.Scopes, TokenTTLSeconds: int64(a.TokenTTL / time.Second),
		AllSources: a.AllSources, SourceIDs: a.Sources, CreatedAt: when(a.CreatedAt), Keys: []appKeyBody{},
	}
	if b.SourceIDs == nil {
		b.SourceIDs = []string{}
	}
	for _, k := range a.Keys {
		b.Keys = append(b.Keys, appKeyBody{ID: k.ID, Name: k.Name, PublicKey: k.PEM, CreatedAt: when(k.CreatedAt)})
	}
	return b
}

func appResult(a auth.App, err error) (appAnswer, error) {
	if err != nil {
		return appAnswer{}, err
	}
	return appAnswer{showApp(&a)}, nil
}

func (a *API) listApps(_ context.Context, in *Paging) (appsAnswer, error) {
	list, info, err := paged(a.cfg.OAuth.Apps(), func(x *auth.App) string { return x.ID }, in)
	return appsAnswer{each(list, showApp), info}, err
}

// AppPath names an OAuth application in a path.
type AppPath struct {
	AppID string `path:"appId"`
}

func (a *API) getApp(_ context.Context, in *AppPath) (appAnswer, error) {
	return appResult(a.cfg.OAuth.App(in.AppID))
}

type createAppInput struct {
	Body struct {
		Name            string   `json:"name"`
		PublicKey       string   `json:"publicKey,omitempty" doc:"RSA, in PEM; keys can be added later too"`
		KeyName         string   `json:"keyName,omitempty" doc:"The application's name when missing"`
		Scopes          []string `json:"scopes,omitempty" doc:"tracking_api:write when missing"`
		TokenTTLSeconds int64    `json:"tokenTtlSeconds,omitempty" doc:"3,600 (an hour) to 2,592,000 (30 days); a day when missing"`
		AllSources      bool     `json:"allSources,omitempty"`
		SourceIDs       []string `json:"sourceIds,omitempty" doc:"Ids or slugs"`
	}
}

func (a *API) createApp(ctx context.Context, in *createAppInput) (appAnswer, error) {
	b := &in.Body
	app := auth.App{Name: b.Name, Scopes: b.Scopes, TokenTTL: seconds(b.TokenTTLSeconds), AllSources: b.AllSources}
	if len(app.Scopes) == 0 {
		app.Scopes = []string{auth.ScopeTracking}
	}
	if b.TokenTTLSeconds == 0 {
		app.TokenTTL = auth.DefaultTokenTTL
	}
	var err error
	if app.Sources, err = a.sourceIDs(b.SourceIDs); err != nil {
		return appAnswer{}, err
	}
	if b.PublicKey != "" {
		key, err := auth.ReadKey(b.PublicKey)
		if err != nil {
			return appAnswer{}, err
		}
		if key.Name = b.KeyName; key.Name == "" {
			key.Name = b.Name
		}
		app.Keys = []auth.AppKey{key}
	}
	return appResult(a.cfg.OAuth.CreateApp(ctx, app))
}

// seconds returns a duration; one that no duration can hold is none that an
// application may have.
func seconds(n int64) time.Duration {
	if n < 0 || n > int64(auth.MaxTokenTTL/time.Second) {
		return -1
	}
	return time.Duration(n) * time.Second
}

// sourceIDs returns the ids of sources that are named by id or slug.
func (a *API) sourceIDs(names []string) ([]string, error) {
	snap := a.cfg.Workspace.Current()
	var ids []string
	for _, name := range names {
		i := slices.IndexFunc(snap.Sources, func(s workspace.Source) bool { return s.ID == name || s.Slug == name })
		if i < 0 {
			return nil, fault.Field("sourceIds", "there is no source %q", name)
		}
		if !slices.Contains(ids, snap.Sources[i].ID) {
			ids = append(ids, snap.Sources[i].ID)
		}
	}
	return ids, nil
}

type updateAppInput struct {
	AppPath
	Body struct {
		Name            *string  `json:"name,omitempty"`
		Scopes          []string `json:"scopes,omitempty"`
		TokenTTLSeconds *int64   `json:"tokenTtlSeconds,omitempty"`
		AllSources      *bool    `json:"allSources,omitempty"`
		SourceIDs       []string `json:"sourceIds,omitempty" doc:"Ids or slugs; with them allSources becomes false"`
	}
}

func (a *API) updateApp(ctx context.Context, in *updateAppInput) (appAnswer, error) {
	return appResult(a.cfg.OAuth.UpdateApp(ctx, in.AppID, func(x *auth.App) error {
		set(&x.Name, in.Body.Name)
		if in.Body.Scopes != nil {
			x.Scopes = in.Body.Scopes
		}
		if in.Body.TokenTTLSeconds != nil {
			x.TokenTTL = seconds(*in.Body.TokenTTLSeconds)
		}
		if in.Body.SourceIDs != nil {
			ids, err := a.sourceIDs(in.Body.SourceIDs)
			if err != nil {
				return err
			}
			x.Sources, x.AllSources = ids, false
		}
		if in.Body.AllSources != nil {
			if x.AllSources = *in.Body.AllSources; x.AllSources && in.Body.SourceIDs == nil {
				x.Sources = nil
			}
		}
		return nil
	}))
}

func (a *API) deleteApp(ctx context.Context, in *AppPath) (status, error) {
	return success(), a.cfg.OAuth.DeleteApp(ctx, in.AppID)
}

type addKeyInput struct {
	AppPath
	Body struct {
		Name      string `json:"name"`
		PublicKey string `json:"publicKey" doc:"RSA, in PEM"`
	}
}

func (a *API) addAppKey(ctx context.Context, in *addKeyInput) (appAnswer, error) {
	key, err := auth.ReadKey(in.Body.PublicKey)
	if err != nil {
		return appAnswer{}, err
	}
	key.Name = in.Body.Name
	return appResult(a.cfg.OAuth.UpdateApp(ctx, in.AppID, func(x *auth.App) error {
		x.Keys = append(x.Keys, key)
		return nil
	}))
}

type removeKeyInput struct {
	AppPath
	KeyID string `path:"keyId"`
}

func (a *API) removeAppKey(ctx context.Context, in *removeKeyInput) (appAnswer, error) {
	return appResult(a.cfg.OAuth.UpdateApp(ctx, in.AppID, func(x *auth.App) error {
		i := slices.IndexFunc(x.Keys, func(k auth.AppKey) bool { return k.ID == in.KeyID })
		if i < 0 {
			return notFound("key", in.KeyID)
		}
		x.Keys = slices.Delete(x.Keys, i, i+1)
		return nil
	}))
}

type revokeAccessInput struct {
	Body struct {
		Token string `json:"token" doc:"The access token, whole"`
	}
}

func (a *API) revokeAccess(ctx context.Context, in *revokeAccessInput) (status, error) {
	return success(), a.cfg.OAuth.RevokeToken(ctx, in.Body.Token)
}
