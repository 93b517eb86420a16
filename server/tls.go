package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kith/certificate"
	"kith/clock"
)

// androidHost is this machine as the emulator of Android sees it.
const androidHost = "10.0.2.2"

// certificates are what the server shows to those who connect.
type certificates interface {
	TLS() *tls.Config
	Run(context.Context) error
	Shown() []certificate.Shown
}

// openTLS opens the certificates, if there are to be any. They live in the
// time of the world, a test clock or not.
func (s *Server) openTLS() error {
	t, world := &s.cfg.TLS, clock.System{}
	var redirect http.Handler = http.HandlerFunc(s.redirect)
	switch {
	case t.Cert != "":
		files, err := certificate.OpenFiles(t.Cert, t.Key, world, s.cfg.Logger)
		if err != nil {
			return err
		}
		s.certs = files
	case t.Dev:
		dir, err := filepath.Abs(s.dir.file(fileTLSDev))
		if err != nil {
			return err
		}
		local, err := certificate.OpenLocal(dir, s.localHosts(), world, s.random, s.cfg.Logger)
		if err != nil {
			return err
		}
		s.certs, s.authority = local, local.AuthorityFile()
	case len(t.Domains) > 0:
		acme, err := certificate.OpenACME(certificate.ACMEConfig{
			Dir: s.dir.file(fileACME), Domains: t.Domains, Directory: t.ACMEDirectory, Email: t.ACMEEmail, Roots: t.ACMERoots,
			Clock: world, Logger: s.cfg.Logger,
		})
		if err != nil {
			return err
		}
		s.certs, redirect = acme, acme.Handler(redirect)
	}
	if t.Redirect != "" {
		s.redirects = &http.Server{
			Handler: redirect, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 30 * time.Second,
			MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
		}
	}
	return nil
}

// localHosts are the names under which a server for development is reached.
func (s *Server) localHosts() []string {
	hosts := []string{"localhost", "127.0.0.1", "::1", androidHost}
	if name, err := os.Hostname(); err == nil && name != "" {
		hosts = append(hosts, strings.ToLower(name))
	}
	if u, err := url.Parse(s.cfg.PublicURL); err == nil && u.Hostname() != "" {
		hosts = append(hosts, u.Hostname())
	}
	host, _, _ := net.SplitHostPort(s.cfg.Listen) // complete has checked it
	if addr, err := netip.ParseAddr(host); host != "" && (err != nil || !addr.IsUnspecified()) {
		return append(hosts, strings.ToLower(host))
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		s.cfg.Logger.Warn("the addresses of this machine are not known; the certificate is for localhost", "error", err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			hosts = append(hosts, n.IP.String())
		}
	}
	return hosts
}

// redirect answers a request over plain HTTP: the same, over TLS. 308 keeps the
// method and the body.
func (s *Server) redirect(w http.ResponseWriter, r *http.Request) {
	if r.URL.Opaque != "" { // "x:@other.example.com" would lead to another host
		http.Error(w, "ask for a path", http.StatusBadRequest)
		return
	}
	to := s.publicURL()
	if s.cfg.PublicURL == "" {
		if host, _, err := net.SplitHostPort(r.Host); err == nil {
			to = s.baseURL(host)
		} else if r.Host != "" {
			to = s.baseURL(r.Host)
		}
	}
	http.Redirect(w, r, to+r.URL.RequestURI(), http.StatusPermanentRedirect)
}

// publicURL returns how others reach the server, without a slash at the end:
// what was configured, or else where it listens.
func (s *Server) publicURL() string {
	if s.cfg.PublicURL != "" {
		return s.cfg.PublicURL
	}
	return s.baseURL("")
}

// baseURL returns the URL of the server's listener under a host; without one,
// under the listener's own.
func (s *Server) baseURL(host string) string {
	own, port, _ := net.SplitHostPort(s.cfg.Listen) // complete has checked it
	if addr := s.addr.Load(); addr != nil {
		own, port = addr.IP.String(), fmt.Sprint(addr.Port)
	}
	if host == "" {
		host = own
		if a, err := netip.ParseAddr(host); host == "" || err == nil && a.IsUnspecified() {
			host = "localhost"
		}
	}
	scheme, usual := "http", "80"
	if s.cfg.TLS.on() {
		scheme, usual = "https", "443"
	}
	host = strings.Trim(host, "[]")
	if port == usual {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return scheme + "://" + host
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// serve answers on a listener until the server is shut down.
func (s *Server) serve(listener net.Listener) func(context.Context) error {
	if s.certs != nil {
		s.http.TLSConfig = s.certs.TLS()
	}
	return func(context.Context) (err error) {
		if s.certs == nil {
			err = s.http.Serve(listener)
		} else {
			err = s.http.ServeTLS(listener, "", "")
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}

// serveRedirects answers plain HTTP beside TLS.
func (s *Server) serveRedirects(listener net.Listener) func(context.Context) error {
	return func(context.Context) error {
		if err := s.redirects.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

// greetTLS tells how clients come to trust a local authority.
func (s *Server) greetTLS() {
	if s.cfg.PublicURL != "" {
		fmt.Fprintf(s.cfg.Notes, "public URL: %s\n", s.cfg.PublicURL)
	}
	if s.authority == "" {
		return
	}
	fmt.Fprintf(s.cfg.Notes, `TLS for development: clients must trust the local authority in %[1]s
  Node             NODE_EXTRA_CA_CERTS=%[1]s
  Go, Ruby, Rust   SSL_CERT_FILE=%[1]s
  Python           REQUESTS_CA_BUNDLE=%[1]s
  curl, PHP        curl --cacert %[1]s; php -d curl.cainfo=%[1]s
  Java             keytool -importcert -noprompt -alias kith -cacerts -storepass changeit -file %[1]s
  browsers, phones import the file as an authority; see docs/tls.md
`, s.authority)
}
