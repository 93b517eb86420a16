package api

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"

	"kith/fault"
)

// catchAll is the pattern of what is in no table.
const catchAll = "/api/"

var (
	failureType = reflect.TypeFor[failure]()
	applyType   = reflect.TypeFor[applyBody]()
)

// API serves the control API and the Profile API. It is safe for concurrent
// use.
type API struct {
	cfg  Config
	mux  *http.ServeMux // the control API
	huma huma.API
	// spec writes openapi.json, when somebody asks for the first time: it is half
	// of what a start costs.
	spec func() ([]byte, error)

	waiting     atomic.Int64 // reads that wait for a message
	appsWaiting atomic.Int64 // those of them that come with client tokens
}

// New makes the API.
func New(cfg Config) *API {
	a := &API{cfg: cfg, mux: http.NewServeMux()}
	a.huma = a.routes(a.mux)
	a.workspaceRoutes()
	a.spaceRoutes()
	a.filterRoutes()
	a.sourceRoutes()
	a.destinationRoutes()
	a.catalogRoutes()
	a.trackingPlanRoutes()
	a.audienceRoutes()
	a.activationRoutes()
	a.inspectRoutes()
	a.objectRoutes()
	a.traceRoutes()
	a.explainRoutes()
	a.overviewRoutes()
	a.oauthRoutes()
	a.importRoutes()
	a.reviseRoutes()
	a.rebuildRoutes()
	a.retentionRoutes()
	a.erasureRoutes()
	a.simulationRoutes()
	a.fileRoutes()
	a.mux.HandleFunc(catchAll, a.unknown)

	doc := a.huma.OpenAPI()
	for _, unused := range []string{"ErrorModel", "ErrorDetail"} {
		delete(doc.Components.Schemas.Map(), unused) // huma's own, which never leave here
	}
	a.spec = sync.OnceValues(func() ([]byte, error) { return json.Marshal(doc) })
	return a
}

// Register adds the APIs to a mux.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/openapi.json", a.openAPI)
	mux.HandleFunc("/api", a.control)
	mux.HandleFunc("/api/", a.control)
	a.profileRoutes(mux)
}

func (a *API) openAPI(w http.ResponseWriter, _ *http.Request) {
	spec, err := a.spec()
	if err != nil { // our own tables are wrong
		a.cfg.Logger.Error("the OpenAPI document cannot be written", "error", err)
		http.Error(w, "the document cannot be written; see the log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", mediaJSON)
	_, _ = w.Write(spec)
}

// control serves the control API to who has the admin token.
func (a *API) control(w http.ResponseWriter, r *http.Request) {
	defer a.recovered(w, r)
	w.Header().Set("Request-Id", a.requestID())
	w.Header().Set("Cache-Control", "no-store")
	if err := a.cfg.Tokens.Admin(r); err != nil {
		if fault.Is(err, fault.RetryAfter) {
			write(w, a.failed(r.Context(), err))
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="kith"`)
		write(w, fail(http.StatusUnauthorized, "", err.Error()))
		return
	}
	if media := picked(r.Header.Values("Accept")); media != "" {
		r.Header.Set("Accept", media)
	}
	a.mux.ServeHTTP(w, r)
}

// picked returns which of our media types a caller likes best, the first of
// equals; none when it names none of them (RFC 9110, section 12.5.1).
func picked(accept []string) string {
	best, quality := "", 0.0
	for _, one := range strings.Split(strings.Join(accept, ","), ",") {
		media, params, err := mime.ParseMediaType(one)
		if err != nil || media != mediaJSON && media != mediaV1 && media != mediaBeta && media != mediaAlpha {
			continue
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		if q > quality {
			best, quality = media, q
		}
	}
	return best
}

func (a *API) recovered(w http.ResponseWriter, r *http.Request) {
	caught := recover()
	if caught == nil {
		return
	}
	if err, ok := caught.(error); ok && err == http.ErrAbortHandler { //nolint:errorlint // net/http compares so too
		panic(caught)
	}
	a.cfg.Logger.ErrorContext(r.Context(), "a request failed", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(caught))
	write(w, fail(http.StatusInternalServerError, "", "something went wrong here; the server's log says what"))
}

// requestID names a request, so that caller and log can speak of it.
func (a *API) requestID() string {
	b := make([]byte, 12)
	if _, err := io.ReadFull(a.cfg.Random, b); err != nil {
		return ""
	}
	return hex.EncodeToString(b)
}

// flag reads a parameter that may stand alone: ?dryRun, ?dryRun=true.
func flag(values []string) bool {
	return len(values) > 0 && values[0] != "false" && !strings.EqualFold(values[0], "0")
}
