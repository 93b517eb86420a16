package cdn

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"kith/proxy"
	"kith/workspace"
)

// Workspace is where sources are found by their write keys.
type Workspace interface {
	// Current returns the newest snapshot. It is asked once a request.
	Current() *workspace.Snapshot
}

// Config is what a CDN is made of. Workspace is required.
type Config struct {
	Workspace Workspace
	// PublicURL is how clients reach this server, "https://events.example.com",
	// without a slash at the end. Empty: as the request came.
	PublicURL string
	// TrustedProxies are peers whose X-Forwarded-Proto and X-Forwarded-Host are
	// believed.
	TrustedProxies proxy.Trusted
	// Integration returns the name under which an event's integrations object
	// speaks of destinations with that metadataId. Nil, or an empty name: the
	// metadataId.
	Integration func(metadataID string) string
	Logger      *slog.Logger
	// Metrics is where the package's metrics are registered. May be nil.
	Metrics prometheus.Registerer
}

// CDN serves settings and analytics.js. Its methods are safe for concurrent
// use.
type CDN struct {
	config    Config
	logger    *slog.Logger
	library   *library
	documents *cache // settings, of the newest snapshot
	scripts   *cache // analytics.js, with a write key and a host in it
	answers   *prometheus.CounterVec
}

// Bounds of what is kept.
const (
	maxDocuments = 32 << 20 // bytes of settings
	maxScripts   = 16 << 20 // bytes of analytics.js
)

// New returns a CDN. The error is one of the registration of metrics, or of the
// embedded files.
func New(config Config) (*CDN, error) {
	c := &CDN{config: config, logger: config.Logger}
	if c.logger == nil {
		c.logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.library, err = openLibrary(embedded); err != nil {
		return nil, fmt.Errorf("read the embedded analytics.js: %w", err)
	}
	c.answers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kith_cdn_answers_total", Help: "Answers of the settings CDN, by what was asked for (settings, script, chunk) and status code."}, []string{"asked", "status"})
	emptied := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kith_cdn_cache_emptied_total", Help: "How often what was made for answers was forgotten because there was too much of it."}, []string{"cache"})
	c.documents = newCache(maxDocuments, emptied.WithLabelValues("settings"))
	c.scripts = newCache(maxScripts, emptied.WithLabelValues("script"))
	if config.Metrics != nil {
		for _, m := range []prometheus.Collector{c.answers, emptied} {
			if err := config.Metrics.Register(m); err != nil {
				return nil, fmt.Errorf("register the metrics of the CDN: %w", err)
			}
		}
	}
	return c, nil
}

// Handler returns the routes as one handler.
func (c *CDN) Handler() http.Handler {
	mux := http.NewServeMux()
	c.Register(mux)
	return mux
}

// Register adds the routes to mux. All of them take GET, HEAD and OPTIONS.
func (c *CDN) Register(mux *http.ServeMux) {
	settings := c.serve("settings", c.settings)
	for _, path := range []string{"/v1/projects/{writeKey}/settings", "/projects/{writeKey}/settings"} {
		mux.Handle(path, settings)
		mux.Handle(path+"/{$}", settings)
	}
	script := c.serve("script", c.script)
	mux.Handle("/analytics.js/v1/{writeKey}/{file}", script)
	mux.Handle("/analytics.js/v1/{writeKey}/platform/{file}", script)
	chunk := c.serve("chunk", c.chunk)
	mux.Handle("/analytics-next/bundles/{file}", chunk)
	mux.Handle("/analytics-next/{file}", chunk)
}

// serve answers requests with the file that find gives for them.
func (c *CDN) serve(asked string, find func(*http.Request) (*file, *refusal)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := c.respond(w, r, find)
		c.answers.WithLabelValues(asked, strconv.Itoa(status)).Inc()
	})
}

func (c *CDN) respond(w http.ResponseWriter, r *http.Request, find func(*http.Request) (*file, *refusal)) (status int) {
	allowOrigin(w.Header(), r)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		preflight(w, r)
		return http.StatusNoContent
	default:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		return refuse(w, &refusal{http.StatusMethodNotAllowed, "fetch it with GET"})
	}
	f, no := find(r)
	if no != nil {
		return refuse(w, no)
	}
	return f.write(w, r)
}

// refusal is an answer without a file.
type refusal struct {
	status int
	why    string
}

// refuse answers with a text, never with JSON: analytics.js throws the text into
// the console of the page, and the mobile SDKs would take an object for settings
// in which there is nothing.
func refuse(w http.ResponseWriter, no *refusal) int {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store") // the source may be there in a moment
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(no.status)
	_, _ = fmt.Fprintln(w, no.why) // a client that has gone learns nothing
	return no.status
}

// allowOrigin lets any page read the answer. The origin is echoed, since a
// browser that sends credentials refuses "*"; caches are told so. A script tag
// has no origin: pages that isolate themselves ask for a policy instead.
func allowOrigin(h http.Header, r *http.Request) {
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
}

func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, HEAD")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" && len(asked) <= 1000 {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "86400")
	h.Add("Vary", "Access-Control-Request-Headers")
	w.WriteHeader(http.StatusNoContent)
}

// sourceOf finds the source of a request's write key. An unknown key is 404, as
// at Segment: analytics.js then says so in the console and sends nothing, the
// mobile SDKs go on with the settings they have. A source that is disabled has
// its settings all the same: the page goes on, its events are refused and counted
// with that reason, and it is well again once the source is.
func (c *CDN) sourceOf(r *http.Request) (*workspace.Snapshot, *workspace.Source, string, *refusal) {
	key := r.PathValue("writeKey")
	snapshot := c.config.Workspace.Current()
	source := snapshot.SourceByWriteKey(key)
	if source == nil {
		return nil, nil, "", &refusal{http.StatusNotFound, "no source has the write key " + mask(key) +
			": look for the right one with GET /api/sources, or print the snippet again with kith snippet"}
	}
	return snapshot, source, key, nil
}

// mask shows enough of a write key to recognise it.
func mask(key string) string {
	if len(key) < 12 {
		return "…"
	}
	for i := range 4 {
		if key[i] <= ' ' || key[i] > '~' {
			return "…"
		}
	}
	return key[:4] + "…"
}
