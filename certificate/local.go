package certificate

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"kith/clock"
)

// LocalName is the name of a local authority's folder within the data
// directory.
const LocalName = "tls-dev"

// The files of a local authority within its folder. The keys have mode 0600.
const (
	authorityFile    = "ca.pem"
	authorityKeyFile = "ca-key.pem"
	localFile        = "cert.pem"
	localKeyFile     = "key.pem"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	// localLife is below the 825 days that Apple's systems take at most.
	localLife  = 800 * 24 * time.Hour
	renewLocal = 30 * 24 * time.Hour // how early
	// backdated is for clients whose clocks go behind.
	backdated = 24 * time.Hour
)

// Local is a certificate for development, of an authority that was made on
// this machine and that nobody trusts until somebody tells them to.
type Local struct {
	dir    string
	hosts  []string
	clock  clock.Clock
	random io.Reader
	logger *slog.Logger
	now    atomic.Pointer[tls.Certificate]
}

// OpenLocal returns a certificate for the hosts, names and addresses. The
// folder is made, and in it, once, the authority; the certificate is made anew
// when it is about to end or lacks a host.
func OpenLocal(dir string, hosts []string, clk clock.Clock, random io.Reader, logger *slog.Logger) (*Local, error) {
	l := &Local{dir: dir, hosts: slices.Compact(slices.Sorted(slices.Values(hosts))), clock: clk, random: random, logger: logger}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local certificate: %w", err)
	}
	if err := l.refresh(); err != nil {
		return nil, fmt.Errorf("local certificate: %w", err)
	}
	return l, nil
}

// AuthorityFile returns where the authority's certificate is, which clients
// are to trust.
func (l *Local) AuthorityFile() string { return filepath.Join(l.dir, authorityFile) }

// AuthorityFileIn returns where a local authority in a folder has its
// certificate.
func AuthorityFileIn(dir string) string { return filepath.Join(dir, authorityFile) }

// TLS returns the configuration of a listener that shows the certificate.
func (l *Local) TLS() *tls.Config {
	return config(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.now.Load(), nil })
}

// Shown returns the certificate.
func (l *Local) Shown() []Shown { return []Shown{shown(l.now.Load().Leaf)} }

// Run makes the certificate anew before it ends.
func (l *Local) Run(ctx context.Context) error {
	for {
		reached, stop := l.clock.Until(l.clock.Now().Add(24 * time.Hour))
		select {
		case <-reached:
		case <-ctx.Done():
			stop()
			return nil
		}
		if err := l.refresh(); err != nil {
			l.logger.Error("the local certificate could not be made anew; the old one stays", "error", err)
		}
	}
}

// refresh reads what there is and makes what is missing.
func (l *Local) refresh() error {
	now := l.clock.Now()
	authority, err := l.pair(authorityFile, authorityKeyFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && now.Add(renewLocal).After(authority.Leaf.NotAfter) {
		if authority, err = l.makeAuthority(now); err == nil {
			l.logger.Info("a local certificate authority was made", "file", l.AuthorityFile())
		}
	}
	if err != nil {
		return err
	}
	leaf, err := l.pair(localFile, localKeyFile)
	if err != nil || !l.fits(leaf.Leaf, authority.Leaf, now) {
		if leaf, err = l.makeLeaf(authority, now); err != nil {
			return err
		}
	}
	l.now.Store(leaf)
	return nil
}

// fits says whether a certificate is the authority's, for all hosts, for some
// time.
func (l *Local) fits(leaf, authority *x509.Certificate, now time.Time) bool {
	if leaf.CheckSignatureFrom(authority) != nil || now.Before(leaf.NotBefore) || now.Add(renewLocal).After(leaf.NotAfter) {
		return false
	}
	return !slices.ContainsFunc(l.hosts, func(h string) bool { return leaf.VerifyHostname(h) != nil })
}

func (l *Local) makeAuthority(now time.Time) (*tls.Certificate, error) {
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	return l.sign(authorityFile, authorityKeyFile, &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{"Kith"}, CommonName: "Kith development authority, " + host},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
}

func (l *Local) makeLeaf(authority *tls.Certificate, now time.Time) (*tls.Certificate, error) {
	leaf := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{"Kith"}, CommonName: "Kith development server"},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(localLife),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if end := authority.Leaf.NotAfter; leaf.NotAfter.After(end) {
		leaf.NotAfter = end
	}
	for _, h := range l.hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	return l.sign(localFile, localKeyFile, leaf, authority)
}

// sign makes a key and a certificate of it, signed by the authority or by
// itself, and writes both: the key first, so that a certificate in place has
// its key.
func (l *Local) sign(certFile, keyFile string, template *x509.Certificate, authority *tls.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), l.random)
	if err != nil {
		return nil, err
	}
	number := make([]byte, 16)
	if _, err := io.ReadFull(l.random, number); err != nil {
		return nil, err
	}
	number[0] &= 0x7f // positive
	template.SerialNumber = new(big.Int).SetBytes(number)
	issuer, signer := template, crypto.PrivateKey(key)
	if authority != nil {
		issuer, signer = authority.Leaf, authority.PrivateKey
	}
	der, err := x509.CreateCertificate(l.random, template, issuer, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := l.write(keyFile, "PRIVATE KEY", secret, 0o600); err != nil {
		return nil, err
	}
	if err := l.write(certFile, "CERTIFICATE", der, 0o644); err != nil {
		return nil, err
	}
	return l.pair(certFile, keyFile)
}

// write writes a file whole or not at all.
func (l *Local) write(name, kind string, der []byte, mode fs.FileMode) error {
	var text bytes.Buffer
	if err := pem.Encode(&text, &pem.Block{Type: kind, Bytes: der}); err != nil {
		return err
	}
	path := filepath.Join(l.dir, name)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// pair reads a certificate and its key.
func (l *Local) pair(certFile, keyFile string) (*tls.Certificate, error) {
	cert, err := readFile(filepath.Join(l.dir, certFile))
	if err != nil {
		return nil, err
	}
	key, err := readFile(filepath.Join(l.dir, keyFile))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s do not belong together: %w; remove the folder and it is made anew", certFile, keyFile, err)
	}
	return &pair, nil
}
