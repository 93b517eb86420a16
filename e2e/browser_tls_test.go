package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"kith/script"
)

// TestBrowserTLS has Chromium talk to Kith itself over https, with the
// certificate that --tls-dev makes and a snippet as kith snippet prints it.
func TestBrowserTLS(t *testing.T) {
	t.Parallel()
	needs(t, lackBrowser())
	sink := &script.Receiver{}
	hook := httptest.NewServer(sink)
	defer hook.Close()
	dir := t.TempDir()
	p, err := start(t.Context(), dir, "--data", "data", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8", "--tls-dev")
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	if !strings.HasPrefix(p.base, "https://") {
		t.Fatalf("it listens on %s", p.base)
	}
	kith := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, append(args, "--server", p.base)...)
		cmd.Env = append(os.Environ(), "KITH_ADMIN_TOKEN="+adminToken, "SSL_CERT_FILE="+filepath.Join(dir, "data", "tls-dev", "ca.pem"))
		cmd.Stderr = p.log
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kith %s: %v\n%s", args[0], err, p.log)
		}
		return string(out)
	}
	file := filepath.Join(dir, "workspace.yaml")
	text := fmt.Sprintf("name: Web\nslug: web\nsources:\n  - {slug: site, name: Site, writeKeys: [site-write-key]}\n"+
		"destinations:\n  - {slug: all, name: All, metadataId: webhook, source: site, settings: {url: %q}}\n", hook.URL+"/all")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	kith("apply", "-f", file)
	snippet := kith("snippet", "--source", "site")
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html>\n<html><head><title>Shop</title>\n%s</head></html>\n", snippet)
	}))
	defer shop.Close()

	tab := startChromium(t).open(t)
	tab.visit(shop.URL)
	tab.run(ready+`await analytics.track('Secured');`, nil)
	v := visitor{T: t, tab: tab}
	if err := v.until(func() error {
		names := map[string]int{}
		for _, e := range sink.Delivered("all") {
			names[gjson.GetBytes(e, "type").String()+" "+gjson.GetBytes(e, "event").String()]++
		}
		if len(names) != 2 || names["page "] != 1 || names["track Secured"] != 1 {
			return fmt.Errorf("there arrived %v", names)
		}
		return nil
	}); err != nil {
		t.Fatalf("%v\nconsole: %q", err, tab.console())
	}
	for _, r := range tab.requests() {
		if !strings.HasPrefix(r.URL, p.base+"/") && !strings.HasPrefix(r.URL, shop.URL+"/") {
			t.Errorf("the page asks %s %s", r.Method, r.URL)
		}
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}
