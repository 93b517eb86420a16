package auth_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"kith/auth"
	"kith/clock"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/secret"
	"kith/workspace"
)

// rsaKeys are made once: making one takes a good part of a second.
var rsaKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		keys[i], _ = rsa.GenerateKey(crand.Reader, 2048)
	}
	return keys
})

func publicPEM(key any) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// office is an authorization server with one application.
type office struct {
	t     testing.TB
	db    kv.DB
	box   *secret.Box
	clock *clock.Manual
	log   *bytes.Buffer
	oauth *auth.OAuth
	app   auth.App
	key   *rsa.PrivateKey
	serve http.Handler
	jtis  int
}

func newOffice(t testing.TB) *office {
	t.Helper()
	box, err := secret.New(bytes.Repeat([]byte{7}, 32), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, db: memkv.New(), box: box, clock: clock.NewManual(time.Date(2025, 1, 1, 12, 0, 0, 0, time.UTC)), log: &bytes.Buffer{}, key: rsaKeys()[0]}
	o.open()
	key, err := auth.ReadKey(publicPEM(&o.key.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	key.Name = "first"
	o.app, err = o.oauth.CreateApp(t.Context(), auth.App{
		Name: "shop", Keys: []auth.AppKey{key}, Scopes: auth.Scopes(), TokenTTL: time.Hour, Sources: []string{"source-1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// open opens the server on the store, as a start does.
func (o *office) open() {
	o.t.Helper()
	oauth, err := auth.OpenOAuth(o.t.Context(), auth.OAuthConfig{
		DB: o.db, Clock: o.clock, Random: crand.Reader, Secrets: o.box, Logger: slog.New(slog.NewTextHandler(o.log, nil)),
		Audiences: func(r *http.Request) []string { return []string{"https://kith.example.com", "http://" + r.Host} },
		Client:    auth.Peer,
	})
	if err != nil {
		o.t.Fatal(err)
	}
	mux := http.NewServeMux()
	oauth.Register(mux)
	o.oauth, o.serve = oauth, mux
}

// claims are those that the Node SDK sends.
func (o *office) claims() map[string]any {
	o.jtis++
	now := float64(o.clock.Now().UnixMilli()) / 1000
	return map[string]any{
		"iss": o.app.ID, "sub": o.app.ID, "aud": "https://kith.example.com", "iat": now - 5, "exp": now + 55, "jti": fmt.Sprint("jti-", o.jtis),
	}
}

func segment(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// sign writes a JWT by hand: a library would refuse to write half of them.
func (o *office) sign(header, claims map[string]any, signature func(content []byte) []byte) string {
	o.t.Helper()
	content := segment(o.t, header) + "." + segment(o.t, claims)
	return content + "." + base64.RawURLEncoding.EncodeToString(signature([]byte(content)))
}

func (o *office) rs256(content []byte) []byte { return pkcs1(o.t, o.key, crypto.SHA256, content) }

func pkcs1(t testing.TB, key *rsa.PrivateKey, h crypto.Hash, content []byte) []byte {
	t.Helper()
	d := h.New()
	d.Write(content)
	s, err := rsa.SignPKCS1v15(crand.Reader, key, h, d.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (o *office) header() map[string]any {
	return map[string]any{"alg": "RS256", "typ": "JWT", "kid": o.app.Keys[0].ID}
}

func (o *office) assertion() string { return o.sign(o.header(), o.claims(), o.rs256) }

func form(assertion string) url.Values {
	return url.Values{
		"grant_type":            {"client_credentials"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
		"scope":                 {"tracking_api:write"},
	}
}

// ask sends a form from an address.
func (o *office) ask(from string, f url.Values) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8080/token", strings.NewReader(f.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.RemoteAddr = from + ":1234"
	w := httptest.NewRecorder()
	o.serve.ServeHTTP(w, r)
	return w
}

// token gets an access token.
func (o *office) token() string {
	o.t.Helper()
	w := o.ask("192.0.2.1", form(o.assertion()))
	var answer struct {
		Token   string  `json:"access_token"`
		Type    string  `json:"token_type"`
		Expires float64 `json:"expires_in"`
		Scope   string  `json:"scope"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK {
		o.t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	if answer.Token == "" || answer.Type != "Bearer" || answer.Expires != o.app.TokenTTL.Seconds() || answer.Scope != "tracking_api:write" {
		o.t.Errorf("the answer: %s", w.Body)
	}
	return answer.Token
}

func source(id string) *workspace.Source { return &workspace.Source{ID: id} }

// denied checks that a token is refused, with a reason.
func (o *office) denied(token, source, why string) {
	o.t.Helper()
	err := o.oauth.Check(token, &workspace.Source{ID: source})
	if !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), why) {
		o.t.Errorf("%v, want a refusal: %s", err, why)
	}
}

func TestAccessTokens(t *testing.T) {
	o := newOffice(t)
	token := o.token()
	if err := o.oauth.Check(token, source("source-1")); err != nil {
		t.Errorf("a good token: %v", err)
	}
	o.denied(token, "source-2", "not for this source")
	o.denied("", "source-1", "not one of this server")
	o.denied(token+"A", "source-1", "not one of this server")
	for i := range token { // one bit anywhere
		if broken := token[:i] + string(token[i]^1) + token[i+1:]; o.oauth.Check(broken, source("source-1")) == nil {
			t.Errorf("changed at %d it is still good", i)
		}
	}

	o.open() // the next start
	if err := o.oauth.Check(token, source("source-1")); err != nil {
		t.Errorf("after a start: %v", err)
	}
	all := func(a *auth.App) error { a.AllSources, a.Sources = true, nil; return nil }
	if _, err := o.oauth.UpdateApp(t.Context(), o.app.ID, all); err != nil {
		t.Fatal(err)
	}
	if err := o.oauth.Check(token, source("source-2")); err != nil {
		t.Errorf("an application for all sources: %v", err)
	}

	if err := o.oauth.RevokeToken(t.Context(), " "+token+"\n"); err != nil {
		t.Fatal(err)
	}
	o.denied(token, "source-1", "was revoked")
	other := o.token()
	if err := o.oauth.Check(other, source("source-1")); err != nil {
		t.Errorf("another token: %v", err)
	}
	o.open()
	o.denied(token, "source-1", "was revoked")
	if err := o.oauth.RevokeToken(t.Context(), "kith_access_x"); !fault.Is(err, fault.Invalid) {
		t.Errorf("revoked what is none: %v", err)
	}

	o.clock.Set(o.clock.Now().Add(time.Hour - time.Second))
	if err := o.oauth.Check(other, source("source-1")); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
	o.clock.Set(o.clock.Now().Add(time.Second))
	o.denied(other, "source-1", "has expired")
	if err := o.oauth.RevokeToken(t.Context(), o.token()); err != nil {
		t.Fatal(err)
	}
	if err := o.oauth.RevokeToken(t.Context(), other); err != nil {
		t.Errorf("revoked what has ended: %v", err)
	}

	second := o.token()
	key, err := auth.ReadKey(publicPEM(&rsaKeys()[1].PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	key.Name = "second"
	if o.app, err = o.oauth.UpdateApp(t.Context(), o.app.ID, func(a *auth.App) error { a.Keys = append(a.Keys, key); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := o.oauth.Check(second, source("source-1")); err != nil {
		t.Errorf("with a key more: %v", err)
	}
	o.app, err = o.oauth.UpdateApp(t.Context(), o.app.ID, func(a *auth.App) error { a.Keys = slices.Delete(a.Keys, 0, 1); return nil })
	if err != nil {
		t.Fatal(err)
	}
	o.denied(second, "source-1", "key that was deleted")
	o.key = rsaKeys()[1]
	third := o.token()
	if err := o.oauth.Check(third, source("source-1")); err != nil {
		t.Errorf("of the second key: %v", err)
	}
	if err := o.oauth.DeleteApp(t.Context(), o.app.ID); err != nil {
		t.Fatal(err)
	}
	o.denied(third, "source-1", "application that was deleted")
	o.open()
	o.denied(third, "source-1", "application that was deleted")
	if stats := o.oauth.Stats(); stats.Issued != 0 {
		t.Errorf("since the start: %+v", stats)
	}
}

func TestAnotherServersTokens(t *testing.T) {
	one, two := newOffice(t), newOffice(t)
	two.denied(one.token(), "source-1", "not one of this server")
	// A secret that cannot be unsealed is made anew.
	token := one.token()
	box, err := secret.New(bytes.Repeat([]byte{8}, 32), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one.box = box
	one.open()
	one.denied(token, "source-1", "not one of this server")
	if err := one.oauth.Check(one.token(), source("source-1")); err != nil {
		t.Error(err)
	}
	if !strings.Contains(one.log.String(), "made anew") {
		t.Error("the log says nothing of it")
	}
}

func TestAssertionsThatAreRefused(t *testing.T) {
	o := newOffice(t)
	minute := func(n float64) float64 { return float64(o.clock.Now().Unix()) + 60*n }
	with := func(changes map[string]any) string {
		c := o.claims()
		maps.Copy(c, changes)
		for name, v := range c {
			if v == nil {
				delete(c, name)
			}
		}
		return o.sign(o.header(), c, o.rs256)
	}
	head := func(changes map[string]any, signature func([]byte) []byte) string {
		h := o.header()
		maps.Copy(h, changes)
		return o.sign(h, o.claims(), signature)
	}
	secretPEM := []byte(publicPEM(&o.key.PublicKey))
	used := o.assertion()
	if w := o.ask("192.0.2.1", form(used)); w.Code != http.StatusOK {
		t.Fatal(w.Body)
	}
	refusals := []struct{ name, assertion, code, text string }{
		{"none", head(map[string]any{"alg": "none"}, func([]byte) []byte { return nil }), "invalid_client", "RS256"},
		{"HMAC over the public key", head(map[string]any{"alg": "HS256"}, func(c []byte) []byte {
			m := hmac.New(sha256.New, secretPEM)
			m.Write(c)
			return m.Sum(nil)
		}), "invalid_client", "RS256"},
		{"RS512", head(map[string]any{"alg": "RS512"}, func(c []byte) []byte { return pkcs1(t, o.key, crypto.SHA512, c) }), "invalid_client", "RS256"},
		{"another key", head(nil, func(c []byte) []byte { return pkcs1(t, rsaKeys()[1], crypto.SHA256, c) }), "invalid_client", "not signed with this key"},
		{"its own key", head(map[string]any{"jwk": map[string]any{"kty": "RSA", "e": "AQAB",
			"n": base64.RawURLEncoding.EncodeToString(rsaKeys()[1].N.Bytes())}}, func(c []byte) []byte { return pkcs1(t, rsaKeys()[1], crypto.SHA256, c) }), "invalid_client", "not signed with this key"},
		{"no kid", head(map[string]any{"kid": ""}, o.rs256), "invalid_client", "kid"},
		{"another kid", head(map[string]any{"kid": "key_other"}, o.rs256), "invalid_client", "kid"},
		{"a critical header", head(map[string]any{"crit": []string{"x"}, "x": 1}, o.rs256), "invalid_client", ""},
		{"no JWT", "abc", "invalid_client", "not a JWT"},
		{"too long", strings.Repeat("a", 9000), "invalid_client", "too long"},
		{"no sub", with(map[string]any{"sub": nil}), "invalid_client", "sub"},
		{"another sub", with(map[string]any{"sub": "oa_AAAAAAAAAAAAAAAA"}), "invalid_client", "sub"},
		{"another iss", with(map[string]any{"iss": "https://oauth2.segment.io"}), "invalid_client", "iss"},
		{"another aud", with(map[string]any{"aud": "https://oauth2.segment.io"}), "invalid_client", "aud"},
		{"a longer aud", with(map[string]any{"aud": "https://kith.example.com/else"}), "invalid_client", "aud"},
		{"no aud", with(map[string]any{"aud": nil}), "invalid_client", "aud"},
		{"expired", with(map[string]any{"iat": minute(-11), "exp": minute(-10)}), "invalid_request", "Token is expired"},
		{"from the future", with(map[string]any{"iat": minute(10), "exp": minute(11)}), "invalid_request", "Token used before issued"},
		{"not yet", with(map[string]any{"nbf": minute(10)}), "invalid_request", "Token used before issued"},
		{"for an hour", with(map[string]any{"exp": minute(60)}), "invalid_request", "too far ahead"},
		{"no exp", with(map[string]any{"exp": nil}), "invalid_request", "exp and iat"},
		{"no iat", with(map[string]any{"iat": nil}), "invalid_request", "exp and iat"},
		{"no jti", with(map[string]any{"jti": nil}), "invalid_request", "jti"},
		{"used before", used, "invalid_request", "used before"},
	}
	for i, r := range refusals {
		w := o.ask(fmt.Sprintf("198.51.100.%d", i), form(r.assertion))
		var p struct {
			Code string `json:"error"`
			Text string `json:"error_description"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != http.StatusBadRequest || p.Code != r.code || !strings.Contains(p.Text, r.text) {
			t.Errorf("%s: %d %s %v; want %s, %s", r.name, w.Code, w.Body, err, r.code, r.text)
		}
		if w.Header().Get("Date") != o.clock.Now().Format(http.TimeFormat) || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: the head is %v", r.name, w.Header())
		}
		if len(r.assertion) > 20 && strings.Contains(o.log.String()+w.Body.String(), r.assertion[len(r.assertion)-20:]) {
			t.Errorf("%s: the assertion is shown", r.name)
		}
	}
	o.open() // a start does not forget what was used
	if w := o.ask("192.0.2.1", form(used)); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "used before") {
		t.Errorf("used before the start: %d %s", w.Code, w.Body)
	}
	if stats := o.oauth.Stats(); stats.Refused != 1 || stats.Issued != 0 {
		t.Errorf("%+v", stats)
	}
}

// An assertion is good for once, also when it comes from many sides at once.
func TestOneAssertionAtOnce(t *testing.T) {
	o := newOffice(t)
	assertion := o.assertion()
	var given atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if w := o.ask(fmt.Sprintf("192.0.2.%d", i), form(assertion)); w.Code == http.StatusOK {
				given.Add(1)
			}
		})
	}
	all.Wait()
	if n := given.Load(); n != 1 {
		t.Errorf("%d tokens for one assertion", n)
	}
}

func TestAssertionsThatAreGood(t *testing.T) {
	o := newOffice(t)
	now := float64(o.clock.Now().Unix())
	for name, changes := range map[string]map[string]any{
		"as Node sends it":          {},
		"fractions of a second":     {"iat": now - 5.25, "exp": now + 54.75},
		"without iss":               {"iss": ""},
		"iss as documented":         {"iss": "https://kith.example.com"},
		"aud with a slash":          {"aud": "https://kith.example.com/"},
		"aud with the path":         {"aud": "https://kith.example.com/token"},
		"aud in capitals":           {"aud": "HTTPS://KITH.example.com"},
		"aud as asked for":          {"aud": "http://127.0.0.1:8080"},
		"aud as a list":             {"aud": []string{"https://other.example.com", "https://kith.example.com"}},
		"a clock 9 seconds ahead":   {"iat": now + 9, "exp": now + 69},
		"a clock 9 seconds behind":  {"iat": now - 69, "exp": now - 9},
		"exactly a minute to go":    {"iat": now, "exp": now + 60},
		"a jti that is a long text": {"jti": strings.Repeat("j", 255)},
	} {
		c := o.claims()
		maps.Copy(c, changes)
		if w := o.ask("192.0.2.1", form(o.sign(o.header(), c, o.rs256))); w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	f := form(o.assertion())
	f.Del("scope")
	f.Set("client_id", o.app.ID)
	if w := o.ask("192.0.2.1", f); w.Code != http.StatusOK {
		t.Errorf("without scope, with client_id: %d %s", w.Code, w.Body)
	}
}

func TestFormsThatAreRefused(t *testing.T) {
	o := newOffice(t)
	with := func(name, value string) url.Values {
		f := form(o.assertion())
		f.Set(name, value)
		return f
	}
	twice := form(o.assertion())
	twice.Add("scope", "tracking_api:write")
	for i, test := range []struct {
		form url.Values
		code string
	}{
		{with("grant_type", "password"), "unsupported_grant_type"}, {with("client_assertion_type", "x"), "invalid_request"},
		{with("client_assertion", ""), "invalid_request"}, {with("scope", "public_api:read_write"), "invalid_scope"},
		{with("scope", "tracking_api:write functions:write"), "invalid_scope"}, {with("client_id", "oa_other"), "invalid_client"},
		{twice, "invalid_request"}, {url.Values{}, "unsupported_grant_type"}, {with("x", strings.Repeat("x", 20<<10)), "invalid_request"},
	} {
		if w := o.ask(fmt.Sprintf("198.51.100.%d", i), test.form); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"error":"`+test.code+`"`) {
			t.Errorf("%.100v: %d %s", test.form, w.Code, w.Body)
		}
	}
	for _, test := range []struct {
		method, kind string
		status       int
	}{{"POST", "application/json", 415}, {"POST", "", 415}, {"GET", "", 405}, {"PUT", "application/x-www-form-urlencoded", 405}} {
		r := httptest.NewRequest(test.method, "/token", strings.NewReader(form(o.assertion()).Encode()))
		r.Header.Set("Content-Type", test.kind)
		w := httptest.NewRecorder()
		o.serve.ServeHTTP(w, r)
		if w.Code != test.status || !strings.Contains(w.Body.String(), `"error":"invalid_request"`) {
			t.Errorf("%s %q: %d %s", test.method, test.kind, w.Code, w.Body)
		}
	}
}

// A form that breaks off on its way is tried again, and is no guess.
func TestFormsThatDoNotArrive(t *testing.T) {
	o := newOffice(t)
	for range 40 {
		r := httptest.NewRequest("POST", "/token", iotest.ErrReader(errors.New("connection reset")))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = "192.0.2.1:1"
		w := httptest.NewRecorder()
		o.serve.ServeHTTP(w, r)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
		}
	}
	if w := o.ask("192.0.2.1", form(o.assertion())); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
}

func TestWrongAssertionsAreBounded(t *testing.T) {
	o := newOffice(t)
	for i := range 30 {
		if w := o.ask("192.0.2.1", form("wrong")); w.Code != http.StatusBadRequest {
			t.Fatalf("%d: %d %s", i, w.Code, w.Body)
		}
	}
	w := o.ask("192.0.2.1", form(o.assertion()))
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "2" || w.Header().Get("X-RateLimit-Reset") != "2" {
		t.Errorf("after 30 wrong ones: %d %v %s", w.Code, w.Header(), w.Body)
	}
	if w := o.ask("192.0.2.2", form(o.assertion())); w.Code != http.StatusOK {
		t.Errorf("another client: %d %s", w.Code, w.Body)
	}
	o.clock.Set(o.clock.Now().Add(2 * time.Second))
	if w := o.ask("192.0.2.1", form(o.assertion())); w.Code != http.StatusOK {
		t.Errorf("two seconds later: %d %s", w.Code, w.Body)
	}
	for range 40 { // a wrong clock is no guess
		c := o.claims()
		c["iat"], c["exp"] = 1, 2
		if w := o.ask("192.0.2.3", form(o.sign(o.header(), c, o.rs256))); w.Code != http.StatusBadRequest {
			t.Fatalf("a wrong clock: %d %s", w.Code, w.Body)
		}
	}
	if stats := o.oauth.Stats(); stats.Limited != 1 || stats.Issued != 2 || stats.Refused != 70 {
		t.Errorf("%+v", stats)
	}
}

func TestTokensGivenOutAreBounded(t *testing.T) {
	o := newOffice(t)
	limited := 0
	for range 510 {
		if w := o.ask("192.0.2.1", form(o.assertion())); w.Code == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited != 10 {
		t.Errorf("%d of 510 had to wait", limited)
	}
	// What was used is forgotten once it has ended.
	o.clock.Set(o.clock.Now().Add(5 * time.Minute))
	o.token()
	if n := o.stored('j'); n != 1 {
		t.Errorf("%d used assertions are kept", n)
	}
}

// stored counts the keys of a kind in OAuth's room.
func (o *office) stored(kind byte) (n int) {
	o.t.Helper()
	err := o.db.View(o.t.Context(), func(r kv.Reader) error {
		for _, err := range r.Scan(kv.Prefix(kv.WorkspaceKey('k').Byte(kind))) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return n
}

func TestRevocationsEnd(t *testing.T) {
	o := newOffice(t)
	for range 3 {
		if err := o.oauth.RevokeToken(t.Context(), o.token()); err != nil {
			t.Fatal(err)
		}
	}
	o.clock.Set(o.clock.Now().Add(2 * time.Hour))
	if err := o.oauth.RevokeToken(t.Context(), o.token()); err != nil || o.stored('r') != 1 {
		t.Errorf("%d revocations are kept: %v", o.stored('r'), err)
	}
}

func TestApps(t *testing.T) {
	o := newOffice(t)
	good := func() auth.App {
		return auth.App{Name: "a", Scopes: auth.Scopes(), TokenTTL: time.Hour, AllSources: true}
	}
	for name, change := range map[string]func(*auth.App){
		"name":             func(a *auth.App) { a.Name = " " },
		"tokenTtlSeconds":  func(a *auth.App) { a.TokenTTL = time.Minute },
		"tokenTtlSeconds.": func(a *auth.App) { a.TokenTTL = 31 * 24 * time.Hour },
		"scopes":           func(a *auth.App) { a.Scopes = nil },
		"scopes.":          func(a *auth.App) { a.Scopes = []string{"public_api:read_write"} },
		"sourceIds":        func(a *auth.App) { a.AllSources = false },
		"sourceIds.":       func(a *auth.App) { a.Sources = []string{"s"} },
		"keyName":          func(a *auth.App) { a.Keys = []auth.AppKey{o.app.Keys[0]}; a.Keys[0].Name = "" },
	} {
		a := good()
		change(&a)
		_, err := o.oauth.CreateApp(t.Context(), a)
		if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), strings.TrimSuffix(name, ".")+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	twice := good()
	twice.Keys = []auth.AppKey{o.app.Keys[0], o.app.Keys[0]}
	if _, err := o.oauth.CreateApp(t.Context(), twice); !fault.Is(err, fault.Conflict) {
		t.Errorf("a key twice: %v", err)
	}
	for range 99 {
		if _, err := o.oauth.CreateApp(t.Context(), good()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := o.oauth.CreateApp(t.Context(), good()); !fault.Is(err, fault.Conflict) {
		t.Errorf("one application too many: %v", err)
	}
	if list := o.oauth.Apps(); len(list) != 100 {
		t.Errorf("%d applications", len(list))
	}
	for _, id := range []string{"", "oa_", "oa_AAAAAAAAAAAAAAAA", "x" + o.app.ID, o.app.ID + "="} {
		if _, err := o.oauth.App(id); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q: %v", id, err)
		}
		if err := o.oauth.DeleteApp(t.Context(), id); !fault.Is(err, fault.NotFound) {
			t.Errorf("delete %q: %v", id, err)
		}
	}
	if a, err := o.oauth.App(o.app.ID); err != nil || a.Name != "shop" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestReadKey(t *testing.T) {
	key := rsaKeys()[0]
	small, err := rsa.GenerateKey(crand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	want, err := auth.ReadKey(publicPEM(&key.PublicKey))
	if err != nil || !strings.HasPrefix(want.ID, "key_") {
		t.Fatalf("%+v, %v", want, err)
	}
	if old, err := auth.ReadKey("\n" + block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey)) + "\n"); err != nil || old != want {
		t.Errorf("in the older form: %+v, %v", old, err)
	}
	for name, test := range map[string]struct{ text, want string }{
		"nothing":       {"", "in PEM"},
		"private":       {block("PRIVATE KEY", pkcs8), "this is a private key"},
		"private, old":  {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)), "this is a private key"},
		"small":         {publicPEM(&small.PublicKey), "1024 bits"},
		"elliptic":      {publicPEM(&curve.PublicKey), "not an RSA"},
		"two":           {publicPEM(&key.PublicKey) + publicPEM(&key.PublicKey), "more follows"},
		"damaged":       {block("PUBLIC KEY", []byte("x")), "not an RSA"},
		"another block": {block("CERTIFICATE", []byte("x")), "not an RSA"},
		"long":          {strings.Repeat("x", 20<<10), "bytes"},
		"even exponent": {publicPEM(&rsa.PublicKey{N: key.N, E: 65536}), ""},
	} {
		_, err := auth.ReadKey(test.text)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && test.text != "" && len(test.text) > 100 && strings.Contains(err.Error(), test.text[40:80]) {
			t.Errorf("%s: the error shows the key", name)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	o := newOffice(b)
	token, from := o.token(), source("source-1")
	b.ReportAllocs()
	for b.Loop() {
		if err := o.oauth.Check(token, from); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzAccessToken(f *testing.F) {
	o := newOffice(f)
	good := o.token()
	f.Add("kith_access_")
	f.Add("kith_access_" + strings.Repeat("A", 110))
	f.Add(good)
	f.Fuzz(func(t *testing.T, token string) {
		if err := o.oauth.Check(token, source("source-1")); token != good && !fault.Is(err, fault.Denied) {
			t.Errorf("%q: %v", token, err)
		}
	})
}

func FuzzTokenRequest(f *testing.F) {
	o := newOffice(f)
	for _, seed := range []string{form(o.assertion()).Encode(), "grant_type=client_credentials", "%zz", "a=b&a=b", form("a.b.c").Encode()} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		o.serve.ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 && w.Code != 429 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	})
}
