package redact

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/event"
)

func id(kind, value string) event.Identifier {
	return event.Identifier{Collection: event.Users, Type: kind, Value: value}
}

func ada() *Set {
	return New([]event.Identifier{id("email", "ada@example.com"), id("user_id", "guest-4711"), id("user_id", "12"), id("loyalty", "00998877"), id("name", "Zoë-Ann")})
}

func TestJSON(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{`{"a":"ada@example.com"}`, `{"a":null}`},
		{`{"a":"Ada@Example.COM","b":"guest-4711"}`, `{"a":null,"b":null}`},
		{`{"a":"GUEST-4711"}`, `{"a":"GUEST-4711"}`}, // letter case counts
		{`{"a":"12","b":12}`, `{"a":"12","b":12}`},   // too short to mean anybody
		{`{"a":["x", "guest-4711" , 5]}`, `{"a":["x", null , 5]}`},
		{`{"loyalty":00998877,"b":1}`, `{"loyalty":null,"b":1}`},
		{`{"ada@example.com" : 1}`, `{"(erased)" : 1}`},
		{`{"a":"ada\u0040example.com"}`, `{"a":null}`},
		{`{"a":"\u0061da@example.com said \"hi\""}`, `{"a":"(erased) said \"hi\""}`},
		{`{"a":"Zo\u00eb-Ann"}`, `{"a":null}`},
		{`{"a":"Zoë-Ann"}`, `{"a":null}`},
		{`{"url":"/x?mail=ada@example.com&y=guest-4711"}`, `{"url":"/x?mail=(erased)\u0026y=(erased)"}`},
		{`{"a":"guest-47110 xguest-4711 guest-4711-b"}`, `{"a":"guest-47110 xguest-4711 guest-4711-b"}`},
		{`{"a":"ada@example.com.au x.ada@example.com, ada@example.com."}`, `{"a":"ada@example.com.au x.ada@example.com, (erased)."}`},
		{`{"a":"\\","b":"guest-4711"}`, `{"a":"\\","b":null}`},
		{`{"a":"no","b":{"c":[true,null,-1.5e3]}}`, `{"a":"no","b":{"c":[true,null,-1.5e3]}}`},
		{`"guest-4711"`, `null`},
		{`{"a":"unended guest-4711`, `{"a":"unended guest-4711`},
	} {
		got := string(ada().JSON([]byte(test.in), nil, nil))
		if strings.Contains(test.in, "unended") {
			continue // it must only not fall over
		}
		if got != test.want {
			t.Errorf("%s\n got %s\nwant %s", test.in, got, test.want)
		}
	}
	if got := string(ada().JSON([]byte(`{"userId":"12","n":12,"m":123}`), []string{"12"}, nil)); got != `{"userId":null,"n":null,"m":123}` {
		t.Errorf("a short value that is named: %s", got)
	}
	if got := string(ada().JSON([]byte(`{"room":"00998877","say":"room 00998877 of guest-4711"}`), nil, []string{"00998877"})); got != `{"room":"00998877","say":"room (erased) of (erased)"}` {
		t.Errorf("a value of the person's own: %s", got)
	}
}

func TestHead(t *testing.T) {
	h := event.Head{Name: "Mail ada@example.com", MessageID: "m-guest-4711", IDs: []event.Identifier{
		id("user_id", "12"), id("anonymous_id", "a1"), id("other", "ADA@example.com"), id("room", "guest-4711"),
	}}
	before := h.IDs
	own := ada().Own(&h)
	short, changed := ada().Head(&h)
	want := event.Head{Name: "Mail (erased)", MessageID: "m-guest-4711", IDs: []event.Identifier{id("anonymous_id", "a1"), id("room", "guest-4711")}}
	if diff := cmp.Diff(want, h); diff != "" || !changed {
		t.Error(diff)
	}
	if !cmp.Equal(short, []string{"12"}) || !cmp.Equal(own, []string{"guest-4711"}) {
		t.Errorf("short %v, own %v", short, own)
	}
	if len(before) != 4 || before[0] != id("user_id", "12") {
		t.Error("the identifiers that others may hold were changed")
	}
	if _, changed := (*Set)(nil).Head(&h); changed {
		t.Error("no set changed something")
	}
}

// TestFindsEverywhere puts a value at every place of a text, also at its very
// end, among so many others that the filter has much to do.
func TestFindsEverywhere(t *testing.T) {
	var ids []event.Identifier
	for i := range 5000 {
		ids = append(ids, id("email", fmt.Sprintf("guest%d@example.com", i)))
	}
	s := New(ids)
	for n := range 40 {
		for m := range 12 {
			text := strings.Repeat("-", 0) + strings.Repeat(" ", n) + "Guest4321@example.com" + strings.Repeat(" ", m)
			if !s.Stands([]byte(text)) {
				t.Errorf("not found behind %d bytes and before %d", n, m)
			}
			if got := s.Text(text); got != strings.Repeat(" ", n)+Erased+strings.Repeat(" ", m) {
				t.Errorf("%q", got)
			}
		}
	}
	if s.Stands([]byte("guest5000@example.com")) {
		t.Error("found what is not in the set")
	}
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"a":"ada@example.com","b":["guest-4711",{"c":"x guest-4711"}]}`, "12")
	f.Add(`{"a":"\u0061da@example.com"}`, "")
	f.Add(`[1,-2.5e+3,"",null]`, "1")
	f.Fuzz(func(t *testing.T, body, short string) {
		s := ada()
		var named []string
		if short != "" && len(short) < MinValue {
			named = append(named, short)
		}
		out := s.JSON([]byte(body), named, nil)
		if !json.Valid([]byte(body)) {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q", body, out)
		}
		if again := s.JSON(out, named, nil); string(again) != string(out) && short != "null" {
			t.Fatalf("%q became %q, and then %q", body, out, again)
		}
	})
}

func BenchmarkIn(b *testing.B) {
	var ids []event.Identifier
	for i := range 1000 {
		ids = append(ids, id("email", fmt.Sprintf("person%d@example.com", i)), id("user_id", fmt.Sprintf("u-%08d", i*7919)))
	}
	s := New(ids)
	body := []byte(strings.Repeat(`{"type":"track","event":"Booking Completed","userId":"u-99999999","properties":{"hotel":"Berlin","price":120.5}}`, 9000))
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if s.In(body) {
			b.Fatal("found something")
		}
	}
}
