package auth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"kith/fault"
	"kith/kv"
)

// ScopeTracking lets the bearer write to the Tracking API.
const ScopeTracking = "tracking_api:write"

// Scopes returns the scopes that there are. Segment's others, functions:write
// and public_api:read_write, open nothing here yet.
func Scopes() []string { return []string{ScopeTracking} }

// Bounds of OAuth applications.
const (
	// MinTokenTTL and MaxTokenTTL bound how long an access token lives;
	// Segment's choices are days and weeks between.
	MinTokenTTL = time.Hour
	MaxTokenTTL = 30 * 24 * time.Hour
	// DefaultTokenTTL is how long it lives when nobody says.
	DefaultTokenTTL = 24 * time.Hour

	maxApps    = 100
	maxAppKeys = 5
	maxSources = 1000 // of one application
	maxPEM     = 16 << 10
	minRSABits = 2048
	maxRSABits = 8192 // what verifying costs grows with it
)

// App is an OAuth application: a sender that shows who it is with a key of its
// own, and gets access tokens for some sources.
type App struct {
	ID         string        `json:"id"` // "oa_…"; the SDKs' client id
	Name       string        `json:"name"`
	Keys       []AppKey      `json:"keys"`
	Scopes     []string      `json:"scopes"`
	TokenTTL   time.Duration `json:"tokenTtl"`             // of the access tokens
	AllSources bool          `json:"allSources,omitempty"` // those to come too; Sources is then empty
	Sources    []string      `json:"sources,omitempty"`    // ids
	CreatedAt  time.Time     `json:"createdAt"`
}

// AppKey is a public key of an application, RSA. Its private half never
// reaches the server.
type AppKey struct {
	ID        string    `json:"id"` // "key_…", from the key itself; the SDKs' key id
	Name      string    `json:"name"`
	PEM       string    `json:"pem"` // PKIX, whatever it came as
	CreatedAt time.Time `json:"createdAt"`
}

// ReadKey reads an RSA public key in PEM, "PUBLIC KEY" or "RSA PUBLIC KEY", and
// returns it in the form that is kept. The error is fault.Invalid about the
// field "publicKey" and never holds the text.
func ReadKey(text string) (AppKey, error) {
	bad := func(format string, args ...any) (AppKey, error) {
		return AppKey{}, fault.Field("publicKey", format, args...)
	}
	if len(text) > maxPEM {
		return bad("%d bytes; a public key has less than %d", len(text), maxPEM)
	}
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return bad("want a public key in PEM: -----BEGIN PUBLIC KEY-----; make it of the private one with: openssl rsa -in private.pem -pubout")
	case strings.Contains(block.Type, "PRIVATE"):
		return bad("this is a private key. It must stay where the sender is, and now that it was sent, better make another one; give the public one: openssl rsa -in private.pem -pubout")
	case len(bytes.TrimSpace(rest)) > 0:
		return bad("more follows behind the first key: add keys one by one")
	}
	key, err := parsePublic(block)
	if err != nil {
		return bad("not an RSA public key in PEM")
	}
	if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return bad("an RSA key of %d bits; want %d to %d", bits, minRSABits, maxRSABits)
	}
	if key.E < 3 || key.E%2 == 0 {
		return bad("not a sound RSA key: its exponent is %d", key.E)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return bad("not an RSA public key in PEM")
	}
	return AppKey{ID: keyID(der), PEM: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}, nil
}

func parsePublic(block *pem.Block) (*rsa.PublicKey, error) {
	if block.Type == "RSA PUBLIC KEY" {
		return x509.ParsePKCS1PublicKey(block.Bytes)
	}
	if block.Type != "PUBLIC KEY" {
		return nil, errors.New("another kind of PEM")
	}
	any, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := any.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("another kind of key")
	}
	return key, nil
}

// keyID names a key by its content, so that the same key has the same name
// everywhere.
func keyID(der []byte) string {
	sum := sha256.Sum256(der)
	return "key_" + base64.RawURLEncoding.EncodeToString(sum[:12])
}

// check holds an application to its bounds.
func (a *App) check() error {
	if err := checkName("name", a.Name); err != nil {
		return err
	}
	if a.TokenTTL < MinTokenTTL || a.TokenTTL > MaxTokenTTL || a.TokenTTL%time.Second != 0 {
		return fault.Field("tokenTtlSeconds", "%s is not between an hour and 30 days, in whole seconds", a.TokenTTL)
	}
	if len(a.Scopes) == 0 {
		return fault.Field("scopes", "want one of: %s", strings.Join(Scopes(), ", "))
	}
	for i, s := range a.Scopes {
		if !slices.Contains(Scopes(), s) || slices.Contains(a.Scopes[:i], s) {
			return fault.Field("scopes", "%q: want each once, of: %s", s, strings.Join(Scopes(), ", "))
		}
	}
	switch {
	case a.AllSources && len(a.Sources) > 0:
		return fault.Field("sourceIds", "name sources, or let it write to all, not both")
	case !a.AllSources && len(a.Sources) == 0:
		return fault.Field("sourceIds", "name the sources that it may write to, or say that it may write to all")
	case len(a.Sources) > maxSources:
		return fault.Field("sourceIds", "%d sources; at most %d are kept", len(a.Sources), maxSources)
	case len(a.Keys) > maxAppKeys:
		return fault.New(fault.Conflict, "an application has at most %d keys; delete one that is not in use", maxAppKeys)
	}
	for i, k := range a.Keys {
		if err := checkName("keyName", k.Name); err != nil {
			return err
		}
		if slices.ContainsFunc(a.Keys[:i], func(o AppKey) bool { return o.ID == k.ID }) {
			return fault.New(fault.Conflict, "the application has that key already: %s", k.ID)
		}
	}
	return nil
}

