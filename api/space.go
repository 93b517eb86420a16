package api

import (
	"context"
	"net/http"

	"kith/fault"
	"kith/workspace"
)

const (
	tagWorkspace = "Workspace"
	tagSpaces    = "Spaces"
)

func (a *API) workspaceRoutes() {
	handle(a, http.MethodGet, "/", "getWorkspace", tagWorkspace, a.getWorkspace)
	handle(a, http.MethodGet, "/echo", "echo", tagWorkspace, a.echo)
}

func (a *API) spaceRoutes() {
	handle(a, http.MethodGet, "/spaces", "listSpaces", tagSpaces, a.listSpaces)
	handle(a, http.MethodPost, "/spaces", "createSpace", tagSpaces, a.createSpace, created,
		about("Kith's own. A space is never removed, and its slug never changes."))
	handle(a, http.MethodGet, "/spaces/{spaceId}", "getSpace", tagSpaces, a.getSpace)
	handle(a, http.MethodPatch, "/spaces/{spaceId}", "updateSpace", tagSpaces, a.updateSpace, about("Kith's own."))
	handle(a, http.MethodGet, "/spaces/{spaceId}/profile-tokens", "listProfileTokens", tagSpaces, a.listTokens, about("Kith's own."))
	handle(a, http.MethodPost, "/spaces/{spaceId}/profile-tokens", "createProfileToken", tagSpaces, a.createToken, created,
		about("Kith's own. The token reads the profiles of this space by the Profile API and does nothing else, unless it may delete identifiers. It is shown in this answer and never again."))
	handle(a, http.MethodDelete, "/spaces/{spaceId}/profile-tokens/{tokenId}", "revokeProfileToken", tagSpaces, a.revokeToken, about("Kith's own."))
}

type workspaceBody struct {
	ID   string `json:"id"`
	Slug string `json:"slug"`
	Name string `json:"name"`
}

type workspaceAnswer struct {
	Workspace workspaceBody `json:"workspace"`
}

func (a *API) getWorkspace(context.Context, *nothing) (workspaceAnswer, error) {
	s := a.cfg.Workspace.Current()
	return workspaceAnswer{workspaceBody{ID: s.ID, Slug: s.Slug, Name: s.Name}}, nil
}

type echoInput struct {
	Message      string `query:"message" maxLength:"1000"`
	Delay        int    `query:"delay" minimum:"0" hidden:"true"`
	TriggerError bool   `query:"triggerError" doc:"Answer with an error"`
	Accept       string `header:"Accept"`
}

type echoAnswer struct {
	Method  string            `json:"method"`
	Message string            `json:"message"`
	Headers map[string]string `json:"headers"`
}

// echo answers with what was sent. Of the headers it shows only what cannot be
// a secret.
func (a *API) echo(_ context.Context, in *echoInput) (echoAnswer, error) {
	if in.TriggerError {
		return echoAnswer{}, fault.Field("triggerError", "an error, as asked for")
	}
	return echoAnswer{Method: http.MethodGet, Message: in.Message, Headers: map[string]string{"accept": in.Accept}}, nil
}

// SpacePath names a space in a path. Input types that others embed are
// exported because huma looks into no others.
type SpacePath struct {
	SpaceID string `path:"spaceId" doc:"The space's id or slug"`
}

// space finds a space by id or slug.
func (p *SpacePath) find(s *workspace.Snapshot) (*workspace.Space, error) {
	if sp := s.Space(p.SpaceID); sp != nil {
		return sp, nil
	}
	return nil, notFound("space", p.SpaceID)
}

type spaceBody struct {
	ID          string                     `json:"id"`
	Slug        string                     `json:"slug"`
	Name        string                     `json:"name"`
	Identifiers []workspace.IdentifierRule `json:"identifiers" doc:"Kith's own: the identity rules; empty means the default ones"`
	// Those in force, the default ones too.
	SearchTraits  []string                `json:"searchTraits" doc:"Kith's own: the traits that profiles can be searched by"`
	IdentityGuard workspace.IdentityGuard `json:"identityGuard,omitzero" doc:"Kith's own: from which size on a profile is reported"`
	// Those in force, the default ones too.
	Suspicious workspace.Suspicious `json:"suspicious" doc:"Kith's own: from which figures on profiles and identifiers are listed as suspicious"`
	CreatedAt  string               `json:"createdAt"`
}

func showSpace(s *workspace.Space) spaceBody {
	rules := s.Identifiers
	if rules == nil {
		rules = []workspace.IdentifierRule{}
	}
	return spaceBody{ID: s.ID, Slug: s.Slug, Name: s.Name, Identifiers: rules, SearchTraits: s.SearchedTraits(), IdentityGuard: s.IdentityGuard, Suspicious: s.Suspicious.Thresholds(), CreatedAt: when(s.CreatedAt)}
}

type spaceAnswer struct {
	Space spaceBody `json:"space"`
}

type spacesAnswer struct {
	Spaces     []spaceBody `json:"spaces"`
	Pagination pageInfo    `json:"pagination"`
}

func (a *API) listSpaces(_ context.Context, in *Paging) (spacesAnswer, error) {
	list, info, err := paged(a.cfg.Workspace.Current().Spaces, func(s *workspace.Space) string { return s.ID }, in)
	return spacesAnswer{each(list, showSpace), info}, err
}

