package profile

import (
	"bytes"
	"encoding/json"
	"testing"
)

// standard is what encoding/json makes of a page.
func standard(t *testing.T, page *TraitsPage) string {
	t.Helper()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(page); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSuffix(out.Bytes(), []byte("\n")))
}

func TestTraitsPageIsWrittenAsJSON(t *testing.T) {
	for _, page := range []*TraitsPage{
		{},
		{Traits: map[string]json.RawMessage{}, Cursor: Cursor{Limit: -1}},
		{Traits: map[string]json.RawMessage{"b": json.RawMessage("true"), "a": json.RawMessage(`"x"`), "null": nil, "": json.RawMessage("1.50e3")},
			Cursor: Cursor{URL: "/v1/spaces/a%20b/x", HasMore: true, Next: "nächste \"<&>\\\u2028\x00\x7f\xff", Limit: 200}},
		{Traits: map[string]json.RawMessage{
			"spaces": json.RawMessage(" { \"a\" :\t[ 1 , \"b  c\" ]\r\n} "), "html": json.RawMessage(`"<b>&amp;"`), "both": json.RawMessage(`"<b> &amp;"`),
			"sep": json.RawMessage("\"a\u2028b c\""), "escaped": json.RawMessage(`"\u00e4\/ \ud83d"`), "ü\"<\x01": json.RawMessage(`[]`), "bad\xff": json.RawMessage("\"\xff\""),
		}},
	} {
		got, err := page.AppendJSON([]byte("before "))
		if want := "before " + standard(t, page); err != nil || string(got) != want {
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
	}
	if _, err := (&TraitsPage{Traits: map[string]json.RawMessage{"a": json.RawMessage("")}}).AppendJSON(nil); err == nil {
		t.Error("a value that is none is written")
	}
}

func FuzzTraitsPageJSON(f *testing.F) {
	f.Add("name", `"value"`, "next")
	f.Add("n\u2028<", "{\"a\": [1, \"\u2028 <\"]}", "\xff")
	f.Fuzz(func(t *testing.T, name, value, next string) {
		if !json.Valid([]byte(value)) {
			t.Skip() // traits are read before they are stored
		}
		page := &TraitsPage{Traits: map[string]json.RawMessage{name: json.RawMessage(value), name + "2": json.RawMessage(`true`)}, Cursor: Cursor{URL: name, Next: next, Limit: len(value)}}
		got, err := page.AppendJSON(nil)
		if want := standard(t, page); err != nil || string(got) != want {
			t.Errorf("%v\n got %s\nwant %s", err, got, want)
		}
	})
}