func checkName(field, name string) error {
	if strings.TrimSpace(name) == "" || len(name) > maxName || strings.ContainsFunc(name, unicode.IsControl) {
		return fault.Field(field, "want a name of 1 to %d bytes", maxName)
	}
	return nil
}

// Apps returns the applications, the oldest first.
func (o *OAuth) Apps() []App {
	list := []App{}
	for _, a := range o.now.Load().apps {
		list = append(list, a.App)
	}
	slices.SortFunc(list, func(a, b App) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// App returns an application. An unknown id is fault.NotFound.
func (o *OAuth) App(id string) (App, error) {
	if a := o.now.Load().app(id); a != nil {
		return a.App, nil
	}
	return App{}, noApp(id)
}

func noApp(id string) error {
	return fault.New(fault.NotFound, "there is no OAuth application %q", id)
}

// CreateApp adds an application; its id and times are given to it. A key that
// stands in two applications says nothing about who sends, but is allowed.
func (o *OAuth) CreateApp(ctx context.Context, a App) (App, error) {
	raw := make([]byte, 12)
	if _, err := io.ReadFull(o.config.Random, raw); err != nil {
		return App{}, fmt.Errorf("create an OAuth application: %w", err)
	}
	a.ID, a.CreatedAt = appID([12]byte(raw)), o.config.Clock.Now()
	for i := range a.Keys {
		a.Keys[i].CreatedAt = a.CreatedAt
	}
	return o.put(ctx, a, func() error {
		if n := len(o.now.Load().apps); n >= maxApps {
			return fault.New(fault.Conflict, "there are %d OAuth applications, as many as are kept; delete those that are not in use", n)
		}
		return nil
	})
}

// UpdateApp lets fn change an application, but for its id and time. Tokens that
// it has are from then on held to what it says now.
func (o *OAuth) UpdateApp(ctx context.Context, id string, fn func(*App) error) (App, error) {
	o.changing.Lock()
	defer o.changing.Unlock()
	had, err := o.App(id)
	if err != nil {
		return App{}, err
	}
	next := had
	next.Keys, next.Scopes, next.Sources = slices.Clone(had.Keys), slices.Clone(had.Scopes), slices.Clone(had.Sources)
	if err := fn(&next); err != nil {
		return App{}, err
	}
	next.ID, next.CreatedAt = had.ID, had.CreatedAt
	for i := range next.Keys {
		if next.Keys[i].CreatedAt.IsZero() {
			next.Keys[i].CreatedAt = o.config.Clock.Now()
		}
	}
	return o.store(ctx, next)
}

// DeleteApp forgets an application. Its tokens are worth nothing from then on.
func (o *OAuth) DeleteApp(ctx context.Context, id string) error {
	o.changing.Lock()
	defer o.changing.Unlock()
	if _, err := o.App(id); err != nil {
		return err
	}
	err := o.config.DB.Update(ctx, oauthFence, kv.Durable, func(tx kv.Tx) error { return tx.Delete(appKey(id)) })
	if err != nil {
		return fmt.Errorf("delete an OAuth application: %w", err)
	}
	o.change(func(s *state) { delete(s.apps, appNumber(id)) })
	return nil
}

func (o *OAuth) put(ctx context.Context, a App, allowed func() error) (App, error) {
	o.changing.Lock()
	defer o.changing.Unlock()
	if err := allowed(); err != nil {
		return App{}, err
	}
	return o.store(ctx, a)
}

// store keeps an application; o.changing is held.
func (o *OAuth) store(ctx context.Context, a App) (App, error) {
	a.Name = strings.TrimSpace(a.Name)
	if err := a.check(); err != nil {
		return App{}, err
	}
	ready, err := prepare(a)
	if err != nil {
		return App{}, err
	}
	value, err := json.Marshal(a)
	if err != nil {
		return App{}, err
	}
	err = o.config.DB.Update(ctx, oauthFence, kv.Durable, func(tx kv.Tx) error {
		return tx.Set(appKey(a.ID), kv.Value{appFormat}.Fixed(value))
	})
	if err != nil {
		return App{}, fmt.Errorf("keep an OAuth application: %w", err)
	}
	o.change(func(s *state) { s.apps[ready.number] = ready })
	return a, nil
}
