package auth

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"kith/fault"
	"kith/kv"
	"kith/workspace"
)

// An access token is accessPrefix and, in base64url, its content and the
// content's HMAC-SHA256:
//
//	version:1 application:12 key:8 scopes:1 issued:8 ends:8 number:12 mac:32
//
// issued and ends are seconds since 1970; key stands for the key that the
// sender showed, so that a key that is deleted takes its tokens along.
const (
	accessPrefix  = "kith_access_"
	accessVersion = 1
	contentBytes  = 1 + 12 + 8 + 1 + 8 + 8 + 12
	accessBytes   = contentBytes + 32
)

// grant is what an access token says.
type grant struct {
	app    [12]byte
	key    [8]byte
	scopes byte
	issued time.Time
	ends   time.Time
	number [12]byte
}

// sign writes a token.
func (o *OAuth) sign(g *grant) string {
	var mac [32]byte
	b := make([]byte, 0, accessBytes)
	b = append(b, accessVersion)
	b = append(b, g.app[:]...)
	b = append(b, g.key[:]...)
	b = append(b, g.scopes)
	b = binary.BigEndian.AppendUint64(b, uint64(g.issued.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(g.ends.Unix()))
	b = append(b, g.number[:]...)
	o.mac(b, &mac)
	return accessPrefix + base64.RawURLEncoding.EncodeToString(append(b, mac[:]...))
}

// read reads a token that this server has signed.
func (o *OAuth) read(token string) (g grant, ok bool) {
	text, ok := strings.CutPrefix(token, accessPrefix)
	if !ok || len(text) != base64.RawURLEncoding.EncodedLen(accessBytes) {
		return g, false
	}
	var b [accessBytes]byte
	if n, err := base64.RawURLEncoding.Strict().Decode(b[:], []byte(text)); err != nil || n != accessBytes {
		return g, false
	}
	var mac [32]byte
	o.mac(b[:contentBytes], &mac)
	if !hmac.Equal(mac[:], b[contentBytes:]) || b[0] != accessVersion {
		return g, false
	}
	g.app = [12]byte(b[1:13])
	g.key = [8]byte(b[13:21])
	g.scopes = b[21]
	g.issued = time.Unix(int64(binary.BigEndian.Uint64(b[22:30])), 0).UTC()
	g.ends = time.Unix(int64(binary.BigEndian.Uint64(b[30:38])), 0).UTC()
	g.number = [12]byte(b[38:50])
	return g, true
}

// Check returns nil when the bearer of an access token may write to a source
// through the Tracking API, and fault.Denied when not. It needs about a
// microsecond and asks no store.
func (o *OAuth) Check(token string, source *workspace.Source) error {
	g, ok := o.read(token)
	if !ok {
		return fault.New(fault.Denied, "the access token is not one of this server")
	}
	s := o.now.Load()
	app := s.apps[g.app]
	switch _, revoked := s.revoked[g.number]; {
	case !o.config.Clock.Now().Before(g.ends):
		return fault.New(fault.Denied, "the access token has expired")
	case revoked:
		return fault.New(fault.Denied, "the access token was revoked")
	case app == nil:
		return fault.New(fault.Denied, "the access token is of an application that was deleted")
	case !app.marks[g.key]:
		return fault.New(fault.Denied, "the access token was got with a key that was deleted")
	case g.scopes&app.scopes&scopeBits([]string{ScopeTracking}) == 0:
		return fault.New(fault.Denied, "the access token lacks the scope %s", ScopeTracking)
	case !app.AllSources && !app.sources[source.ID]:
		return fault.New(fault.Denied, "the access token is not for this source: connect the source to the application")
	}
	return nil
}

// issue makes an access token for who has shown a key of an application.
func (o *OAuth) issue(app *ready, key string, scopes byte) (token string, ttl time.Duration, err error) {
	now := o.config.Clock.Now().Truncate(time.Second)
	g := grant{app: app.number, key: keyMark(key), scopes: scopes, issued: now, ends: now.Add(app.TokenTTL)}
	if _, err := io.ReadFull(o.config.Random, g.number[:]); err != nil {
		return "", 0, fmt.Errorf("make an access token: %w", err)
	}
	return o.sign(&g), app.TokenTTL, nil
}

// RevokeToken makes an access token worthless before it ends. One that is not
// of this server is fault.Invalid; one that has ended needs no revoking.
func (o *OAuth) RevokeToken(ctx context.Context, token string) error {
	g, ok := o.read(strings.TrimSpace(token))
	if !ok {
		return fault.Field("token", "this is not an access token of this server: paste it whole")
	}
	return o.revoke(ctx, g.number, g.ends)
}

// revoke remembers a token that is revoked until it would have ended.
func (o *OAuth) revoke(ctx context.Context, number [12]byte, ends time.Time) error {
	o.changing.Lock()
	defer o.changing.Unlock()
	now := o.config.Clock.Now()
	if !now.Before(ends) {
		return nil
	}
	had := o.now.Load().revoked
	if until, ok := had[number]; ok && !until.Before(ends) {
		return nil
	}
	var ended [][12]byte
	for other, end := range had {
		if !now.Before(end) {
			ended = append(ended, other)
		}
	}
	if len(had)-len(ended) >= maxRevoked {
		return fault.New(fault.Conflict, "%d tokens are revoked already, as many as are kept: delete the key that they were got with, or revoke all client tokens of the space", maxRevoked)
	}
	err := o.config.DB.Update(ctx, oauthFence, kv.Durable, func(tx kv.Tx) error {
		for _, other := range ended {
			if err := tx.Delete(revokedKey(other)); err != nil {
				return err
			}
		}
		return tx.Set(revokedKey(number), kv.Value{revokedFormat}.Varint(ends.UnixMilli()))
	})
	if err != nil {
		return fmt.Errorf("revoke a token: %w", err)
	}
	o.change(func(s *state) {
		for _, other := range ended {
			delete(s.revoked, other)
		}
		s.revoked[number] = ends
	})
	return nil
}
