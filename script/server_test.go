package script

import (
	"strings"
	"testing"
)

func TestWebhooksDeliverToTheScript(t *testing.T) {
	s := NewServer(nil, &Receiver{}, "http://127.0.0.1:4711/", nil)
	got, err := s.redirect([]byte(`# kept
name: X
destinations:
  - slug: a b
    metadataId: webhook
    settings:
      url: "${SOMEWHERE}/x" # gone
      batch: {size: 5}
  - slug: other
    metadataId: something
    settings: {url: "https://example.com/"}
  - {slug: c, metadataId: webhook, settings: {url: https://example.com/c, headers: {A: "1"}}}
  - {slug: d, metadataId: webhook, settings: {}}
trackingPlans:
  - slug: p
    rules:
      - {type: TRACK, key: E, version: 1, jsonSchema: {properties: {n: {maximum: 640.50}}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`url: "http://127.0.0.1:4711/a%20b"`, `url: "http://127.0.0.1:4711/c"`, `"https://example.com/"`, "640.50", "batch: {size: 5}", `{A: "1"}`} {
		if !strings.Contains(got, want) {
			t.Errorf("the file lacks %s:\n%s", want, got)
		}
	}
	if strings.Contains(got, "SOMEWHERE") || strings.Contains(got, "example.com/c") {
		t.Errorf("a URL was left:\n%s", got)
	}
	if _, err := s.redirect([]byte("destinations: [")); err == nil || !strings.Contains(err.Error(), "workspace file cannot be read") {
		t.Errorf("a broken file: %v", err)
	}
}
