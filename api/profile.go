package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"kith/fault"
	"kith/profile"
)

// maxIncluded bounds the names in include and exclude.
const maxIncluded = 1000

// profileRoutes adds the Profile API's five reads (sheet unify_engage_privacy
// §1.8). ServeMux matches the path as it was sent, segment by segment, and
// decodes an identifier after that: %2F and %2B in it are its own.
func (a *API) profileRoutes(mux *http.ServeMux) {
	reads := map[string]func(*http.Request, profile.Target, *query) (any, error){
		"traits": func(r *http.Request, t profile.Target, q *query) (any, error) {
			return a.cfg.Profiles.Traits(r.Context(), t, profile.TraitsQuery{
				Class: q.Get("class"), Include: q.list("include"), Limit: q.number("limit"), Verbose: q.flag("verbose"), Next: q.Get("next"),
			})
		},
		"external_ids": func(r *http.Request, t profile.Target, q *query) (any, error) {
			return a.cfg.Profiles.ExternalIDs(r.Context(), t, profile.IdentifiersQuery{
				Include: q.list("include"), Limit: q.number("limit"), Next: q.Get("next"),
			})
		},
		"events": func(r *http.Request, t profile.Target, q *query) (any, error) {
			return a.cfg.Profiles.Events(r.Context(), t, profile.EventsQuery{
				Start: q.Get("start"), End: q.Get("end"), Include: q.list("include"), Exclude: q.list("exclude"),
				Limit: q.number("limit"), Sort: q.Get("sort"), Next: q.Get("next"),
			})
		},
		"metadata": func(r *http.Request, t profile.Target, _ *query) (any, error) {
			return a.cfg.Profiles.Metadata(r.Context(), t)
		},
		"links": func(r *http.Request, t profile.Target, q *query) (any, error) {
			return a.cfg.Profiles.Links(r.Context(), t, profile.LinksQuery{Limit: q.number("limit"), Next: q.Get("next")})
		},
	}
	for name, read := range reads {
		mux.HandleFunc("GET /v1/spaces/{space}/collections/{collection}/profiles/{id}/"+name, a.profileRead(read))
	}
	mux.HandleFunc("/v1/spaces/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Request-Id", a.requestID())
		refuse(w, http.StatusNotFound, "not_found",
			"There is no "+r.Method+" "+r.URL.Path+"; want GET /v1/spaces/SPACE/collections/users/profiles/TYPE:VALUE/traits, or external_ids, events, metadata, links.")
	})
}

func (a *API) profileRead(read func(*http.Request, profile.Target, *query) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer a.recovered(w, r)
		w.Header().Set("Request-Id", a.requestID())
		w.Header().Set("Cache-Control", "no-store")
		space := a.cfg.Workspace.Current().Space(r.PathValue("space"))
		// A space that is not there is asked for its token like any other, so
		// that names cannot be tried out. No space has the number zero.
		number := uint32(0)
		if space != nil {
			number = space.Number
		}
		if err := a.cfg.Tokens.MayRead(r, number); err != nil {
			if !fault.Is(err, fault.Denied) {
				a.refuseProfile(w, r, err)
				return
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="kith"`)
			refuse(w, http.StatusUnauthorized, "authentication_error", err.Error())
			return
		}
		if space == nil {
			refuse(w, http.StatusNotFound, "not_found", "There is no space "+strconv.Quote(r.PathValue("space"))+".")
			return
		}
		epoch, err := a.cfg.Epoch(r.Context(), space.Number)
		if err != nil {
			a.refuseProfile(w, r, err)
			return
		}
		q := &query{Values: r.URL.Query()}
		page, err := read(r, profile.Target{
			Space: space, Epoch: epoch, Path: r.PathValue("space"), Collection: r.PathValue("collection"), ID: r.PathValue("id"),
		}, q)
		if q.err != nil {
			err = q.err
		}
		if err != nil {
			a.refuseProfile(w, r, err)
			return
		}
		w.Header().Set("Content-Type", mediaJSON)
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		_ = e.Encode(page) // a caller that has gone away is its own business
	}
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

// list reads names separated by commas.
func (q *query) list(name string) []string {
	var names []string
	for _, part := range strings.Split(q.Get(name), ",") {
		if part = strings.TrimSpace(part); part != "" {
			names = append(names, part)
		}
	}
	if len(names) > maxIncluded && q.err == nil {
		q.err = fault.Field(name, "%d names; at most %d are read", len(names), maxIncluded)
	}
	return names
}

// refuseProfile answers with an error in the Profile API's shape.
func (a *API) refuseProfile(w http.ResponseWriter, r *http.Request, err error) {
	switch fault.KindOf(err) {
	case fault.Invalid:
		refuse(w, http.StatusBadRequest, "validation_error", err.Error())
	case fault.NotFound:
		message := err.Error()
		var f *fault.Error
		if errors.As(err, &f) {
			message = f.Message
		}
		refuse(w, http.StatusNotFound, "not_found", message)
	case fault.RetryAfter:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, "rate_limit_error", err.Error())
	case fault.Unavailable:
		refuse(w, http.StatusServiceUnavailable, "api_error", err.Error())
	default:
		a.cfg.Logger.ErrorContext(r.Context(), "a profile could not be read", "error", err)
		refuse(w, http.StatusInternalServerError, "api_error", "Something went wrong here; the server's log says what.")
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(status)
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Message = code, message
	_ = json.NewEncoder(w).Encode(body) // a caller that has gone away is its own business
}
