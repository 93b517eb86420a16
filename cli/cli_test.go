package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"kith/clock"
	"kith/server"
	"kith/standard"
)

// program returns a command line on memory and its two streams.
func program() (p Program, stdout, stderr *bytes.Buffer) {
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	base := server.Config{Store: standard.Memory, Destinations: standard.Destinations(), Random: rand.Reader}
	return Program{
		Version: "1.2", Name: "kith", Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr, Base: base, Memory: base,
		LookupEnv: os.LookupEnv, Clock: clock.System{},
	}, stdout, stderr
}

// TestMain takes away what the caller's environment says: the demo itself asks
// people to export KITH_ADMIN_TOKEN.
func TestMain(m *testing.M) {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "KITH_") {
			os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		args           string
		code           int
		stdout, stderr string // a piece of each; empty: nothing is written there
	}{
		{"version", Done, "kith 1.2", ""},
		{"version --json", Done, `"version":"1.2"`, ""},
		{"--help", Done, "Commands:", ""},
		{"serve --help", Done, "--test-clock", ""},
		{"", Wrong, "", `kith <command> --help`},
		{"dance", Wrong, "", "unexpected argument dance"},
		{"serve --colour red", Wrong, "", "unknown flag --colour"},
		{"serve --listen nowhere", Wrong, "", "--listen: \"nowhere\" is not an address"},
		{"serve --roles cook", Wrong, "", "--roles: \"cook\" is no role: want some of collect, pipeline, delivery, api"},
		{"serve --egress-allow here", Wrong, "", "--egress-allow"},
		{"serve --test-clock noon", Wrong, "", "--test-clock"},
		{"serve --test-clock 2026-01-01T00:00:00Z --listen 0.0.0.0:0", Wrong, "", "--test-clock"},
		{"serve --data /dev/null/x", Failed, "", "data directory"},
		{"serve --trusted-proxies here", Wrong, "", "--trusted-proxies: \"here\" is no network"},
		{"serve --public-url events.example.com", Wrong, "", "--public-url: \"events.example.com\" begins with neither"},
		{"serve --public-url https://example.com/kith", Wrong, "", "has more than scheme and host"},
		{"serve --dedup-window soon", Wrong, "", "--dedup-window: \"soon\" is not a length of time"},
		{"serve --dedup-window=-3h", Wrong, "", "is not a length of time"},
		{"serve --max-event-bytes much", Wrong, "", "--max-event-bytes: \"much\" is not a size"},
		{"serve --max-event-bytes 0", Wrong, "", "is not a size"},
		{"serve --max-event-bytes 5MB --data " + t.TempDir(), Wrong, "", "--max-event-bytes: 5242880 is not between 1 and 4194304"},
		{"serve --max-batch-events=-1 --data " + t.TempDir(), Wrong, "", "--max-batch-events: -1 is not between"},
		{"serve --max-body-bytes 16KB --data " + t.TempDir(), Wrong, "", "--max-body-bytes: 16384 is less than the 32768 of one event"},
		{"serve --tls-cert cert.pem", Wrong, "", "--tls-key: --tls-cert needs"},
		{"serve --tls-cert /nowhere/c.pem --tls-key /nowhere/k.pem --data " + t.TempDir(), Wrong, "", "--tls-cert: open /nowhere/c.pem: no such file"},
		{"serve --tls-key key.pem", Wrong, "", "--tls-cert: --tls-key needs"},
		{"serve --tls-dev --acme-domain events.example.com", Wrong, "", "--tls-cert: give one of"},
		{"serve --http-redirect :80", Wrong, "", "--http-redirect: there is nothing to redirect to"},
		{"serve --tls-dev --http-redirect 80", Wrong, "", "--http-redirect: \"80\" is not an address"},
		{"serve --acme-domain events.example.com", Wrong, "", "--acme-accept-terms"},
		{"serve --acme-email ops@example.com", Wrong, "", "--acme-email: no certificate is asked for"},
		{"serve --acme-accept-terms --acme-domain *.example.com", Wrong, "", "--acme-domain: \"*.example.com\" has a wildcard"},
		{"serve --acme-accept-terms --acme-domain 192.0.2.1", Wrong, "", "--acme-domain: \"192.0.2.1\" is an address"},
		{"serve --acme-accept-terms --acme-domain localhost", Wrong, "", "--acme-domain: \"localhost\" is not a domain name"},
		{"serve --acme-accept-terms --acme-domain a.example.com --acme-email me", Wrong, "", "--acme-email: \"me\" is not an e-mail"},
		{"serve --acme-accept-terms --acme-domain a.example.com --acme-directory http://ca.example.com", Wrong, "", "--acme-directory"},
	} {
		p, stdout, stderr := program()
		code := p.Run(t.Context(), strings.Fields(test.args))
		if code != test.code {
			t.Errorf("kith %s: exit %d, want %d\n%s", test.args, code, test.code, stderr)
		}
		for stream, want := range map[*bytes.Buffer]string{stdout: test.stdout, stderr: test.stderr} {
			if want == "" && stream.Len() > 0 || !strings.Contains(stream.String(), want) {
				t.Errorf("kith %s: wrote %q, want %q", test.args, stream, want)
			}
		}
	}
}

