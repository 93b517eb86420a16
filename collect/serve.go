package collect

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"kith/event"
	"kith/fault"
	"kith/workspace"
)

// route is one way in.
type route struct {
	name   string     // below /v1/
	single event.Type // the call that the body is; None for a batch
	device bool       // used by SDKs on devices: context.ip is theirs
	form   form
	inside bool // not a route: the calls come from inside the server
}

// form is how a route is told what happened.
type form uint8

const (
	formCalls   form = iota // a call or a batch of calls as the body
	formPixel               // a call in the query of an image
	formObjects             // objects of the Objects API
)

// routes are the ways in of sheet connections_protocols §1.1. The short forms
// are those of devices, the long ones those of servers.
func routes() []route {
	return []route{
		{name: "track", single: event.Track}, {name: "t", single: event.Track, device: true},
		{name: "identify", single: event.Identify}, {name: "i", single: event.Identify, device: true},
		{name: "page", single: event.Page}, {name: "p", single: event.Page, device: true},
		{name: "screen", single: event.Screen}, {name: "s", single: event.Screen, device: true},
		{name: "group", single: event.Group}, {name: "g", single: event.Group, device: true},
		{name: "alias", single: event.Alias}, {name: "a", single: event.Alias, device: true},
		{name: "batch"}, {name: "b", device: true}, {name: "import"},
	}
}

// Register adds the Tracking API's routes to mux: POST and OPTIONS of
// /v1/{track,identify,page,screen,group,alias,batch,import} and
// /v1/{t,i,p,s,g,a,b}, with and without a slash at the end; GET and HEAD of
// /v1/pixel/{track,identify,page,screen,group,alias}; POST of /v1/set, the
// Objects API, and of /v0/{start,upload,finish,keep-alive}, the Objects Bulk
// API; and /v1/m, which takes the SDKs' own telemetry and forgets it.
func (c *Collector) Register(mux *http.ServeMux) {
	for _, rt := range routes() {
		c.register(mux, rt.name, func(r *http.Request) answer { return c.take(r, rt) })
	}
	set := route{name: "set", form: formObjects}
	c.register(mux, set.name, func(r *http.Request) answer { return c.take(r, set) })
	c.registerBulk(mux)
	for _, rt := range pixelRoutes() {
		c.registerPixel(mux, rt)
	}
	c.register(mux, "m", func(r *http.Request) answer { return answer{status: http.StatusOK} })
}

func (c *Collector) register(mux *http.ServeMux, name string, take func(*http.Request) answer) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		allowOrigin(w.Header(), r)
		switch {
		case r.Method == http.MethodOptions:
			preflight(w, r)
		case c.begin(w, r, "POST, OPTIONS", "send events with POST"):
			defer c.running.Done()
			c.answer(w, take(r))
		}
	})
	mux.Handle("/v1/"+name, h)
	mux.Handle("/v1/"+name+"/{$}", h)
}

// begin begins a request, unless it is no POST, which is answered with the
// methods that are allowed and with a hint, or the Collector is closing, which
// is 503. c.running.Done ends it.
func (c *Collector) begin(w http.ResponseWriter, r *http.Request, allowed, hint string) bool {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", allowed)
		c.answer(w, answer{status: http.StatusMethodNotAllowed, code: "method_not_allowed", message: hint})
		return false
	}
	if !c.enter() {
		w.Header().Set("Connection", "close")
		c.answer(w, unavailable("the server is shutting down; try again"))
		return false
	}
	return true
}

// answer is what a client is told. With status 200 the rest is empty.
type answer struct {
	status  int
	code    string
	message string
	after   time.Duration // with 429 and 503
	report  *report       // with 200, for those who asked for it
}

func bad(code, message string) answer {
	return answer{status: http.StatusBadRequest, code: code, message: message}
}

func busy(message string) answer {
	return answer{status: http.StatusTooManyRequests, code: CodeTooManyRequests, message: message, after: time.Second}
}

func unavailable(message string) answer {
	return answer{status: http.StatusServiceUnavailable, code: CodeUnavailable, message: message, after: time.Second}
}

// answer writes a to the client. The bodies are what the SDKs can read (sheet
// connections_protocols §1.3): Python wants code and message, Java success,
// Ruby error.
func (c *Collector) answer(w http.ResponseWriter, a answer) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if a.status == http.StatusOK {
		c.metrics.answered.Inc()
		body := []byte(`{"success": true}`)
		if a.report != nil {
			if told, err := a.report.body(); err == nil {
				body = told
			}
		}
		_, _ = w.Write(body) // a client that has gone learns nothing
		return
	}
	c.metrics.requests.WithLabelValues(strconv.Itoa(a.status)).Inc()
	if a.after > 0 {
		seconds := strconv.Itoa(int((a.after + time.Second - 1) / time.Second))
		h.Set("Retry-After", seconds)
		if a.status == http.StatusTooManyRequests {
			h.Set("X-RateLimit-Reset", seconds)
		}
	}
	body, err := json.Marshal(struct {
		Success bool   `json:"success"`
		Code    string `json:"code"`
		Message string `json:"message"`
		Error   string `json:"error"`
	}{false, a.code, a.message, a.message})
	if err != nil {
		body = []byte(`{"success":false}`)
	}
	if a.code == CodeInvalidToken || a.code == CodeTokenRequired {
		h.Set("WWW-Authenticate", `Bearer error="invalid_token"`) // RFC 6750 §3
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(body)
}

// allowOrigin lets any page send events (sheet connections_protocols §1.2).
// The origin is echoed, since a browser that sends credentials refuses "*".
func allowOrigin(h http.Header, r *http.Request) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	h.Set("Vary", "Origin")
}

