package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kith/clock"
	"kith/kv"
)

const (
	appPrefix  = "oa_"
	maxRevoked = 100_000 // tokens that were revoked by themselves and would still live
)

// Sealer keeps a secret from those who can only read the store: Seal gives
// another text each time, and Unseal what was sealed; secret.Box does it.
type Sealer interface {
	Seal(plain string) (string, error)
	Unseal(sealed string) (string, error)
}

// OAuthConfig is what an OAuth is made of; all of it is required.
type OAuthConfig struct {
	DB      kv.DB
	Clock   clock.Clock
	Random  io.Reader // safe for concurrent use
	Secrets Sealer
	Logger  *slog.Logger
	// Audiences returns the URLs, scheme and host, under which the server was
	// asked: an assertion must be meant for one of them.
	Audiences func(*http.Request) []string
	// Client names who asks, by an address.
	Client func(*http.Request) string
}

// OAuth is an authorization server for senders (RFC 6749 §4.4, with assertions
// of RFC 7523), as the SDKs know it from Segment (sheet connections_protocols
// §1.8). A sender signs a short assertion with its application's key and gets
// an access token, which goes with every batch.
//
// An access token is signed by the server and says for itself which application
// it is of and when it ends, so nothing is stored for it and checking one asks
// nobody. What an application may do is looked at when a token is used. It is
// safe for concurrent use.
type OAuth struct {
	config   OAuthConfig
	macs     sync.Pool  // of hash.Hash, keyed
	changing sync.Mutex // held while applications or revocations change
	now      atomic.Pointer[state]
	failures *throttle // of wrong assertions, by client
	issues   *throttle // of tokens given out, all together
	counts   counts

	sweep struct {
		sync.Mutex
		at time.Time // of the last look for assertions that have ended
	}
}

type counts struct{ issued, refused, limited atomic.Uint64 }

// Stats are numbers since the start.
type Stats struct {
	Issued  uint64 // access tokens
	Refused uint64 // requests for one that were wrong
	Limited uint64 // requests for one that came too often
}

// Stats returns the numbers.
func (o *OAuth) Stats() Stats {
	return Stats{o.counts.issued.Load(), o.counts.refused.Load(), o.counts.limited.Load()}
}

// state is what tokens are checked against. It is replaced, never changed.
type state struct {
	apps    map[[12]byte]*ready
	revoked map[[12]byte]time.Time // when they would have ended
	// generations are how often all client tokens of a space were revoked.
	generations map[uint32]uint32
}

func (s *state) app(id string) *ready {
	a := s.apps[appNumber(id)]
	if a == nil || a.ID != id {
		return nil
	}
	return a
}

// ready is an application with its keys read.
type ready struct {
	App
	number  [12]byte
	keys    map[string]*rsa.PublicKey // by id
	marks   map[[8]byte]bool          // of the keys; see keyMark
	scopes  byte                      // as in tokens
	sources map[string]bool
}

func prepare(a App) (*ready, error) {
	r := &ready{
		App: a, number: appNumber(a.ID), scopes: scopeBits(a.Scopes),
		keys: map[string]*rsa.PublicKey{}, marks: map[[8]byte]bool{}, sources: map[string]bool{},
	}
	for _, k := range a.Keys {
		block, _ := pem.Decode([]byte(k.PEM))
		if block == nil {
			return nil, fmt.Errorf("the key %s of the OAuth application %s cannot be read", k.ID, a.ID)
		}
		key, err := parsePublic(block)
		if err != nil {
			return nil, fmt.Errorf("the key %s of the OAuth application %s cannot be read: %w", k.ID, a.ID, err)
		}
		r.keys[k.ID], r.marks[keyMark(k.ID)] = key, true
	}
	for _, id := range a.Sources {
		r.sources[id] = true
	}
	return r, nil
}

// keyMark stands for a key in a token.
func keyMark(id string) [8]byte {
	sum := sha256.Sum256([]byte(id))
	return [8]byte(sum[:8])
}

func appID(number [12]byte) string {
	return appPrefix + base64.RawURLEncoding.EncodeToString(number[:])
}

// appNumber is the inverse of appID. What is no id gives a number that no
// application has.
func appNumber(id string) (number [12]byte) {
	text, ok := strings.CutPrefix(id, appPrefix)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if ok && err == nil && len(raw) == len(number) {
		number = [12]byte(raw)
	}
	return number
}

// scopeBits are scopes as they stand in a token: one bit each, by their place in
// Scopes.
func scopeBits(scopes []string) (bits byte) {
	for i, s := range Scopes() {
		for _, has := range scopes {
			if has == s {
				bits |= 1 << i
			}
		}
	}
	return bits
}

