package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/tidwall/gjson"
)

// maxFaultyBody is the largest request that a faulty proxy reads.
const maxFaultyBody = 16 << 20

// trouble is what a faulty proxy does to one request instead of passing it on.
// The zero value passes it on.
type trouble struct {
	status int         // answered with this status, not passed on
	header http.Header // of that answer
	body   string      // of that answer
	// resetBefore breaks the connection with nothing passed on. resetAfter
	// passes the request on, waits for the answer, and then breaks the
	// connection: the server has the events, the sender does not know.
	resetBefore, resetAfter bool
}

func (t trouble) String() string {
	switch {
	case t.resetBefore:
		return "reset before"
	case t.resetAfter:
		return "reset after"
	case t.status != 0:
		return fmt.Sprint(t.status)
	}
	return "passed on"
}

// refuse is the trouble that answers with a status and headers given as names
// and values in turn. Its body is what Kith's own errors look like.
func refuse(status int, header ...string) trouble {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return trouble{status: status, header: h, body: `{"success":false,"code":"faulty","message":"faulty","error":"faulty"}`}
}

// passed is a request as a faulty proxy saw it.
type passed struct {
	method, path string // with the query
	header       http.Header
	body         []byte // unpacked when it was gzip
	did          trouble
	status       int // answered; 0 when the connection was broken
}

// messageIDs returns the ids of the events in the request, in order.
func (p passed) messageIDs() (ids []string) {
	root := gjson.ParseBytes(p.body)
	items := []gjson.Result{root}
	if batch := root.Get("batch"); batch.IsArray() {
		items = batch.Array()
	}
	for _, e := range items {
		if id := e.Get("messageId"); id.Exists() {
			ids = append(ids, id.String())
		}
	}
	return ids
}

// faulty is a reverse proxy before a server that gets its requests into
// trouble, and keeps all of them. Sending SDKs are pointed at its URL. The
// server sees the Host header that was sent; X-Forwarded-For, -Host and -Proto
// are set.
type faulty struct {
	URL string // http://127.0.0.1:port, or https

	mu      sync.Mutex
	waiting []waiting
	seen    []passed
}

// waiting is trouble that some requests are in for.
type waiting struct {
	left int
	on   func(*http.Request) bool
	does trouble
}

// newFaulty starts a faulty proxy before the server at base, until the test
// ends.
func newFaulty(t *testing.T, base string) *faulty {
	return startFaulty(t, base, (*httptest.Server).Start)
}

// newFaultyTLS is newFaulty over https, with a certificate that nobody trusts.
func newFaultyTLS(t *testing.T, base string) *faulty {
	return startFaulty(t, base, (*httptest.Server).StartTLS)
}

func startFaulty(t *testing.T, base string, begin func(*httptest.Server)) *faulty {
	t.Helper()
	target, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}
	f := &faulty{}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		// The server is away, or the sender has gone: the connection breaks.
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		FlushInterval: -1,
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serve(proxy, w, r) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // browsers hang up on certificates before they are told to accept them
	begin(server)
	f.URL = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	return f
}

// isEvents tells the requests that carry events.
func isEvents(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/") && strings.TrimSuffix(r.URL.Path, "/") != "/v1/m"
}

// next gets the next n requests that carry events into trouble. Troubles are
// taken in the order in which they were asked for.
func (f *faulty) next(n int, does trouble) { f.nextOn(isEvents, n, does) }

// nextOn is next for the requests of a kind.
func (f *faulty) nextOn(on func(*http.Request) bool, n int, does trouble) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = append(f.waiting, waiting{n, on, does})
}

// mend forgets the troubles that nobody has had yet.
func (f *faulty) mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = nil
}

// requests returns the requests that carried events, those in trouble among
// them, in the order in which they came.
func (f *faulty) requests() []passed {
	var list []passed
	for _, p := range f.all() {
		if r := (&http.Request{Method: p.method, URL: &url.URL{Path: strings.SplitN(p.path, "?", 2)[0]}}); isEvents(r) {
			list = append(list, p)
		}
	}
	return list
}

// all returns all requests.
func (f *faulty) all() []passed {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]passed(nil), f.seen...)
}

// took waits until n requests have been in trouble.
func (f *faulty) took(ctx context.Context, n int) error {
	return until(ctx, func() error {
		had := 0
		for _, p := range f.all() {
			if p.did.status != 0 || p.did.resetBefore || p.did.resetAfter {
				had++
			}
		}
		if had < n {
			return fmt.Errorf("%d requests were in trouble, want %d", had, n)
		}
		return nil
	})
}

