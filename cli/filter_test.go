package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestPrintPreview compares the text of a preview with a good one.
func TestPrintPreview(t *testing.T) {
	var p filterPreview
	if err := json.Unmarshal([]byte(`{"condition":"event = 'Heartbeat'","looked":40,"matched":3,"profiles":1,"oldest":"2026-03-01T09:00:00.000Z",
		"names":[{"type":"track","event":"Heartbeat","count":2},{"type":"identify","count":1}],
		"samples":[{"messageId":"m-1","type":"track","event":"Heartbeat","source":"locks","receivedAt":"2026-03-01T09:00:02.000Z","profileId":"use_1"},
		{"messageId":"m-2","type":"identify","source":"locks","receivedAt":"2026-03-01T09:00:01.000Z"}]}`), &p); err != nil {
		t.Fatal(err)
	}
	want := `event = 'Heartbeat'

3 of the newest 40 events match (7.5%). Profiles that they belong to: 1. Looked back to 2026-03-01T09:00:00.000Z.

  2  track Heartbeat
  1  identify

  2026-03-01T09:00:02.000Z  track Heartbeat  locks  m-1  use_1
  2026-03-01T09:00:01.000Z  identify         locks  m-2  nobody's
`
	var out strings.Builder
	if err := printPreview(&out, &p); err != nil || out.String() != want {
		t.Errorf("got\n%s\nwant\n%s%v", out.String(), want, err)
	}
	out.Reset()
	if err := printPreview(&out, &filterPreview{}); err != nil || !strings.Contains(out.String(), "no events yet") {
		t.Errorf("got %s %v", out.String(), err)
	}
}
