package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"kith/auth"
	"kith/fault"
	"kith/profile"
	"kith/workspace"
)

// Bounds of what a request to the Profile API says.
const (
	maxIncluded    = 1000    // names in include and exclude
	maxProfileBody = 1 << 20 // bytes
)

// asked is a request to the Profile API whose caller may make it.
type asked struct {
	r      *http.Request
	caller auth.Caller       // of a profile token or the admin token
	grant  *auth.ClientGrant // of a client token, else nil
	target profile.Target
	query  *query
}

// answerer answers a request with what is written as JSON.
type answerer func(*asked) (any, error)

// profileRoutes adds the Profile API: Segment's five reads and its deletion of
// identifiers (sheet unify_engage_privacy §1.8, §1.6), and Kith's own search,
// batch and client tokens. ServeMux matches the path as it was sent, segment by
// segment, and decodes an identifier after that: %2F and %2B in it are its own.
func (a *API) profileRoutes(mux *http.ServeMux) {
	reads := map[string]answerer{
		auth.ReadTraits: a.readTraits,
		auth.ReadExternalIDs: func(q *asked) (any, error) {
			return a.cfg.Profiles.ExternalIDs(q.r.Context(), q.target, profile.IdentifiersQuery{
				Include: q.query.list("include"), Limit: q.query.number("limit"), Next: q.query.Get("next"),
			})
		},
		auth.ReadEvents: a.readEvents,
		auth.ReadMetadata: func(q *asked) (any, error) {
			return a.cfg.Profiles.Metadata(q.r.Context(), q.target)
		},
		auth.ReadLinks: func(q *asked) (any, error) {
			return a.cfg.Profiles.Links(q.r.Context(), q.target, profile.LinksQuery{Limit: q.query.number("limit"), Next: q.query.Get("next")})
		},
	}
	for _, root := range []string{"/v1/spaces/{space}", "/v1/namespaces/{space}"} { // the second is an older name
		profiles := root + "/collections/{collection}/profiles"
		for name, read := range reads {
			mux.HandleFunc("GET "+profiles+"/{id}/"+name, a.profileRoute(name, read))
			mux.HandleFunc("OPTIONS "+profiles+"/{id}/"+name, a.preflight)
		}
		mux.HandleFunc("POST "+profiles+"/{id}/external_ids/delete", a.deleteRoute)
		mux.HandleFunc("GET "+profiles, a.profileRoute("", a.searchProfiles))
		mux.HandleFunc("POST "+profiles+"/batch", a.profileRoute("", a.batchProfiles))
		mux.HandleFunc("POST "+root+"/client-tokens", a.profileRoute("", a.createClientToken))
		mux.HandleFunc("DELETE "+root+"/client-tokens", a.profileRoute("", a.revokeClientTokens))
		mux.HandleFunc("DELETE "+root+"/client-tokens/{token}", a.profileRoute("", a.revokeClientToken))
	}
	for _, rest := range []string{"/v1/spaces/", "/v1/namespaces/"} {
		mux.HandleFunc(rest, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Request-Id", a.requestID())
			refuse(w, http.StatusNotFound, "not_found",
				"There is no "+r.Method+" "+r.URL.Path+"; want GET /v1/spaces/SPACE/collections/users/profiles/TYPE:VALUE/traits, or external_ids, events, metadata, links. "+
					"A slash in an identifier is written %2F.")
		})
	}
}

// profileRoute answers those who may ask. read is what a client token must be
// for; empty means that no client token will do.
func (a *API) profileRoute(read string, answer answerer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer a.recovered(w, r)
		w.Header().Set("Request-Id", a.requestID())
		w.Header().Set("Cache-Control", "no-store")
		q, err := a.ask(w, r, read)
		if err == nil {
			err = a.wait(q)
		}
		var body any
		if err == nil {
			body, err = answer(q)
			if q.query.err != nil {
				err = q.query.err
			}
		}
		var text []byte
		if err == nil {
			text, err = encode(body)
		}
		if err != nil {
			a.refuseProfile(w, r, err)
			return
		}
		respond(w, http.StatusOK, text)
	}
}

func respond(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that has gone away is its own business
}

