package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"kith/fault"
)

type snippetInput struct {
	SourcePath
	WriteKey string `query:"writeKey" doc:"Which of the source's write keys; the first when missing"`

	request *http.Request
}

// Resolve keeps the request, which says how this server is reached.
func (in *snippetInput) Resolve(ctx huma.Context) []error {
	in.request, _ = humago.Unwrap(ctx)
	return nil
}

type snippetBody struct {
	HTML     string `json:"html" doc:"Goes into the head of every page"`
	Server   string `json:"server" doc:"The URL in it: --public-url, or the one that this was asked under"`
	WriteKey string `json:"writeKey"`
}

type snippetAnswer struct {
	Snippet snippetBody `json:"snippet"`
}

func (a *API) getSnippet(_ context.Context, in *snippetInput) (snippetAnswer, error) {
	_, s, err := a.source(in.SourceID)
	if err != nil {
		return snippetAnswer{}, err
	}
	key := in.WriteKey
	switch {
	case key != "" && !slices.Contains(s.WriteKeys, key):
		return snippetAnswer{}, fault.Field("writeKey", "the source %s has no such write key", s.Slug)
	case len(s.WriteKeys) == 0:
		return snippetAnswer{}, fault.New(fault.Conflict, "the source %s has no write key: make one with POST /api/sources/%s/writekey", s.Slug, s.ID)
	case key == "":
		key = s.WriteKeys[0]
	}
	html, base, err := a.cfg.Snippets.SnippetFor(in.request, key)
	if err != nil {
		return snippetAnswer{}, err
	}
	return snippetAnswer{snippetBody{HTML: html, Server: base, WriteKey: key}}, nil
}
