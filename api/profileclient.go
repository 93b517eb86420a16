package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"kith/auth"
	"kith/fault"
)

// clientToken returns the client token that a request carries, as a bearer
// token or by HTTP Basic as the user name, or "".
func clientToken(r *http.Request) string {
	token, password, basic := r.BasicAuth()
	if !basic {
		scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "bearer") {
			return ""
		}
		token = strings.TrimSpace(rest)
	}
	if password != "" || !auth.IsClient(token) {
		return ""
	}
	return token
}

// askClient checks a client token. Web pages may read the answer if they are
// of one of the token's origins (CORS), also when it is that the token has
// ended; those of other origins are refused. No other token has origins.
func (a *API) askClient(w http.ResponseWriter, q *asked, token string, space uint32, read string) error {
	w.Header().Add("Vary", "Origin")
	grant, err := a.cfg.Clients.Check(q.r.Context(), token, space)
	if grant != nil {
		switch origin := q.r.Header.Get("Origin"); {
		case origin == "": // no web page, or one of ours
		case slices.Contains(grant.Origins, origin):
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Expose-Headers", "Request-Id, Retry-After")
		default:
			return fault.New(fault.Denied, "the client token is not for web pages of this origin")
		}
	}
	if fault.Is(err, fault.Denied) {
		return unauthenticated(err)
	}
	if err != nil {
		return err
	}
	switch {
	case read == "":
		return fault.New(fault.Denied, "a client token reads profiles and nothing else")
	case !grant.May(read):
		return fault.New(fault.Denied, "the client token does not read %s", read)
	case grant.Collection != q.r.PathValue("collection"):
		return fault.New(fault.Denied, "the client token is for the collection %s", grant.Collection)
	}
	q.grant = grant
	return nil
}

// preflight tells a browser whether a web page may ask with a client token. The
// token does not come with the question, so all origins of the space's tokens
// are answered alike; the read itself goes by the token's own.
func (a *API) preflight(w http.ResponseWriter, r *http.Request) {
	defer a.recovered(w, r)
	w.Header().Set("Request-Id", a.requestID())
	w.Header().Add("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
	space := a.cfg.Workspace.Current().Space(r.PathValue("space"))
	origin := r.Header.Get("Origin")
	known := false
	if space != nil && origin != "" && r.Header.Get("Access-Control-Request-Method") == http.MethodGet {
		var err error
		if known, err = a.cfg.Clients.Origin(r.Context(), space.Number, origin); err != nil {
			a.refuseProfile(w, r, err)
			return
		}
	}
	if !known {
		refuse(w, http.StatusForbidden, "forbidden", "Web pages of this origin may not ask: there is no client token for it.")
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Allow-Methods", http.MethodGet)
	w.Header().Set("Access-Control-Allow-Headers", "Authorization, Kith-Wait-For")
	w.Header().Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}

// clientRequest asks for a client token.
type clientRequest struct {
	Profile    string   `json:"profile"`
	Collection string   `json:"collection"`
	Reads      []string `json:"reads"`
	Include    []string `json:"include"`
	ExpiresIn  int      `json:"expires_in"` // seconds
	Origins    []string `json:"origins"`
}

// clientAnswer is a client token. It is shown this once.
type clientAnswer struct {
	ID        string `json:"id"`
	Token     string `json:"token"`
	ExpiresAt string `json:"expires_at"`
}

func (a *API) createClientToken(q *asked) (any, error) {
	var body clientRequest
	if err := readBody(q.r, &body); err != nil {
		return nil, err
	}
	if body.ExpiresIn < 0 || body.ExpiresIn > int(auth.MaxClientTTL/time.Second) {
		return nil, fault.Field("expires_in", "want 1 to %d seconds", int(auth.MaxClientTTL/time.Second))
	}
	grant, token, err := a.cfg.Clients.Issue(q.r.Context(), q.target.Space.Number, q.caller, auth.ClientRequest{
		Profile: body.Profile, Collection: body.Collection, Reads: body.Reads, Include: body.Include,
		TTL: time.Duration(body.ExpiresIn) * time.Second, Origins: body.Origins,
	})
	if err != nil {
		return nil, err
	}
	return clientAnswer{ID: grant.ID, Token: token, ExpiresAt: when(grant.ExpiresAt)}, nil
}

// revoked is the answer to revoking.
type revoked struct {
	Revoked bool `json:"revoked"`
}

func (a *API) revokeClientToken(q *asked) (any, error) {
	return revoked{true}, a.cfg.Clients.Revoke(q.r.Context(), q.target.Space.Number, q.r.PathValue("token"))
}

func (a *API) revokeClientTokens(q *asked) (any, error) {
	return revoked{true}, a.cfg.Clients.RevokeAll(q.r.Context(), q.target.Space.Number)
}
