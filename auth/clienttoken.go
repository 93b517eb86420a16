package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"kith/event"
	"kith/fault"
	"kith/kv"
)

// A client token is clientPrefix and, in base64url, its content (see
// ClientGrant.encode) and the content's HMAC-SHA256 under the secret that
// access tokens are signed with; the first byte tells the two apart. Whoever
// holds one can read what stands in it.
const (
	clientPrefix  = "kith_client_"
	clientVersion = 2
	clientIDs     = "ct_"
)

// Bounds of client tokens.
const (
	MaxClientTTL     = 24 * time.Hour
	defaultClientTTL = 15 * time.Minute
	maxClientToken   = 8 << 10 // a token, as text
	maxClientTraits  = 50
	maxClientOrigins = 10
	maxOrigin        = 255
	maxOrigins       = 100 // of one space that client tokens are for at a time
	// maxRevokedOfSpace is how many of the revoked tokens of OAuth a space may
	// have: who reads one space must not use up what the others need.
	maxRevokedOfSpace = 5_000
)

// The reads that a client token can be for.
const (
	ReadTraits      = "traits"
	ReadExternalIDs = "external_ids"
	ReadEvents      = "events"
	ReadMetadata    = "metadata"
	ReadLinks       = "links"
)

// ClientReads are the reads that a client token can be for. Their places are
// bits in tokens.
func ClientReads() []string {
	return []string{ReadTraits, ReadExternalIDs, ReadEvents, ReadMetadata, ReadLinks}
}

// AnyProfile as the profile of a client token means all profiles of its
// collection.
const AnyProfile = "*"

// ClientRequest asks for a client token.
type ClientRequest struct {
	// Profile is whose: "type:value" or "use_…", looked up at every read, or
	// AnyProfile.
	Profile    string
	Collection string        // "users" (when empty) or "accounts"
	Reads      []string      // of ClientReads
	Include    []string      // the traits that may be read; empty: all
	TTL        time.Duration // zero: 15 minutes; at most MaxClientTTL
	Origins    []string      // of web pages that may use it: "https://app.example.com"; empty: none
}

// ClientGrant is what a client token says.
type ClientGrant struct {
	ID         string // "ct_…", by which it is revoked
	Profile    string // as in ClientRequest
	Collection string
	Reads      []string
	Include    []string
	Origins    []string
	IssuedAt   time.Time
	ExpiresAt  time.Time

	number     [12]byte // the space, and 8 bytes of chance
	issuer     [12]byte // the profile token that it was got with; zero: the admin token
	space      uint32
	generation uint32 // of the space when it was given out
}

// May reports whether the token is for a read.
func (g *ClientGrant) May(read string) bool { return slices.Contains(g.Reads, read) }

// ClientTokens gives out short-lived tokens with which an app reads one
// profile, or a few things of many, without a server of its own in between. The
// token says for itself what it is for, so nothing is stored for it but the
// origins of its web pages. It ends by itself within a day, with the profile
// token that it was got with, and when it or all of its space are revoked. It is
// safe for concurrent use.
type ClientTokens struct{ oauth *OAuth }

// NewClientTokens returns the client tokens of the server whose secret o has.
func NewClientTokens(o *OAuth) *ClientTokens { return &ClientTokens{o} }

// Issue makes a client token of a space for who has shown that he may read all
// of it.
func (c *ClientTokens) Issue(ctx context.Context, space uint32, by Caller, req ClientRequest) (*ClientGrant, string, error) {
	g, err := req.grant()
	if err != nil {
		return nil, "", err
	}
	o := c.oauth
	now := o.config.Clock.Now().Truncate(time.Millisecond).UTC()
	g.IssuedAt, g.ExpiresAt = now, now.Add(req.TTL)
	g.issuer, g.space, g.generation = by.mark, space, o.now.Load().generations[space]
	if _, err := io.ReadFull(o.config.Random, g.number[4:]); err != nil {
		return nil, "", fmt.Errorf("make a client token: %w", err)
	}
	binary.BigEndian.PutUint32(g.number[:], space)
	g.ID = clientID(g.number)
	content := g.encode()
	var mac [32]byte
	o.mac(content, &mac)
	token := clientPrefix + base64.RawURLEncoding.EncodeToString(append(content, mac[:]...))
	if len(token) > maxClientToken {
		return nil, "", fault.Field("include", "the token would have %d characters; at most %d are read: name fewer traits or origins", len(token), maxClientToken)
	}
	if err := c.keepOrigins(ctx, g); err != nil {
		return nil, "", fmt.Errorf("make a client token: %w", err)
	}
	return g, token, nil
}