func (a *API) getSpace(_ context.Context, in *SpacePath) (spaceAnswer, error) {
	sp, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return spaceAnswer{}, err
	}
	return spaceAnswer{showSpace(sp)}, nil
}

type createSpaceInput struct {
	Body struct {
		Slug         string                     `json:"slug"`
		Name         string                     `json:"name,omitempty"`
		Identifiers  []workspace.IdentifierRule `json:"identifiers,omitempty"`
		SearchTraits *[]string                  `json:"searchTraits,omitempty" doc:"The traits that profiles can be searched by; email, firstName, lastName, name and phone when missing"`
	}
}

func (a *API) createSpace(ctx context.Context, in *createSpaceInput) (spaceAnswer, error) {
	snap, err := a.update(ctx, "spaces."+in.Body.Slug, func(d *workspace.Draft) error {
		s := d.AddSpace(in.Body.Slug, in.Body.Name)
		s.Identifiers = in.Body.Identifiers
		set(&s.SearchTraits, in.Body.SearchTraits)
		return nil
	})
	if err != nil {
		return spaceAnswer{}, err
	}
	return spaceAnswer{showSpace(snap.Space(in.Body.Slug))}, nil
}

type updateSpaceInput struct {
	SpacePath
	Body struct {
		Name          *string                     `json:"name,omitempty"`
		Identifiers   *[]workspace.IdentifierRule `json:"identifiers,omitempty" doc:"All rules; events that come later are held to them"`
		IdentityGuard *workspace.IdentityGuard    `json:"identityGuard,omitempty" doc:"From which numbers of identifiers and merges on a profile is reported; 1,000 and 100 when zero"`
		Suspicious    *workspace.Suspicious       `json:"suspicious,omitempty" doc:"From which figures on profiles and identifiers are listed as suspicious: identifiers, merges, shared, refused; 30, 10, 10 and 10 when zero"`
		SearchTraits  *[]string                   `json:"searchTraits,omitempty" doc:"All traits that profiles can be searched by; a new one takes effect when those there are have been gone through"`
	}
}

func (a *API) updateSpace(ctx context.Context, in *updateSpaceInput) (spaceAnswer, error) {
	sp, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return spaceAnswer{}, err
	}
	snap, err := a.update(ctx, "spaces."+sp.Slug, func(d *workspace.Draft) error {
		change := d.Space(sp.ID)
		set(&change.Name, in.Body.Name)
		set(&change.Identifiers, in.Body.Identifiers)
		set(&change.IdentityGuard, in.Body.IdentityGuard)
		set(&change.Suspicious, in.Body.Suspicious)
		set(&change.SearchTraits, in.Body.SearchTraits)
		return nil
	})
	if err != nil {
		return spaceAnswer{}, err
	}
	return spaceAnswer{showSpace(snap.Space(sp.ID))}, nil
}

// set puts a value in where a request has one.
func set[T any](into *T, v *T) {
	if v != nil {
		*into = *v
	}
}

type tokenBody struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	CreatedAt string `json:"createdAt"`
	Delete    bool   `json:"deleteIdentifiers" doc:"The token also deletes identifiers"`
	Token     string `json:"token,omitempty" doc:"Only in the answer that creates it"`
}

type tokenAnswer struct {
	Token tokenBody `json:"token"`
}

type tokensAnswer struct {
	Tokens     []tokenBody `json:"tokens"`
	Pagination pageInfo    `json:"pagination"`
}

type listTokensInput struct {
	SpacePath
	Paging
}

func (a *API) listTokens(ctx context.Context, in *listTokensInput) (tokensAnswer, error) {
	sp, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return tokensAnswer{}, err
	}
	tokens, err := a.cfg.Tokens.List(ctx, sp.Number)
	if err != nil {
		return tokensAnswer{}, err
	}
	all := make([]tokenBody, 0, len(tokens))
	for _, t := range tokens {
		all = append(all, tokenBody{ID: t.ID, Name: t.Name, Delete: t.Delete, CreatedAt: when(t.CreatedAt)})
	}
	list, info, err := paged(all, func(t *tokenBody) string { return t.ID }, &in.Paging)
	return tokensAnswer{list, info}, err
}

type createTokenInput struct {
	SpacePath
	Body struct {
		Name              string `json:"name" doc:"What the token is for"`
		DeleteIdentifiers bool   `json:"deleteIdentifiers,omitempty" doc:"Let it delete identifiers too, by POST …/external_ids/delete"`
	}
}

func (a *API) createToken(ctx context.Context, in *createTokenInput) (tokenAnswer, error) {
	sp, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return tokenAnswer{}, err
	}
	t, token, err := a.cfg.Tokens.Create(ctx, sp.Number, in.Body.Name, in.Body.DeleteIdentifiers)
	if err != nil {
		return tokenAnswer{}, err
	}
	return tokenAnswer{tokenBody{ID: t.ID, Name: t.Name, Delete: t.Delete, CreatedAt: when(t.CreatedAt), Token: token}}, nil
}

type revokeTokenInput struct {
	SpacePath
	TokenID string `path:"tokenId"`
}

func (a *API) revokeToken(ctx context.Context, in *revokeTokenInput) (status, error) {
	sp, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return status{}, err
	}
	return success(), a.cfg.Tokens.Revoke(ctx, sp.Number, in.TokenID)
}
