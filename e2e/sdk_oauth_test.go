package e2e

import (
	"bufio"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"kith/client"
)

// TestSDKsWithOAuth runs the SDKs that know OAuth against sources that take
// nothing without an access token: with the right time, and with a server whose
// clock is ten minutes behind or ahead, to which they set theirs by its Date. In
// between their token is revoked. They drop what is answered with 401, which is
// their way, and get a new token for what follows.
func TestSDKsWithOAuth(t *testing.T) {
	t.Parallel()
	programs := map[string]struct {
		tool, folder string
		command      []string
	}{
		"node":   {"node", "node", []string{"node", "sdk/node/oauth.mjs"}},
		"python": {"python3", "python", []string{filepath.FromSlash("sdk/python/build/venv/bin/python"), "sdk/python/oauth.py"}},
	}
	for name, off := range map[string]time.Duration{"in time": 0, "behind": -10 * time.Minute, "ahead": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			var args []string
			if off != 0 {
				args = []string{"--test-clock", time.Now().Add(off).UTC().Format(time.RFC3339)}
			}
			slugs, tracking := []string{}, map[string]string{}
			for slug := range programs {
				slugs = append(slugs, slug)
				tracking[slug] = "requireToken: true"
			}
			h := newSDKHouse(t, slugs, tracking, args...)
			for slug, p := range programs {
				t.Run(slug, func(t *testing.T) {
					needs(t, lackSDK(p.tool, p.folder))
					h.runOAuth(t, slug, p.command)
				})
			}
			if err := h.process.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// wantRefused wants a write key alone to be refused.
func wantRefused(t *testing.T, base, key string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/track", strings.NewReader(`{"userId":"u","event":"E"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(key, "")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token the answer is %d, want 401", response.StatusCode)
	}
}

// runOAuth runs a program as an application of its own.
func (h *sdkHouse) runOAuth(t *testing.T, slug string, command []string) {
	c, err := client.New(h.process.base, adminToken, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, h.process.base, slug+"-key")
	private, public := keyPair(t)
	var made struct {
		App struct {
			ID   string
			Keys []struct{ ID string }
		}
	}
	if err := c.Call(t.Context(), "POST", "/oauth/apps", map[string]any{"name": slug, "publicKey": public, "sourceIds": []string{slug}}, &made); err != nil {
		t.Fatal(err)
	}
	if made.App.ID == "" || len(made.App.Keys) != 1 {
		t.Fatalf("the application is %+v", made)
	}
	proxy := newFaulty(t, h.process.base)

	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "ENDPOINT="+proxy.URL, "WRITE_KEY="+slug+"-key", "CLIENT_ID="+made.App.ID, "KEY_ID="+made.App.Keys[0].ID,
		"KEY_FILE="+private, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	errors := &output{wrote: make(chan struct{}, 1)}
	cmd.Stderr = errors
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timeout := time.AfterFunc(sdkTime, func() { _ = cmd.Process.Kill() })
	defer timeout.Stop()
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said = append(said, lines.Text())
		if lines.Text() == "sent" {
			token := bearer(proxy.requests()[0])
			if err := c.Call(t.Context(), "POST", "/oauth/revoke", map[string]string{"token": token}, nil); err != nil {
				t.Error(err)
			}
			fmt.Fprintln(input)
		}
	}
	if err := cmd.Wait(); err != nil || strings.Join(said, "; ") != "sent; gave up 10" {
		t.Fatalf("%s said %q, %v\n%s%s", cmd, said, err, errors, h.process.log)
	}

	tokens, statuses := map[string]bool{}, []int{}
	for _, p := range proxy.requests() {
		tokens[bearer(p)] = true
		statuses = append(statuses, p.status)
	}
	statuses = slices.Compact(statuses)
	if len(tokens) != 2 || tokens[""] {
		t.Errorf("there were %d tokens, want 2 and every request with one", len(tokens))
	}
	if got := fmt.Sprint(statuses); got != "[200 401 200]" {
		t.Errorf("the answers were %s, want 200, 401, 200", got)
	}
	numbers := map[int64]int{}
	// Refused were the one without a token, and track 10.
	for _, e := range h.account(t, slug, map[string]int{"accepted": 20, "admitted": 20, "rejected": 2}) {
		numbers[gjson.GetBytes(e, "properties.n").Int()]++
	}
	for n := range int64(21) {
		if want := 1; n != 10 && numbers[n] != want {
			t.Errorf("track %d arrived %d times", n, numbers[n])
		}
	}
}

func bearer(p passed) string {
	token, _ := strings.CutPrefix(p.header.Get("Authorization"), "Bearer ")
	return token
}

// keyPair makes an RSA key: the file of the private half, and the text of the
// public one, both PEM.
func keyPair(t *testing.T) (private, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	open, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	private = filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		t.Fatal(err)
	}
	return private, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: open}))
}
