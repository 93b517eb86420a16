package cli

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kith/client"
)

func TestOAuth(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	file := filepath.Join(t.TempDir(), "public.pem")
	if err := os.WriteFile(file, []byte(public), 0o600); err != nil {
		t.Fatal(err)
	}
	at(t, func(kith func(string, ...string) (int, string, string), server *client.Client) {
		t.Setenv("CRM_SECRET", "very-secret")
		if code, _, stderr := kith(shop, "apply", "-f", "-"); code != Done {
			t.Fatal(stderr)
		}
		if code, _, stderr := kith("", "oauth", "app", "list"); code != Done || !strings.Contains(stderr, "no OAuth applications") {
			t.Errorf("none: exit %d, %s", code, stderr)
		}
		code, out, stderr := kith("", "oauth", "app", "create", "backend", "--key", file, "--source", "web", "--token-ttl", "12h")
		if code != Done || !strings.Contains(out, "clientId    oa_") || !strings.Contains(out, "keyId       key_") || !strings.Contains(out, "authServer  "+server.Base()) {
			t.Errorf("create: exit %d, %s%s", code, out, stderr)
		}
		code, out, _ = kith("", "--json", "oauth", "app", "list")
		var apps []client.OAuthApp
		if err := json.Unmarshal([]byte(out), &apps); err != nil || code != Done || len(apps) != 1 || len(apps[0].Keys) != 1 {
			t.Fatalf("list: exit %d, %s, %v", code, out, err)
		}
		app, kid := apps[0].ID, apps[0].Keys[0].ID
		if _, out, _ := kith("", "oauth", "app", "list"); !strings.Contains(out, app+"  backend  12h          web      "+kid+" (backend)") {
			t.Errorf("list: %s", out)
		}
		if code, _, stderr := kith("", "oauth", "key", "delete", app, kid); code != Done {
			t.Errorf("key delete: exit %d, %s", code, stderr)
		}
		if code, out, stderr := kith(public, "oauth", "key", "add", app, "-", "--name", "new"); code != Done || !strings.Contains(out, kid) {
			t.Errorf("key add: exit %d, %s%s", code, out, stderr)
		}
		if code, _, stderr := kith("", "oauth", "key", "add", app, filepath.Join(t.TempDir(), "missing")); code != Wrong || !strings.Contains(stderr, "no such file") {
			t.Errorf("a file that is not there: exit %d, %s", code, stderr)
		}
		if code, _, stderr := kith("kith_access_x\n", "oauth", "revoke"); code != Failed || !strings.Contains(stderr, "paste it whole") {
			t.Errorf("revoke: exit %d, %s", code, stderr)
		}
		if code, _, stderr := kith(strings.Repeat("x", 70_000), "oauth", "revoke"); code != Wrong || !strings.Contains(stderr, "more than") {
			t.Errorf("revoke much: exit %d, %s", code, stderr)
		}
		if code, _, stderr := kith("", "oauth", "app", "delete", app); code != Done {
			t.Errorf("delete: exit %d, %s", code, stderr)
		}
		if code, _, stderr := kith("", "oauth", "app", "delete", app); code != Failed || !strings.Contains(stderr, "no OAuth application") {
			t.Errorf("delete twice: exit %d, %s", code, stderr)
		}
	})
}
