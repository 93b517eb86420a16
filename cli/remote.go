package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"kith/auth"
	"kith/client"
	"kith/fault"
)

// remote is how commands find a running server.
type remote struct {
	Server string `env:"KITH_URL,KITH_SERVER" default:"http://127.0.0.1:8080" placeholder:"URL" help:"The server, http://127.0.0.1:8080 by default."`
	Token  string `env:"KITH_ADMIN_TOKEN,KITH_TOKEN" placeholder:"TOKEN" help:"The admin token. By default it is read from DIR/admin-token."`
	Data   string `default:"./kith-data" placeholder:"DIR" help:"The data directory of a server on this machine, for its admin token. ./kith-data by default."`
}

// client returns a client of the server.
func (c *remote) client() (*client.Client, error) {
	token := c.Token
	if token == "" {
		text, err := os.ReadFile(filepath.Join(c.Data, auth.Name))
		switch {
		case err == nil:
			token = strings.TrimSpace(string(text))
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	server, err := client.New(c.Server, token, nil)
	if err != nil {
		return nil, usage{err}
	}
	return server, nil
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
