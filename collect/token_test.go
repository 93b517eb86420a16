package collect_test

import (
	"errors"
	"strings"
	"testing"

	"kith/collect"
	"kith/fault"
	"kith/workspace"
)

// someTokens knows one token, of one source.
type someTokens struct{}

func (someTokens) Check(token string, source *workspace.Source) error {
	switch {
	case token == "broken":
		return errors.New("the disk is gone")
	case token != "good":
		return fault.New(fault.Denied, "the access token has expired")
	case source.ID != "src_web":
		return fault.New(fault.Denied, "the access token is for another source")
	}
	return nil
}

func TestTokens(t *testing.T) {
	const call = `{"writeKey":"key-web","userId":"u","event":"E"}`
	tests := []struct {
		name     string
		require  bool
		tokens   collect.Tokens
		path     string
		headers  []string
		body     string
		status   int
		code     string
		kept     int
		rejected string
	}{
		{name: "a good one", tokens: someTokens{}, headers: []string{"Authorization: Bearer good"}, body: call, kept: 1},
		{name: "a good one where it is needed", require: true, tokens: someTokens{}, headers: []string{"Authorization: bearer  good"}, body: call, kept: 1},
		{name: "a bad one", tokens: someTokens{}, headers: []string{"Authorization: Bearer old"}, body: call, status: 401, code: "invalid_token", rejected: "invalid_token"},
		{name: "of another source", tokens: someTokens{}, headers: []string{"Authorization: Bearer good"}, body: strings.Replace(call, "key-web", "key-other", 1), status: 401, code: "invalid_token", rejected: "invalid_token"},
		{name: "none", tokens: someTokens{}, body: call, kept: 1},
		{name: "none where it is needed", require: true, tokens: someTokens{}, body: call, status: 401, code: "token_required", rejected: "token_required"},
		{name: "basic where it is needed", require: true, tokens: someTokens{}, headers: []string{basic}, body: call, status: 401, code: "token_required", rejected: "token_required"},
		{name: "a batch", require: true, tokens: someTokens{}, path: "/v1/batch", headers: []string{"Authorization: Bearer x"}, body: `{"writeKey":"key-web","batch":[{},{}]}`, status: 401, code: "invalid_token", rejected: "invalid_token"},
		{name: "nobody knows tokens", headers: []string{"Authorization: Bearer x"}, body: call, kept: 1},
		{name: "nobody knows tokens and one is needed", require: true, headers: []string{"Authorization: Bearer x"}, body: call, status: 401, code: "invalid_token", rejected: "invalid_token"},
		{name: "a token and no write key", tokens: someTokens{}, headers: []string{"Authorization: Bearer good"}, body: `{"userId":"u","event":"E"}`, rejected: "project_not_found"},
		{name: "a fault of ours", tokens: someTokens{}, headers: []string{"Authorization: Bearer broken"}, body: call, status: 503, code: "unavailable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFront(t, func(c *collect.Config) {
				w := someWorkspace()
				w.s.Source("src_web").Tracking.RequireToken = tt.require
				c.Workspace, c.Tokens = w, tt.tokens
			})
			path := tt.path
			if path == "" {
				path = "/v1/track"
			}
			w := f.do(request("POST", path, tt.body, tt.headers...))
			checkAnswer(t, w.Code, w.Body.String(), w.Header(), tt.status, tt.code)
			if tt.status == 401 && w.Header().Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate")
			}
			if got := f.stored(t); len(got) != tt.kept {
				t.Errorf("%d events were kept, want %d", len(got), tt.kept)
			}
			code := ""
			for _, x := range f.rejected.take() {
				code += x.Code
			}
			if code != tt.rejected {
				t.Errorf("rejected %q, want %q", code, tt.rejected)
			}
		})
	}
}

// The image of a source that requires tokens is still an image.
func TestPixelWithoutToken(t *testing.T) {
	f := newFront(t, func(c *collect.Config) {
		w := someWorkspace()
		w.s.Source("src_web").Tracking.RequireToken = true
		c.Workspace, c.Tokens = w, someTokens{}
	})
	checkPixel(t, f.do(request("GET", "/v1/pixel/track?writeKey=key-web&userId=u&event=E", "")))
	if all := f.rejected.take(); len(all) != 1 || all[0].Code != collect.CodeTokenRequired {
		t.Errorf("rejected %+v", all)
	}
}

// Files of objects have no place for a token. What they are told can be done.
func TestBulkWithToken(t *testing.T) {
	for _, tt := range []struct {
		require        bool
		header, code   string
		want, neverSay string
	}{
		{true, basic, "token_required", "/v1/set", "in the body"},
		{false, "Authorization: Bearer good", "project_not_found", "HTTP Basic", "in the body"},
	} {
		f := newFront(t, func(c *collect.Config) {
			w := someWorkspace()
			w.s.Source("src_web").Tracking.RequireToken = tt.require
			c.Workspace, c.Tokens = w, someTokens{}
		})
		w := f.do(request("POST", "/v0/start", "", tt.header))
		checkAnswer(t, w.Code, w.Body.String(), w.Header(), 401, tt.code)
		if got := w.Body.String(); !strings.Contains(got, tt.want) || strings.Contains(got, tt.neverSay) {
			t.Errorf("%s: answered %s", tt.header, got)
		}
	}
}
