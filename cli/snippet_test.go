package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"kith/client"
)

func TestSnippet(t *testing.T) {
	at(t, func(kith func(string, ...string) (int, string, string), server *client.Client) {
		if code, _, stderr := kith("", "snippet", "--source", "web"); code != Failed || !strings.Contains(stderr, "kith apply") {
			t.Errorf("without sources: exit %d, %s", code, stderr)
		}
		t.Setenv("CRM_SECRET", "very-secret")
		if code, _, stderr := kith(shop, "apply", "-f", "-"); code != Done {
			t.Fatalf("apply: exit %d, %s", code, stderr)
		}
		code, html, stderr := kith("", "snippet", "--source", "web")
		if code != Done || !strings.HasPrefix(html, "<script>\n") || !strings.Contains(html, `"shop-write-key", "`+server.Base()+`"`) {
			t.Errorf("exit %d, %s%s", code, html, stderr)
		}
		if !strings.Contains(stderr, "--public-url") {
			t.Errorf("nobody says that only this machine gets there: %s", stderr)
		}
		sources, err := server.Sources(t.Context())
		if err != nil || len(sources) != 1 || sources[0].Slug != "web" {
			t.Fatalf("sources: %+v, %v", sources, err)
		}
		var s client.Snippet
		code, text, _ := kith("", "snippet", "--source", sources[0].ID, "--json")
		if err := json.Unmarshal([]byte(text), &s); code != Done || err != nil || s.HTML != html || s.WriteKey != "shop-write-key" || s.Server != server.Base() {
			t.Errorf("exit %d, %v: %s", code, err, text)
		}
		if code, _, stderr := kith("", "snippet", "--source", "app"); code != Failed || !strings.Contains(stderr, "there are: web") {
			t.Errorf("another source: exit %d, %s", code, stderr)
		}
		if code, _, _ := kith("", "snippet"); code != Wrong {
			t.Errorf("without a source: exit %d", code)
		}
	})
}
