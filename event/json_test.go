package event

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"kith/fault"
)

func TestCheckJSON(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := []struct {
		json     string
		why      string // in the error; empty: valid
		repeated bool
	}{
		{json: `{}`}, {json: ` [ ] `}, {json: `null`}, {json: `true`}, {json: `false`}, {json: `"x"`},
		{json: `{"a":1,"b":{"a":2},"c":[{"a":1},{"a":1}]}`},
		{json: `{"a":1,"a":2}`, repeated: true},
		{json: `[[{"x":{"b":1,"c":[{"d":1}],"b":1}}]]`, repeated: true},
		{json: `{"a":1,"\u0061":2}`, repeated: true},
		{json: `{"caf\u00e9":1}`, repeated: true}, // escapes are left to LastWins
		{json: `-0.5e+10`}, {json: `0`}, {json: `1E3`}, {json: "\t\r\n 1 "},
		{json: `"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"`},
		{json: deep(MaxDepth)},
		{json: deep(MaxDepth + 1), why: "byte 200: it nests too deep"},
		{json: strings.Repeat("[", 1<<20), why: "too deep"},
		{json: strings.Repeat(`{"a":`, 1<<20), why: "too deep"},
		{json: ``, why: "byte 0: it ends where a value should be"},
		{json: `{`, why: "want a key"}, {json: `{"a"`, why: "want a colon"}, {json: `{"a":`, why: "ends where a value"},
		{json: `{"a":1`, why: "not closed"}, {json: `{"a":1,}`, why: "want a key"}, {json: `[1,]`, why: "no value begins"},
		{json: `{"a":1]`, why: "want a comma"}, {json: `[1}`, why: "want a comma"}, {json: `{a:1}`, why: "want a key"},
		{json: `{'a':1}`, why: "want a key"}, {json: `[1 2]`, why: "byte 3: want a comma"}, {json: `{} x`, why: "something follows"},
		{json: `01`, why: "something follows"}, {json: `-`, why: "want a digit"}, {json: `1.`, why: "decimal point"},
		{json: `1e`, why: "exponent"}, {json: `+1`, why: "no value"}, {json: `NaN`, why: "no value"}, {json: `nul`, why: "no value"},
		{json: `truex`, why: "something follows"},
		{json: "\"a\nb\"", why: "control character"}, {json: `"a`, why: "not closed"}, {json: `"a\`, why: "not closed"},
		{json: `"\x"`, why: "no such escape"}, {json: `"\u12g4"`, why: "hex digits"}, {json: `"\u12"`, why: "hex digits"},
		{json: "\"12345678\x0012345678\"", why: "byte 9: a control character"},
		{json: "\ufeff{}", why: "no value"},
	}
	for _, tt := range tests {
		repeated, err := CheckJSON([]byte(tt.json))
		name := tt.json[:min(len(tt.json), 40)]
		if tt.why == "" {
			if err != nil || repeated != tt.repeated {
				t.Errorf("CheckJSON(%s) = %v, %v; want %v", name, repeated, err, tt.repeated)
			}
			continue
		}
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("CheckJSON(%s) = %v; want an Invalid error with %q", name, err, tt.why)
		}
	}
}

func TestLastWins(t *testing.T) {
	tests := []struct{ in, want string }{
		{`{"a":1}`, `{"a":1}`},
		{`{"a":1,"a":2}`, `{"a":2}`},
		{`{"a":1, "b":2, "a":3}`, `{"b":2, "a":3}`},
		{`{"a":1,"a":2,"a":3}`, `{"a":3}`},
		{`{"a":{"x":1,"x":2},"b":"}","a":[{"y":1,"y":[1,2,{"z":0,"z":0}]}]}`, `{"b":"}","a":[{"y":[1,2,{"z":0}]}]}`},
		{`{"a":1,"\u0061":2}`, `{"\u0061":2}`},
		{`["a","a",{"a":"a","b":"a"}]`, `["a","a",{"a":"a","b":"a"}]`},
		{`[{"a":1},{"a":2}]`, `[{"a":1},{"a":2}]`},
		{`{"a,\"":{"a":1},"b":{"a":2},"a,\"":3}`, `{"b":{"a":2},"a,\"":3}`},
		{` "x" `, ` "x" `},
	}
	for _, tt := range tests {
		if got := string(LastWins([]byte(tt.in))); got != tt.want {
			t.Errorf("LastWins(%s) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

// A large object is not compared key by key.
func TestManyKeysAreLinear(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`{"k":0`)
	for i := range 50000 {
		b.WriteString(`,"k` + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + `":1`)
	}
	b.WriteString(`}`)
	repeated, err := CheckJSON(b.Bytes())
	if err != nil || !repeated {
		t.Fatalf("CheckJSON = %v, %v", repeated, err)
	}
	var got map[string]int
	if err := json.Unmarshal(LastWins(b.Bytes()), &got); err != nil || len(got) != 183 {
		t.Fatalf("%d keys, %v", len(got), err)
	}
}

func TestValidUTF8(t *testing.T) {
	for in, want := range map[string]string{"": "", "é": "é", "a\xff\xfeb": "a\uFFFDb", "\xc3": "\uFFFD"} {
		if got := string(ValidUTF8([]byte(in))); got != want {
			t.Errorf("ValidUTF8(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzCheckJSON holds CheckJSON to encoding/json, and LastWins to what
// encoding/json reads, which lets the last of two keys win.
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{"a":1,"a":{"b":[1,2.5e-7,"\u00e9",null,true]}}`, `[[[]]]`, `"\ud800"`, `{"":0,"":1}`, "\xff", `-0`, `1e5`,
		`{"a":{"a":1,"a":2},"b":0,"a":{"c":"\"}"}}`, `{"a":1,"\u0061":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		repeated, err := CheckJSON(b)
		if want := json.Valid(b); want != (err == nil) && !(want && strings.Contains(err.Error(), "too deep")) {
			t.Fatalf("CheckJSON: %v, encoding/json says %v", err, want)
		}
		if err != nil {
			return
		}
		b = ValidUTF8(b)
		one := LastWins(b)
		if !repeated && !bytes.Equal(one, b) {
			t.Fatalf("a repeated key was not noticed in %q", b)
		}
		if again := LastWins(one); !bytes.Equal(again, one) {
			t.Fatalf("LastWins(%q) = %q, and again %q", b, one, again)
		}
		var x, y any
		if json.Unmarshal(b, &x) != nil {
			return // numbers beyond a float64
		}
		if err := json.Unmarshal(one, &y); err != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("LastWins(%q) = %q: %v", b, one, err)
		}
	})
}

func BenchmarkCheckJSON(b *testing.B) {
	body := []byte(`{"batch":[` + strings.Repeat(sample+",", 99) + sample + `]}`)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := CheckJSON(body); err != nil {
			b.Fatal(err)
		}
	}
}

const sample = `{"type":"track","event":"Booking Completed","userId":"guest-4711","anonymousId":"6f1c4a52-0df5-4f0e-9df4-1f4f5d3e1c11",` +
	`"messageId":"node-next-1700000000000-6f1c4a52-0df5-4f0e-9df4-1f4f5d3e1c11","timestamp":"2026-01-02T03:04:05.678Z",` +
	`"properties":{"booking_value":1280.5,"currency":"EUR","check_in_date":"2026-03-01","nights":4,"rooms":[{"type":"double","price":320.125}]},` +
	`"context":{"library":{"name":"@segment/analytics-node","version":"2.1.0"},"locale":"de-DE","traits":{"email":"ada@example.com"}},"integrations":{}}`
