package collect_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/collect"
	"kith/event"
	"kith/fault"
)

func TestCallsFromInside(t *testing.T) {
	f := newFront(t, nil)
	source := someWorkspace().s.Source("src_web")
	calls := []string{
		`{"type":"identify","messageId":"i-1","traits":{"email":"ann@example.com"}}`,
		`{"type":"identify","messageId":"i-2","traits":{"note":"` + strings.Repeat("x", 32<<10) + `"}}`,
		`{"type":"identify","messageId":"i-3","userId":"u","timestamp":"2026-01-01T00:00:00Z","traits":{}}`,
		`{"type":"identify","messageId":"` + strings.Repeat("i", 101) + `","userId":"u"}`,
	}
	refusedWant := []collect.Refused{
		{Index: 1, Code: "event_too_large"},
		{Index: 3, Code: "message_id_too_long", Field: "messageId"},
	}
	judge := func(dry bool) {
		t.Helper()
		refused, err := f.TakeCalls(t.Context(), source, calls, dry)
		if err != nil {
			t.Fatal(err)
		}
		for i := range refused {
			if refused[i].Message == "" {
				t.Errorf("no message in %+v", refused[i])
			}
			refused[i].Message = ""
		}
		if diff := cmp.Diff(refusedWant, refused); diff != "" {
			t.Errorf("refused (-want +got):\n%s", diff)
		}
	}

	judge(true)
	if records, told := f.stored(t), f.rejected.take(); len(records)+len(told) > 0 {
		t.Errorf("a dry run stored %v and told %+v", bodies(records), told)
	}
	judge(false)
	records := f.stored(t)
	want := []string{
		`{"type":"identify","messageId":"i-1","traits":{"email":"ann@example.com"},` + tail,
		`{"type":"identify","messageId":"i-3","userId":"u","originalTimestamp":"2026-01-01T00:00:00Z","timestamp":"2026-01-01T00:00:00.000Z","traits":{},"receivedAt":"` + stamp + `"}`,
	}
	if diff := cmp.Diff(want, bodies(records)); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if ids := records[0].IDs; len(ids) != 1 || ids[0] != (event.Identifier{Collection: event.Users, Type: "email", Value: "ann@example.com"}) {
		t.Errorf("identifiers %v", ids)
	}
	var codes []string
	for _, x := range f.rejected.take() {
		codes = append(codes, x.Code)
		if x.SourceID != "src_web" || x.Type != "identify" || x.Count != 1 {
			t.Errorf("rejection %+v", x)
		}
	}
	if diff := cmp.Diff([]string{"event_too_large", "message_id_too_long"}, codes); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}

	if _, err := f.TakeCalls(t.Context(), someWorkspace().s.Source("src_off"), calls, false); !fault.Is(err, fault.Conflict) {
		t.Errorf("a disabled source: %v", err)
	}
	if _, err := f.TakeCalls(t.Context(), someWorkspace().s.Source("src_lost"), calls, false); !fault.Is(err, fault.NotFound) {
		t.Errorf("a source without a space: %v", err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.TakeCalls(t.Context(), source, calls, false); !fault.Is(err, fault.Unavailable) {
		t.Errorf("after Close: %v", err)
	}
}

// TestCallsFromInsideWait fills the room that requests share.
func TestCallsFromInsideWait(t *testing.T) {
	f := newFront(t, func(c *collect.Config) { c.Limits.InflightBytes = 1000 })
	call := `{"type":"identify","messageId":"i-1","userId":"u","traits":{"note":"` + strings.Repeat("x", 1000) + `"}}`
	if _, err := f.TakeCalls(t.Context(), someWorkspace().s.Source("src_web"), []string{call}, false); !fault.Is(err, fault.RetryAfter) {
		t.Errorf("got %v", err)
	}
	if got := f.stored(t); len(got) > 0 {
		t.Errorf("stored %v", bodies(got))
	}
}
