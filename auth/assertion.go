package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"kith/kv"
)

// Bounds of an assertion.
const (
	// maxLife is how far ahead an assertion may end: Segment's is below sixty
	// seconds.
	maxLife = 60 * time.Second
	// leeway is for clocks that differ. The SDKs correct a larger difference by
	// the Date of the refusal.
	leeway       = 10 * time.Second
	maxAssertion = 8 << 10
	maxJTI       = 255
	sweepEvery   = time.Minute
)

// The texts by which the Python SDK knows that its clock is wrong
// (analytics-python, segment/analytics/oauth_manager.py).
const (
	textExpired = "Token is expired"
	textEarly   = "Token used before issued"
)

// problem is a refusal as RFC 6749 §5.2 writes it.
type problem struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
	app         string // whose, if it is known; for the log
	clock       bool   // only the sender's clock is wrong
}

// Error returns both parts.
func (p *problem) Error() string { return p.Code + ": " + p.Description }

func invalidClient(app, format string, args ...any) *problem {
	return &problem{Code: "invalid_client", Description: fmt.Sprintf(format, args...), app: app}
}

func invalidRequest(app, format string, args ...any) *problem {
	return &problem{Code: "invalid_request", Description: fmt.Sprintf(format, args...), app: app}
}

// verified is what an assertion that holds says.
type verified struct {
	app  *ready
	key  string // the id of the key
	jti  string
	ends time.Time
}

// verify holds an assertion to RFC 7523 §3 and to what Segment asks for: signed
// with RS256 by a key of the application that is its subject, for this server,
// for less than a minute. Whether it was used before is not asked here.
func (o *OAuth) verify(assertion string, audiences []string) (*verified, *problem) {
	if len(assertion) > maxAssertion {
		return nil, invalidClient("", "client_assertion is too long")
	}
	// No other algorithm is even parsed: neither none nor an HMAC over the
	// public key.
	token, err := jwt.ParseSigned(assertion, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil || len(token.Headers) != 1 {
		return nil, invalidClient("", "client_assertion is not a JWT signed with RS256")
	}
	var claims jwt.Claims
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return nil, invalidClient("", "client_assertion does not hold a JWT's claims")
	}
	app := o.now.Load().app(claims.Subject)
	if app == nil {
		return nil, invalidClient("", "sub is not the id of an application here")
	}
	kid := token.Headers[0].KeyID
	key := app.keys[kid]
	if key == nil {
		return nil, invalidClient(app.ID, "kid is not the id of a key of this application")
	}
	if err := token.Claims(key, &claims); err != nil { // from here on they are the sender's
		return nil, invalidClient(app.ID, "client_assertion is not signed with this key")
	}
	if p := o.judge(app.ID, &claims, audiences); p != nil {
		return nil, p
	}
	return &verified{app: app, key: kid, jti: claims.ID, ends: claims.Expiry.Time()}, nil
}

// judge holds the claims of an assertion to what they must be.
func (o *OAuth) judge(app string, c *jwt.Claims, audiences []string) *problem {
	now := o.config.Clock.Now()
	switch {
	case !slices.ContainsFunc(c.Audience, func(a string) bool { return meant(a, audiences) }):
		return invalidClient(app, "aud is not this server: want %s", strings.Join(audiences, " or "))
	case c.Issuer != "" && c.Issuer != app && !meant(c.Issuer, audiences):
		// The SDKs name the application, Segment's documentation the server.
		return invalidClient(app, "iss is neither the application nor this server")
	case c.Expiry == nil || c.IssuedAt == nil:
		return invalidRequest(app, "exp and iat are needed")
	case c.ID == "" || len(c.ID) > maxJTI:
		return invalidRequest(app, "jti is needed, another one each time, of at most %d characters", maxJTI)
	case now.After(c.Expiry.Time().Add(leeway)):
		return &problem{Code: "invalid_request", Description: textExpired, app: app, clock: true}
	case c.IssuedAt.Time().After(now.Add(leeway)), c.NotBefore != nil && c.NotBefore.Time().After(now.Add(leeway)):
		return &problem{Code: "invalid_request", Description: textEarly, app: app, clock: true}
	case c.Expiry.Time().After(now.Add(maxLife + leeway)):
		return invalidRequest(app, "exp is too far ahead: an assertion is good for less than 60 seconds")
	}
	return nil
}

// meant reports whether a URL of an assertion is one of the server's: with or
// without a slash at the end, the token's own address too.
func meant(text string, audiences []string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return false
	}
	if path := strings.TrimSuffix(u.Path, "/"); path != "" && path != tokenPath || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return false
	}
	base := strings.ToLower(u.Scheme + "://" + u.Host)
	return slices.Contains(audiences, base)
}

// errUsed is an assertion that was used before.
var errUsed = errors.New("the assertion was used before")

// use notes that an assertion was used, durably: it is good for once, also
// after a restart.
func (o *OAuth) use(ctx context.Context, v *verified) error {
	hash := sha256.Sum256([]byte(v.app.ID + "\x00" + v.jti))
	now := o.config.Clock.Now()
	clean := o.sweeps(now)
	// Beyond this the assertion is refused by its end alone.
	ends := v.ends.Add(leeway)
	return o.config.DB.Update(ctx, oauthFence, kv.Durable, func(tx kv.Tx) error {
		had, err := tx.Get(usedKey(hash))
		if err != nil {
			return err
		}
		if had != nil {
			until, err := decodeUsed(had)
			if err != nil {
				return err
			}
			if !now.After(until) {
				return errUsed
			}
		}
		if clean {
			if err := forgetUsed(tx, now); err != nil {
				return err
			}
		}
		return tx.Set(usedKey(hash), kv.Value{usedFormat}.Varint(ends.UnixMilli()))
	})
}

// sweeps says whether it is time to look for assertions that have ended.
func (o *OAuth) sweeps(now time.Time) bool {
	o.sweep.Lock()
	defer o.sweep.Unlock()
	if now.Sub(o.sweep.at) < sweepEvery {
		return false
	}
	o.sweep.at = now
	return true
}

// forgetUsed forgets assertions that have ended. There are as many as were used
// in about two minutes, which the throttle bounds to some thousands.
func forgetUsed(tx kv.Tx, now time.Time) error {
	var ended [][]byte
	for pair, err := range tx.Scan(kv.Prefix(kv.WorkspaceKey(oauthRoom).Byte(kindUsed))) {
		if err != nil {
			return err
		}
		until, err := decodeUsed(pair.Value)
		if err != nil {
			return err
		}
		if now.After(until) {
			ended = append(ended, slices.Clone(pair.Key))
		}
	}
	for _, key := range ended {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

func decodeUsed(value []byte) (time.Time, error) {
	f := kv.FieldsOf(value)
	format, ms := f.Byte(), f.Varint()
	if !f.OK() || format != usedFormat {
		return time.Time{}, errors.New("a used assertion is damaged or of an unknown format")
	}
	return time.UnixMilli(ms), nil
}
