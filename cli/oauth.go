package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"kith/client"
)

// maxPasted is the longest file or token that these commands read.
const maxPasted = 64 << 10

// oauthCommand keeps the applications that get access tokens.
type oauthCommand struct {
	App    oauthAppCommand    `cmd:"" help:"Applications: senders with a key of their own."`
	Key    oauthKeyCommand    `cmd:"" help:"Their public keys."`
	Revoke oauthRevokeCommand `cmd:"" help:"Make an access token worthless."`
}

type oauthAppCommand struct {
	Create oauthCreateCommand `cmd:"" help:"Add an application."`
	List   oauthListCommand   `cmd:"" help:"Show the applications and their keys."`
	Delete oauthDeleteCommand `cmd:"" help:"Delete an application; its access tokens are worth nothing from then on."`
}

type oauthKeyCommand struct {
	Add    oauthAddKeyCommand    `cmd:"" help:"Add a public key to an application."`
	Delete oauthDeleteKeyCommand `cmd:"" help:"Delete a key; the access tokens that were got with it are worth nothing from then on."`
}

type oauthCreateCommand struct {
	remote
	Name       string   `arg:"" help:"What it is called."`
	Key        string   `required:"" env:"-" placeholder:"FILE" help:"Its public key: RSA, in PEM. - reads standard input. Make it with: openssl rsa -in private.pem -pubout -out public.pem"`
	KeyName    string   `placeholder:"NAME" help:"What the key is called; the application's name by default."`
	Source     []string `placeholder:"SLUG,…" help:"The sources that it may write to."`
	AllSources bool     `help:"It may write to all sources, those to come too."`
	TokenTTL   duration `name:"token-ttl" default:"1d" placeholder:"TIME" help:"How long its access tokens live: 1h to 30d, 1d by default."`
}

// Run adds an application and says what the SDKs need of it.
func (c *oauthCreateCommand) Run(r *run) error {
	key, err := r.pasted("--key", c.Key)
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	app, err := server.CreateOAuthApp(r.ctx, client.NewOAuthApp{
		Name: c.Name, PublicKey: key, KeyName: c.KeyName, TokenTTLSeconds: int64(time.Duration(c.TokenTTL) / time.Second),
		AllSources: c.AllSources, Sources: c.Source,
	})
	if err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(app)
	}
	fmt.Fprintf(r.Stdout, "clientId    %s\nkeyId       %s\nauthServer  %s\n", app.ID, app.Keys[0].ID, server.Base())
	fmt.Fprintln(r.Stderr, "Give the three to the SDK's oauthSettings, with the private key as clientKey. docs/oauth.md shows how.")
	return nil
}

type oauthListCommand struct{ remote }

// Run shows the applications.
func (c *oauthListCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	apps, err := server.OAuthApps(r.ctx)
	if err != nil {
		return c.explain(err)
	}
	if r.json {
		if apps == nil {
			apps = []client.OAuthApp{}
		}
		return r.encode(apps)
	}
	if len(apps) == 0 {
		fmt.Fprintln(r.Stderr, "there are no OAuth applications; add one with: kith oauth app create")
		return nil
	}
	slugs, err := server.Slugs(r.ctx, "sources")
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "APPLICATION\tNAME\tTOKENS LIVE\tSOURCES\tKEYS")
	for i := range apps {
		a := &apps[i]
		var sources, keys []string
		for _, id := range a.SourceIDs {
			if slug, ok := slugs[id]; ok {
				id = slug
			}
			sources = append(sources, id)
		}
		if a.AllSources {
			sources = []string{"all"}
		}
		for _, k := range a.Keys {
			keys = append(keys, k.ID+" ("+k.Name+")")
		}
		slices.Sort(sources)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", a.ID, a.Name, life(a.TokenTTLSeconds), strings.Join(sources, ", "), strings.Join(keys, ", "))
	}
	return w.Flush()
}

// life writes a duration in its largest whole unit.
func life(seconds int64) string {
	switch {
	case seconds%86400 == 0:
		return fmt.Sprintf("%dd", seconds/86400)
	case seconds%3600 == 0:
		return fmt.Sprintf("%dh", seconds/3600)
	}
	return (time.Duration(seconds) * time.Second).String()
}

type oauthDeleteCommand struct {
	remote
	App string `arg:"" placeholder:"oa_…" help:"The application's id."`
}

// Run deletes an application.
func (c *oauthDeleteCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	if err := server.DeleteOAuthApp(r.ctx, c.App); err != nil {
		return c.explain(err)
	}
	fmt.Fprintf(r.Stderr, "%s is deleted; its access tokens are worth nothing any more\n", c.App)
	return nil
}

type oauthAddKeyCommand struct {
	remote
	App  string `arg:"" placeholder:"oa_…" help:"The application's id."`
	File string `arg:"" placeholder:"FILE" help:"The public key: RSA, in PEM. - reads standard input."`
	Name string `default:"key" help:"What the key is called."`
}

// Run adds a key and prints its id.
func (c *oauthAddKeyCommand) Run(r *run) error {
	key, err := r.pasted("FILE", c.File)
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	app, err := server.AddOAuthKey(r.ctx, c.App, c.Name, key)
	if err != nil {
		return c.explain(err)
	}
	added := app.Keys[len(app.Keys)-1]
	if r.json {
		return r.encode(added)
	}
	fmt.Fprintf(r.Stdout, "keyId  %s\n", added.ID)
	return nil
}

type oauthDeleteKeyCommand struct {
	remote
	App string `arg:"" placeholder:"oa_…" help:"The application's id."`
	Key string `arg:"" placeholder:"key_…" help:"The key's id."`
}

// Run deletes a key.
func (c *oauthDeleteKeyCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	if err := server.DeleteOAuthKey(r.ctx, c.App, c.Key); err != nil {
		return c.explain(err)
	}
	fmt.Fprintf(r.Stderr, "%s is deleted; the access tokens that were got with it are worth nothing any more\n", c.Key)
	return nil
}

// oauthRevokeCommand reads the token from standard input: what stands in a
// command line is seen by everybody on the machine.
type oauthRevokeCommand struct{ remote }

// Run revokes the access token that is pasted.
func (c *oauthRevokeCommand) Run(r *run) error {
	if r.Terminal {
		fmt.Fprintln(r.Stderr, "paste the access token, then Enter and Ctrl-D:")
	}
	token, err := r.pasted("the token", "-")
	if err != nil {
		return err
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	if err := server.RevokeOAuthToken(r.ctx, strings.TrimSpace(token)); err != nil {
		return c.explain(err)
	}
	fmt.Fprintln(r.Stderr, "the access token is worth nothing any more")
	return nil
}

// pasted reads a small file, or standard input.
func (r *run) pasted(name, file string) (string, error) {
	from := r.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", wrong("%s: %w", name, err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, maxPasted+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxPasted {
		return "", wrong("%s: more than %d bytes", name, maxPasted)
	}
	return string(text), nil
}