// encode writes an answer as JSON; those that know how write themselves.
func encode(body any) ([]byte, error) {
	if quick, ok := body.(interface {
		AppendJSON(b []byte) ([]byte, error)
	}); ok {
		text, err := quick.AppendJSON(make([]byte, 0, 1024))
		return append(text, '\n'), err
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err := e.Encode(body)
	return text.Bytes(), err
}

// ask finds out who asks for what. A space that is not there is asked for its
// token like any other, so that names cannot be tried out.
func (a *API) ask(w http.ResponseWriter, r *http.Request, read string) (*asked, error) {
	q := &asked{r: r, query: &query{Values: r.URL.Query()}}
	space := a.cfg.Workspace.Current().Space(r.PathValue("space"))
	number := uint32(0) // no space has it
	if space != nil {
		number = space.Number
	}
	if token := clientToken(r); token != "" {
		if err := a.askClient(w, q, token, number, read); err != nil {
			return nil, err
		}
	} else {
		caller, err := a.cfg.Tokens.MayRead(r, number)
		if fault.Is(err, fault.Denied) {
			return nil, unauthenticated(err)
		}
		if err != nil {
			return nil, err
		}
		q.caller = caller
	}
	if space == nil {
		return nil, fault.New(fault.NotFound, "There is no space %q.", r.PathValue("space"))
	}
	epoch, err := a.cfg.Epoch(r.Context(), number)
	if err != nil {
		return nil, err
	}
	q.target = profile.Target{Space: space, Epoch: epoch, Path: r.PathValue("space"), Collection: r.PathValue("collection"), ID: r.PathValue("id")}
	if q.grant != nil && q.grant.Profile != auth.AnyProfile {
		q.target.Only = q.grant.Profile
	}
	return q, nil
}

// readTraits answers with traits; to the bearer of a client token only with
// those that it names.
func (a *API) readTraits(q *asked) (any, error) {
	want := profile.TraitsQuery{
		Class: q.query.Get("class"), Include: q.query.list("include"), Limit: q.query.number("limit"),
		Verbose: q.query.flag("verbose"), Next: q.query.Get("next"),
	}
	if q.grant != nil && len(q.grant.Include) > 0 {
		if len(want.Include) == 0 {
			want.Include = q.grant.Include
		}
		want.Include = slices.DeleteFunc(slices.Clone(want.Include), func(name string) bool { return !slices.Contains(q.grant.Include, name) })
		if len(want.Include) == 0 { // which would mean all
			return nil, fault.New(fault.Denied, "the token does not read these traits")
		}
	}
	return a.cfg.Profiles.Traits(q.r.Context(), q.target, want)
}

func (a *API) readEvents(q *asked) (any, error) {
	want := profile.EventsQuery{
		Types: q.query.list("types"), Properties: []profile.PropertyMatch{},
		Start: q.query.Get("start"), End: q.query.Get("end"), Include: q.query.list("include"), Exclude: q.query.list("exclude"),
		Limit: q.query.number("limit"), Sort: q.query.Get("sort"), Next: q.query.Get("next"),
	}
	for _, name := range q.query.list("source") {
		want.Sources = append(want.Sources, sourceID(a.cfg.Workspace.Current(), name))
	}
	for path, value := range q.query.named("property.") {
		want.Properties = append(want.Properties, profile.PropertyMatch{Path: path, Value: value})
	}
	return a.cfg.Profiles.Events(q.r.Context(), q.target, want)
}

// sourceID returns the id of a source that is named by id or slug. One that is
// no more keeps the id that events have of it.
func sourceID(s *workspace.Snapshot, name string) string {
	for i := range s.Sources {
		if s.Sources[i].Slug == name {
			return s.Sources[i].ID
		}
	}
	return name
}

// query reads parameters; the first that cannot be read stays in err.
type query struct {
	url.Values
	err error
}

func (q *query) number(name string) int {
	text := q.Get(name)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if (err != nil || n < 1) && q.err == nil {
		q.err = fault.Field(name, "%q is not a number above zero", text)
	}
	return n
}

func (q *query) flag(name string) bool { return flag(q.Values[name]) }

// list reads names separated by commas, of all parameters of the name.
func (q *query) list(name string) []string {
	var names []string
	for _, value := range q.Values[name] {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); part != "" {
				names = append(names, part)
			}
		}
	}
	if len(names) > maxIncluded && q.err == nil {
		q.err = fault.Field(name, "%d names; at most %d are read", len(names), maxIncluded)
	}
	return names
}

// named returns the parameters whose names begin with prefix, without it, in
// the order of their names.
func (q *query) named(prefix string) func(yield func(name, value string) bool) {
	var names []string
	for name := range q.Values {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return func(yield func(name, value string) bool) {
		for _, name := range names {
			if !yield(strings.TrimPrefix(name, prefix), q.Get(name)) {
				return
			}
		}
	}
}
