package auth

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tokenPath is where access tokens are given out. The SDKs add it to their
// authServer.
const tokenPath = "/token"

const (
	grantType     = "client_credentials"
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	maxForm       = 16 << 10
)

// Register adds POST /token to mux.
//
//	grant_type=client_credentials
//	client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer
//	client_assertion=<JWT, RS256>
//	scope=tracking_api:write            (the application's when missing)
//
// in a form gives 200 {"access_token", "token_type", "expires_in" (seconds, a
// number), "scope"}, or 400 {"error", "error_description"} of RFC 6749 §5.2,
// which the SDKs take as final but for the two texts of a wrong clock. The Date
// is that of the server's clock: the SDKs set theirs by it. Too many wrong
// requests of one client, or too many tokens in all, are 429 with Retry-After,
// which the Node SDK reads, and X-RateLimit-Reset, which the Python SDK reads.
func (o *OAuth) Register(mux *http.ServeMux) {
	mux.HandleFunc(tokenPath, o.serveToken)
	mux.HandleFunc(tokenPath+"/{$}", o.serveToken)
}

func (o *OAuth) serveToken(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Date", o.config.Clock.Now().Format(http.TimeFormat))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	client := o.config.Client(r)
	if r.Method != http.MethodPost {
		h.Set("Allow", http.MethodPost)
		o.refuse(w, http.StatusMethodNotAllowed, client, invalidRequest("", "ask with POST"))
		return
	}
	if wait := max(o.failures.wait(client), o.issues.wait("")); wait > 0 {
		o.counts.limited.Add(1)
		seconds := strconv.Itoa(max(int(math.Ceil(wait.Seconds())), 1))
		h.Set("Retry-After", seconds)
		h.Set("X-RateLimit-Reset", seconds)
		write(w, http.StatusTooManyRequests, &problem{Code: "temporarily_unavailable", Description: "too many requests; try again in " + seconds + " seconds"})
		return
	}
	form, status, p := readForm(w, r)
	if p != nil {
		if status == http.StatusServiceUnavailable { // a bad connection is no guess
			h.Set("Retry-After", "1")
		} else {
			o.failures.take(client)
		}
		o.refuse(w, status, client, p)
		return
	}
	v, scopes, p := o.grant(form, o.config.Audiences(r))
	if p != nil {
		if !p.clock { // who signs well and has a wrong clock is no guesser
			o.failures.take(client)
		}
		o.refuse(w, http.StatusBadRequest, client, p)
		return
	}
	o.issues.take("")
	switch err := o.use(r.Context(), v); {
	case errors.Is(err, errUsed):
		o.failures.take(client)
		o.refuse(w, http.StatusBadRequest, client, invalidRequest(v.app.ID, "the assertion was used before: sign another one, with another jti"))
		return
	case err != nil:
		o.fail(w, err)
		return
	}
	token, ttl, err := o.issue(v.app, v.key, scopeBits(scopes))
	if err != nil {
		o.fail(w, err)
		return
	}
	o.counts.issued.Add(1)
	write(w, http.StatusOK, map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": int64(ttl / time.Second), "scope": strings.Join(scopes, " "),
	})
}

// readForm reads the request's form.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, int, *problem) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, http.StatusUnsupportedMediaType, invalidRequest("", "want Content-Type: application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, http.StatusBadRequest, invalidRequest("", "the form is longer than %d bytes", maxForm)
	case err != nil:
		return nil, http.StatusServiceUnavailable, &problem{Code: "temporarily_unavailable", Description: "the form did not arrive; try again"}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, http.StatusBadRequest, invalidRequest("", "the form cannot be read")
	}
	for name, values := range form {
		if len(values) > 1 { // RFC 6749 §3.2
			return nil, http.StatusBadRequest, invalidRequest("", "%.40q stands in the form more than once", name)
		}
	}
	return form, 0, nil
}

// grant says who may have a token, with which scopes.
func (o *OAuth) grant(form url.Values, audiences []string) (*verified, []string, *problem) {
	if got := form.Get("grant_type"); got != grantType {
		return nil, nil, &problem{Code: "unsupported_grant_type", Description: "want grant_type=" + grantType}
	}
	if form.Get("client_assertion_type") != assertionType || form.Get("client_assertion") == "" {
		return nil, nil, invalidRequest("", "want client_assertion, a JWT, and client_assertion_type=%s", assertionType)
	}
	v, p := o.verify(form.Get("client_assertion"), audiences)
	if p != nil {
		return nil, nil, p
	}
	if id := form.Get("client_id"); id != "" && id != v.app.ID { // RFC 7521 §4.2
		return nil, nil, invalidClient(v.app.ID, "client_id is not the application that signed")
	}
	scopes := strings.Fields(form.Get("scope"))
	if len(scopes) == 0 {
		scopes = v.app.Scopes
	}
	for _, s := range scopes {
		if !slices.Contains(v.app.Scopes, s) {
			return nil, nil, &problem{Code: "invalid_scope", Description: "this application has the scope " + strings.Join(v.app.Scopes, " "), app: v.app.ID}
		}
	}
	return v, scopes, nil
}

func (o *OAuth) refuse(w http.ResponseWriter, status int, client string, p *problem) {
	o.counts.refused.Add(1)
	o.config.Logger.Info("no access token was given out", "reason", p.Code, "detail", p.Description, "application", p.app, "client", client)
	write(w, status, p)
}

// fail answers what is not the sender's fault: 503, which the SDKs try again.
func (o *OAuth) fail(w http.ResponseWriter, err error) {
	o.config.Logger.Error("an access token could not be given out", "error", err)
	w.Header().Set("Retry-After", "1")
	write(w, http.StatusServiceUnavailable, &problem{Code: "temporarily_unavailable", Description: "no token can be given out; try again"})
}

func write(w http.ResponseWriter, status int, body any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that has gone learns nothing
}
