package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kith/auth"
	"kith/certificate"
	"kith/client"
	"kith/fault"
)

// remote is how commands find a running server.
type remote struct {
	Server string `env:"KITH_URL,KITH_SERVER" default:"http://127.0.0.1:8080" placeholder:"URL" help:"The server, http://127.0.0.1:8080 by default."`
	Token  string `env:"KITH_ADMIN_TOKEN,KITH_TOKEN" placeholder:"TOKEN" help:"The admin token. By default it is read from DIR/admin-token, for a server on this machine or when --data is given."`
	Data   string `default:"./kith-data" placeholder:"DIR" help:"The data directory of a server on this machine, for its admin token and the authority of its --tls-dev. ./kith-data by default."`
	CA     string `name:"ca" placeholder:"FILE" help:"Certificates (PEM) that an https server's own is checked against, beside the system's."`
}

// client returns a client of the server.
func (c *remote) client() (*client.Client, error) {
	token := c.Token
	if token == "" && c.local() {
		text, err := os.ReadFile(filepath.Join(c.Data, auth.Name))
		switch {
		case err == nil:
			token = strings.TrimSpace(string(text))
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	server, err := client.New(c.Server, token, transport)
	if err != nil {
		return nil, usage{err}
	}
	return server, nil
}

// defaultData is where a server keeps its data unless it is told otherwise.
const defaultData = "./kith-data"

// local reports whether the token in the data directory is meant for the
// server: the server is on this machine, or somebody has named the directory.
// The token of a server that happens to be here is not sent to strangers.
func (c *remote) local() bool {
	if filepath.Clean(c.Data) != filepath.Clean(defaultData) {
		return true
	}
	at, err := url.Parse(c.Server)
	if err != nil {
		return false
	}
	if at.Hostname() == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(at.Hostname())
	return err == nil && addr.IsLoopback()
}

// transport trusts what the system trusts, and --ca; without it the local
// authority in the data directory, where there is one.
func (c *remote) transport() (*http.Client, error) {
	file := c.CA
	if file == "" {
		file = certificate.AuthorityFileIn(filepath.Join(c.Data, certificate.LocalName))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		if c.CA == "" {
			return nil, nil // the client's own
		}
		return nil, wrong("--ca: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, wrong("--ca: %s has no certificate in PEM", file)
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
	}
	return &http.Client{Transport: transport}, nil
}

// explain adds the next step to an error of a server that does not know the
// caller.
func (c *remote) explain(err error) error {
	switch {
	case !fault.Is(err, fault.Denied):
	case c.Token != "":
		return fault.New(fault.Denied, "%w (it came from --token or KITH_ADMIN_TOKEN)", err)
	default:
		return fault.New(fault.Denied, "%w\nGive the admin token with --token or KITH_ADMIN_TOKEN, or name the server's data directory with --data", err)
	}
	return err
}
