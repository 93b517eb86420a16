package api

import (
	"context"
	"errors"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"kith/fault"
	"kith/workspace"
)

// failure is an error as the control API answers it.
type failure struct {
	Errors []problem `json:"errors"`

	status int
	header http.Header
}

// problem is one thing that is wrong.
type problem struct {
	Type    string  `json:"type" doc:"What kind of error: validation, bad-request, unauthorized, not-found, conflict, rate-limit, unavailable, server"`
	Message string  `json:"message" doc:"What is wrong, for people"`
	Field   *string `json:"field" doc:"Where in the request, as a path"`
	Data    any     `json:"data"`
	Status  int     `json:"status" doc:"The HTTP status"`
}

// Error implements error; huma needs it of what it writes.
func (f *failure) Error() string {
	var all []string
	for _, p := range f.Errors {
		all = append(all, p.Message)
	}
	return strings.Join(all, "; ")
}

// GetStatus is asked by huma for the HTTP status.
func (f *failure) GetStatus() int { return f.status }

// GetHeaders is asked by huma for the headers of an error.
func (f *failure) GetHeaders() http.Header { return f.header }

// kinds are the answers to the kinds of fault.
var kinds = map[fault.Kind]struct {
	status int
	name   string
}{
	fault.Internal:    {http.StatusInternalServerError, "server"},
	fault.Invalid:     {http.StatusUnprocessableEntity, "validation"},
	fault.NotFound:    {http.StatusNotFound, "not-found"},
	fault.Conflict:    {http.StatusConflict, "conflict"},
	fault.Denied:      {http.StatusForbidden, "forbidden"},
	fault.Permanent:   {http.StatusBadGateway, "unavailable"},
	fault.RetryAfter:  {http.StatusTooManyRequests, "rate-limit"},
	fault.Unavailable: {http.StatusServiceUnavailable, "unavailable"},
}

// typeOf names the type of an error with that status.
func typeOf(status int) string {
	switch status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusRequestTimeout:
		return "bad-request"
	case http.StatusUnauthorized:
		return "unauthorized"
	}
	for _, k := range kinds {
		if k.status == status {
			return k.name
		}
	}
	return "server"
}

func fail(status int, field, message string) *failure {
	return &failure{status: status, Errors: []problem{{Type: typeOf(status), Message: message, Field: place(field), Status: status}}}
}

func place(field string) *string {
	if field == "" {
		return nil
	}
	return &field
}

// failed translates a room's error. What is ours goes to the log and not to
// the caller.
func (a *API) failed(ctx context.Context, err error) *failure {
	var done *failure
	if errors.As(err, &done) {
		return done
	}
	f := &failure{}
	for _, one := range workspace.Problems(err) {
		k := kinds[fault.KindOf(one)]
		var known *fault.Error
		if k.status == http.StatusInternalServerError || !errors.As(one, &known) {
			a.cfg.Logger.ErrorContext(ctx, "a request failed", "error", err)
			return fail(http.StatusInternalServerError, "", "something went wrong here; the server's log says what")
		}
		if f.status == 0 {
			f.status = k.status
		}
		if known.Kind == fault.RetryAfter {
			f.header = http.Header{"Retry-After": {strconv.Itoa(max(1, int(math.Ceil(known.After.Seconds()))))}}
		}
		p := problem{Type: k.name, Message: one.Error(), Field: place(known.Field), Status: k.status}
		if known.Field != "" {
			p.Message = strings.TrimPrefix(p.Message, known.Field+": ")
		}
		f.Errors = append(f.Errors, p)
	}
	return f
}

// within makes the fields of a workspace's errors paths of the request: what
// stands before them is taken away. "" leaves a field as it is.
func within(err error, rename func(field string) string) error {
	if err == nil {
		return nil
	}
	var out []error
	for _, one := range workspace.Problems(err) {
		var f *fault.Error
		if errors.As(one, &f) && f.Field != "" {
			c := *f
			c.Field = rename(f.Field)
			out = append(out, &c)
			continue
		}
		out = append(out, one)
	}
	return errors.Join(out...)
}

// missing is what huma says of a property that is not there.
var missing = regexp.MustCompile(`^expected required property (\S+) to be present$`)

// plainly turns huma's own errors into ours. The values that huma repeats are
// left out: they may be secrets.
func plainly(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	f := &failure{status: m.Status}
	for _, d := range m.Errors {
		if d == nil {
			continue
		}
		where, message := d.Location, d.Message
		for _, part := range []string{"body", "query", "path", "header"} {
			if where == part {
				where = ""
			}
			where = strings.TrimPrefix(where, part+".")
		}
		if found := missing.FindStringSubmatch(message); found != nil {
			where, message = joinPath(where, found[1]), "is missing"
		}
		if message == "unexpected property" {
			message = "there is no such field here"
		}
		f.Errors = append(f.Errors, problem{Type: typeOf(m.Status), Message: message, Field: place(where), Status: m.Status})
	}
	if len(f.Errors) == 0 {
		f.Errors = []problem{{Type: typeOf(m.Status), Message: m.Detail, Status: m.Status}}
	}
	return f, nil
}

func joinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func notFound(what, id string) error {
	return fault.New(fault.NotFound, "there is no %s %q", what, id)
}
