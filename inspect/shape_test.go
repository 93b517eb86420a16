package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"kith/event"
)

// naive is what a call holds, found the plain way: its paths with their types,
// each once.
func naive(t event.Type, body []byte) []string {
	var call map[string]any
	if json.Unmarshal(body, &call) != nil {
		return nil
	}
	found := map[string]bool{}
	var value func(path string, v any)
	value = func(path string, v any) {
		kind := "number"
		switch v := v.(type) {
		case nil:
			kind = "null"
		case string:
			kind = "string"
		case bool:
			kind = "boolean"
		case []any:
			kind = "array"
			for _, item := range v {
				value(path+".$", item)
			}
		case map[string]any:
			kind = "object"
			for name, m := range v {
				value(path+"."+escapeName(name), m)
			}
		}
		found[path+" "+kind] = true
	}
	names := []string{"context"}
	switch t {
	case event.Track, event.Page, event.Screen:
		names = append(names, "properties")
	case event.Identify, event.Group:
		names = append(names, "traits")
	}
	for _, name := range names {
		members, _ := call[name].(map[string]any)
		for m, v := range members {
			value(name+"."+escapeName(m), v)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func visited(t event.Type, body []byte) []string {
	names := map[section]string{inProperties: "properties", inTraits: "traits", inContext: "context"}
	found := map[string]bool{}
	visit(t, body, func(s section, path string, v gjson.Result) {
		found[fmt.Sprintf("%s.%s %s", names[s], path, typeOf(v.Raw[0]))] = true
	})
	return slices.Sorted(maps.Keys(found))
}

func outlined(t event.Type, body []byte) (shape, version string) {
	o := &outline{}
	o.call(t, body)
	return string(o.shape), string(o.version)
}

var calls = []string{
	`{"type":"track","event":"E","properties":{"a":1,"b":"x\"}","c":[1,"2",null],"d":{"e":{"f":true}}},"context":{"app":{"version":"1.2"},"ip":"::1"}}`,
	`{"properties":{"a.b":1,"a":{"b":2},"x\\y":"","\u0061b":[]},"traits":{"t":1}}`,
	`{"properties":{"list":[{"p":1,"q":"x"},{"p":2,"q":"y"},{"p":null},[],[[{"r":{}}]]]},"context":{"app":{"version":7},"app2":{"version":"no"}}}`,
	` { "integrations" : { "All" : [ "}" ] } , "properties" : { "a" : [ ] , "b" : { } , "c" : -1.5e3 , "d" : false } , "messageId" : "\\" } `,
	`{"properties":[1],"traits":"x","context":null}`,
	`{}`,
}

func TestVisitFindsWhatIsThere(t *testing.T) {
	for _, body := range calls {
		for _, typ := range []event.Type{event.Track, event.Identify, event.Alias} {
			if got, want := visited(typ, []byte(body)), naive(typ, []byte(body)); !slices.Equal(got, want) {
				t.Errorf("%s %s:\n%v, want\n%v", typ, body, got, want)
			}
		}
	}
}

func TestOutlineTellsShapesApart(t *testing.T) {
	same := [][2]string{
		{`{"properties":{"a":1,"b":"x"}}`, `{ "messageId":"{" , "properties" : {"a": 25.0, "b":"longer \" {"} }`},
		{`{"properties":{"a":[{"p":1},{"p":2},{"p":3}]}}`, `{"properties":{"a":[{"p":5}]}}`},
		{`{"properties":{"a":["x",1,"y",2]}}`, `{"properties":{"a":["x",1]}}`},
	}
	for _, pair := range same {
		a, _ := outlined(event.Track, []byte(pair[0]))
		if b, _ := outlined(event.Track, []byte(pair[1])); a != b {
			t.Errorf("%s and %s: %q and %q", pair[0], pair[1], a, b)
		}
	}
	all := map[string]string{}
	for _, body := range []string{
		`{"properties":{"a":1}}`, `{"properties":{"a":"1"}}`, `{"properties":{"a":null}}`, `{"properties":{"a":true}}`, `{"properties":{"a":{}}}`,
		`{"properties":{"a":[]}}`, `{"properties":{"a":[1]}}`, `{"properties":{"a":[[1]]}}`, `{"properties":{"ab":1}}`, `{"context":{"a":1}}`,
		`{"properties":{"a":{"b":1}}}`, `{"properties":{"a":{},"b":1}}`, `{"properties":{"a":1},"context":{}}`, `{}`,
	} {
		shape, _ := outlined(event.Track, []byte(body))
		if other, ok := all[shape]; ok {
			t.Errorf("%s and %s have one outline", other, body)
		}
		all[shape] = body
	}
	if _, v := outlined(event.Page, []byte(calls[0])); v != `"1.2"` {
		t.Errorf("app version %s", v)
	}
	if _, v := outlined(event.Page, []byte(calls[2])); v != "" {
		t.Errorf("app version %s", v)
	}
}

// FuzzOutline holds both ways of reading a call to the plain one: calls of one
// outline hold the same, and whatever comes, nothing is read beyond its end.
func FuzzOutline(f *testing.F) {
	for _, a := range calls {
		f.Add([]byte(a), []byte(calls[0]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		outlined(event.Track, a) // whatever it is, it stays within a
		outlined(event.Track, b)
		for _, body := range [][]byte{a, b} {
			if _, err := event.CheckJSON(body); err != nil {
				return
			}
		}
		a, b = bytes.ToValidUTF8(event.LastWins(a), []byte("?")), bytes.ToValidUTF8(event.LastWins(b), []byte("?"))
		if got, want := visited(event.Track, a), naive(event.Track, a); !slices.Equal(got, want) && !strings.Contains(string(a), `\u`) {
			t.Fatalf("%s:\n%v, want\n%v", a, got, want)
		}
		shapeA, _ := outlined(event.Track, a)
		shapeB, _ := outlined(event.Track, b)
		if shapeA == shapeB && !slices.Equal(naive(event.Track, a), naive(event.Track, b)) {
			t.Fatalf("%s and %s have the outline %q", a, b, shapeA)
		}
	})
}

func TestSamples(t *testing.T) {
	for body, want := range map[string]string{
		`"x"`: "x", `1.50`: "1.50", `true`: "true", `null`: "", `{}`: "", `""`: "",
		`"` + strings.Repeat("é", 100) + `"`: strings.Repeat("é", 60) + "…",
	} {
		if got, ok := sampleOf(gjson.Parse(body)); got != want || ok != (want != "") {
			t.Errorf("%s gives %q, %v", body, got, ok)
		}
	}
}

func BenchmarkOutline(b *testing.B) {
	body := []byte(sampleCall(1, 0))
	o := &outline{}
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		o.shape = o.shape[:0]
		o.call(event.Track, body)
	}
}

// sampleCall is a call of about 1 KB, as a browser sends it.
func sampleCall(n, user int) string {
	return fmt.Sprintf(`{"type":"track","event":"Booking Completed","messageId":"ajs-next-1700000000000-6f1c4a52-0df5-4f0e-9df4-%012d",`+
		`"anonymousId":"0b9a0d0e-7a3c-4f0e-8e31-%012d","userId":"guest-%d","timestamp":"2026-01-02T03:04:05.678Z","sentAt":"2026-01-02T03:04:05.900Z",`+
		`"receivedAt":"2026-01-02T03:04:06.001Z","originalTimestamp":"2026-01-02T03:04:05.600Z",`+
		`"properties":{"booking_id":"b-%d","hotel":"Harbour House","city":"Lisbon","nights":3,"revenue":1280.5,"currency":"EUR","breakfast":true,`+
		`"rooms":[{"type":"double","price":420.5},{"type":"suite","price":860}]},`+
		`"context":{"page":{"path":"/book/confirm","referrer":"https://www.example.com/search","search":"?q=lisbon","title":"Your booking","url":"https://www.example.com/book/confirm"},`+
		`"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36","locale":"pt-PT",`+
		`"library":{"name":"analytics.js","version":"npm:next-1.60.0"},"timezone":"Europe/Lisbon","app":{"version":"4.%d.0"},"campaign":{"source":"news","medium":"mail"},"ip":"192.0.2.7"},`+
		`"integrations":{"All":true}}`, n, user, user, n, n%3)
}