// OpenOAuth reads the applications and what was revoked. The first time it
// makes the secret that access tokens are signed with.
func OpenOAuth(ctx context.Context, c OAuthConfig) (*OAuth, error) {
	o := &OAuth{config: c, failures: newThrottle(c.Clock, 0.5, 30), issues: newThrottle(c.Clock, 50, 500)}
	first := &state{apps: map[[12]byte]*ready{}, revoked: map[[12]byte]time.Time{}, generations: map[uint32]uint32{}}
	var sealed []byte
	err := c.DB.View(ctx, func(r kv.Reader) (err error) {
		if sealed, err = r.Get(signingKey()); err != nil {
			return err
		}
		for pair, err := range r.Scan(kv.Prefix(kv.WorkspaceKey(oauthRoom).Byte(kindApp))) {
			if err != nil {
				return err
			}
			a, err := decodeApp(pair.Value)
			if err != nil {
				return err
			}
			first.apps[a.number] = a
		}
		prefix := kv.WorkspaceKey(oauthRoom).Byte(kindRevoked)
		for pair, err := range r.Scan(kv.Prefix(prefix)) {
			if err != nil {
				return err
			}
			number, ends, err := decodeRevoked(pair.Key[len(prefix):], pair.Value)
			if err != nil {
				return err
			}
			first.revoked[number] = ends
		}
		return readGenerations(r, first.generations)
	})
	if err != nil {
		return nil, fmt.Errorf("open OAuth: %w", err)
	}
	secret, err := o.signing(ctx, sealed)
	if err != nil {
		return nil, fmt.Errorf("open OAuth: %w", err)
	}
	o.macs.New = func() any { return hmac.New(sha256.New, secret) }
	o.now.Store(first)
	return o, nil
}

func readGenerations(r kv.Reader, into map[uint32]uint32) error {
	stem := kv.WorkspaceKey(oauthRoom).Byte(kindGeneration)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		f := kv.FieldsOf(pair.Value)
		space, format, n := parts.Uint32(), f.Byte(), f.Uvarint()
		if !parts.OK() || !f.OK() || format != generationFormat {
			return errors.New("how often the client tokens of a space were revoked is damaged or of an unknown format")
		}
		into[space] = uint32(n)
	}
	return nil
}

func decodeApp(value []byte) (*ready, error) {
	if len(value) == 0 || value[0] != appFormat {
		return nil, errors.New("a stored OAuth application is damaged or of an unknown format")
	}
	var a App
	if err := json.Unmarshal(value[1:], &a); err != nil {
		return nil, fmt.Errorf("a stored OAuth application is damaged: %w", err)
	}
	return prepare(a)
}

func decodeRevoked(key, value []byte) (number [12]byte, ends time.Time, err error) {
	f := kv.FieldsOf(value)
	format, ms := f.Byte(), f.Varint()
	if !f.OK() || format != revokedFormat || len(key) != len(number) {
		return number, ends, errors.New("a stored revocation is damaged or of an unknown format")
	}
	return [12]byte(key), time.UnixMilli(ms).UTC(), nil
}

// signing returns the secret that access tokens are signed with. One that
// cannot be unsealed any more is replaced: senders get new tokens by
// themselves.
func (o *OAuth) signing(ctx context.Context, sealed []byte) ([]byte, error) {
	if len(sealed) > 0 && sealed[0] != signingFormat {
		return nil, errors.New("the stored secret of access tokens is of an unknown format")
	}
	if len(sealed) > 0 {
		plain, err := o.config.Secrets.Unseal(string(sealed[1:]))
		if err == nil {
			return base64.RawURLEncoding.DecodeString(plain)
		}
		o.config.Logger.Warn("the secret of access tokens cannot be unsealed and is made anew: tokens from before are no longer valid", "error", err)
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(o.config.Random, secret); err != nil {
		return nil, err
	}
	text, err := o.config.Secrets.Seal(base64.RawURLEncoding.EncodeToString(secret))
	if err != nil {
		return nil, err
	}
	err = o.config.DB.Update(ctx, oauthFence, kv.Durable, func(tx kv.Tx) error {
		return tx.Set(signingKey(), kv.Value{signingFormat}.Fixed([]byte(text)))
	})
	return secret, err
}

// change replaces the state; o.changing is held.
func (o *OAuth) change(fn func(*state)) {
	had := o.now.Load()
	next := &state{apps: maps.Clone(had.apps), revoked: maps.Clone(had.revoked), generations: maps.Clone(had.generations)}
	fn(next)
	o.now.Store(next)
}

// mac returns the signature of a token's content.
func (o *OAuth) mac(content []byte, into *[32]byte) {
	h := o.macs.Get().(hash.Hash)
	defer o.macs.Put(h)
	h.Reset()
	h.Write(content)
	h.Sum(into[:0])
}