// grant checks a request, and completes it.
func (req *ClientRequest) grant() (*ClientGrant, error) {
	if req.Collection == "" {
		req.Collection = event.Users
	}
	if req.TTL == 0 {
		req.TTL = defaultClientTTL
	}
	kind, value, _ := strings.Cut(req.Profile, ":")
	_, err := event.ParseProfileID(req.Profile)
	switch {
	case req.Profile == "":
		return nil, fault.Field("profile", "want whose profile the token reads, as user_id:u1, or %q for all of the collection", AnyProfile)
	case err != nil && req.Profile != AnyProfile && (kind == "" || value == "" || len(req.Profile) > event.MaxIdentifierBytes+100):
		return nil, fault.Field("profile", `want type:value, as in user_id:u1, use_… or %q`, AnyProfile)
	case req.Collection != event.Users && req.Collection != event.Accounts:
		return nil, fault.Field("collection", "%q is not a collection: want users or accounts", req.Collection)
	case len(req.Reads) == 0:
		return nil, fault.Field("reads", "want at least one of %s", strings.Join(ClientReads(), ", "))
	case req.TTL < time.Second || req.TTL > MaxClientTTL:
		return nil, fault.Field("expires_in", "want 1 to %d seconds", int(MaxClientTTL/time.Second))
	case len(req.Include) > maxClientTraits:
		return nil, fault.Field("include", "%d traits; at most %d", len(req.Include), maxClientTraits)
	case len(req.Origins) > maxClientOrigins:
		return nil, fault.Field("origins", "%d origins; at most %d", len(req.Origins), maxClientOrigins)
	}
	for _, read := range req.Reads {
		if !slices.Contains(ClientReads(), read) {
			return nil, fault.Field("reads", "%q is not a read: want %s", read, strings.Join(ClientReads(), ", "))
		}
	}
	if slices.Contains(req.Include, "") {
		return nil, fault.Field("include", "a trait has a name")
	}
	for _, origin := range req.Origins {
		if !isOrigin(origin) {
			return nil, fault.Field("origins", "%q is not the origin of web pages: want scheme and host in lower case, and the port if it is not the usual one, as https://app.example.com", origin)
		}
	}
	return &ClientGrant{Profile: req.Profile, Collection: req.Collection, Reads: req.Reads, Include: req.Include, Origins: req.Origins}, nil
}

// isOrigin reports whether a text is an origin as browsers send it (RFC 6454
// §6.2). The opaque origin "null" is everybody's, and is none here.
func isOrigin(s string) bool {
	scheme, host, ok := strings.Cut(s, "://")
	return ok && scheme != "" && host != "" && len(s) <= maxOrigin &&
		strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+.-") == "" &&
		strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]") == ""
}

// encode writes what is signed.
func (g *ClientGrant) encode() []byte {
	var reads byte
	for i, read := range ClientReads() {
		if g.May(read) {
			reads |= 1 << i
		}
	}
	v := kv.Value{clientVersion}.Uvarint(uint64(g.space)).Uvarint(uint64(g.generation)).Fixed(g.number[:]).Fixed(g.issuer[:])
	v = v.Varint(g.IssuedAt.UnixMilli()).Varint(g.ExpiresAt.UnixMilli()).Byte(reads).String(g.Collection).String(g.Profile)
	for _, list := range [][]string{g.Include, g.Origins} {
		v = v.Uvarint(uint64(len(list)))
		for _, s := range list {
			v = v.String(s)
		}
	}
	return v
}

