package fql_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"kith/fault"
	"kith/fql"
)

// stricter lists the recorded triggers that Segment's parser takes although
// they are not well-formed, and that are refused here: an operator, a value or
// a parenthesis is missing or something else stands in its place. There they
// match by accident only, or fail on every event.
var stricter = []string{
	`type "track"`, `type . "track"`, `type = (`, `type < = "track"`, `type =`, `type = and`, `event = `, `type ( "track" )`,
	`properties.revenue >=5`, `properties.revenue <=5`, `properties.revenue in [1, 2]`,
	`properties. = "x"`, `properties.\. = "x"`, `properties.\.\. != null`, `properties..a = "x"`, `properties.a. = "x"`,
	`properties.products[0].sku = "A-1"`, `properties.a.`, `properties.`,
	`() and type = "track"`, `type = "track" or ()`,
	`contains(event, "x"`, `contains(event "x")`, `contains(event, )`, `contains event, "x"`, `contains("event", "Order")`,
	`match(event, "Order*"`, `! = "track"`, `properties.or = "or"`,
	`type = "track" and length(properties.products) > 1`,
	`properties.and = "and"`, `type == "track"`, `properties.revenue = .5`, `properties.text with = "x"`, `contains(event)`,
	`semver(context.app.version, ">", "1")`,
}

func readLines(t testing.TB, name string) []string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// golden is what Segment's libraries made of a trigger; see testdata/record.mjs.
type golden struct{ trigger, want string }

func goldens(t testing.TB) (list []golden) {
	for _, line := range readLines(t, "testdata/triggers.golden") {
		want, quoted, _ := strings.Cut(line, "\t")
		var g golden
		if err := json.Unmarshal([]byte(quoted), &g.trigger); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		g.want = want
		list = append(list, g)
	}
	return list
}

func TestTriggersAsPublished(t *testing.T) {
	events := readLines(t, "testdata/events.jsonl")
	refused := map[string]bool{}
	list := goldens(t)
	if len(list) < 300 {
		t.Fatalf("only %d recorded triggers", len(list))
	}
	for _, g := range list {
		trigger, err := fql.ParseTrigger(g.trigger)
		switch {
		case err != nil && !fault.Is(err, fault.Invalid):
			t.Errorf("%s: error of kind %v", g.trigger, fault.KindOf(err))
		case err != nil && g.want == "error":
		case err != nil:
			refused[g.trigger] = true
			if !slices.Contains(stricter, g.trigger) {
				t.Errorf("%s\n  is refused (%v), recorded %s", g.trigger, err, g.want)
			}
		case g.want == "error":
			t.Errorf("%s\n  is taken, recorded as an error", g.trigger)
		default:
			var got strings.Builder
			for _, e := range events {
				if trigger.Match([]byte(e)) {
					got.WriteByte('1')
				} else {
					got.WriteByte('0')
				}
			}
			if got.String() != g.want {
				t.Errorf("%s\n  got      %s\n  recorded %s", g.trigger, &got, g.want)
			}
		}
	}
	for _, s := range stricter {
		if slices.ContainsFunc(list, func(g golden) bool { return g.trigger == s && g.want != "error" }) && !refused[s] {
			t.Errorf("%s is not refused: strike it off the list", s)
		}
	}
}

func TestTriggerErrorsSayWhere(t *testing.T) {
	for src, want := range map[string]string{
		``:                               `character 1: the trigger has no condition`,
		`messageId = "m1"`:               `character 17: the trigger has no condition`,
		`type = "track`:                  `character 8: the string is not closed`,
		`type = "track" and event =`:     `character 27: after event = a value is expected, not the end`,
		`type = "tr🙂ck" and event ! "x"`: `character 26: after "!" comes "="`,
		`properties.revenue <=5`:         `character 21: put a space after <=`,
		`properties.revenue !=5`:         `character 20: put a space after !=`,
		`properties.revenue>5`:           `character 19: put a space before >`,
		`properties.größe = 1`:           `character 14: "ö" cannot follow a name`,
		`(type = "track"`:                `character 1: this "(" is not closed`,
		`((type = "track"))`:             `character 2: this "(" is not closed; groups are one level deep`,
		`type = "track" or ()`:           `character 19: there is no condition on a known field between the parentheses`,
		`contains(event "x")`:            `character 16: contains is written contains(field, "text")`,
		`properties.a in ["x"]`:          `character 14: after properties.a one of = != < <= > >= is expected, not in`,
		`type = "track" % 2`:             `character 16: "%" is no part of the language`,
		`properties.a = 1.2.3`:           `character 19: a number has one decimal point`,
		"type = \"track\"\r\n":           `character 14: put a space after the closing quote`,
		"type =\r\n\"track\"":            `character 7: "\r" is no part of the language`,
		strings.Repeat("x", 20000):       `a trigger is at most 16384 bytes long, this one is 20000`,
	} {
		_, err := fql.ParseTrigger(src)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.60s\n  got  %v\n  want %s …", src, err, want)
		}
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%.60s: kind %v", src, fault.KindOf(err))
		}
	}
}

