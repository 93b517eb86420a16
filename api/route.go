package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// The largest bodies that are read.
const (
	maxBody     = 1 << 20
	maxBodyRule = 8 << 20 // rules come many at a time
)

// bodyTime is how long a body may take. The deadline stays on the connection
// while the call is answered, so it bounds that too.
const bodyTime = 10 * time.Minute

// The media types of Segment's Public API, beside application/json.
const (
	mediaJSON  = "application/json"
	mediaV1    = "application/vnd.segment.v1+json"
	mediaBeta  = "application/vnd.segment.v1beta+json"
	mediaAlpha = "application/vnd.segment.v1alpha+json"
)

// envelope is the form of every answer.
type envelope[T any] struct {
	Data T `json:"data"`
}

type answer[T any] struct{ Body envelope[T] }

// nothing is an input without parameters.
type nothing struct{}

// status is the answer to calls that have nothing else to say.
type status struct {
	Status string `json:"status" enum:"SUCCESS"`
}

func success() status { return status{Status: "SUCCESS"} }

// routes makes huma's side of the control API.
func (a *API) routes(mux *http.ServeMux) huma.API {
	format := huma.Format{
		Marshal: func(w io.Writer, v any) error {
			e := json.NewEncoder(w)
			e.SetEscapeHTML(false)
			return e.Encode(v)
		},
		Unmarshal: json.Unmarshal,
	}
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Kith control API", Version: a.cfg.Version,
				Description: "Segment's Public API for Kith, and Kith's own paths beside it. Bodies are taken as application/json and as " +
					"application/vnd.segment.v1+json, v1beta and v1alpha; the answer has the type that Accept names. An answer is {\"data\": …}.",
			},
			Servers: []*huma.Server{{URL: "/api"}},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "The admin token"},
				},
			},
			Security: []map[string][]string{{"token": {}}},
		},
		// "json" stands for every type that ends with +json.
		Formats:       map[string]huma.Format{mediaJSON: format, mediaV1: format, mediaBeta: format, mediaAlpha: format, "json": format},
		DefaultFormat: mediaJSON,
		Transformers:  []huma.Transformer{plainly},
	}
	h := humago.NewWithPrefix(rootMux{mux}, "/api", config)
	h.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) { next(jsonErrors{ctx}) })
	return h
}

// rootMux keeps the path "/" to itself, where ServeMux would hand it
// everything below.
type rootMux struct{ *http.ServeMux }

// HandleFunc registers a route.
func (m rootMux) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	if strings.HasSuffix(pattern, "/api/") {
		m.ServeMux.HandleFunc(strings.TrimSuffix(pattern, "/"), handler)
		pattern += "{$}"
	}
	m.ServeMux.HandleFunc(pattern, handler)
}

// humaContext is huma.Context under a name that is none of its methods, so that
// it can be embedded.
type humaContext = huma.Context

// jsonErrors writes huma's own errors with the media type of all others.
type jsonErrors struct{ humaContext }

// SetHeader sets a header.
func (c jsonErrors) SetHeader(name, value string) {
	if name == "Content-Type" {
		value = strings.Replace(value, "problem+json", "json", 1)
	}
	c.humaContext.SetHeader(name, value)
}

// Unwrap returns the context beneath.
func (c jsonErrors) Unwrap() huma.Context { return c.humaContext }

// option changes an operation before it is registered.
type option func(*huma.Operation)

func maxBytes(n int64) option { return func(op *huma.Operation) { op.MaxBodyBytes = n } }

func created(op *huma.Operation) { op.DefaultStatus = http.StatusCreated }

// about is a longer description of an operation.
func about(text string) option { return func(op *huma.Operation) { op.Description = text } }

// register adds an operation to the table. id is "verb resource": the
// operation's name in the OpenAPI, its first word the verb.
func register[I, O any](a *API, method, path, id, tag string, fn func(context.Context, *I) (*O, error), options ...option) {
	op := huma.Operation{
		Method: method, Path: path, OperationID: id, Summary: sentence(id), Tags: []string{tag},
		MaxBodyBytes: maxBody, BodyReadTimeout: bodyTime,
		Responses: map[string]*huma.Response{"default": {
			Description: "Error",
			Content: map[string]*huma.MediaType{
				mediaJSON: {Schema: huma.SchemaFromType(a.huma.OpenAPI().Components.Schemas, failureType)},
			},
		}},
	}
	for _, o := range options {
		o(&op)
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := fn(ctx, in)
		if err != nil {
			return nil, a.failed(ctx, err)
		}
		return out, nil
	})
}

// handle is register for operations that answer with data.
func handle[I, T any](a *API, method, path, id, tag string, fn func(context.Context, *I) (T, error), options ...option) {
	register(a, method, path, id, tag, func(ctx context.Context, in *I) (*answer[T], error) {
		data, err := fn(ctx, in)
		if err != nil {
			return nil, err
		}
		return &answer[T]{Body: envelope[T]{Data: data}}, nil
	}, options...)
}

// sentence makes "List connected destinations" of "listConnectedDestinations".
func sentence(id string) string {
	var b strings.Builder
	for i, r := range id {
		switch {
		case i == 0:
			b.WriteString(strings.ToUpper(string(r)))
		case r >= 'A' && r <= 'Z':
			b.WriteString(" " + strings.ToLower(string(r)))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// methods are those that a path may be asked for with.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// unknown answers for paths and methods that are in no table.
func (a *API) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range methods {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := a.mux.Handler(other); pattern != "" && pattern != catchAll {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) > 0 && !slices.Contains(allowed, r.Method) {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		write(w, fail(http.StatusMethodNotAllowed, "", r.Method+" is not possible here; possible: "+strings.Join(allowed, ", ")))
		return
	}
	write(w, fail(http.StatusNotFound, "", "there is no "+r.Method+" "+r.URL.Path+"; GET /api/openapi.json lists what there is"))
}

// write answers with an error outside of huma.
func write(w http.ResponseWriter, f *failure) {
	w.Header().Set("Content-Type", mediaJSON)
	for name, values := range f.header {
		w.Header()[name] = values
	}
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(f) // a caller that has gone away is its own business
}