func TestEnvironmentGivesFlagsAndFlagsWin(t *testing.T) {
	t.Setenv("KITH_JSON", "true")
	p, stdout, _ := program()
	if code := p.Run(t.Context(), []string{"version"}); code != Done || !json.Valid(stdout.Bytes()) {
		t.Errorf("KITH_JSON: exit %d, %s", code, stdout)
	}
	t.Setenv("KITH_ROLES", "cook")
	p, _, stderr := program()
	if code := p.Run(t.Context(), []string{"serve"}); code != Wrong || !strings.Contains(stderr.String(), "cook") {
		t.Errorf("KITH_ROLES: exit %d, %s", code, stderr)
	}
	p, _, stderr = program()
	if code := p.Run(t.Context(), []string{"serve", "--roles", "waiter"}); code != Wrong || strings.Contains(stderr.String(), "cook") {
		t.Errorf("--roles beside KITH_ROLES: exit %d, %s", code, stderr)
	}
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]size{
		"1": 1, "500000": 500_000, "32KB": 32 << 10, "32kb": 32 << 10, "32 KiB": 32 << 10, "1.5MB": 3 << 19, "2g": 2 << 30, "1TiB": 1 << 40,
		"": -1, "0": -1, "-1": -1, "0.3": -1, "KB": -1, "1PB": -1, "1 2": -1, "1e400": -1, "NaN": -1, "5000TB": -1, "1BB": -1,
	} {
		var got size = -1
		if err := got.UnmarshalText([]byte(text)); got != want || (err == nil) != (want > 0) {
			t.Errorf("size %q: %d, %v; want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]duration{
		"30d": duration(720 * time.Hour), "2w": duration(336 * time.Hour), "12h30m": duration(750 * time.Minute), "0": 0, "0d": 0,
		"": -1, "-1d": -1, "1.5d": -1, "99999d": -1, "d": -1, "30": -1, "-5m": -1,
	} {
		var got duration = -1
		if err := got.UnmarshalText([]byte(text)); got != want || (err == nil) != (want >= 0) {
			t.Errorf("duration %q: %d, %v; want %d", text, got, err, want)
		}
	}
}

// watched calls seen once what has been written holds all of some texts.
type watched struct {
	bytes.Buffer
	texts []string
	seen  func()
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	for _, text := range w.texts {
		if !strings.Contains(w.String(), text) {
			return n, err
		}
	}
	w.seen()
	return n, err
}

func TestServeStopsWhenItIsTold(t *testing.T) {
	p, stdout, _ := program()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // what it waits for may never be written
	defer cancel()
	stderr := &watched{texts: []string{"admin token: in "}, seen: cancel}
	p.Stderr = stderr
	if code := p.Run(ctx, []string{"serve", "--listen", "127.0.0.1:0", "--data", t.TempDir()}); code != Done {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("it never said where the admin token is: %s", stderr)
	}
	if stdout.Len() > 0 {
		t.Errorf("stdout %q", stdout)
	}
}

func TestTheDemosServerEndsAfterItsGuests(t *testing.T) {
	p, _, _ := program()
	cfg := p.Memory
	cfg.Listen, cfg.AdminToken, cfg.Logger, cfg.Notes = "127.0.0.1:0", "token", slog.New(slog.DiscardHandler), io.Discard
	ctx, cancel := context.WithCancel(t.Context())
	guests := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	err := running(ctx, cfg, func(base string) error {
		cancel() // Ctrl-C
		for range 100 {
			answer, err := guests.Get(base + "/readyz")
			if err != nil {
				return err
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusOK {
				return fmt.Errorf("the server answers %s", answer.Status)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDemoLeavesTheDataOfTheEnvironmentAlone(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KITH_DATA", dir)
	t.Setenv("TMPDIR", t.TempDir())
	p, stdout, stderr := program()
	if code := p.Run(t.Context(), []string{"demo", "--for", "1ms", "--listen", "127.0.0.1:0"}); code != Done || !strings.Contains(stdout.String(), "kith-demo-") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the demo has written to KITH_DATA: %v, %v", entries, err)
	}
}