func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	allowed := "authorization, content-type, x-retry-count"
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" && len(asked) <= 1000 {
		allowed += ", " + asked
	}
	h.Set("Access-Control-Allow-Methods", "POST, GET")
	h.Set("Access-Control-Allow-Headers", allowed)
	h.Set("Access-Control-Max-Age", "86400")
	h.Add("Vary", "Access-Control-Request-Headers")
	w.WriteHeader(http.StatusNoContent)
}

// credentials returns what a request shows of itself in Authorization: the user
// name of HTTP Basic, which is the write key, or a bearer token. The colon
// behind the user name may be missing.
func credentials(r *http.Request) (key, token string) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return "", strings.TrimSpace(rest)
	case !strings.EqualFold(scheme, "Basic"):
		return "", ""
	}
	rest = strings.TrimRight(strings.TrimSpace(rest), "=")
	plain, err := base64.RawStdEncoding.DecodeString(rest)
	if err != nil {
		if plain, err = base64.RawURLEncoding.DecodeString(rest); err != nil {
			return "", ""
		}
	}
	user, _, _ := strings.Cut(string(plain), ":")
	return strings.TrimSpace(user), ""
}

// clientIP returns the address of the client, or nothing.
func (c *Collector) clientIP(r *http.Request) string {
	if addr := c.config.TrustedProxies.Client(r); addr.IsValid() {
		return addr.String()
	}
	return ""
}

// take handles one request from its body to the fsync.
func (c *Collector) take(r *http.Request, rt route) answer {
	held := &hold{c: c}
	defer held.release()
	in := c.intake()
	defer c.forget(in)
	in.route, in.request = rt, r
	in.key, in.token = credentials(r)
	if n := r.Header["X-Retry-Count"]; len(n) > 0 {
		in.retried = n[0] != "0" // SDKs leave it out of a first try
	}
	if _, ok := r.Header[ReportHeader]; ok {
		in.report = &report{index: -1}
	}
	a := in.take(held)
	if a.report = in.report; a.report != nil {
		a.report.accepted = len(in.records)
	}
	if rt.form == formPixel && a.after > 0 {
		// Whoever fetches an image learns nothing and does not come again.
		in.now = c.config.Clock.Now()
		in.refuseAll(refusal{code: a.code, message: a.message + " (a pixel is not sent again)"})
	}
	return a
}

func (in *intake) take(held *hold) answer {
	c, body, err := in.c, "", error(nil)
	if c.crowded(in.key, in.request.ContentLength) {
		return busy("too many events wait to be written; try again")
	}
	if in.route.form == formPixel {
		body, err = c.readPixel(in.request, held)
	} else {
		body, err = c.read(in.request, held)
	}
	in.now = c.config.Clock.Now()
	if err == nil {
		err = in.decode(body)
	}
	if err != nil {
		return in.unread(err)
	}

	snapshot := c.config.Workspace.Current()
	if in.from = snapshot.SourceByWriteKey(in.key); in.from == nil {
		in.refuseAll(refusal{code: CodeProjectNotFound, message: unknownKey(in.key)})
		if c.config.StrictWriteKeys {
			return answer{status: http.StatusUnauthorized, code: CodeProjectNotFound, message: unknownKey(in.key)}
		}
		return answer{status: http.StatusOK}
	}
	if !in.from.Enabled {
		in.refuseAll(refusal{code: CodeSourceDisabled, message: "the source is disabled: enable it, or remove its write key from the sender"})
		return answer{status: http.StatusOK}
	}
	if a := in.authorize(); a != nil {
		return *a
	}
	space := snapshot.Space(in.from.SpaceID)
	if space == nil {
		c.logger.Error("a source feeds a space that does not exist", "source", in.from.ID, "space", in.from.SpaceID)
		return unavailable("the source is not set up completely; try again")
	}
	if !held.grow(in.size()) {
		return busy("too much is being received; try again")
	}
	if err := in.judge(); err != nil {
		return in.unread(err)
	}
	if len(in.records) == 0 {
		return answer{status: http.StatusOK}
	}

	if err := in.keep(space); err != nil {
		if fault.Is(err, fault.RetryAfter) {
			return busy("too many events wait to be written; try again")
		}
		c.logger.Error("events could not be written", "source", in.from.ID, "events", len(in.records), "error", err)
		return unavailable("the events could not be written; try again")
	}
	return answer{status: http.StatusOK}
}

// keep makes the records durable.
func (in *intake) keep(space *workspace.Space) error {
	c := in.c
	if err := c.appender(space.Number).write(in.records, len(in.out)); err != nil {
		return err
	}
	c.metrics.accepted.Add(float64(len(in.records)))
	c.metrics.bytes.Add(float64(len(in.out)))
	if c.config.Accepted != nil {
		c.config.Accepted(space.Number, in.records)
	}
	return nil
}

func unknownKey(key string) string {
	if key == "" {
		return "no write key: send it as the user name of HTTP Basic, or as writeKey in the body"
	}
	return "no source has the write key " + mask(key)
}

// unread answers a request that cannot be judged. Where that is the client's
// fault it becomes visible as a rejection.
func (in *intake) unread(err error) answer {
	var u *unreadable
	switch {
	case errors.As(err, &u):
		if in.from == nil {
			in.from = in.c.config.Workspace.Current().SourceByWriteKey(in.key)
		}
		if in.from == nil {
			u.sample = "" // nobody could be shown it
		}
		in.tell(in.rejection(), refusal{code: u.code, message: u.message}, 1, u.sample)
		return bad(u.code, u.message)
	case fault.Is(err, fault.RetryAfter):
		return busy("too much is being received; try again")
	}
	// The connection broke, or the body did not come in time.
	in.c.logger.Debug("a request was not read", "error", err)
	return unavailable("the request could not be read; try again")
}
