package certificate_test

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kith/certificate"
	"kith/certificate/certificatetest"
	"kith/clock"
	"kith/fault"
)

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

func openACME(t *testing.T, dir string, a *certificatetest.Authority, log *lines) *certificate.ACME {
	t.Helper()
	c, err := certificate.OpenACME(certificate.ACMEConfig{
		Dir: dir, Domains: []string{"events.example.com", "other.example.com"}, Directory: a.Directory, Email: "ops@example.com",
		Roots: a.RootsFile, Clock: clock.System{}, Logger: log.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACMEOverTLS(t *testing.T) {
	listener, port := listen(t)
	a := certificatetest.Start(t, nobody(t), port, 0)
	dir, log := t.TempDir(), newLines()
	c := openACME(t, dir, a, log)
	answering(t, tls.NewListener(listener, c.TLS()), http.NotFoundHandler())
	if _, err := a.Dial(listener.Addr().String(), "events.example.com"); err == nil || len(c.Shown()) > 0 {
		t.Fatal("a certificate before one was asked for")
	}
	running(t, c.Run)
	log.await(t, "certificate ready", 2)
	for _, name := range []string{"events.example.com", "other.example.com"} {
		if _, err := a.Dial(listener.Addr().String(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.Dial(listener.Addr().String(), "stranger.example.com"); err == nil {
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
	a.Directory = strings.TrimSuffix(a.Directory, "/dir") + "/away"
	log = newLines()
	again := openACME(t, dir, a, log)
	running(t, again.Run)
	log.await(t, "certificate ready", 2)
}

func TestACMEOverHTTP(t *testing.T) {
	web, port := listen(t)
	a := certificatetest.Start(t, port, nobody(t), 0)
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
	a := certificatetest.Start(t, nobody(t), port, 18) // renewed after twelve seconds
	log := newLines()
	c := openACME(t, t.TempDir(), a, log)
	answering(t, tls.NewListener(listener, c.TLS()), http.NotFoundHandler())
	running(t, c.Run)
	log.await(t, "certificate ready", 2)
	first, err := a.Dial(listener.Addr().String(), "events.example.com")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), first.NotAfter)
	defer cancel()
	for look := time.NewTicker(50 * time.Millisecond); ; {
		next, err := a.Dial(listener.Addr().String(), "events.example.com")
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
	a := certificatetest.Start(t, nobody(t), nobody(t), 0)
	log := newLines()
	clk := &stepper{Manual: clock.NewManual(time.Now()), waits: make(chan time.Time, 100)}
	c, err := certificate.OpenACME(certificate.ACMEConfig{
		Dir: t.TempDir(), Domains: []string{"events.example.com"}, Directory: a.Directory, Roots: a.RootsFile, Clock: clk, Logger: log.logger(),
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
