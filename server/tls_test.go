package server

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// trusting is a client that trusts the local authority of a data directory.
func trusting(t *testing.T, dir string) *http.Client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, fileTLSDev, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatal("no certificate in ca.pem")
	}
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func TestTLSForDevelopment(t *testing.T) {
	dir := t.TempDir()
	cfg := onDisk(dir)
	cfg.TLS = TLS{Dev: true, Redirect: "127.0.0.1:0"}
	cfg.PublicURL = "https://Kith.example.com:443/"
	s, plain, stop := running(t, cfg)
	base := strings.Replace(plain, "http://", "https://", 1)
	key := source(t, s, "web")
	client := trusting(t, dir)
	response, err := client.Post(base+"/v1/track", "application/json", strings.NewReader(`{"writeKey":"`+key+`","userId":"u1","event":"Bought"}`))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
		t.Errorf("a call over TLS: %s %s %s", response.Proto, response.Status, body)
	}
	response, err = client.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, _ = io.ReadAll(response.Body)
	response.Body.Close()
	if !strings.Contains(string(body), "kith_tls_certificate_expires_seconds{name=") {
		t.Error("no metric says when the certificate ends")
	}
	if response, err = http.Get(plain + "/healthz"); err != nil {
		t.Fatal(err)
	}
	body, _ = io.ReadAll(response.Body)
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "HTTPS") {
		t.Errorf("plain HTTP where TLS is spoken: %s %s", response.Status, body)
	}
	old := &tls.Config{MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true}
	if conn, err := tls.Dial("tcp", s.addr.Load().String(), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	text := s.cfg.Notes.(*notes).String()
	for _, want := range []string{"listens on " + base + " ", "public URL: https://kith.example.com\n", "NODE_EXTRA_CA_CERTS=" + filepath.Join(dir, fileTLSDev, "ca.pem")} {
		if !strings.Contains(text, want) {
			t.Errorf("the start-up text lacks %q: %s", want, text)
		}
	}
	if leaf := s.certs.TLS(); leaf.MinVersion != tls.VersionTLS12 {
		t.Errorf("from TLS version %x on", leaf.MinVersion)
	}
	hosts := s.localHosts()
	for _, want := range []string{"localhost", "127.0.0.1", "::1", "10.0.2.2", "kith.example.com"} {
		if !slices.Contains(hosts, want) {
			t.Errorf("the certificate lacks %s: %v", want, hosts)
		}
	}
	stop()

	_, plain, _ = running(t, cfg) // the next start has the same authority
	if response, err = client.Get(strings.Replace(plain, "http://", "https://", 1) + "/healthz"); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
}

func TestRedirectToTLS(t *testing.T) {
	for _, test := range []struct{ public, listen, target, host, want string }{
		{"https://kith.example.com", ":443", "/v1/track?x=1", "other.example.com", "https://kith.example.com/v1/track?x=1"},
		{"", "127.0.0.1:8443", "/a%2Fb", "kith.example.com", "https://kith.example.com:8443/a%2Fb"},
		{"", "127.0.0.1:443", "/", "kith.example.com:80", "https://kith.example.com/"},
		{"", "[::1]:443", "/", "[::1]:80", "https://[::1]/"},
		{"", ":8443", "/", "", "https://localhost:8443/"},
	} {
		s := &Server{cfg: Config{PublicURL: test.public, Listen: test.listen, TLS: TLS{Dev: true}}}
		w := &header{h: http.Header{}}
		u, err := url.ParseRequestURI(test.target)
		if err != nil {
			t.Fatal(err)
		}
		s.redirect(w, &http.Request{Method: http.MethodPost, Host: test.host, URL: u})
		if got := w.h.Get("Location"); w.code != http.StatusPermanentRedirect || got != test.want {
			t.Errorf("%+v: %d to %q", test, w.code, got)
		}
	}
	for _, target := range []string{"evil:@other.example.com/x", "evil:.other.example.com"} {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		s, w := &Server{cfg: Config{PublicURL: "https://kith.example.com"}}, &header{h: http.Header{}}
		s.redirect(w, &http.Request{Method: http.MethodGet, Host: "kith.example.com", URL: u})
		if w.code != http.StatusBadRequest || w.h.Get("Location") != "" {
			t.Errorf("%s: %d to %q", target, w.code, w.h.Get("Location"))
		}
	}
}

// header keeps the head of an answer.
type header struct {
	h    http.Header
	code int
}

func (h *header) Header() http.Header         { return h.h }
func (h *header) WriteHeader(code int)        { h.code = code }
func (h *header) Write(p []byte) (int, error) { return len(p), nil }

func TestPublicURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://Kith.Example.com": "https://kith.example.com", "https://kith.example.com/": "https://kith.example.com",
		"https://kith.example.com:443": "https://kith.example.com", "http://kith.example.com:80/": "http://kith.example.com",
		"https://kith.example.com:8443": "https://kith.example.com:8443", "http://[::1]:8080": "http://[::1]:8080",
		"kith.example.com": "", "ftp://kith.example.com": "", "https://": "", "https://a@kith.example.com": "",
		"https://kith.example.com/*/alert": "", `https://kith"example.com`: "", "https://kith<example.com": "", "https://kith'example.com": "",
		"https://kith.example.com/x": "", "https://kith.example.com?x": "", "https://kith example.com": "", "https://[::1": "",
	} {
		got := ""
		if u, err := parsePublic(text); err == nil {
			got = u.String()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, test := range []struct {
		cfg  Config
		addr *net.TCPAddr
		want string
	}{
		{Config{Listen: "127.0.0.1:8080"}, nil, "http://127.0.0.1:8080"},
		{Config{Listen: "127.0.0.1:0"}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4711}, "http://127.0.0.1:4711"},
		{Config{Listen: ":80"}, &net.TCPAddr{IP: net.IPv6zero, Port: 80}, "http://localhost"},
		{Config{Listen: "0.0.0.0:443", TLS: TLS{Dev: true}}, nil, "https://localhost"},
		{Config{Listen: ":443", PublicURL: "https://kith.example.com"}, nil, "https://kith.example.com"},
	} {
		s := &Server{cfg: test.cfg}
		s.addr.Store(test.addr)
		if got := s.publicURL(); got != test.want {
			t.Errorf("%s: %s, want %s", test.cfg.Listen, got, test.want)
		}
	}
	cfg := onDisk(t.TempDir())
	cfg.TLS = TLS{Domains: []string{"B.example.com", "z.example.com", "a.example.com."}, ACMEAccept: true}
	if err := cfg.complete(); err != nil || cfg.PublicURL != "https://b.example.com" || cfg.DedupWindow != DefaultDedupWindow {
		t.Errorf("ACME's first domain: %v, %q, window %v", err, cfg.PublicURL, cfg.DedupWindow)
	}
}