// begin notes a request and says what is done to it.
func (f *faulty) begin(r *http.Request, body []byte) (number int, does trouble) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.waiting {
		if w := &f.waiting[i]; w.left > 0 && w.on(r) {
			w.left--
			does = w.does
			break
		}
	}
	f.seen = append(f.seen, passed{method: r.Method, path: r.URL.RequestURI(), header: r.Header.Clone(), body: unpacked(r, body), did: does})
	return len(f.seen) - 1, does
}

func (f *faulty) answered(number, status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[number].status = status
}

func (f *faulty) serve(proxy http.Handler, w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFaultyBody))
	if err != nil {
		panic(http.ErrAbortHandler) // the sender has gone
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.TransferEncoding = nil
	number, does := f.begin(r, body)
	switch {
	case does.status != 0:
		f.answered(number, does.status)
		for name, values := range does.header {
			w.Header()[name] = values
		}
		// A page may read the answer, as Kith's own answers.
		if origin := r.Header.Get("Origin"); origin != "" {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Allow-Credentials", "true")
			w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
		}
		w.WriteHeader(does.status)
		_, _ = io.WriteString(w, does.body)
	case does.resetBefore:
		breakOff(w)
	case does.resetAfter:
		proxy.ServeHTTP(httptest.NewRecorder(), r)
		breakOff(w)
	default:
		proxy.ServeHTTP(&noting{ResponseWriter: w, note: func(status int) { f.answered(number, status) }}, r)
	}
}

// breakOff resets the connection of a request.
func breakOff(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 has no connection to give away
	}
	raw := conn
	if secured, ok := conn.(*tls.Conn); ok {
		raw = secured.NetConn()
	}
	if tcp, ok := raw.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset instead of an orderly end
	}
	_ = raw.Close()
}

// unpacked returns a body as it was before gzip. What cannot be unpacked is
// returned as it is.
func unpacked(r *http.Request, body []byte) []byte {
	if r.Header.Get("Content-Encoding") != "gzip" {
		return body
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return body
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxFaultyBody))
	if err != nil {
		return body
	}
	return plain
}

// noting tells the status of an answer.
type noting struct {
	http.ResponseWriter
	note func(status int)
}

// WriteHeader notes the status.
func (n *noting) WriteHeader(status int) {
	n.note(status)
	n.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (n *noting) Unwrap() http.ResponseWriter { return n.ResponseWriter }

func TestFaultyProxy(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		got = append(got, r.Host+" "+string(body))
		mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	}))
	defer behind.Close()
	for name, open := range map[string]func(*testing.T, string) *faulty{"http": newFaulty, "https": newFaultyTLS} {
		t.Run(name, func(t *testing.T) {
			got = nil
			f := open(t, behind.URL)
			f.next(1, refuse(429, "Retry-After", "1"))
			f.next(1, trouble{resetBefore: true})
			f.next(1, trouble{resetAfter: true})
			sender := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
			post := func(path string) (int, string) {
				response, err := sender.Post(f.URL+path, "text/plain", strings.NewReader(`{"batch":[{"messageId":"m1"},{"messageId":"m2"}]}`))
				if err != nil {
					return 0, ""
				}
				defer response.Body.Close()
				return response.StatusCode, response.Header.Get("Retry-After")
			}
			if status, after := post("/v1/b"); status != 429 || after != "1" {
				t.Errorf("the first answer is %d, Retry-After %q; want 429, 1", status, after)
			}
			if status, _ := post("/other"); status != http.StatusAccepted {
				t.Errorf("a request without events got into trouble: %d", status)
			}
			for range 2 {
				if status, _ := post("/v1/b"); status != 0 {
					t.Errorf("an answer %d came over a broken connection", status)
				}
			}
			if status, _ := post("/v1/b/"); status != http.StatusAccepted {
				t.Errorf("the last answer is %d, want 202", status)
			}
			var did []string
			for _, p := range f.requests() {
				did = append(did, fmt.Sprint(p.did, " ", p.status, " ", p.messageIDs()))
			}
			want := "429 429 [m1 m2]; reset before 0 [m1 m2]; reset after 0 [m1 m2]; passed on 202 [m1 m2]"
			if all := strings.Join(did, "; "); all != want {
				t.Errorf("seen %s\nwant %s", all, want)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(got) != 3 { // /other, the one reset after, the last
				t.Errorf("the server got %d requests, want 3: %q", len(got), got)
			}
			for _, g := range got {
				if host := f.URL[strings.Index(f.URL, "//")+2:]; !strings.HasPrefix(g, host+" ") {
					t.Errorf("the server was asked as %q, want %s", g, host)
				}
			}
			if err := f.took(t.Context(), 3); err != nil {
				t.Error(err)
			}
		})
	}
	gone := newFaulty(t, "http://127.0.0.1:1")
	if response, err := http.Post(gone.URL+"/v1/b", "text/plain", strings.NewReader("{}")); err == nil {
		response.Body.Close()
		t.Error("a server that is away answers")
	} else if errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
