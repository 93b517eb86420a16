package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"kith/fault"
)

// refusal is an error of the Profile API with a code and a status of its own.
type refusal struct {
	status  int
	code    string
	message string
}

// Error returns the message.
func (r *refusal) Error() string { return r.message }

// unauthenticated says that no token was shown that is good here.
func unauthenticated(err error) error {
	return &refusal{http.StatusUnauthorized, "authentication_error", err.Error()}
}

// refused gives an error its status and code in the Profile API (sheet
// unify_engage_privacy §1.8): validation_error for what the path names,
// invalid_request_error for parameters and bodies.
func (a *API) refused(r *http.Request, err error) *refusal {
	var known *refusal
	if errors.As(err, &known) {
		return known
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		f = &fault.Error{}
	}
	switch f.Kind {
	case fault.Invalid:
		if f.Field == "collection" || f.Field == "id" {
			return &refusal{http.StatusBadRequest, "validation_error", f.Message}
		}
		return &refusal{http.StatusBadRequest, "invalid_request_error", f.Error()}
	case fault.NotFound:
		return &refusal{http.StatusNotFound, "not_found", f.Message}
	case fault.Denied:
		return &refusal{http.StatusForbidden, "forbidden", f.Message}
	case fault.Conflict:
		return &refusal{http.StatusConflict, "conflict", f.Error()}
	case fault.RetryAfter:
		return &refusal{http.StatusTooManyRequests, "rate_limit_error", f.Error()}
	case fault.Unavailable:
		return &refusal{http.StatusServiceUnavailable, "api_error", f.Error()}
	}
	a.cfg.Logger.ErrorContext(r.Context(), "a profile could not be read", "error", err)
	return &refusal{http.StatusInternalServerError, "api_error", "Something went wrong here; the server's log says what."}
}

// refuseProfile answers with an error in the Profile API's shape.
func (a *API) refuseProfile(w http.ResponseWriter, r *http.Request, err error) {
	f := a.refused(r, err)
	switch f.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="kith"`)
	case http.StatusTooManyRequests, http.StatusGatewayTimeout:
		w.Header().Set("Retry-After", "1")
	}
	refuse(w, f.status, f.code, f.message)
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
