package importer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"kith/event"
	"kith/workspace"
)

// made makes the calls of one row under a header.
func made(t *testing.T, o Options, headers, cells []string) (calls []string, problems []problem) {
	t.Helper()
	if _, _, err := o.check(); err != nil {
		t.Fatal(err)
	}
	rules := []workspace.IdentifierRule{{Type: "user_id"}, {Type: "email"}, {Type: "anonymous_id"}, {Type: "group_id"},
		{Type: "loyalty_card", Keys: []string{"cardNumber"}}, {Type: "phone"}, {Type: "vat", Collection: event.Accounts}}
	columns, _, err := plan(headers, &o, rules)
	if err != nil {
		t.Fatal(err)
	}
	b := builder{id: "imp", options: &o, columns: columns, identifiers: map[string]string{}}
	for range 2 { // the second time with what the first has left behind
		calls, problems = b.build(7, row{cells: cells})
	}
	for _, c := range calls {
		if repeated, err := event.CheckJSON([]byte(c)); err != nil || repeated {
			t.Errorf("%s: %v, repeated: %v", c, err, repeated)
		}
	}
	return calls, problems
}

func TestCalls(t *testing.T) {
	const library = `"library":{"name":"kith-csv-import"}`
	split := func(s string) []string { return strings.Split(s, "|") }
	for _, tt := range []struct {
		name           string
		options        Options
		headers, cells string
		want           []string
	}{
		{"a user", Options{}, "user_id|name|nights", " u1 |Ann \"A\"|12",
			[]string{`{"type":"identify","messageId":"imp-7","userId":"u1","traits":{"name":"Ann \"A\"","nights":12},"context":{` + library + `}}`}},
		{"empty cells", Options{}, "user_id|name|nights|email", "u1|||",
			[]string{`{"type":"identify","messageId":"imp-7","userId":"u1","traits":{},"context":{` + library + `}}`}},
		{"empty cells remove", Options{Empty: "null", Mapping: map[string]Mapping{"nights": {Type: typeNumber}}}, "user_id|name|nights|email", "u1|| |",
			[]string{`{"type":"identify","messageId":"imp-7","userId":"u1","traits":{"name":null,"nights":null},"context":{` + library + `}}`}},
		{"an email alone", Options{}, "email|plan", "ann@example.com|gold",
			[]string{`{"type":"identify","messageId":"imp-7","traits":{"email":"ann@example.com","plan":"gold"},"context":{` + library + `}}`}},
		{"types of the space", Options{}, "loyalty_card|phone|user_id", "c1|+49 30 1|",
			[]string{`{"type":"identify","messageId":"imp-7","traits":{"phone":"+49 30 1"},"context":{` + library +
				`,"externalIds":[{"id":"c1","type":"loyalty_card","collection":"users","encoding":"none"},{"id":"+49 30 1","type":"phone","collection":"users","encoding":"none"}]}}`}},
		{"a key of a rule", Options{}, "cardNumber|email", "0012|",
			[]string{`{"type":"identify","messageId":"imp-7","traits":{"cardNumber":"0012"},"context":{` + library + `}}`}},
		{"a timestamp", Options{Mapping: map[string]Mapping{"at": {As: asTimestamp}}}, "user_id|at", "u1|2026-01-31 14:30:00+01:00",
			[]string{`{"type":"identify","messageId":"imp-7","userId":"u1","timestamp":"2026-01-31T13:30:00.000Z","traits":{},"context":{` + library + `}}`}},
		{"a member of an account", Options{}, "email|group_id|plan", "ann@example.com|g1|gold", []string{
			`{"type":"identify","messageId":"imp-7","traits":{"email":"ann@example.com","plan":"gold"},"context":{` + library + `}}`,
			`{"type":"group","messageId":"imp-7-group","groupId":"g1","context":{` + library + `,"externalIds":[{"id":"ann@example.com","type":"email","collection":"users","encoding":"none"}]}}`}},
		{"an account", Options{Collection: event.Accounts}, "group_id|name|email|vat|user_id", "g1|Acme|info@example.com|DE1|u1",
			[]string{`{"type":"group","messageId":"imp-7","userId":"u1","groupId":"g1","traits":{"name":"Acme","email":"info@example.com"},"context":{` + library +
				`,"externalIds":[{"id":"DE1","type":"vat","collection":"accounts","encoding":"none"}]}}`}},
		{"nothing at all", Options{}, "user_id|name", "| ", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls, problems := made(t, tt.options, split(tt.headers), split(tt.cells))
			if diff := cmp.Diff(tt.want, calls); diff != "" || len(problems) > 0 {
				t.Errorf("%v (-want +got):\n%s", problems, diff)
			}
		})
	}
}

func TestGeneratedIdentifier(t *testing.T) {
	o := Options{AnonymousID: generateID}
	calls, problems := made(t, o, []string{"user_id", "name"}, []string{"", "Ann"})
	if len(calls) != 1 || len(problems) > 0 {
		t.Fatal(calls, problems)
	}
	id := gjson.Get(calls[0], "anonymousId").Str
	again, _ := made(t, o, []string{"user_id", "name"}, []string{"", "Ann"})
	if len(id) != 36 || again[0] != calls[0] {
		t.Errorf("%q, and then %s", id, again[0])
	}
	if calls, _ := made(t, o, []string{"user_id", "name"}, []string{"u1", "Ann"}); gjson.Get(calls[0], "anonymousId").Exists() {
		t.Errorf("a row with an identifier got another: %s", calls[0])
	}
}