func TestTriggerWarnings(t *testing.T) {
	for src, want := range map[string][]string{
		`type = "track" and event = "Order Completed"`:                 nil,
		`(type = "track" or type = "page") and properties.revenue > 5`: nil,
		`!contains(event, "x") and match(event, "a*")`:                 nil,
		`type = 'track'`: {`single quotes belong`},
		`type = "a" and event = "b" or name = "c"`: {`"and" and "or" are mixed: the last one, "or"`},
		`messageId = "m1" and type = "track"`:      {`"messageId" is no field`},
		`!(type = "track")`:                        {`"!" is ignored`},
		`properties.gift != true`:                  {`!= true holds for every value but`},
		`properties.a > abc`:                       {`> wants a number`},
		`event.name = "x"`:                         {`event has nothing within it`},
		`properties = "x"`:                         {`say what to look at`},
		`match(event, "abc")`:                      {`match wants a star`},
		`match(event, "a*b*")`:                     {`only the star at the end`},
		`match(event, "*b*c")`:                     {`only the star at the beginning`},
		`contains(type, "x") and type = "track"`:   {`contains(type, …) is ignored`},
		`(contains(event, "a") and type = "b")`:    {`the group has ended before`},
	} {
		trigger, err := fql.ParseTrigger(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		got := trigger.Warnings()
		if len(got) != len(want) {
			t.Errorf("%s: warnings %v, want %v", src, got, want)
			continue
		}
		for i := range want {
			if !strings.HasPrefix(got[i].Message, want[i]) || got[i].Character < 1 {
				t.Errorf("%s: warning %v, want %s …", src, got[i], want[i])
			}
		}
	}
	trigger, err := fql.ParseTrigger(`type = "track" and type = 'x'`)
	if err != nil || trigger.Warnings()[0].Character != 27 || trigger.String() != `type = "track" and type = 'x'` {
		t.Errorf("got %v, %v", trigger, err)
	}
}

func TestMatchTakesAnyBytes(t *testing.T) {
	trigger, err := fql.ParseTrigger(`properties.a.b != "x" or contains(traits.c, "y")`)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"", "[]", "null", "{", `{"properties":`, `{"properties":{"a":"`, "\x00\xff", `"x"`} {
		if !trigger.Match([]byte(body)) { // nothing there is unequal to "x"
			t.Errorf("%q does not match", body)
		}
	}
}

func FuzzParseTrigger(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add(g.trigger)
	}
	data, err := os.ReadFile("testdata/events.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	var events [][]byte
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		events = append(events, bytes.Clone(s.Bytes()))
	}
	f.Fuzz(func(t *testing.T, src string) {
		trigger, err := fql.ParseTrigger(src)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || trigger != nil {
				t.Fatalf("%q: %v, %v", src, trigger, err)
			}
			return
		}
		again, err := fql.ParseTrigger(trigger.String())
		if err != nil {
			t.Fatalf("%q: read once, then %v", src, err)
		}
		for _, e := range events {
			if trigger.Match(e) != again.Match(e) {
				t.Fatalf("%q: two answers for %s", src, e)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	trigger, err := fql.ParseTrigger(`type = "track" and event = "Order Completed" and properties.revenue > 50`)
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(readLines(b, "testdata/events.jsonl")[0])
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if !trigger.Match(body) {
			b.Fatal("no match")
		}
	}
}
