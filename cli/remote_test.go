package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kith/client"
)

// shop is a workspace with one source and two audiences.
const shop = `
sources:
  - slug: web
    name: Web
    metadataId: javascript
    writeKeys: [shop-write-key]
destinations:
  - slug: crm
    name: CRM
    metadataId: webhook
    settings:
      url: https://crm.example.com/hook
      sharedSecret: ${CRM_SECRET}
audiences:
  - key: buyers
    name: Buyers
    definition:
      query: event('Order Completed').count() >= 1
`

// at runs a server for fn, whose clock stands on New Year's Day.
func at(t *testing.T, fn func(kith func(stdin string, args ...string) (code int, stdout, stderr string), server *client.Client)) {
	t.Helper()
	p, _, _ := program()
	cfg := p.Memory
	cfg.Listen, cfg.AdminToken, cfg.Logger, cfg.Notes = "127.0.0.1:0", "shop-token", slog.New(slog.DiscardHandler), io.Discard
	cfg.TestClock = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	err := running(t.Context(), cfg, func(base string) error {
		server, err := client.New(base, "shop-token", nil)
		if err != nil {
			return err
		}
		fn(func(stdin string, args ...string) (int, string, string) {
			p, stdout, stderr := program()
			p.Stdin = strings.NewReader(stdin)
			code := p.Run(t.Context(), append(args, "--server", base, "--token", "shop-token"))
			return code, stdout.String(), stderr.String()
		}, server)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func settle(t *testing.T, server *client.Client) {
	t.Helper()
	if err := server.Call(t.Context(), "POST", "/test-clock", map[string]string{"advance": "0s"}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestApplyAndExport(t *testing.T) {
	at(t, func(kith func(string, ...string) (int, string, string), _ *client.Client) {
		if code, _, stderr := kith(shop, "apply", "-f", "-"); code != Failed || !strings.Contains(stderr, "${CRM_SECRET}") {
			t.Errorf("without the secret: exit %d, %s", code, stderr)
		}
		t.Setenv("CRM_SECRET", "very-secret")
		code, diff, stderr := kith(shop, "apply", "-f", "-", "--dry-run")
		if code != Done || !strings.Contains(diff, "+ source web") || !strings.Contains(stderr, "dry run") {
			t.Errorf("dry run: exit %d, %s%s", code, diff, stderr)
		}
		code, again, _ := kith(shop, "apply", "-f", "-")
		if code != Done || again != diff {
			t.Errorf("apply: exit %d, %s\nwant what the dry run said: %s", code, again, diff)
		}
		if code, out, stderr := kith(shop, "apply", "-f", "-"); code != Done || out != "" || !strings.Contains(stderr, "nothing differs") {
			t.Errorf("second apply: exit %d, %s%s", code, out, stderr)
		}
		code, file, _ := kith("", "export")
		if code != Done || !strings.Contains(file, "shop-write-key") || strings.Contains(file, "very-secret") {
			t.Errorf("export: exit %d, %s", code, file)
		}
		if code, out, _ := kith("", "export", "--json"); code != Done || !json.Valid([]byte(out)) {
			t.Errorf("export --json: exit %d, %s", code, out)
		}
		if code, _, stderr := kith("sources: 5", "apply", "-f", "-"); code != Failed || !strings.Contains(stderr, "sources") {
			t.Errorf("a wrong file: exit %d, %s", code, stderr)
		}
		if code, _, _ := kith("", "apply"); code != Wrong {
			t.Errorf("no file: exit %d", code)
		}
	})
}

func TestProfileAndAudience(t *testing.T) {
	t.Setenv("CRM_SECRET", "very-secret")
	at(t, func(kith func(string, ...string) (int, string, string), server *client.Client) {
		if code, out, stderr := kith("", "audience"); code != Done || out != "" || !strings.Contains(stderr, "no audiences") {
			t.Errorf("no audiences: exit %d, %s%s", code, out, stderr)
		}
		if code, _, stderr := kith(shop, "apply", "-f", "-"); code != Done {
			t.Fatal(stderr)
		}
		for call, body := range map[string]string{
			"identify": `{"userId":"u1","anonymousId":"a1","traits":{"email":"jo@example.com"}}`,
			"track":    `{"userId":"u1","event":"Order Completed","properties":{"revenue":12.50}}`,
		} {
			if err := server.Send(t.Context(), "shop-write-key", call, json.RawMessage(body)); err != nil {
				t.Fatal(err)
			}
		}
		settle(t, server)

		code, out, stderr := kith("", "profile", "email:jo@example.com")
		if code != Done {
			t.Fatal(stderr)
		}
		for _, want := range []string{"user_id", "anonymous_id", `"jo@example.com"`, "buyers", "true", "Order Completed", `12.50`} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in\n%s", want, out)
			}
		}
		code, out, _ = kith("", "profile", "user_id:u1", "--json")
		var p shownProfile
		if err := json.Unmarshal([]byte(out), &p); err != nil || code != Done {
			t.Fatal(code, err)
		}
		if len(p.Identifiers) != 3 || string(p.Audiences["buyers"]) != "true" || p.Traits["buyers"] != nil || len(p.Events) != 1 {
			t.Errorf("%+v", p)
		}
		if code, _, stderr := kith("", "profile", "user_id:nobody"); code != Failed || !strings.Contains(stderr, "user_id:nobody") {
			t.Errorf("nobody: exit %d, %s", code, stderr)
		}

		if code, out, _ := kith("", "audience"); code != Done || !strings.Contains(out, "buyers  1        Live") {
			t.Errorf("audiences: exit %d\n%s", code, out)
		}
		if code, out, _ := kith("", "audience", "--json"); code != Done || !strings.Contains(out, ">= 1") {
			t.Errorf("audiences as JSON: exit %d\n%s", code, out)
		}
		if code, out, _ := kith("", "audience", "buyers"); code != Done || !strings.Contains(out, "use_") || !strings.Contains(out, "members: 1") {
			t.Errorf("audience: exit %d\n%s", code, out)
		}
		if code, _, stderr := kith("", "audience", "sellers"); code != Failed || !strings.Contains(stderr, "kith audience") {
			t.Errorf("no such audience: exit %d, %s", code, stderr)
		}
		if code, _, stderr := kith("", "profile", "user_id:u1", "--space", "moon"); code != Failed || !strings.Contains(stderr, "moon") {
			t.Errorf("no such space: exit %d, %s", code, stderr)
		}
	})
}

func TestAudienceListKeepsQueriesOnOneLine(t *testing.T) {
	at(t, func(kith func(string, ...string) (int, string, string), _ *client.Client) {
		const file = "audiences:\n  - name: Buyers\n    definition:\n      query: |\n        event('Order Completed').count() >= 1\n        AND trait('plan') = 'gold'\n"
		if code, _, stderr := kith(file, "apply", "-f", "-"); code != Done {
			t.Fatal(stderr)
		}
		if _, stdout, _ := kith("", "audience"); strings.Count(stdout, "\n") != 2 || !strings.Contains(stdout, ">= 1 AND trait") {
			t.Errorf("listed as\n%s", stdout)
		}
	})
}

func TestTail(t *testing.T) {
	t.Setenv("CRM_SECRET", "very-secret")
	at(t, func(kith func(string, ...string) (int, string, string), server *client.Client) {
		if code, _, stderr := kith(shop, "apply", "-f", "-"); code != Done {
			t.Fatal(stderr)
		}
		if err := server.Send(t.Context(), "shop-write-key", "track", json.RawMessage(`{"userId":"u1","event":"Order Completed"}`)); err != nil {
			t.Fatal(err)
		}
		if err := server.Send(t.Context(), "shop-write-key", "track", json.RawMessage(`{"event":"Nobody's"}`)); err != nil {
			t.Fatal(err)
		}
		settle(t, server)
		// tail watches until all the texts have come, in whatever order.
		tail := func(texts []string, args ...string) string {
			p, _, _ := program()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			out := &watched{texts: texts, seen: cancel}
			p.Stdout = out
			stderr := &bytes.Buffer{}
			p.Stderr = stderr
			if code := p.Run(ctx, append(args, "--server", server.Base(), "--token", "shop-token")); code != Done {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			return out.String()
		}
		wants := []string{"accepted   web", "rejected   web", "admitted   web", "track Order Completed", "user_id:u1", "no_user_anon_id", "profile created"}
		text := tail(wants, "tail")
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing in\n%s", want, text)
			}
		}
		// What senders write must not steer the terminal.
		if err := server.Send(t.Context(), "shop-write-key", "track", json.RawMessage(`{"userId":"u1","event":"Evil\u001b]52;c;eA==\u0007\u202eend","properties":{"x":"\u009b2J`+"\u009b"+`"}}`)); err != nil {
			t.Fatal(err)
		}
		settle(t, server)
		_, events, _ := kith("", "profile", "user_id:u1")
		for _, text := range []string{tail([]string{"Evil"}, "tail", "--body", "--stage", "accepted"), events} {
			if !strings.Contains(text, "Evil\uFFFD]52;c;eA==\uFFFD\uFFFDend") || strings.ContainsAny(text, "\x1b\x07\u009b\u202e") {
				t.Errorf("shown as %q", text)
			}
		}
		// A source that is added while tail runs has a slug, one that is gone its id.
		names, err := slugs(t.Context(), server)
		if err != nil {
			t.Fatal(err)
		}
		var added struct{ Source struct{ ID string } }
		if err := server.Call(t.Context(), "POST", "/sources", map[string]string{"slug": "till", "metadataId": "http-api"}, &added); err != nil {
			t.Fatal(err)
		}
		names.learn(t.Context(), server, added.Source.ID, "", "gone")
		if names[added.Source.ID] != "till" || names["gone"] != "gone" {
			t.Errorf("names are %v", names)
		}
		line, _, _ := strings.Cut(tail([]string{"Order Completed"}, "tail", "--json", "--stage", "admitted", "--source", "web"), "\n")
		var item struct{ Stage, Name string }
		if err := json.Unmarshal([]byte(line), &item); err != nil || item.Stage != "admitted" || item.Name != "Order Completed" {
			t.Errorf("%s: %v", line, err)
		}
		if code, _, stderr := kith("", "tail", "--stage", "moon"); code != Wrong || !strings.Contains(stderr, "accepted, rejected") {
			t.Errorf("no such stage: exit %d, %s", code, stderr)
		}
		if code, _, stderr := kith("", "tail", "--source", "moon"); code != Failed || !strings.Contains(stderr, "moon") {
			t.Errorf("no such source: exit %d, %s", code, stderr)
		}
	})
}

func TestServerIsFoundAndItsTokenToo(t *testing.T) {
	p, _, stderr := program()
	if code := p.Run(t.Context(), []string{"export", "--server", "http://127.0.0.1:1"}); code != Failed || !strings.Contains(stderr.String(), "kith serve") {
		t.Errorf("no server: exit %d, %s", code, stderr)
	}
	p, _, stderr = program()
	if code := p.Run(t.Context(), []string{"export", "--server", "here"}); code != Wrong {
		t.Errorf("no URL: exit %d, %s", code, stderr)
	}
	at(t, func(_ func(string, ...string) (int, string, string), server *client.Client) {
		dir := t.TempDir()
		p, _, stderr := program()
		if code := p.Run(t.Context(), []string{"export", "--server", server.Base(), "--data", dir}); code != Failed || !strings.Contains(stderr.String(), "KITH_ADMIN_TOKEN") {
			t.Errorf("no token: exit %d, %s", code, stderr)
		}
		if err := os.WriteFile(filepath.Join(dir, "admin-token"), []byte("shop-token\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("KITH_URL", server.Base())
		p, stdout, stderr := program()
		if code := p.Run(t.Context(), []string{"export", "--data", dir}); code != Done || !strings.Contains(stdout.String(), "default") {
			t.Errorf("the token of the data directory: exit %d, %s%s", code, stdout, stderr)
		}
	})
}

const visit = `workspace shop.yaml
source web
event track "Order Completed" userId=u1
expect audience buyers user_id:u1 in
`

func TestScripts(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("shop.yaml", shop)
	good := write("good.kith", visit)
	bad := write("bad.kith", visit+"expect audience buyers user_id:u1 out\n")
	wrong := write("wrong.kith", "expect miracles\n")

	p, stdout, stderr := program()
	if code := p.Run(t.Context(), []string{"test", good}); code != Done || !strings.HasPrefix(stdout.String(), "ok    "+good) {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	p, stdout, _ = program()
	if code := p.Run(t.Context(), []string{"test", good, bad}); code != Failed || !strings.Contains(stdout.String(), bad+":5:") || !strings.Contains(stdout.String(), "FAIL  "+bad) {
		t.Errorf("exit %d: %s", code, stdout)
	}
	p, stdout, _ = program()
	if code := p.Run(t.Context(), []string{"test", "--json", bad}); code != Failed || !strings.Contains(stdout.String(), `"ok":false`) {
		t.Errorf("exit %d: %s", code, stdout)
	}
	p, _, stderr = program()
	if code := p.Run(t.Context(), []string{"test", filepath.Join(dir, "none.kith")}); code != Wrong || !strings.Contains(stderr.String(), "none.kith") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	p, _, stderr = program()
	if code := p.Run(t.Context(), []string{"test", wrong}); code != Wrong || !strings.Contains(stderr.String(), wrong+":1:") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestScriptsLeaveServersWithAnOrdinaryClockAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "visit.kith")
	for name, text := range map[string]string{"shop.yaml": shop, "visit.kith": visit} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, _, _ := program()
	cfg := p.Memory
	cfg.Listen, cfg.AdminToken, cfg.Logger, cfg.Notes = "127.0.0.1:0", "shop-token", slog.New(slog.DiscardHandler), io.Discard
	err := running(t.Context(), cfg, func(base string) error {
		t.Setenv("KITH_URL", base)
		t.Setenv("KITH_ADMIN_TOKEN", "shop-token")
		p, stdout, _ := program()
		if code := p.Run(t.Context(), []string{"test", file}); code != Failed || !strings.Contains(stdout.String(), "--test-clock") {
			t.Errorf("exit %d: %s", code, stdout)
		}
		server, err := client.New(base, "shop-token", nil)
		if err != nil {
			return err
		}
		sources, err := server.Slugs(t.Context(), "sources")
		if len(sources) > 0 {
			t.Errorf("the script has declared %v", sources)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The token in ./kith-data is for servers of this machine; that of a directory
// somebody names is for the server they name.
func TestTokenIsNotSentToStrangers(t *testing.T) {
	for _, c := range []struct {
		server, data string
		want         bool
	}{
		{"http://127.0.0.1:8080", "./kith-data", true},
		{"https://localhost:8080", "kith-data", true},
		{"http://[::1]:8080", "./kith-data", true},
		{"https://events.example.com", "./kith-data", false},
		{"http://127.0.0.1.example.com", "./kith-data", false},
		{"http://192.0.2.7:8080", "kith-data/", false},
		{"://", "./kith-data", false},
		{"https://events.example.com", "/srv/kith", true},
	} {
		if got := (&remote{Server: c.server, Data: c.data}).local(); got != c.want {
			t.Errorf("%s with --data %s: %v, want %v", c.server, c.data, got, c.want)
		}
	}
}