func TestBadRows(t *testing.T) {
	typed := func(kind string) Options { return Options{Mapping: map[string]Mapping{"x": {Type: kind}}} }
	for _, tt := range []struct {
		name    string
		options Options
		headers []string
		cells   []string
		want    []string // column: value: reason
	}{
		{"too few", Options{}, []string{"user_id", "x"}, []string{"u1"}, []string{`: u1: the row has 1 columns and the header has 2`}},
		{"too many", Options{}, []string{"user_id", "x"}, []string{"u1", "a", "b"}, []string{`: u1|a|b: the row has 3 columns and the header has 2`}},
		{"nobody", Options{}, []string{"user_id", "x"}, []string{" ", "a"}, []string{`: : the row has no identifier, so it is nobody's`}},
		{"no account", Options{Collection: event.Accounts}, []string{"group_id", "x"}, []string{"", "a"}, []string{`: : the row has no group_id, so it is nobody's`}},
		{"a group alone", Options{}, []string{"user_id", "group_id"}, []string{"", "g1"}, []string{`: : the row has no identifier, so it is nobody's`}},
		{"a long identifier", Options{}, []string{"user_id", "x"}, []string{strings.Repeat("u", 501), "a"},
			[]string{`user_id: ` + strings.Repeat("u", 100) + `…: is an identifier of 501 bytes; the most is 500`}},
		{"no number", typed(typeNumber), []string{"user_id", "x"}, []string{"u1", "1,5"}, []string{`x: 1,5: is not a number`}},
		{"no truth", typed(typeBoolean), []string{"user_id", "x"}, []string{"u1", "maybe"}, []string{`x: maybe: is neither true nor false`}},
		{"no date", typed(typeDate), []string{"user_id", "x"}, []string{"u1", "31.01.2026"}, []string{`x: 31.01.2026: is not a date`}},
		{"no JSON", typed(typeJSON), []string{"user_id", "x"}, []string{"u1", "{a}"}, []string{`x: {a}: not valid JSON at byte 1: want a key in double quotes`}},
		{"no instant", Options{Mapping: map[string]Mapping{"x": {As: asTimestamp}}}, []string{"user_id", "x"}, []string{"u1", "1969-12-31"}, []string{`x: 1969-12-31: is not an instant since 1970`}},
		{"two at once", Options{Mapping: map[string]Mapping{"x": {Type: typeNumber}, "y": {Type: typeDate}}}, []string{"user_id", "x", "y"}, []string{"u1", "a", "b"},
			[]string{`x: a: is not a number`, `y: b: is not a date`}},
		{"not UTF-8", Options{}, []string{"user_id", "x"}, []string{"u1", "zo\xeb"}, []string{"x: zo\uFFFD: is not UTF-8"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls, problems := made(t, tt.options, tt.headers, tt.cells)
			var got []string
			for _, p := range problems {
				if p.fix == "" {
					t.Errorf("nothing to do about %+v", p)
				}
				got = append(got, p.column+": "+p.value+": "+p.reason)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || len(calls) > 0 {
				t.Errorf("%v (-want +got):\n%s", calls, diff)
			}
		})
	}
}

func TestValues(t *testing.T) {
	for _, tt := range []struct{ kind, cell, want string }{
		{typeAuto, "12", "12"}, {typeAuto, "-12.50", "-12.50"}, {typeAuto, "0", "0"}, {typeAuto, "0.5", "0.5"}, {typeAuto, " 7 ", "7"},
		{typeAuto, "007", `"007"`}, {typeAuto, "+49301", `"+49301"`}, {typeAuto, "1,5", `"1,5"`}, {typeAuto, "1e5", `"1e5"`}, {typeAuto, "4111111111111111", `"4111111111111111"`},
		{typeAuto, "123456789012345", "123456789012345"}, {typeAuto, ".5", `".5"`}, {typeAuto, "5.", `"5."`}, {typeAuto, "-", `"-"`}, {typeAuto, "NaN", `"NaN"`},
		{typeAuto, "true", "true"}, {typeAuto, "FALSE", "false"}, {typeAuto, "yes", `"yes"`}, {typeAuto, "null", `"null"`}, {typeAuto, " a ", `" a "`},
		{typeString, "12", `"12"`}, {typeString, "a\nb", `"a\nb"`},
		{typeNumber, "1e5", "1e5"}, {typeNumber, " 4111111111111111 ", "4111111111111111"},
		{typeBoolean, "Yes", "true"}, {typeBoolean, "0", "false"},
		{typeDate, "1950-05-01", `"1950-05-01"`}, {typeDate, "2026-01-31T14:30:00+01:00", `"2026-01-31T13:30:00.000Z"`},
		{typeJSON, ` {"a":[1]} `, `{"a":[1]}`}, {typeJSON, `{"a":1,"a":2}`, `{"a":2}`},
	} {
		got, f := appendValue(nil, tt.cell, tt.kind)
		if string(got) != tt.want || f != (flaw{}) {
			t.Errorf("%s %q is %s (%v), want %s", tt.kind, tt.cell, got, f, tt.want)
		}
	}
}