// read reads a token that this server has signed.
func (c *ClientTokens) read(token string) (*ClientGrant, bool) {
	text, ok := strings.CutPrefix(token, clientPrefix)
	if !ok || len(token) > maxClientToken {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 33 {
		return nil, false
	}
	content, signature := b[:len(b)-32], b[len(b)-32:]
	var mac [32]byte
	c.oauth.mac(content, &mac)
	if !hmac.Equal(mac[:], signature) || content[0] != clientVersion {
		return nil, false
	}
	g := &ClientGrant{}
	f := kv.FieldsOf(content[1:])
	g.space, g.generation = uint32(f.Uvarint()), uint32(f.Uvarint())
	copy(g.number[:], f.Fixed(len(g.number)))
	copy(g.issuer[:], f.Fixed(len(g.issuer)))
	g.IssuedAt, g.ExpiresAt = time.UnixMilli(f.Varint()).UTC(), time.UnixMilli(f.Varint()).UTC()
	reads := f.Byte()
	for i, read := range ClientReads() {
		if reads&(1<<i) != 0 {
			g.Reads = append(g.Reads, read)
		}
	}
	g.Collection, g.Profile = f.String(), f.String()
	for _, list := range []*[]string{&g.Include, &g.Origins} {
		for range f.Count(len(content)) {
			*list = append(*list, f.String())
		}
	}
	g.ID = clientID(g.number)
	return g, f.OK() && len(f.Rest()) == 0
}

func clientID(number [12]byte) string {
	return clientIDs + base64.RawURLEncoding.EncodeToString(number[:])
}

// IsClient reports whether a token looks like a client token.
func IsClient(token string) bool { return strings.HasPrefix(token, clientPrefix) }

// Check returns what a client token is for in a space. When it is no longer
// good, or of another space, the error is fault.Denied; the grant is nil only
// when this server has not signed it.
func (c *ClientTokens) Check(ctx context.Context, token string, space uint32) (*ClientGrant, error) {
	g, ok := c.read(token)
	if !ok {
		return nil, fault.New(fault.Denied, "the client token is not one of this server")
	}
	s := c.oauth.now.Load()
	_, revoked := s.revoked[g.number]
	switch {
	case g.space != space:
		return g, fault.New(fault.Denied, "the client token is not for this space")
	case !c.oauth.config.Clock.Now().Before(g.ExpiresAt):
		return g, fault.New(fault.Denied, "the client token has expired: ask your server for a new one")
	case revoked || s.generations[space] != g.generation:
		return g, fault.New(fault.Denied, "the client token was revoked: ask your server for a new one")
	}
	if g.issuer == [12]byte{} {
		return g, nil
	}
	found := false
	err := c.oauth.config.DB.View(ctx, func(r kv.Reader) error {
		rng := kv.Prefix(kv.WorkspaceKey(room).Fixed(g.issuer[:]))
		rng.Limit = 1
		for pair, err := range r.Scan(rng) {
			if err != nil {
				return err
			}
			_, of, err := decode(pair.Value)
			found = err == nil && of == space
			return err
		}
		return nil
	})
	if err != nil {
		return g, fmt.Errorf("check a client token: %w", err)
	}
	if !found {
		return g, fault.New(fault.Denied, "the profile token that the client token was got with was revoked")
	}
	return g, nil
}

// Revoke makes a client token of a space worthless before it ends. What is not
// the id of one is fault.NotFound; whether one was ever given out is not known.
// After 5,000 within a day it is fault.Conflict: all are revoked at once then.
func (c *ClientTokens) Revoke(ctx context.Context, space uint32, id string) error {
	text, ok := strings.CutPrefix(id, clientIDs)
	number, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if !ok || err != nil || len(number) != 12 || binary.BigEndian.Uint32(number) != space {
		return fault.New(fault.NotFound, "%.100q is not the id of a client token of this space", id)
	}
	had := 0
	for other := range c.oauth.now.Load().revoked {
		if bytes.Equal(other[:4], number[:4]) {
			had++
		}
	}
	if had >= maxRevokedOfSpace {
		return fault.New(fault.Conflict, "%d client tokens of this space are revoked already, as many as are kept: revoke all of the space at once", had)
	}
	return c.oauth.revoke(ctx, [12]byte(number), c.oauth.config.Clock.Now().Add(MaxClientTTL))
}

// RevokeAll makes all client tokens of a space worthless that were given out
// until now.
func (c *ClientTokens) RevokeAll(ctx context.Context, space uint32) error {
	o := c.oauth
	o.changing.Lock()
	defer o.changing.Unlock()
	next := o.now.Load().generations[space] + 1
	err := o.config.DB.Update(ctx, oauthFence, kv.Durable, func(tx kv.Tx) error {
		return tx.Set(generationKey(space), kv.Value{generationFormat}.Uvarint(uint64(next)))
	})
	if err != nil {
		return fmt.Errorf("revoke the client tokens of a space: %w", err)
	}
	o.change(func(s *state) { s.generations[space] = next })
	return nil
}

// originSlack is how much longer than its last token an origin is remembered,
// so that it is not written for each.
const originSlack = time.Hour

// keepOrigins remembers that web pages of these origins may ask for a space's
// profiles for as long as a token may: a browser asks whether they may before
// it shows the token (CORS).
func (c *ClientTokens) keepOrigins(ctx context.Context, g *ClientGrant) error {
	if len(g.Origins) == 0 {
		return nil
	}
	o := c.oauth
	known := true
	err := o.config.DB.View(ctx, func(r kv.Reader) error {
		for _, origin := range g.Origins {
			until, err := originUntil(r, g.space, origin)
			if err != nil {
				return err
			}
			known = known && !until.Before(g.ExpiresAt)
		}
		return nil
	})
	if err != nil || known {
		return err
	}
	return o.config.DB.Update(ctx, oauthFence, kv.Durable, func(tx kv.Tx) error {
		ended, living, err := origins(tx, g.space, o.config.Clock.Now())
		if err != nil {
			return err
		}
		for _, origin := range ended {
			if err := tx.Delete(originKey(g.space, origin)); err != nil {
				return err
			}
		}
		for _, origin := range g.Origins {
			living[origin] = true
		}
		if len(living) > maxOrigins {
			return fault.Field("origins", "client tokens of this space are for %d origins already, as many as are remembered at a time", maxOrigins)
		}
		for _, origin := range g.Origins {
			until, err := originUntil(tx, g.space, origin)
			if err != nil {
				return err
			}
			if until.Before(g.ExpiresAt) {
				until = g.ExpiresAt.Add(originSlack)
			}
			if err := tx.Set(originKey(g.space, origin), kv.Value{originFormat}.Varint(until.UnixMilli())); err != nil {
				return err
			}
		}
		return nil
	})
}

// origins returns the origins of a space: those that have ended and those that
// have not.
func origins(r kv.Reader, space uint32, now time.Time) (ended []string, living map[string]bool, err error) {
	living = map[string]bool{}
	stem := originStem(space)
	for pair, err := range r.Scan(kv.Prefix(stem)) {
		if err != nil {
			return nil, nil, err
		}
		parts := kv.PartsAfter(pair.Key, stem)
		origin := parts.String()
		until, ok := decodeOrigin(bytes.Clone(pair.Value))
		if !parts.OK() || !ok {
			return nil, nil, errOrigin
		}
		if now.Before(until) {
			living[origin] = true
		} else {
			ended = append(ended, origin)
		}
	}
	return ended, living, nil
}

// Origin reports whether a client token of a space may be in use on web pages
// of an origin.
func (c *ClientTokens) Origin(ctx context.Context, space uint32, origin string) (bool, error) {
	if !isOrigin(origin) {
		return false, nil
	}
	var until time.Time
	err := c.oauth.config.DB.View(ctx, func(r kv.Reader) (err error) {
		until, err = originUntil(r, space, origin)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("look an origin up: %w", err)
	}
	return c.oauth.config.Clock.Now().Before(until), nil
}
