package certificate_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/certificate"
	"kith/clock"
	"kith/fault"
)

var start = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// lines is a log that can be waited for.
type lines struct {
	mu    sync.Mutex
	text  strings.Builder
	wrote chan struct{}
}

func newLines() *lines { return &lines{wrote: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) count(what string) int { return strings.Count(l.String(), what) }

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// await waits until the log holds something n times.
func (l *lines) await(t *testing.T, what string, n int) {
	t.Helper()
	late := time.After(30 * time.Second)
	for l.count(what) < n {
		select {
		case <-l.wrote:
		case <-late:
			t.Fatalf("the log has %q %d times, want %d:\n%s", what, l.count(what), n, l)
		}
	}
}

// running runs fn until the test ends and checks that it ends well.
func running(t *testing.T, fn func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- fn(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// shows connects to a listener with the configuration and returns the
// certificate that it shows for a name. An error is the handshake's.
func shows(t *testing.T, config *tls.Config, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if conn, err := listener.Accept(); err == nil {
			_ = conn.(*tls.Conn).HandshakeContext(t.Context()) // the client tells what went wrong
			_ = conn.Close()
		}
	}()
	defer func() { listener.Close(); <-served }()
	plain, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	c := tls.Client(plain, client)
	if err := c.HandshakeContext(t.Context()); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

// local makes a certificate for a host in a folder of its own, and says where
// it and its key are.
func local(t *testing.T, host string) (cert, key []byte) {
	t.Helper()
	dir := t.TempDir()
	if _, err := certificate.OpenLocal(dir, []string{host}, clock.NewManual(start), rand.Reader, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return read(t, filepath.Join(dir, "cert.pem")), read(t, filepath.Join(dir, "key.pem"))
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, key := local(t, "first.example.com")
	write(t, certFile, cert)
	write(t, keyFile, key)
	clk, log := clock.NewManual(start), newLines()
	f, err := certificate.OpenFiles(certFile, keyFile, clk, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		c, err := shows(t, f.TLS(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		return c.DNSNames[0]
	}
	if got := name(); got != "first.example.com" || f.Shown()[0].Name != got || !f.Shown()[0].NotAfter.After(start) {
		t.Fatalf("shows %s, says %+v", got, f.Shown())
	}
	stepped := &stepper{Manual: clk, waits: make(chan time.Time, 100)}
	f, err = certificate.OpenFiles(certFile, keyFile, stepped, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	running(t, f.Run)

	// Half a pair: nothing is said at once, since somebody may be writing.
	next, nextKey := local(t, "second.example.com")
	write(t, certFile, next)
	stepped.step()
	stepped.settled()
	if n := log.count("cannot be used"); n != 0 || name() != "first.example.com" {
		t.Fatalf("half a pair: shows %s\n%s", name(), log)
	}
	stepped.step()
	log.await(t, "cannot be used", 1)
	stepped.settled()
	stepped.step()
	stepped.settled()
	if n := log.count("cannot be used"); n != 1 || name() != "first.example.com" {
		t.Fatalf("a pair that stays broken: said %d times, shows %s", n, name())
	}
	write(t, keyFile, nextKey)
	stepped.step()
	stepped.settled()
	if got := name(); got != "second.example.com" || f.Shown()[0].Name != got {
		t.Fatalf("the whole pair: shows %s, says %+v", got, f.Shown())
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	stepped.step()
	stepped.settled()
	stepped.step()
	log.await(t, "cannot be used", 2)
	if name() != "second.example.com" {
		t.Fatalf("without files: shows %s", name())
	}
}

// stepper is a clock that a test moves once somebody waits for it.
type stepper struct {
	*clock.Manual
	waits chan time.Time
	last  time.Time
}

// Until tells the test that somebody waits.
func (s *stepper) Until(at time.Time) (<-chan struct{}, func()) {
	reached, stop := s.Manual.Until(at)
	s.waits <- at
	return reached, stop
}

// step waits for somebody to wait and moves to when they want to go on.
func (s *stepper) step() {
	if s.last.IsZero() {
		s.settled()
	}
	at := s.last
	s.last = time.Time{}
	s.Set(at)
}

// settled waits until somebody waits again.
func (s *stepper) settled() { s.last = <-s.waits }

func TestFilesThatAreNoPair(t *testing.T) {
	dir := t.TempDir()
	cert, key := local(t, "one.example.com")
	_, other := local(t, "two.example.com")
	for name, text := range map[string][]byte{"cert": cert, "key": key, "other": other, "empty": nil, "huge": bytes.Repeat([]byte("x"), 2<<20)} {
		write(t, filepath.Join(dir, name), text)
	}
	for _, test := range []struct{ cert, key, field string }{
		{"cert", "missing", "tls-key"}, {"missing", "key", "tls-cert"}, {"cert", "other", "tls-cert"}, {"key", "cert", "tls-cert"},
		{"empty", "key", "tls-cert"}, {"huge", "key", "tls-cert"}, {"cert", "huge", "tls-key"}, {".", "key", "tls-cert"},
	} {
		_, err := certificate.OpenFiles(filepath.Join(dir, test.cert), filepath.Join(dir, test.key), clock.System{}, slog.New(slog.DiscardHandler))
		var e *fault.Error
		if !errors.As(err, &e) || e.Kind != fault.Invalid || e.Field != test.field {
			t.Errorf("%s, %s: %v; want an error of %s", test.cert, test.key, err, test.field)
		}
		if err != nil && bytes.Contains(key, []byte(err.Error())) {
			t.Errorf("%s, %s: the error shows the key", test.cert, test.key)
		}
	}
}

func TestAnEndedCertificateIsShownAndSaid(t *testing.T) {
	dir := t.TempDir()
	cert, key := local(t, "old.example.com")
	write(t, filepath.Join(dir, "cert"), cert)
	write(t, filepath.Join(dir, "key"), key)
	log := newLines()
	if _, err := certificate.OpenFiles(filepath.Join(dir, "cert"), filepath.Join(dir, "key"), clock.NewManual(start.AddDate(5, 0, 0)), log.logger()); err != nil {
		t.Fatal(err)
	}
	if log.count("no longer valid") != 1 {
		t.Errorf("the log says nothing of it: %s", log)
	}
}

func TestLocal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls-dev")
	clk := clock.NewManual(start)
	open := func(hosts ...string) *certificate.Local {
		l, err := certificate.OpenLocal(dir, hosts, clk, rand.Reader, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open("localhost", "127.0.0.1", "::1", "localhost")
	for _, name := range []string{"ca-key.pem", "key.pem"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if l.AuthorityFile() != certificate.AuthorityFileIn(dir) {
		t.Errorf("the authority is in %s or in %s", l.AuthorityFile(), certificate.AuthorityFileIn(dir))
	}
	authority := read(t, l.AuthorityFile())
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		t.Fatal("the authority is no PEM file")
	}
	trusts := func(l *certificate.Local, name string) error {
		_, err := shows(t, l.TLS(), &tls.Config{RootCAs: roots, ServerName: name, Time: clk.Now, MinVersion: tls.VersionTLS12})
		return err
	}
	for name, ok := range map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true, "kith.example.com": false, "10.0.0.1": false} {
		if err := trusts(l, name); ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := shows(t, l.TLS(), &tls.Config{RootCAs: roots, ServerName: "localhost", MaxVersion: tls.VersionTLS11, Time: clk.Now}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}

	// The same hosts: the same certificate. Another host: a new one, of the same
	// authority.
	before := read(t, filepath.Join(dir, "cert.pem"))
	if open("127.0.0.1", "localhost"); !bytes.Equal(before, read(t, filepath.Join(dir, "cert.pem"))) {
		t.Error("the certificate was made anew without need")
	}
	if err := trusts(open("localhost", "kith.example.com"), "kith.example.com"); err != nil {
		t.Errorf("a host more: %v", err)
	}
	if !bytes.Equal(authority, read(t, l.AuthorityFile())) {
		t.Error("another authority was made: everybody must trust it again")
	}
	clk.Set(start.AddDate(2, 2, 0)) // the certificate is near its end
	if err := trusts(open("localhost"), "localhost"); err != nil {
		t.Errorf("after two years: %v", err)
	}
	block, _ := pem.Decode(read(t, filepath.Join(dir, "cert.pem")))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || leaf.NotAfter.Sub(leaf.NotBefore) > 825*24*time.Hour {
		t.Errorf("%v: Apple's systems take 825 days at most: %v – %v", err, leaf.NotBefore, leaf.NotAfter)
	}
}

func TestLocalIsMadeAnewWhileItRuns(t *testing.T) {
	clk := &stepper{Manual: clock.NewManual(start), waits: make(chan time.Time, 100)}
	l, err := certificate.OpenLocal(t.TempDir(), []string{"localhost"}, clk, rand.Reader, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	running(t, l.Run)
	first := l.Shown()[0].NotAfter
	clk.settled()
	clk.Set(first.Add(-10 * 24 * time.Hour))
	clk.settled()
	if next := l.Shown()[0].NotAfter; !next.After(first) {
		t.Errorf("ten days before its end it still ends at %v", next)
	}
}
