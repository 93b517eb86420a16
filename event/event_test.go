package event

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kith/fault"
)

func TestTypes(t *testing.T) {
	for _, typ := range []Type{Track, Identify, Page, Screen, Group, Alias} {
		if ParseType(typ.String()) != typ || typ.String() == "" {
			t.Errorf("%d is written %q and read as %d", typ, typ, ParseType(typ.String()))
		}
	}
	for _, s := range []string{"", "Track", "tracks", "none"} {
		if ParseType(s) != None {
			t.Errorf("%q is a call", s)
		}
	}
	if None.String() != "" || Type(99).String() != "" {
		t.Error("what is no call has a name")
	}
	for typ, want := range map[Type]string{Track: "n", Page: "Page Viewed", Screen: "Screen Viewed", Identify: "", Group: "", Alias: "", None: ""} {
		if got := Label(typ, "n"); got != want {
			t.Errorf("a %s call is labelled %q, want %q", typ, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	body := `{"type":"track","messageId":"m","userId":"u","anonymousId":"a","previousId":"p","groupId":"g","event":"E\u00e9","name":"n","category":"c",` +
		`"timestamp":"2026-01-02T03:04:05.678Z","receivedAt":"2026-01-02T05:04:06+02:00","properties":{"revenue":1e400,"a.b":1},"traits":{},"context":{"ip":"x"},"integrations":{"All":false},"_metadata":{}}`
	e, err := Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	want := &Event{
		Body: []byte(body), Type: Track, MessageID: "m", UserID: "u", AnonymousID: "a", PreviousID: "p", GroupID: "g", Event: "Eé", Name: "n", Category: "c",
		Timestamp: time.UnixMilli(1767323045678).UTC(), ReceivedAt: time.UnixMilli(1767323046000).UTC(),
		Properties: `{"revenue":1e400,"a.b":1}`, Traits: `{}`, Context: `{"ip":"x"}`, Integrations: `{"All":false}`,
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := e.Get(`properties.a\.b`).Raw; got != "1" {
		t.Errorf("properties a.b is %q", got)
	}
	if got := e.Get(`properties.revenue`).Raw; got != "1e400" {
		t.Errorf("the number is %q", got)
	}

	// What has the wrong type is not there.
	e, err = Parse([]byte(`{"type":7,"messageId":1,"userId":["u"],"event":{},"timestamp":"yesterday","properties":[],"traits":null,"context":"c"}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Event{Body: e.Body}, e); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// The last of two keys counts, however it is asked for.
	e, err = Parse([]byte(`{"event":"a","properties":{"x":1,"x":2},"event":"b"}`))
	if err != nil || e.Event != "b" || e.Get("event").Str != "b" || e.Get("properties.x").Raw != "2" {
		t.Errorf("repeated keys: %+v, %v", e, err)
	}

	for _, bad := range []string{``, `[]`, `"x"`, `7`, `{`, `{"a":1}{`, strings.Repeat(`[`, 1<<20)} {
		if _, err := Parse([]byte(bad)); !fault.Is(err, fault.Invalid) {
			t.Errorf("Parse(%.20s): %v", bad, err)
		}
	}
}

func TestParseTime(t *testing.T) {
	tests := []struct {
		in, want string // want is empty for what is no time
	}{
		{"2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678Z"},
		{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"},
		{"2026-01-02T03:04:05.6Z", "2026-01-02T03:04:05.600Z"},
		{"2026-01-02T05:04:05.678901+02:00", "2026-01-02T03:04:05.678Z"}, // python
		{"2026-01-02T03:04:05.6789012Z", "2026-01-02T03:04:05.678Z"},     // C#
		{"2026-01-02T03:04:05.678901234-00:30", "2026-01-02T03:34:05.678Z"},
		{"2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05.000Z"}, // php
		{"", ""}, {"2026-01-02", ""}, {"1767323045678", ""}, {"2026-13-02T03:04:05Z", ""}, {"2026-01-02T03:04:05", ""}, {"yesterday", ""},
	}
	for _, tt := range tests {
		got, ok := ParseTime(tt.in)
		if ok != (tt.want != "") || ok && FormatTime(got) != tt.want {
			t.Errorf("ParseTime(%q) = %v, %v; want %q", tt.in, got, ok, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(`{"type":"group","groupId":"g","context":{"device":{"type":"ios","id":"x"},"externalIds":[{"id":"1","type":"t","collection":"users","encoding":"none"}]}}`))
	f.Add([]byte(`{"a":{"b":[{}]},"a":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if !json.Valid(e.Body) {
			t.Fatalf("the body is %q", e.Body)
		}
		for _, raw := range []string{e.Properties, e.Traits, e.Context, e.Integrations} {
			if raw != "" && (raw[0] != '{' || !json.Valid([]byte(raw))) {
				t.Fatalf("a document is %q", raw)
			}
		}
		ids := StandardIdentifiers(e)
		for i, id := range ids {
			if id.Value == "" || len(id.Value) > MaxIdentifierBytes || id.Type == "" || i >= MaxIdentifiers {
				t.Fatalf("identifier %d is %q", i, id)
			}
		}
	})
}

func BenchmarkParseTrusted(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseTrusted([]byte(sample)); err != nil {
			b.Fatal(err)
		}
	}
}

// What is written by hand is what the layout of package time writes.
func TestAppendTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMilli(rapid.Int64Range(-62135596800000, 253402300799999+86400000).Draw(t, "ms")).In(time.FixedZone("", rapid.IntRange(-50000, 50000).Draw(t, "zone")))
		if got, want := FormatTime(at), at.UTC().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

func BenchmarkAppendTime(b *testing.B) {
	at, buf := time.Now(), make([]byte, 0, 32)
	for b.Loop() {
		buf = AppendTime(buf[:0], at)
	}
}
