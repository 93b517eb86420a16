package event

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStandardIdentifiers(t *testing.T) {
	user := func(kind, value string) Identifier { return Identifier{Users, kind, value} }
	tests := []struct {
		name, body string
		want       []Identifier
	}{
		{"none", `{"type":"track"}`, nil},
		{"ids", `{"type":"track","anonymousId":"a","userId":"u"}`, []Identifier{user("user_id", "u"), user("anonymous_id", "a")}},
		{"not strings", `{"userId":7,"anonymousId":null,"traits":{"email":["x"]},"context":{"traits":"x","device":[],"externalIds":{}}}`, nil},
		{"emails", `{"type":"identify","userId":"u","traits":{"email":"A@example.com"},"context":{"traits":{"email":"b@example.com"}}}`,
			[]Identifier{user("user_id", "u"), user("email", "A@example.com"), user("email", "b@example.com")}},
		{"same email twice", `{"traits":{"email":"b@example.com"},"context":{"traits":{"email":"b@example.com"}}}`,
			[]Identifier{user("email", "b@example.com")}},
		{"properties are no traits", `{"type":"track","userId":"u","properties":{"email":"p@example.com"}}`, []Identifier{user("user_id", "u")}},
		{"a group's own email", `{"type":"group","userId":"u","groupId":"g","traits":{"email":"info@example.com","crossDomainId":"x"},"context":{"traits":{"email":"b@example.com"}}}`,
			[]Identifier{user("user_id", "u"), user("email", "b@example.com"), {Accounts, "group_id", "g"}}},
		{"android", `{"context":{"device":{"type":"android","id":"d","advertisingId":"i","adTrackingEnabled":true,"token":"t"}}}`,
			[]Identifier{user("android.id", "d"), user("android.idfa", "i"), user("android.push_token", "t")}},
		{"ios", `{"context":{"device":{"type":"iOS","id":"d","advertisingId":"i","adTrackingEnabled":true,"token":"t"}}}`,
			[]Identifier{user("ios.id", "d"), user("ios.idfa", "i"), user("ios.push_token", "t")}},
		{"no tracking", `{"context":{"device":{"type":"ios","id":"d","advertisingId":"i","adTrackingEnabled":"true","token":""}}}`,
			[]Identifier{user("ios.id", "d")}},
		{"another device", `{"context":{"device":{"type":"browser","id":"d","token":"t"}}}`, nil},
		{"analytics and braze", `{"context":{"integrations":{"Google Analytics":{"clientId":"c"}},"Braze":{"braze_id":"z"},"traits":{"crossDomainId":"x"}}}`,
			[]Identifier{user("ga_client_id", "c"), user("cross_domain_id", "x"), user("braze_id", "z")}},
		{"analytics switched off", `{"context":{"integrations":{"Google Analytics":false},"Braze":1}}`, nil},
		{"external", `{"userId":"u","context":{"externalIds":[
			{"id":"1","type":"loyalty_no","collection":"users","encoding":"none"},
			{"id":"u","type":"user_id","collection":"users","encoding":"none"},
			{"id":"h1","type":"hotel_id","collection":"accounts","encoding":"none"},
			{"id":"2","type":"Loyalty","collection":"users","encoding":"none"},
			{"id":"3","type":"a","collection":"users"},
			{"id":"4","type":"b","encoding":"none"},
			{"id":5,"type":"c","collection":"users","encoding":"none"},
			{"id":"6","type":"d","collection":"pets","encoding":"none"},
			{"id":"7","type":"","collection":"users","encoding":"none"},
			{"id":"8","type":"e","collection":"users","encoding":"base64"},
			null, "x", []]}}`,
			[]Identifier{user("user_id", "u"), user("loyalty_no", "1"), {Accounts, "hotel_id", "h1"}}},
		{"escapes", `{"userId":"a\u00e9\n","context":{"externalIds":[{"id":"\"","type":"x","collection":"users","encoding":"none"}]}}`,
			[]Identifier{user("user_id", "aé\n"), user("x", `"`)}},
		{"too long", `{"userId":"` + strings.Repeat("u", 501) + `","anonymousId":"` + strings.Repeat("a", 500) + `"}`,
			[]Identifier{user("anonymous_id", strings.Repeat("a", 500))}},
	}
	for _, tt := range tests {
		e, err := Parse([]byte(tt.body))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, StandardIdentifiers(e)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestIdentifiersAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"userId":"u","context":{"externalIds":[`)
	for i := range 1000 {
		fmt.Fprintf(&b, `{"id":"%d","type":"card","collection":"users","encoding":"none"},`, i)
	}
	b.WriteString(`null]}}`)
	e, err := Parse([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	ids := StandardIdentifiers(e)
	if len(ids) != MaxIdentifiers || ids[49].Value != "48" {
		t.Fatalf("%d identifiers, the last %v", len(ids), ids[len(ids)-1])
	}
}

func BenchmarkStandardIdentifiers(b *testing.B) {
	e, err := Parse([]byte(sample))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(StandardIdentifiers(e)) != 3 {
			b.Fatal("not three")
		}
	}
}

// TestPassedOver: what could be an identifier and is none is told.
func TestPassedOver(t *testing.T) {
	long := strings.Repeat("x", MaxIdentifierBytes+1)
	var many []string
	for i := range MaxIdentifiers + 2 {
		many = append(many, fmt.Sprintf(`{"id":"%d","type":"t","collection":"users","encoding":"none"}`, i))
	}
	for body, want := range map[string]string{
		`{"userId":"u","context":{"externalIds":[{"id":"1","type":"t","collection":"users","encoding":"none"}]}}`: "",
		`{"userId":"` + long + `"}`:                                                                    "user_id 1",
		`{"context":{"device":{"type":"ios","id":"` + long + `"}}}`:                                    "ios.id 1",
		`{"traits":{"email":"` + strings.Repeat(`\"`, 501) + `"}}`:                                     "email 1",
		`{"traits":{"email":"` + strings.Repeat(`\u0041`, 400) + `"}}`:                                 "",
		`{"userId":"u","traits":{"bio":"` + long + `"}}`:                                               "",
		`{"context":{"externalIds":[{"id":"1","type":"T","collection":"users","encoding":"none"},7]}}`: "T 2, 2",
		`{"context":{"externalIds":"t"}}`:                                                              " 2",
		`{"context":{"externalIds":null}}`:                                                             "",
		`{"userId":"u","context":{"externalIds":[` + strings.Join(many, ",") + `]}}`:                   "t 3, t 3, t 3",
		`{"context":{"externalIds":[` + strings.Repeat("0,", 200) + `0]}}`:                             strings.Repeat(" 2,", 49) + " 2",
	} {
		e, err := ParseTrusted([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		PassedOver(e, func(id Identifier, why Passed) { got = append(got, fmt.Sprint(id.Type, " ", why)) })
		if strings.ReplaceAll(strings.Join(got, ","), " ", "") != strings.ReplaceAll(want, " ", "") {
			t.Errorf("%.80s: %q, want %q", body, got, want)
		}
	}
}
