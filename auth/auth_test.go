package auth_test

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kith/auth"
	"kith/clock"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
)

func randomness() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

func TestAdminToken(t *testing.T) {
	dir := t.TempDir()
	token, path, err := auth.AdminToken(dir, "", randomness())
	if err != nil || len(token) < 32 || path != filepath.Join(dir, auth.Name) {
		t.Fatalf("first start: %q, %q, %v", token, path, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("file: %v, %v", info, err)
	}
	if again, _, err := auth.AdminToken(dir, "", rand.NewChaCha8([32]byte{2})); err != nil || again != token {
		t.Fatalf("second start: %q, %v", again, err)
	}
	if given, path, err := auth.AdminToken(dir, "from-env", randomness()); err != nil || given != "from-env" || path != "" {
		t.Fatalf("given: %q, %q, %v", given, path, err)
	}
	for _, bad := range []string{"a b", "a:b", "ä", strings.Repeat("x", 513)} {
		if _, _, err := auth.AdminToken(dir, bad, randomness()); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), bad) {
			t.Errorf("given %q: %v", bad, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := auth.AdminToken(dir, "", randomness()); !fault.Is(err, fault.Denied) {
		t.Errorf("a file that others may read: %v", err)
	}
}

func keeper(t *testing.T, db kv.DB) *auth.Keeper {
	t.Helper()
	k, err := auth.New(db, clock.NewManual(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)), randomness(), "admin-token")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestBearer(t *testing.T) {
	k := keeper(t, memkv.New())
	for header, ok := range map[string]bool{
		"Bearer admin-token": true, "bearer admin-token": true, "Bearer  admin-token": true,
		"": false, "Bearer": false, "Bearer ": false, "Bearer admin-tokenx": false, "Bearer admin-toke": false, "admin-token": false,
		"Basic YWRtaW4tdG9rZW46": false, "Bearer " + strings.Repeat("x", 10_000): false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", header)
		err := k.Admin(r)
		if ok != (err == nil) || err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("%q: %v", header, err)
		}
	}
}

func basic(user, password string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.SetBasicAuth(user, password)
	return r
}

func TestProfileTokens(t *testing.T) {
	db := memkv.New()
	k := keeper(t, db)
	one, token, err := k.Create(t.Context(), 1, " reader ", false)
	if err != nil || one.Name != "reader" || !strings.HasPrefix(token, "kith_profile_") {
		t.Fatalf("%+v, %q, %v", one, token, err)
	}
	if _, _, err := k.Create(t.Context(), 2, "other space", false); err != nil {
		t.Fatal(err)
	}
	checks := []struct {
		r     *http.Request
		space uint32
		ok    bool
	}{
		{basic(token, ""), 1, true},
		{basic(token, ""), 2, false},
		{basic(token, "x"), 1, false},
		{basic("", token), 1, false},
		{basic(token+"x", ""), 1, false},
		{basic(one.ID, ""), 1, false},
		{basic("admin-token", ""), 1, true},
		{basic("admin-token", ""), 7, true},
		{httptest.NewRequest(http.MethodGet, "/", nil), 1, false},
	}
	for i, c := range checks {
		if _, err := k.MayRead(c.r, c.space); c.ok != (err == nil) || err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("check %d: %v", i, err)
		}
	}
	bearer := httptest.NewRequest(http.MethodGet, "/", nil)
	bearer.Header.Set("Authorization", "Bearer "+token)
	if err := k.Admin(bearer); !fault.Is(err, fault.Denied) {
		t.Errorf("a profile token opens the control API: %v", err)
	}
	list, err := k.List(t.Context(), 1)
	if err != nil || len(list) != 1 || list[0] != one {
		t.Fatalf("list: %+v, %v", list, err)
	}
	err = db.View(t.Context(), func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Range{}) {
			if err != nil {
				return err
			}
			if bytes.Contains(pair.Key, []byte(token)) || bytes.Contains(pair.Value, []byte(token)) {
				t.Error("the token is in the store")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Revoke(t.Context(), 2, one.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("revoked from another space: %v", err)
	}
	if err := k.Revoke(t.Context(), 1, one.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := k.MayRead(basic(token, ""), 1); !fault.Is(err, fault.Denied) {
		t.Errorf("a revoked token reads: %v", err)
	}
}

func TestTokensAreBounded(t *testing.T) {
	k := keeper(t, memkv.New())
	for _, name := range []string{"", "  ", "a\nb", strings.Repeat("x", 256)} {
		if _, _, err := k.Create(t.Context(), 1, name, false); !fault.Is(err, fault.Invalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for range 1000 {
		if _, _, err := k.Create(t.Context(), 1, "t", false); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := k.Create(t.Context(), 1, "t", false); !fault.Is(err, fault.Conflict) {
		t.Errorf("one too many: %v", err)
	}
}

// guess sends wrong admin tokens until they are refused otherwise, at most n.
func guess(k *auth.Keeper, n int) (sent int) {
	for i := range n {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer wrong")
		if err := k.Admin(r); !fault.Is(err, fault.Denied) {
			return i
		}
	}
	return n
}

func TestGuessesAreBounded(t *testing.T) {
	clk := clock.NewManual(time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
	right := func(token, from string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		r.RemoteAddr = from
		return r
	}
	open := func(token string) *auth.Keeper {
		k, err := auth.New(memkv.New(), clk, randomness(), token)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	here := httptest.NewRequest(http.MethodGet, "/", nil).RemoteAddr

	k := open("thought-up")
	if n := guess(k, 200); n != 100 {
		t.Errorf("%d guesses were answered", n)
	}
	if err := k.Admin(right("thought-up", here)); !fault.Is(err, fault.RetryAfter) {
		t.Errorf("the right one after too many wrong ones: %v", err)
	}
	if _, err := k.MayRead(basic("thought-up", ""), 1); !fault.Is(err, fault.RetryAfter) {
		t.Errorf("by the other door: %v", err)
	}
	if err := k.Admin(right("thought-up", "[2001:db8::1]:1")); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	_, token, err := k.Create(t.Context(), 1, "reader", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.MayRead(basic(token, ""), 1); err != nil {
		t.Errorf("a token that nobody guesses: %v", err)
	}
	clk.Set(clk.Now().Add(time.Second))
	if err := k.Admin(right("thought-up", here)); err != nil {
		t.Errorf("a second later: %v", err)
	}

	made, _, err := auth.AdminToken(t.TempDir(), "", randomness())
	if err != nil {
		t.Fatal(err)
	}
	k = open(made)
	guess(k, 200)
	if err := k.Admin(right(made, here)); err != nil {
		t.Errorf("an admin token of ours: %v", err)
	}
	if a, b := auth.Peer(right("", "[2001:db8::1]:1")), auth.Peer(right("", "[2001:db8::ffff:1]:2")); a != b || a != "2001:db8::/64" {
		t.Errorf("one network, two clients: %s, %s", a, b)
	}
}
