package certificate_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"kith/certificate"
	"kith/clock"
	"kith/fault"
)

// authority is a real ACME authority, Let's Encrypt's own small one, in this
// process. All names lead to this machine.
type authority struct {
	directory string
	roots     *x509.CertPool // of the certificates that it gives
	rootsFile string         // for reaching the directory
}

// newAuthority starts an authority that asks its questions at the ports, and
// whose certificates are good for so many seconds.
func newAuthority(t *testing.T, httpPort, tlsPort int, seconds uint64) *authority {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "the only one", ValidityPeriod: seconds}})
	front := wfe.New(quiet, store, va.New(quiet, httpPort, tlsPort, false, names(t), store), issuer, []string{"ca.example.com"}, false, false, 1, 1)
	server := httptest.NewTLSServer(front.Handler())
	t.Cleanup(server.Close)
	a := &authority{directory: server.URL + wfe.DirectoryPath, roots: x509.NewCertPool(), rootsFile: filepath.Join(t.TempDir(), "roots.pem")}
	a.roots.AppendCertsFromPEM(issuer.GetRootCert(0).PEM())
	write(t, a.rootsFile, pemOf(server.Certificate()))
	return a
}

// names starts a name server, over TCP, for which every name is this machine.
func names(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			answer.Answer = append(answer.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1),
			})
		}
		_ = w.WriteMsg(answer) // who asked asks again
	})}
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	ended := make(chan error, 1)
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		_ = server.Shutdown()
		<-ended
	})
	return listener.Addr().String()
}

// listen listens on a free port.
func listen(t *testing.T) (net.Listener, int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

// nobody returns a port where nobody answers.
func nobody(t *testing.T) int {
	t.Helper()
	l, port := listen(t)
	l.Close()
	return port
}

// answering serves on a listener until the test ends.
func answering(t *testing.T, l net.Listener, h http.Handler) {
	t.Helper()
	server := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
}

func openACME(t *testing.T, dir string, a *authority, log *lines) *certificate.ACME {
	t.Helper()
	c, err := certificate.OpenACME(certificate.ACMEConfig{
		Dir: dir, Domains: []string{"events.example.com", "other.example.com"}, Directory: a.directory, Email: "ops@example.com",
		Roots: a.rootsFile, Clock: clock.System{}, Logger: log.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dial connects to the address and returns the certificate shown for a name,
// which must be one of the authority's.
func (a *authority) dial(addr, name string) (*x509.Certificate, error) {
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: a.roots, ServerName: name})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestACMEOverTLS(t *testing.T) {
	listener, port := listen(t)
	a := newAuthority(t, nobody(t), port, 0)
	dir, log := t.TempDir(), newLines()
	c := openACME(t, dir, a, log)
	answering(t, tls.NewListener(listener, c.TLS()), http.NotFoundHandler())
	if _, err := a.dial(listener.Addr().String(), "events.example.com"); err == nil || len(c.Shown()) > 0 {
		t.Fatal("a certificate before one was asked for")
	}
	running(t, c.Run)
	log.await(t, "certificate ready", 2)
	for _, name := range []string{"events.example.com", "other.example.com"} {
		if _, err := a.dial(listener.Addr().String(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.dial(listener.Addr().String(), "stranger.example.com"); err == nil {
		t.Error("a name that nobody asked a certificate for has one")
	}
	if leaf, err := shows(t, c.TLS(), &tls.Config{InsecureSkipVerify: true}); err != nil || leaf.DNSNames[0] != "events.example.com" {
		t.Errorf("without a name: %v, %v", leaf, err)
	}
	if got := c.Shown(); len(got) != 2 || got[0].Name != "events.example.com" || !got[0].NotAfter.After(time.Now()) {
		t.Errorf("says %+v", got)
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && path != dir {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if !e.IsDir() {
			files++
		}
		return err
	})
	if err != nil || files < 3 { // the account's key, two certificates
		t.Errorf("%d files, %v", files, err)
	}

	// The next start has the certificates at once, the authority being away.
	a.directory = strings.Replace(a.directory, wfe.DirectoryPath, "/away", 1)
	log = newLines()
	again := openACME(t, dir, a, log)
	running(t, again.Run)
	log.await(t, "certificate ready", 2)
}

func TestACMEOverHTTP(t *testing.T) {
	web, port := listen(t)
	a := newAuthority(t, port, nobody(t), 0)
	log := newLines()
	c := openACME(t, t.TempDir(), a, log)
	answering(t, web, c.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })))
	running(t, c.Run)
	log.await(t, "certificate ready", 2)
	response, err := http.Get("http://" + web.Addr().String() + "/v1/track")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusTeapot {
		t.Errorf("another request: %d", response.StatusCode)
	}
}

func TestACMERenews(t *testing.T) {
	listener, port := listen(t)
	a := newAuthority(t, nobody(t), port, 9) // renewed after six seconds
	log := newLines()
	c := openACME(t, t.TempDir(), a, log)
	answering(t, tls.NewListener(listener, c.TLS()), http.NotFoundHandler())
	running(t, c.Run)
	log.await(t, "certificate ready", 2)
	first, err := a.dial(listener.Addr().String(), "events.example.com")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), first.NotAfter)
	defer cancel()
	for look := time.NewTicker(50 * time.Millisecond); ; {
		next, err := a.dial(listener.Addr().String(), "events.example.com")
		if err != nil {
			t.Fatal(err)
		}
		if next.SerialNumber.Cmp(first.SerialNumber) != 0 {
			look.Stop()
			return
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatal("the certificate ended and was not renewed")
		}
	}
}

// A domain that does not lead here is asked for again, later and later, and the
// server can be stopped meanwhile.
func TestACMEThatFails(t *testing.T) {
	a := newAuthority(t, nobody(t), nobody(t), 0)
	log := newLines()
	clk := &stepper{Manual: clock.NewManual(time.Now()), waits: make(chan time.Time, 100)}
	c, err := certificate.OpenACME(certificate.ACMEConfig{
		Dir: t.TempDir(), Domains: []string{"events.example.com"}, Directory: a.directory, Roots: a.rootsFile, Clock: clk, Logger: log.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	running(t, c.Run)
	clk.settled()
	if at := clk.last.Sub(clk.Now()); at != 2*time.Minute || log.count("no certificate yet") != 1 {
		t.Errorf("the first time it waits %v\n%s", at, log)
	}
	if _, err := shows(t, c.TLS(), &tls.Config{ServerName: "events.example.com"}); err == nil {
		t.Error("a connection was made")
	}
	clk.step()
	clk.settled()
	if at := clk.last.Sub(clk.Now()); at != 4*time.Minute {
		t.Errorf("the second time it waits %v", at)
	}
}

func TestACMERoots(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "empty"), nil)
	for _, name := range []string{"missing", "empty"} {
		_, err := certificate.OpenACME(certificate.ACMEConfig{Dir: dir, Domains: []string{"events.example.com"}, Roots: filepath.Join(dir, name), Clock: clock.System{}, Logger: newLines().logger()})
		if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), "acme-ca: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
