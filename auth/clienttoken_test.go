package auth_test

import (
	"bytes"
	crand "crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"kith/auth"
	"kith/fault"
)

func (o *office) clients() *auth.ClientTokens { return auth.NewClientTokens(o.oauth) }

// client makes a client token of space 1.
func (o *office) client(req auth.ClientRequest) (*auth.ClientGrant, string) {
	o.t.Helper()
	if req.Profile == "" {
		req.Profile = "user_id:u1"
	}
	if req.Reads == nil {
		req.Reads = []string{"traits"}
	}
	g, token, err := o.clients().Issue(o.t.Context(), 1, auth.Caller{}, req)
	if err != nil {
		o.t.Fatal(err)
	}
	return g, token
}

func TestClientTokens(t *testing.T) {
	o := newOffice(t)
	check := func(token string, space uint32, want string) *auth.ClientGrant {
		t.Helper()
		g, err := o.clients().Check(t.Context(), token, space)
		if want == "" && err != nil || want != "" && (!fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, want %q", err, want)
		}
		return g
	}
	g, token := o.client(auth.ClientRequest{Profile: "email:jo+1@example.com", Reads: []string{"links", "traits"}, Include: []string{"plan", "first name"}, Origins: []string{"https://app.example.com:8443"}})
	want := &auth.ClientGrant{ID: g.ID, Profile: "email:jo+1@example.com", Collection: "users", Reads: []string{"traits", "links"}, Include: []string{"plan", "first name"},
		Origins: []string{"https://app.example.com:8443"}, IssuedAt: o.clock.Now(), ExpiresAt: o.clock.Now().Add(15 * time.Minute)}
	got := check(token, 1, "")
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(auth.ClientGrant{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !got.May("links") || got.May("events") {
		t.Errorf("may %v", got.Reads)
	}
	o.open() // a restart
	check(token, 1, "")
	check(token, 2, "not for this space")
	o.clock.Set(g.ExpiresAt.Add(-time.Millisecond))
	check(token, 1, "")
	o.clock.Set(g.ExpiresAt)
	if check(token, 1, "expired") == nil {
		t.Error("of an expired token it is not known whose it was")
	}

	one, first := o.client(auth.ClientRequest{TTL: 24 * time.Hour})
	two, second := o.client(auth.ClientRequest{TTL: 24 * time.Hour})
	if err := o.clients().Revoke(t.Context(), 1, one.ID); err != nil {
		t.Fatal(err)
	}
	check(first, 1, "revoked")
	check(second, 1, "")
	o.open()
	check(first, 1, "revoked")
	if err := o.clients().RevokeAll(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	check(second, 1, "")
	if err := o.clients().RevokeAll(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	check(second, 1, "revoked")
	o.open()
	check(second, 1, "revoked")
	_, third := o.client(auth.ClientRequest{})
	check(third, 1, "")
	for _, id := range []string{"", two.ID[3:], two.ID + "x", "ct_", "ct_!", token} {
		if err := o.clients().Revoke(t.Context(), 1, id); !fault.Is(err, fault.NotFound) {
			t.Errorf("revoke %q: %v", id, err)
		}
	}
}

// TestClientTokensAreRevokedByTheirSpace has the reader of one space try to
// revoke what is another's, by its tokens and by using up what can be revoked.
func TestClientTokensAreRevokedByTheirSpace(t *testing.T) {
	o := newOffice(t)
	one, token := o.client(auth.ClientRequest{TTL: 24 * time.Hour}) // of space 1
	if err := o.clients().Revoke(t.Context(), 2, one.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("the token of another space is revoked: %v", err)
	}
	if _, err := o.clients().Check(t.Context(), token, 1); err != nil {
		t.Fatal(err)
	}
	const most = 5_000
	revoke := func(n uint64) error {
		number := binary.BigEndian.AppendUint64([]byte{0, 0, 0, 2}, n)
		return o.clients().Revoke(t.Context(), 2, "ct_"+base64.RawURLEncoding.EncodeToString(number))
	}
	for n := range uint64(most) {
		if err := revoke(n); err != nil {
			t.Fatal(n, err)
		}
	}
	if err := revoke(most); !fault.Is(err, fault.Conflict) {
		t.Errorf("one more than are kept of a space: %v", err)
	}
	if err := o.clients().Revoke(t.Context(), 1, one.ID); err != nil {
		t.Errorf("space 1 cannot revoke because of space 2: %v", err)
	}
	if err := o.oauth.RevokeToken(t.Context(), o.token()); err != nil {
		t.Errorf("no access token can be revoked because of space 2: %v", err)
	}
	o.clock.Set(o.clock.Now().Add(25 * time.Hour)) // all of them have ended
	two, _ := o.client(auth.ClientRequest{})
	if err := o.clients().Revoke(t.Context(), 1, two.ID); err != nil { // which forgets them
		t.Fatal(err)
	}
	if err := revoke(most); err != nil {
		t.Errorf("a day later: %v", err)
	}
}

func TestClientTokensThatAreForged(t *testing.T) {
	o := newOffice(t)
	_, token := o.client(auth.ClientRequest{Origins: []string{"https://app.example.com"}})
	refused := func(name, token string) {
		t.Helper()
		if g, err := o.clients().Check(t.Context(), token, 1); !fault.Is(err, fault.Denied) || g != nil {
			t.Errorf("%s: %+v, %v", name, g, err)
		}
	}
	prefix := "kith_client_"
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, prefix))
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for _, bit := range []byte{1, 128} {
			changed := bytes.Clone(raw)
			changed[i] ^= bit
			refused(fmt.Sprintf("byte %d", i), prefix+base64.RawURLEncoding.EncodeToString(changed))
		}
	}
	for i := range raw {
		refused("cut", prefix+base64.RawURLEncoding.EncodeToString(raw[:i]))
	}
	refused("longer", prefix+base64.RawURLEncoding.EncodeToString(append(bytes.Clone(raw), 0)))
	refused("padded", token+"=")
	refused("another prefix", "kith_access_"+strings.TrimPrefix(token, prefix))
	refused("empty", "")
	refused("prefix alone", prefix)
	refused("over-long", prefix+strings.Repeat("A", 100_000))
	access := o.token()
	refused("an access token", access)
	refused("an access token in a client token's dress", prefix+strings.TrimPrefix(access, "kith_access_"))
	if err := o.oauth.RevokeToken(t.Context(), "kith_access_"+strings.TrimPrefix(token, prefix)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a client token is taken for an access token: %v", err)
	}
	_, strange := newOffice(t).client(auth.ClientRequest{})
	if _, err := o.clients().Check(t.Context(), token, 1); err != nil {
		t.Fatal(err)
	}
	other := newOffice(t) // its secret is its own
	if g, err := other.clients().Check(t.Context(), strange, 1); g != nil || !fault.Is(err, fault.Denied) {
		t.Errorf("a token of another server: %v", err)
	}
}

// TestClientTokensEndWithTheirProfileToken revokes the token that one was got
// with.
func TestClientTokensEndWithTheirProfileToken(t *testing.T) {
	o := newOffice(t)
	k, err := auth.New(o.db, o.clock, crand.Reader, "the-admin-token")
	if err != nil {
		t.Fatal(err)
	}
	server, token, err := k.Create(t.Context(), 1, "app server", false)
	if err != nil {
		t.Fatal(err)
	}
	caller, err := k.MayRead(basic(token, ""), 1)
	if err != nil || caller.Name != "app server" || caller.Delete {
		t.Fatalf("%+v, %v", caller, err)
	}
	_, client, err := o.clients().Issue(t.Context(), 1, caller, auth.ClientRequest{Profile: "user_id:u1", Reads: []string{"traits"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.clients().Check(t.Context(), client, 1); err != nil {
		t.Fatal(err)
	}
	if err := k.Revoke(t.Context(), 1, server.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := o.clients().Check(t.Context(), client, 1); !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "was revoked") {
		t.Errorf("%v", err)
	}
	// A client token is no profile token, and opens nothing else.
	if _, err := k.MayRead(basic(client, ""), 1); !fault.Is(err, fault.Denied) {
		t.Errorf("%v", err)
	}
	admin := &http.Request{Header: http.Header{"Authorization": {"Bearer " + client}}, RemoteAddr: "192.0.2.1:1"}
	if err := k.Admin(admin); !fault.Is(err, fault.Denied) {
		t.Errorf("%v", err)
	}
}

func TestRightToDelete(t *testing.T) {
	o := newOffice(t)
	k, err := auth.New(o.db, o.clock, crand.Reader, "the-admin-token")
	if err != nil {
		t.Fatal(err)
	}
	for _, may := range []bool{true, false} {
		_, token, err := k.Create(t.Context(), 1, "t", may)
		if err != nil {
			t.Fatal(err)
		}
		if caller, err := k.MayRead(basic(token, ""), 1); err != nil || caller.Delete != may {
			t.Errorf("%+v, %v", caller, err)
		}
	}
	if caller, err := k.MayRead(basic("the-admin-token", ""), 1); err != nil || !caller.Delete || caller.Name != "admin token" {
		t.Errorf("%+v, %v", caller, err)
	}
	list, err := k.List(t.Context(), 1)
	if err != nil || len(list) != 2 || list[0].Delete == list[1].Delete {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestClientRequestsThatAreRefused(t *testing.T) {
	o := newOffice(t)
	good := func() auth.ClientRequest {
		return auth.ClientRequest{Profile: "user_id:u1", Reads: []string{"traits"}, Origins: []string{"https://app.example.com"}}
	}
	long := make([]string, 50)
	for i := range long {
		long[i] = strings.Repeat("x", 500)
	}
	for name, change := range map[string]func(*auth.ClientRequest){
		"profile":    func(r *auth.ClientRequest) { r.Profile = "" },
		"profile 2":  func(r *auth.ClientRequest) { r.Profile = "u1" },
		"profile 3":  func(r *auth.ClientRequest) { r.Profile = "user_id:" },
		"profile 4":  func(r *auth.ClientRequest) { r.Profile = ":u1" },
		"profile 5":  func(r *auth.ClientRequest) { r.Profile = "user_id:" + strings.Repeat("x", 10_000) },
		"collection": func(r *auth.ClientRequest) { r.Collection = "pets" },
		"reads":      func(r *auth.ClientRequest) { r.Reads = nil },
		"reads 2":    func(r *auth.ClientRequest) { r.Reads = []string{"everything"} },
		"expires_in": func(r *auth.ClientRequest) { r.TTL = 24*time.Hour + 1 },
		"expires in": func(r *auth.ClientRequest) { r.TTL = -time.Second },
		"include":    func(r *auth.ClientRequest) { r.Include = make([]string, 51) },
		"include 2":  func(r *auth.ClientRequest) { r.Include = []string{""} },
		"too long":   func(r *auth.ClientRequest) { r.Include = long },
		"origins":    func(r *auth.ClientRequest) { r.Origins = make([]string, 11) },
		"null":       func(r *auth.ClientRequest) { r.Origins = []string{"null"} },
		"all":        func(r *auth.ClientRequest) { r.Origins = []string{"*"} },
		"path":       func(r *auth.ClientRequest) { r.Origins = []string{"https://app.example.com/"} },
		"capitals":   func(r *auth.ClientRequest) { r.Origins = []string{"https://App.example.com"} },
		"user":       func(r *auth.ClientRequest) { r.Origins = []string{"https://a@app.example.com"} },
		"line":       func(r *auth.ClientRequest) { r.Origins = []string{"https://app.example.com\r\nX: y"} },
		"no scheme":  func(r *auth.ClientRequest) { r.Origins = []string{"app.example.com"} },
		"wildcard":   func(r *auth.ClientRequest) { r.Origins = []string{"https://*.example.com"} },
	} {
		r := good()
		change(&r)
		if _, _, err := o.clients().Issue(t.Context(), 1, auth.Caller{}, r); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := good()
	r.Profile, r.Origins = auth.AnyProfile, []string{"capacitor://localhost", "http://127.0.0.1:5173", "http://[::1]:80"}
	if _, _, err := o.clients().Issue(t.Context(), 1, auth.Caller{}, r); err != nil {
		t.Error(err)
	}
}

func TestOrigins(t *testing.T) {
	o := newOffice(t)
	may := func(space uint32, origin string) bool {
		t.Helper()
		ok, err := o.clients().Origin(t.Context(), space, origin)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	const app = "https://app.example.com"
	g, _ := o.client(auth.ClientRequest{Origins: []string{app}})
	for origin, want := range map[string]bool{app: true, app + ":443": false, "https://evil.example.com": false, "null": false, "": false, "*": false, strings.Repeat("x", 5000): false} {
		if may(1, origin) != want {
			t.Errorf("%s: %v", origin, !want)
		}
	}
	if may(2, app) {
		t.Error("an origin of one space is one of another")
	}
	o.clock.Set(g.ExpiresAt)
	if !may(1, app) {
		t.Error("the origin ends with its first token: a second would write it again")
	}
	o.clock.Set(g.ExpiresAt.Add(time.Hour))
	if may(1, app) {
		t.Error("the origin does not end")
	}
	// As many as are remembered; those that have ended make room.
	for i := range 100 {
		o.client(auth.ClientRequest{Origins: []string{fmt.Sprintf("https://app%d.example.com", i)}})
	}
	_, _, err := o.clients().Issue(t.Context(), 1, auth.Caller{}, auth.ClientRequest{Profile: "user_id:u1", Reads: []string{"traits"}, Origins: []string{app}})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("one more: %v", err)
	}
	o.client(auth.ClientRequest{Origins: []string{"https://app7.example.com"}})
	o.clock.Set(o.clock.Now().Add(2 * time.Hour))
	o.client(auth.ClientRequest{Origins: []string{app}})
	if !may(1, app) || may(1, "https://app7.example.com") {
		t.Error("the origins that have ended are still there")
	}
}

// FuzzClientToken reads what anybody may send.
func FuzzClientToken(f *testing.F) {
	o := newOffice(f)
	g, token := o.client(auth.ClientRequest{Include: []string{"plan"}})
	f.Add(token)
	f.Add("kith_client_")
	f.Add("kith_client_AgEA")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := o.clients().Check(t.Context(), s, 1)
		if s != token && (err == nil || got != nil) || s == token && (err != nil || got.ID != g.ID || !slices.Equal(got.Include, g.Include)) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	})
}
