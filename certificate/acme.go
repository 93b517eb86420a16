package certificate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"kith/clock"
	"kith/fault"
)

// How often a domain's first certificate is asked for while that fails. The
// pauses double from the first to the last, so that the first hour has fewer
// than the five failures that Let's Encrypt takes of a name.
const (
	firstPause = 2 * time.Minute
	lastPause  = time.Hour
)

// ACMEConfig is what an ACME is made of. Dir, Domains, Clock and Logger are
// required.
type ACMEConfig struct {
	Dir       string   // where the account's key and the certificates are kept, mode 0600
	Domains   []string // in lower case
	Directory string   // the authority's directory; empty means Let's Encrypt
	Email     string   // where the authority may write to; may be empty
	Roots     string   // a PEM file of roots for reaching Directory; empty means the system's
	Clock     clock.Clock
	Logger    *slog.Logger
}

// ACME is certificates that an authority gives to whoever answers at the
// domains: to a TLS connection (tls-alpn-01, RFC 8737), which TLS takes care
// of, or on port 80 (http-01), which Handler does. The caller has agreed to the
// authority's terms.
type ACME struct {
	config  ACMEConfig
	manager *autocert.Manager
	life    context.Context // of the requests to the authority
	abandon context.CancelFunc
	ready   map[string]*atomic.Pointer[x509.Certificate] // what each domain shows; nil before the first
}

// OpenACME returns an ACME that has asked for nothing yet; Run does. A file of
// roots that cannot be read is fault.Invalid, its field "acme-ca".
func OpenACME(c ACMEConfig) (*ACME, error) {
	if c.Directory == "" {
		c.Directory = acme.LetsEncryptURL
	}
	at, err := url.Parse(c.Directory)
	if err != nil {
		return nil, fault.Field("acme-directory", "%q is not a URL", c.Directory)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second}
	if c.Roots != "" {
		text, err := readFile(c.Roots)
		if err != nil {
			return nil, fault.Field("acme-ca", "%v", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, fault.Field("acme-ca", "%s has no certificate in PEM", c.Roots)
		}
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	a := &ACME{config: c, ready: map[string]*atomic.Pointer[x509.Certificate]{}}
	a.life, a.abandon = context.WithCancel(context.Background())
	for _, d := range c.Domains {
		a.ready[d] = &atomic.Pointer[x509.Certificate]{}
	}
	a.manager = &autocert.Manager{
		Prompt: autocert.AcceptTOS,
		// An authority's account and certificates are no use at another one.
		Cache:      autocert.DirCache(filepath.Join(c.Dir, strings.ReplaceAll(at.Host, ":", "_"))),
		HostPolicy: a.allow,
		Email:      c.Email,
		Client: &acme.Client{
			DirectoryURL: c.Directory, UserAgent: "kith",
			HTTPClient: &http.Client{Transport: &mortal{transport, a.life}, Timeout: time.Minute},
		},
	}
	return a, nil
}

// mortal is a transport whose requests end with a context of its own too:
// autocert takes none from its callers.
type mortal struct {
	http.RoundTripper
	life context.Context
}

// RoundTrip sends a request.
func (m *mortal) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := m.life.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	context.AfterFunc(m.life, cancel)
	return m.RoundTripper.RoundTrip(r.WithContext(ctx))
}

// TLS returns the configuration of a listener that shows the certificates, and
// that of the first domain to clients that name none.
func (a *ACME) TLS() *tls.Config {
	c := config(a.get)
	c.NextProtos = append(c.NextProtos, acme.ALPNProto)
	return c
}

// allow refuses hosts that are none of the domains. An authority that asks at
// another port than 80 names it.
func (a *ACME) allow(_ context.Context, host string) error {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if a.ready[host] == nil {
		return fmt.Errorf("no certificate is for %q", host)
	}
	return nil
}

// get is asked at each connection. Only Run asks for a first certificate: if
// connections did, strangers could use up what the authority allows.
func (a *ACME) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
		return a.manager.GetCertificate(hello)
	}
	domain := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if domain == "" {
		domain = a.config.Domains[0]
	}
	if err := a.allow(hello.Context(), domain); err != nil {
		return nil, err
	}
	if a.ready[domain].Load() == nil {
		return nil, fmt.Errorf("there is no certificate for %s yet", domain)
	}
	return a.certificate(domain)
}

// certificate returns a domain's certificate and notes it, from the authority
// where need be, which takes seconds to minutes. It is always one with an ECDSA
// key; for clients without ECDSA autocert would ask for a second one.
func (a *ACME) certificate(domain string) (*tls.Certificate, error) {
	c, err := a.manager.GetCertificate(&tls.ClientHelloInfo{
		ServerName: domain, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	})
	if err == nil {
		a.ready[domain].Store(c.Leaf)
	}
	return c, err
}

// Handler answers the authority's questions on port 80 (http-01) and hands all
// else to next.
func (a *ACME) Handler(next http.Handler) http.Handler { return a.manager.HTTPHandler(next) }

// Shown returns the certificates there are.
func (a *ACME) Shown() []Shown {
	var list []Shown
	for _, d := range a.config.Domains {
		if leaf := a.ready[d].Load(); leaf != nil {
			list = append(list, shown(leaf))
		}
	}
	return list
}

// Run gets the certificates that are missing, again and again until it has
// them. Their renewal, a third of their life before they end, is autocert's; a
// daily look says when one has failed.
func (a *ACME) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, a.abandon)
	defer stop()
	var domains sync.WaitGroup
	defer domains.Wait()
	for _, d := range a.config.Domains {
		domains.Go(func() { a.keep(ctx, d) })
	}
	return nil
}

// keep gets one domain's certificate and watches its renewal.
func (a *ACME) keep(ctx context.Context, domain string) {
	logger := a.config.Logger.With("domain", domain)
	pause := firstPause
	for {
		c, err := a.certificate(domain)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			logger.Info("certificate ready", "until", c.Leaf.NotAfter)
			break
		}
		logger.Error("no certificate yet: does the domain lead here, port 443 to --listen or port 80 to --http-redirect?", "error", err, "again_in", pause)
		if !a.wait(ctx, pause) {
			return
		}
		pause = min(2*pause, lastPause)
	}
	for a.wait(ctx, 24*time.Hour) {
		c, err := a.certificate(domain)
		switch {
		case err != nil:
			logger.Error("the certificate cannot be shown", "error", err)
		case a.config.Clock.Now().After(c.Leaf.NotAfter.Add(-c.Leaf.NotAfter.Sub(c.Leaf.NotBefore) / 5)):
			logger.Error("the certificate was not renewed: does the domain still lead here?", "until", c.Leaf.NotAfter)
		}
	}
}

// wait waits and reports whether to go on.
func (a *ACME) wait(ctx context.Context, d time.Duration) bool {
	reached, stop := a.config.Clock.Until(a.config.Clock.Now().Add(d))
	defer stop()
	select {
	case <-reached:
		return true
	case <-ctx.Done():
		return false
	}
}
