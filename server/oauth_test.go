package server

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"kith/auth"
	"kith/workspace"
)

// assertion signs an assertion for a server.
func assertion(t *testing.T, key *rsa.PrivateKey, app auth.App, audience, jti string) string {
	t.Helper()
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	now := time.Now().Unix()
	content := part(map[string]any{"alg": "RS256", "typ": "JWT", "kid": app.Keys[0].ID}) + "." +
		part(map[string]any{"iss": app.ID, "sub": app.ID, "aud": audience, "iat": now - 5, "exp": now + 55, "jti": jti})
	sum := sha256.Sum256([]byte(content))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return content + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func TestAccessTokensOverHTTP(t *testing.T) {
	cfg := inMemory()
	s, base, _ := running(t, cfg)
	open, closed := source(t, s, "open"), source(t, s, "closed")
	id := ""
	if _, err := s.workspace.Update(t.Context(), func(d *workspace.Draft) error {
		for i := range d.Sources {
			if d.Sources[i].Slug == "closed" {
				id, d.Sources[i].Tracking.RequireToken = d.Sources[i].ID, true
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := auth.ReadKey(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	key.Name = "one"
	app, err := s.oauth.CreateApp(t.Context(), auth.App{
		Name: "backend", Keys: []auth.AppKey{key}, Scopes: auth.Scopes(), TokenTTL: time.Hour, Sources: []string{id},
	})
	if err != nil {
		t.Fatal(err)
	}
	token := func(jti string) string {
		response, err := http.PostForm(base+"/token", url.Values{
			"grant_type": {"client_credentials"}, "scope": {"tracking_api:write"}, "client_assertion": {assertion(t, private, app, base, jti)},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s %s %v", response.Status, text, err)
		}
		var answer struct {
			Token string `json:"access_token"`
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Token
	}
	track := func(key, token string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/track", strings.NewReader(fmt.Sprintf(`{"writeKey":%q,"userId":"u","event":"e"}`, key)))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	first := token("one")
	for _, test := range []struct {
		name, key, token string
		status           int
	}{
		{"a token where one is needed", closed, first, 200},
		{"none where one is needed", closed, "", 401},
		{"a wrong one", closed, first + "x", 401},
		{"none where none is needed", open, "", 200},
		{"one for another source", open, first, 401},
	} {
		if got := track(test.key, test.token); got != test.status {
			t.Errorf("%s: %d, want %d", test.name, got, test.status)
		}
	}
	if err := s.oauth.RevokeToken(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := track(closed, first); got != 401 {
		t.Errorf("revoked: %d", got)
	}
	if got := track(closed, token("two")); got != 200 {
		t.Errorf("the next one: %d", got)
	}
	response, err := http.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(text), `kith_oauth_token_requests_total{outcome="issued"} 2`) {
		t.Errorf("the metrics do not say that two tokens were given out: %v", err)
	}
}

func TestClients(t *testing.T) {
	s := &Server{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	for _, test := range []struct {
		peer, forwarded, want string
	}{
		{"203.0.113.7:1234", "", "203.0.113.7"},
		{"203.0.113.7:1234", "198.51.100.1", "203.0.113.7"},
		{"10.0.0.1:1234", "198.51.100.1", "198.51.100.1"},
		{"10.0.0.1:1234", "192.0.2.9, 198.51.100.1", "198.51.100.1"},
		{"10.0.0.1:1234", "198.51.100.1, 10.0.0.2", "198.51.100.1"},
		{"10.0.0.1:1234", "nobody", "10.0.0.1"},
		{"10.0.0.1:1234", "", "10.0.0.1"},
		{"[::ffff:10.0.0.1]:1234", "2001:db8:0:1:2::3", "2001:db8:0:1::/64"},
		{"[2001:db8::1%eth0]:1234", "", "2001:db8::/64"},
		{"", "198.51.100.1", ""},
	} {
		r := &http.Request{RemoteAddr: test.peer, Header: http.Header{}}
		if test.forwarded != "" {
			r.Header.Set("X-Forwarded-For", test.forwarded)
		}
		if got := s.client(r); got != test.want {
			t.Errorf("%s for %s: %q, want %q", test.peer, test.forwarded, got, test.want)
		}
	}
}
