package script

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kith/fault"
)

func field(path, value string) Field {
	return Field{Path: strings.Split(path, "/"), Value: json.RawMessage(value)}
}

func TestParse(t *testing.T) {
	two := 2
	back := -(3*24*time.Hour + 12*time.Hour)
	for name, tt := range map[string]struct {
		script string
		want   []Statement
	}{
		"nothing":             {"", nil},
		"comments and spaces": {"# a\n\n  \t# b\r\n", nil},
		"settings": {"workspace hotel.yaml # the group's\nspace \"default\"\nanswer crm 503", []Statement{
			&Workspace{Pos{1, 1}, "hotel.yaml"}, &Space{Pos{2, 1}, "default"}, &Answer{Pos{3, 1}, "crm", 503}}},
		"time": {"advance 60d\n  advance 1d12h30m1s5ms\nadvance 2w\nadvance 0s", []Statement{
			&Advance{Pos{1, 1}, 60 * 24 * time.Hour}, &Advance{Pos{2, 3}, 36*time.Hour + 30*time.Minute + time.Second + 5*time.Millisecond},
			&Advance{Pos{3, 1}, 14 * 24 * time.Hour}, &Advance{Pos{4, 1}, 0}}},
		"track": {`send web track "Booking Completed" userId=u1 booking_value=12.50 n=1e2 ok=true none=null date=2026-04-01 phone="4711" context.ip=192.0.2.1`,
			[]Statement{&Send{Pos: Pos{1, 1}, Source: "web", Call: "track", Body: json.RawMessage(
				`{"type":"track","event":"Booking Completed","userId":"u1","properties":{"booking_value":12.50,"n":1e2,"ok":true,"none":null,"date":"2026-04-01","phone":"4711"},"context":{"ip":"192.0.2.1"}}`)}}},
		"nested and quoted names": {`send web identify userId=u1 email=jo@example.com traits.address.city="New York" traits."a.b"=1 "x y".z=[1,{"a":2}]`,
			[]Statement{&Send{Pos: Pos{1, 1}, Source: "web", Call: "identify", Body: json.RawMessage(
				`{"type":"identify","userId":"u1","traits":{"email":"jo@example.com","address":{"city":"New York"},"a.b":1,"x y":{"z":[1,{"a":2}]}}}`)}}},
		"over several lines": {"send web track E userId=u1 products=[\n  {\"sku\": \"a\"},\n  {\"sku\": \"b\"}\n] revenue=5\nspace x",
			[]Statement{&Send{Pos: Pos{1, 1}, Source: "web", Call: "track", Body: json.RawMessage(
				`{"type":"track","event":"E","userId":"u1","properties":{"products":[{"sku":"a"},{"sku":"b"}],"revenue":5}}`)}, &Space{Pos{5, 1}, "x"}}},
		"page without a name": {"source web\nevent page anonymousId=a1\nevent page Home anonymousId=a1 path=/", []Statement{&Source{Pos{1, 1}, "web"},
			&Send{Pos: Pos{2, 1}, Call: "page", Body: json.RawMessage(`{"type":"page","anonymousId":"a1"}`)},
			&Send{Pos: Pos{3, 1}, Call: "page", Body: json.RawMessage(`{"type":"page","name":"Home","anonymousId":"a1","properties":{"path":"/"}}`)}}},
		"alias and group": {"send web alias userId=u1 previousId=a1\nsend web group groupId=g userId=u1 plan=pro", []Statement{
			&Send{Pos: Pos{1, 1}, Source: "web", Call: "alias", Body: json.RawMessage(`{"type":"alias","userId":"u1","previousId":"a1"}`)},
			&Send{Pos: Pos{2, 1}, Source: "web", Call: "group", Body: json.RawMessage(`{"type":"group","groupId":"g","userId":"u1","traits":{"plan":"pro"}}`)}}},
		"as JSON":             {"send web {\"type\":\"track\",\n \"event\":\"E\"} # fine", []Statement{&Send{Pos: Pos{1, 1}, Source: "web", Call: "track", Body: json.RawMessage("{\"type\":\"track\",\n \"event\":\"E\"}")}}},
		"a distance from now": {"send web track E timestamp=-3d12h", []Statement{&Send{Pos: Pos{1, 1}, Source: "web", Call: "track", Body: json.RawMessage(`{"type":"track","event":"E"}`), Ago: &back}}},
		"an instant":          {"send web track E timestamp=2026-01-01T00:00:00Z", []Statement{&Send{Pos: Pos{1, 1}, Source: "web", Call: "track", Body: json.RawMessage(`{"type":"track","event":"E","timestamp":"2026-01-01T00:00:00Z"}`)}}},
		"expectations": {`expect profile user_id:u1
expect profile email:jo@example.com {"a": 1, "b": null} # c
expect not trait "user_id:a b" address.city=Bergen n=1
expect identifiers user_id:u1 email:jo@example.com
expect same profile user_id:u1 anonymous_id:a1 anonymous_id:a2
expect different profiles user_id:u1 user_id:u2
expect events user_id:u1 "Page Viewed" count 2 where properties.path=/
expect audience big_spenders use_0123 in
expect audience big_spenders user_id:u1 out
expect delivered crm
expect delivered crm count 2 where type=track event="Audience Entered"
expect blocked web "Invalid type" count 2
expect rejected web`, []Statement{
			&Expect{Pos{1, 1}, false, Traits{ID: "user_id:u1"}, "expect profile user_id:u1"},
			&Expect{Pos{2, 1}, false, Traits{"email:jo@example.com", []Field{field("a", "1"), field("b", "null")}}, `expect profile email:jo@example.com {"a": 1, "b": null}`},
			&Expect{Pos{3, 1}, true, Traits{"user_id:a b", []Field{field("address/city", `"Bergen"`), field("n", "1")}}, `expect not trait "user_id:a b" address.city=Bergen n=1`},
			&Expect{Pos{4, 1}, false, Identifiers{[]string{"user_id:u1", "email:jo@example.com"}}, "expect identifiers user_id:u1 email:jo@example.com"},
			&Expect{Pos{5, 1}, false, Same{[]string{"user_id:u1", "anonymous_id:a1", "anonymous_id:a2"}}, "expect same profile user_id:u1 anonymous_id:a1 anonymous_id:a2"},
			&Expect{Pos{6, 1}, false, Different{[]string{"user_id:u1", "user_id:u2"}}, "expect different profiles user_id:u1 user_id:u2"},
			&Expect{Pos{7, 1}, false, Events{"user_id:u1", "Page Viewed", Matching{&two, []Field{field("properties/path", `"/"`)}}}, `expect events user_id:u1 "Page Viewed" count 2 where properties.path=/`},
			&Expect{Pos{8, 1}, false, Audience{"big_spenders", "use_0123", true}, "expect audience big_spenders use_0123 in"},
			&Expect{Pos{9, 1}, false, Audience{"big_spenders", "user_id:u1", false}, "expect audience big_spenders user_id:u1 out"},
			&Expect{Pos{10, 1}, false, Delivered{Destination: "crm"}, "expect delivered crm"},
			&Expect{Pos{11, 1}, false, Delivered{"crm", Matching{&two, []Field{field("type", `"track"`), field("event", `"Audience Entered"`)}}}, `expect delivered crm count 2 where type=track event="Audience Entered"`},
			&Expect{Pos{12, 1}, false, Blocked{"web", "Invalid type", &two}, `expect blocked web "Invalid type" count 2`},
			&Expect{Pos{13, 1}, false, Rejected{Source: "web"}, "expect rejected web"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("t.kith", []byte(tt.script))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.Statements); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	for script, want := range map[string]string{
		"frobnicate x":                            `t.kith:1:1: "frobnicate" is no statement; want workspace, space,`,
		"# é\n  sourc web":                        `t.kith:2:3: "sourc" is no statement`,
		"source":                                  "t.kith:1:7: want the slug of a source here",
		"source a b":                              `t.kith:1:10: the statement should end before "b"`,
		"event track E":                           `t.kith:1:1: no source is set: write "source SLUG" before`,
		"source web\nevent":                       "t.kith:2:6: want a call here",
		"send web trak E":                         `t.kith:1:10: "trak" is no call; want track, identify`,
		"send web track":                          "t.kith:1:15: want the event's name here",
		"send web track E userId":                 `t.kith:1:24: want "=" and a value behind userId`,
		"send web track E userId=":                `t.kith:1:25: want a value behind "="; for an empty text write ""`,
		"send web track E =x":                     "t.kith:1:18: want a field's name here",
		"send web track E a..b=1":                 "t.kith:1:20: want a field's name here",
		"send web track E a=1 a.b=2":              "t.kith:1:22: properties.a.b is set twice",
		"send web track E userId=1 userId=2":      "t.kith:1:27: userId is set twice",
		"send web track E userId.x=1":             "t.kith:1:18: userId is not an object",
		"send web alias userId=u shoe=46":         `t.kith:1:25: an alias call has no field "shoe"`,
		"send web track E a=\"x":                  "t.kith:1:20: this quote is not closed on its line",
		"send web track E a=\"\\q\"":              "t.kith:1:20: this text in quotes is no JSON string",
		"send web track E a={\"b\": }":            "t.kith:1:26: not valid JSON",
		"send web track Ärger a=[1,\n 2,\n x]":    "t.kith:3:2: not valid JSON",
		"send web track E a=[1,\n 2":              "t.kith:1:20: this JSON is not closed",
		"send web {\"event\":\"E\"}":              `t.kith:1:10: the event needs a "type"`,
		"send web track E timestamp=-3x":          `t.kith:1:18: "-3x" is not a distance from now`,
		"send web track E timestamp=-":            `t.kith:1:18: "-" is not a distance from now`,
		"advance soon":                            `t.kith:1:9: "soon" is not a duration: want something like 60d`,
		"advance 5":                               `t.kith:1:9: "5" is not a duration`,
		"advance 99999999999999d":                 `t.kith:1:9: "99999999999999d" is not a duration`,
		"answer crm ok":                           `t.kith:1:12: "ok" is not an HTTP status: want a whole number from 200 to 599`,
		"expect":                                  "t.kith:1:7: want what is expected here",
		"expect not love":                         `t.kith:1:12: "love" cannot be expected`,
		"expect profile u1":                       `t.kith:1:16: "u1" is not an identifier: want type:value`,
		"expect profile user_id:u1 [1]":           "t.kith:1:27: want the traits as a JSON object",
		"expect trait user_id:u1":                 "t.kith:1:24: want a field here",
		"expect same user_id:a user_id:b":         `t.kith:1:13: want "profiles" behind "same"`,
		"expect same profiles user_id:a":          "t.kith:1:31: want an identifier, such as user_id:u1 here",
		"expect audience x user_id:a maybe":       `t.kith:1:29: want "in" or "out" here`,
		"expect delivered crm count -1":           `t.kith:1:28: "-1" is not a count: want a whole number from 0`,
		"expect delivered crm wher a=1":           `t.kith:1:22: the statement should end before "wher"`,
		"separate user_id:a user_id:b":            `t.kith:1:29: want "from" here, and the identifiers of the other side`,
		"separate from user_id:b":                 `t.kith:1:10: "from" is not an identifier`,
		"separate user_id:a from":                 "t.kith:1:24: want an identifier, such as user_id:u1 here",
		"block":                                   "t.kith:1:6: want an identifier, such as user_id:u1 here",
		"block user_id:a user_id:b":               `t.kith:1:17: the statement should end before "user_id:b"`,
		"lift user_id:a":                          `t.kith:1:6: want "separate" or "block" behind "lift"`,
		"delete user_id:a":                        `t.kith:1:8: want "identifier" behind "delete"; "erase" forgets a person`,
		"leave user_id:a":                         "t.kith:1:16: want an identifier, such as user_id:u1 here",
		"erase":                                   "t.kith:1:6: want an identifier, such as user_id:u1 here",
		"rebuild older":                           `t.kith:1:9: "older" is neither: want "recorded" or "current" rules, or nothing`,
		"expect linked user_id:a":                 "t.kith:1:24: want an identifier, such as user_id:u1 here",
		"expect blocked web where a=1":            `t.kith:1:29: "where" cannot stand here`,
		"expect delivered crm where event=\xff\n": "t.kith:1:1: the script is not UTF-8",
	} {
		_, err := Parse("t.kith", []byte(script))
		if err == nil {
			t.Errorf("%q: no error, want %q", script, want)
			continue
		}
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\ngot  %s\nwant %s", script, err, want)
		}
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v is not fault.Invalid", script, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"workspace a.yaml\nsource web\nevent track \"E\" a.b=1 c={\"d\":[1,\n2]} # x", "expect not trait user_id:u a=1",
		"send web {\"type\":\"page\"}", "advance 1d2h", "expect delivered crm count 2 where a=\"\\u00e9\"", "answer x 200\r\n\r\n", "separate user_id:a from user_id:b\nlift separate user_id:a from user_id:b\nrebuild current", "expect linked user_id:a group_id:g", "send w track E timestamp=-1h"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("f", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Fatalf("the mistake has no place: %v", err)
			}
			return
		}
		line := 0
		for _, st := range s.Statements {
			if st.At().Line <= line {
				t.Fatalf("statements out of order: line %d after %d", st.At().Line, line)
			}
			line = st.At().Line
			if send, ok := st.(*Send); ok && !json.Valid(send.Body) {
				t.Fatalf("%q makes %q", text, send.Body)
			}
		}
	})
}

// The examples of docs/scripts.md are scripts.
func TestTheDocumentedExamplesAreScripts(t *testing.T) {
	text, err := os.ReadFile("../docs/scripts.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```")
	seen := 0
	for i := 1; i < len(blocks); i += 2 {
		if strings.Contains(blocks[i], "= { [ statement ]") || strings.HasPrefix(blocks[i], "yaml") {
			continue // the grammar, and workspace files
		}
		seen++
		s, err := Parse("example", []byte("source example\n"+blocks[i]))
		if err != nil {
			t.Errorf("%v in\n%s", err, blocks[i])
		} else if len(s.Statements) < 5 {
			t.Errorf("%d statements in\n%s", len(s.Statements), blocks[i])
		}
	}
	if seen < 3 {
		t.Errorf("%d examples were found", seen)
	}
}
