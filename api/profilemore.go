package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"kith/fault"
	"kith/profile"
)

// searchProfiles finds profiles by the beginning of an identifier and by
// traits.
func (a *API) searchProfiles(q *asked) (any, error) {
	want := profile.SearchQuery{
		ExternalID: q.query.Get("external_id"), Type: q.query.Get("type"), IgnoreCase: q.query.flag("ignore_case"),
		Show: q.query.list("traits"), Limit: q.query.number("limit"), Next: q.query.Get("next"),
	}
	switch match := q.query.Get("match"); match {
	case "", "exact":
	case "prefix":
		want.Prefix = true
	default:
		return nil, fault.Field("match", "%q is no way to match: want exact or prefix", match)
	}
	for name, value := range q.query.named("trait.") {
		want.Traits = append(want.Traits, profile.TraitMatch{Name: name, Value: value})
	}
	return a.cfg.Profiles.Search(q.r.Context(), q.target, want)
}

// batchRequest asks for the same of many profiles.
type batchRequest struct {
	IDs     []string `json:"ids"`
	Read    string   `json:"read"`
	Include []string `json:"include"`
	Class   string   `json:"class"`
	Verbose bool     `json:"verbose"`
	Limit   int      `json:"limit"`
}

func (a *API) batchProfiles(q *asked) (any, error) {
	var body batchRequest
	if err := readBody(q.r, &body); err != nil {
		return nil, err
	}
	if len(body.Include) > maxIncluded {
		return nil, fault.Field("include", "%d names; at most %d are read", len(body.Include), maxIncluded)
	}
	return a.cfg.Profiles.Batch(q.r.Context(), q.target, profile.BatchQuery{
		IDs: body.IDs, Read: body.Read, Include: body.Include, Class: body.Class, Verbose: body.Verbose, Limit: body.Limit,
	})
}

// readBody reads a body of JSON, every field of which must be known.
func readBody(r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxProfileBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more != io.EOF { //nolint:errorlint // it comes as it is
			err = errors.New("there is more behind the object")
		}
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return fault.New(fault.Invalid, "the body has more than %d bytes", maxProfileBody)
	}
	if err != nil {
		return fault.New(fault.Invalid, "the body is not what is wanted here, one JSON object: %v", err)
	}
	return nil
}
