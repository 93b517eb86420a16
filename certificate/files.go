package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"kith/clock"
	"kith/fault"
)

const (
	// lookEvery is how often files are read again.
	lookEvery = 10 * time.Second
	// maxFile is the largest PEM file that is read.
	maxFile = 1 << 20
)

// Files is a certificate and its key in two PEM files that somebody else
// renews.
type Files struct {
	cert, key string
	clock     clock.Clock
	logger    *slog.Logger
	now       atomic.Pointer[loaded]
}

// loaded is the content of the two files, and what it means.
type loaded struct {
	cert, key   []byte
	certificate *tls.Certificate
}

// OpenFiles reads the files. That there is none, or that the two do not belong
// together, is an error of kind fault.Invalid whose field is "tls-cert" or
// "tls-key".
func OpenFiles(cert, key string, clk clock.Clock, logger *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, clock: clk, logger: logger}
	first, err := f.read()
	if err == nil {
		err = first.parse(f)
	}
	if err != nil {
		return nil, err
	}
	f.use(first)
	return f, nil
}

// TLS returns the configuration of a listener that shows the certificate.
func (f *Files) TLS() *tls.Config {
	return config(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.now.Load().certificate, nil })
}

// Shown returns the certificate.
func (f *Files) Shown() []Shown { return []Shown{shown(f.now.Load().certificate.Leaf)} }

// Run reads the files again every ten seconds and shows what is new, from the
// next connection on. A pair that is not whole, as while somebody writes it,
// is looked at again; the second time the log says what is wrong with it.
func (f *Files) Run(ctx context.Context) error {
	var broken string
	said := false
	for {
		reached, stop := f.clock.Until(f.clock.Now().Add(lookEvery))
		select {
		case <-reached:
		case <-ctx.Done():
			stop()
			return nil
		}
		next, err := f.read()
		if err == nil && f.now.Load().same(next) {
			broken, said = "", false
			continue
		}
		if err == nil {
			err = next.parse(f)
		}
		switch {
		case err == nil:
			f.use(next)
			broken, said = "", false
		case err.Error() != broken:
			broken, said = err.Error(), false
		case !said:
			said = true
			f.logger.Error("the new certificate cannot be used; the old one stays", "error", err, "until", shown(f.now.Load().certificate.Leaf).NotAfter)
		}
	}
}

// use shows a certificate from now on.
func (f *Files) use(l *loaded) {
	f.now.Store(l)
	leaf := l.certificate.Leaf
	level, message := slog.LevelInfo, "certificate read"
	if now := f.clock.Now(); now.After(leaf.NotAfter) {
		level, message = slog.LevelWarn, "the certificate is no longer valid: clients will refuse it"
	} else if now.Before(leaf.NotBefore) {
		level, message = slog.LevelWarn, "the certificate is not valid yet: clients will refuse it"
	}
	f.logger.Log(context.Background(), level, message, "file", f.cert, "names", leaf.DNSNames, "from", leaf.NotBefore, "until", leaf.NotAfter)
}

func (f *Files) read() (*loaded, error) {
	cert, err := readFile(f.cert)
	if err != nil {
		return nil, fault.Field("tls-cert", "%v", err)
	}
	key, err := readFile(f.key)
	if err != nil {
		return nil, fault.Field("tls-key", "%v", err)
	}
	return &loaded{cert: cert, key: key}, nil
}

func (l *loaded) same(o *loaded) bool {
	return bytes.Equal(l.cert, o.cert) && bytes.Equal(l.key, o.key)
}

func (l *loaded) parse(f *Files) error {
	pair, err := tls.X509KeyPair(l.cert, l.key)
	if err != nil {
		return fault.Field("tls-cert", "%s and %s are not a certificate and its key, in PEM: %v", f.cert, f.key, err)
	}
	l.certificate = &pair
	return nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = errors.New("it is too large for a PEM file")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}
