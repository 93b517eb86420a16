package fql_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"kith/fault"
	"kith/fql"
)

// documented is the event of the examples in Segment's documents
// (public-api/fql).
const documented = `{
  "event": "Button Clicked", "type": "track",
  "context": {"library": {"name": "analytics.js", "version": "1.0"}},
  "properties": {"features": ["discounts", "dark-mode"]}
}`

// TestExpressionsAsDocumented holds the tables of Segment's documents.
func TestExpressionsAsDocumented(t *testing.T) {
	for _, row := range []struct {
		src  string
		want bool
	}{
		{`event = 'Button Clicked'`, true},
		{`event = 'Screen Tapped'`, false},
		{`context.path.path = '/login'`, false},
		{`type = 'identify' or type = 'track'`, true},
		{`event = 'Button Clicked' and type = 'track'`, true},
		{`match( context.library.version, '1.*' )`, true},
		{`match( context.library.version, '2.*' )`, false},
		{`type = 'track' and ( event = 'Click' or match( event, 'Button *' ) )`, true},
		{`!contains( context.library.name, 'js' )`, false},
		{`'dark-mode' in properties.features`, true},
		{`'blink' in properties.features`, false},
		{`( type = 'track' or type = 'identify' ) and ( properties.enabled or match( traits.email, '*@company.com' ) )`, false},
		{`!( type in ['track', 'identify'] )`, false},
		// null
		{`contains( null, 'x' )`, false},
		{`length( null ) = 0`, true},
		{`lowercase( null ) = null`, true},
		{`typeof( null ) = "null"`, true},
		{`match( null, '*' )`, false},
		{`length( userId ) > 0`, false},
		{`typeof( userId ) = 'string' and length( userId ) > 0`, false},
		// functions
		{`length( 'a' ) = 1`, true},
		{`length( 'ア' ) = 3`, true},
		{`length( properties.features ) = 2`, true},
		{`lowercase( 'ABc' ) = 'abc'`, true},
		{`uppercase( 'ABc' ) = 'ABC'`, true},
		{`snakecase( 'test string' ) = 'test_string'`, true},
		{`kebabcase("test string") = "test-string"`, true},
		{`titlecase( "test string" ) = "Test String"`, true},
		{`typeof( event ) = 'string'`, true},
		{`typeof( length( event ) ) = 'number'`, true},
		{`typeof( properties.features ) = 'list'`, true},
		{`typeof( true ) = 'bool'`, true},
		// match
		{`match( 'abcd', 'a*d' )`, true},
		{`match( '', '*' )`, true},
		{`match( 'abc', 'ab' )`, false},
		{`match( 'abcd', 'a??d' )`, true},
		{`match( 'abcd', '*d' )`, true},
		{`match( 'ab*d', 'ab\*d' )`, true},
		{`match( 'abCd', 'ab[cC]d' )`, true},
		{`match( 'abcd', 'ab[a-z]d' )`, true},
		{`match( 'abcd', 'ab[A-Z]d' )`, false},
	} {
		e, err := fql.Parse(row.src)
		if err != nil {
			t.Errorf("%s: %v", row.src, err)
			continue
		}
		if got := e.Match([]byte(documented)); got != row.want {
			t.Errorf("%s is %v", row.src, got)
		}
	}
}

const shop = `{"type":"track","event":"Order Completed","userId":"u-1","ev\u0065n":"x","empty":"","null":null,"and":true,"0":"nought",
 "properties":{"revenue":49.5,"orders":0,"product 1":{"price":"19.99"},"a.b":1,"größe":"XL","2fa":true,"x-y":1,"gift":false,"text":"it's","quote":"\"","back\\slash":1,
  "products":[{"sku":"A-1","price":5},{"sku":"B-2"}],"list":[1,"a",null,true,[1,2]],"same":{"a":1,"b":[1]},"big":1e300,"#":"hash","*":"star"},
 "traits":{"same":{"a":1,"b":[1]},"other":{"b":[1],"a":1}},
 "context":{"app":{"version":"2.10.1"},"ip":"203.0.113.7"}}`

func TestExpressions(t *testing.T) {
	for src, want := range map[string]bool{
		// fields and values
		`properties.product\ 1.price = '19.99'`: true,
		`properties.a\.b = 1`:                   true,
		`properties.a.b = 1`:                    false,
		`properties.gr\ö\ße = "XL"`:             true,
		`properties.2fa`:                        true,
		`properties.x-y = 1`:                    true,
		`properties . revenue > 49`:             true,
		`properties.back\\slash = 1`:            true,
		`properties.\# = 'hash'`:                true,
		`properties.\* = 'star'`:                true,
		`properties.list.\# = 5`:                false,
		`\0 = 'nought'`:                         true,
		`\and`:                                  true,
		`\null = null`:                          true,
		`even = 'x'`:                            true,
		`properties.products.0.sku = 'A-1'`:     true,
		`properties.products.1.sku = 'B-2'`:     true,
		`properties.products.2.sku = null`:      true,
		`properties.products.01.sku = null`:     true,
		`properties.products.sku = null`:        true,
		`properties.text = "it's"`:              true,
		`properties.quote = '"'`:                true,
		`event.length = null`:                   true,
		`properties.revenue=49.5`:               true,
		`properties.revenue>=+49.50`:            true,
		`properties.orders = -0`:                true,
		// kinds are strict
		`properties.revenue = '49.5'`:       false,
		`properties.revenue != '49.5'`:      true,
		`userId = null`:                     false,
		`anonymousId = null`:                true,
		`anonymousId != 'x'`:                true,
		`null = null`:                       true,
		`empty = null`:                      false,
		`properties.gift = false`:           true,
		`properties.gift`:                   false,
		`!properties.gift`:                  true,
		`!properties.missing`:               true,
		`!event`:                            true,
		`event`:                             false,
		`properties.product\ 1.price > 5`:   false,
		`properties.missing < 5`:            false,
		`properties.missing >= 0`:           false,
		`properties.big > 1`:                true,
		`contains(properties.revenue, '4')`: false,
		`!contains(properties.none, '4')`:   true,
		// lists and objects
		`'a' in properties.list`:                         true,
		`1 in properties.list`:                           true,
		`'1' in properties.list`:                         false,
		`null in properties.list`:                        true,
		`properties.none in properties.list`:             true,
		`false in properties.list`:                       false,
		`event in ['Order Completed', 'x']`:              true,
		`event in []`:                                    false,
		`event in [properties.none, event]`:              true,
		`event in properties.none`:                       false,
		`event in event`:                                 false,
		`properties.list = [1, 'a', null, true, [1, 2]]`: true,
		`properties.list != [1, 'a', null, true]`:        true,
		`properties.same = traits.same`:                  true,
		`properties.same = traits.other`:                 false,
		`length(properties.list) = 5`:                    true,
		`typeof(properties.same) = 'object'`:             true,
		`length(properties.same) = null`:                 true,
		// joining
		`type = 'x' or type = 'track' and event = 'Order Completed'`: true,
		`type = 'track' or type = 'x' and event = 'x'`:               true,
		`(type = 'track' or type = 'x') and event = 'x'`:             false,
		`!(type = 'track') or !!(event = 'Order Completed')`:         true,
		`(properties.revenue > 40) = true`:                           true,
		`((((type = 'track'))))`:                                     true,
		`true`:                                                       true, `false`: false, `true and null`: false, `null or true`: true,
		`all`: true, ` all `: true, `all = null`: true,
		// functions
		`lowercase(event) = 'order completed'`:               true,
		`lowercase(properties.revenue) = null`:               true,
		`contains(lowercase(event), "order")`:                true,
		`titlecase("a  b-c é") = "A  B-c É"`:                 true,
		`bool('false') or bool(0) or bool('') or bool(null)`: false,
		`bool('x') and bool(2) and bool([1]) and bool(type)`: true,
		`bool([]) or bool(properties.none)`:                  false,
		`bool(type = 'track')`:                               true,
		`bool(properties.same)`:                              true,
		`string(properties.revenue) = '49.5'`:                true,
		`string(null) = '' and string(true) = 'true'`:        true,
		`string(properties.products.1) = '{"sku":"B-2"}'`:    true,
		`string([1, 'a']) = '[1,"a"]'`:                       true,
		`number(properties.product\ 1.price) > 19`:           true,
		`number('12abc') = null and number('') = null`:       true,
		`number(' 1e3 ') = 1000`:                             true,
		`number('0x10') = null`:                              true,
		`semver(context.app.version, '>', '2.9')`:            true,
		`semver(context.app.version, '<=', '2.10.1')`:        true,
		`semver(context.app.version, '!=', '2')`:             true,
		`semver(context.app.none, '!=', '2')`:                false,
		`semver(context.ip, '=', '203.0.113')`:               false,
		// patterns
		`match(event, 'Order ?ompleted')`: true,
		`match(event, '*[^x-z]')`:         true,
		`match(event, '*[^a-z]')`:         false,
		`match(event, 'Order*Order*')`:    false,
		`match(event, '*d*O*')`:           false,
		`match(event, '*r*e*d')`:          true,
		`match(event, '*ted*ted')`:        false,
		`match(event, 'order*')`:          false,
		`match('a/b', 'a*b')`:             true,
		`match('ß', '?')`:                 true,
		`match('a', '')`:                  false,
		`match(empty, '')`:                true,
		`match('xay', '*[abc]y')`:         true,
		`match('aXbXXc', '*[X]?[X]c')`:    false,
		`match('aXbXyXc', 'a*[X]?[X]c')`:  true,
		`match('a]b', 'a[x\]]b')`:         true,
		`match(event, event)`:             true,
	} {
		e, err := fql.Parse(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got := e.Match([]byte(shop)); got != want {
			t.Errorf("%s is %v", src, got)
		}
		if got := e.MatchDocument(fql.NewDocument([]byte(shop))); got != want {
			t.Errorf("%s of a document is %v", src, got)
		}
		again, err := fql.Parse(e.String())
		if err != nil || again.String() != e.String() || again.Match([]byte(shop)) != want {
			t.Errorf("%s is written %s, which reads as %v (%v)", src, e, again, err)
		}
	}
}

func TestExpressionErrorsSayWhere(t *testing.T) {
	for src, want := range map[string]string{
		``:                             `character 1: there is no expression; to match every event say: all`,
		`userId = oops"`:               `character 14: "\"" cannot follow a name; put a "\" before it`,
		`event = 'Order`:               `character 9: the text is not closed; it wants another '`,
		`event == 'x'`:                 `character 7: there is no "=="; write "="`,
		`event <> 'x'`:                 `character 7: there is no "<>"; write "!="`,
		`event = 'x' && type = 'y'`:    `character 13: "&" is no part of the language; conditions are joined with "and" and "or"`,
		`event = 'x' AND type = 'y'`:   `character 13: "AND" is written in small letters: and`,
		`event contains 'x'`:           `character 7: "contains" is no operator; there are`,
		`event 'x'`:                    `character 7: after event an operator (= != < <= > >= in), "and" or "or" is expected, not 'x'`,
		`event = 'x' and`:              `character 16: after "and" a condition is expected, not the end`,
		`event =`:                      `character 8: after = a value is expected, not the end`,
		`event = 'x' or or type = 'y'`: `character 16: after "or" a condition is expected, not or`,
		`(event = 'x'`:                 `character 1: this "(" is not closed`,
		`event = 'x')`:                 `character 12: this ")" closes nothing`,
		`()`:                           `character 1: there is no condition between the parentheses`,
		`!event = 'x'`:                 `character 8: "!" stands before a whole condition; write !(… = …)`,
		`a = 1 = 2`:                    `character 7: = cannot follow a = 1; join comparisons`,
		`event`:                        ``,
		`length(event)`:                `character 1: length(…) is no condition: it is a number; compare it with something`,
		`'x'`:                          `character 1: 'x' is no condition: it is a string`,
		`type = 'x' and length(event)`: `character 16: and joins conditions; length(…) is a number`,
		`properties.revenue > '5'`:     `character 22: > compares numbers; '5' is a string`,
		`event in 'x'`:                 `character 10: after "in" a list is expected, as ['a', 'b']; 'x' is a string`,
		`['a'] in properties.x`:        `character 1: before "in" a single value is expected; ['a'] is a list`,
		`event in ['a' 'b']`:           `character 15: after 'a' a comma or the end of the list is expected, not 'b'`,
		`event in ['a'`:                `character 10: this "[" is not closed`,
		`event in ['a',]`:              `character 15: this "]" closes nothing`,
		`contains(event)`:              `character 1: contains is written contains(s, sub); here it has 1 arguments`,
		`contains(event, 5)`:           `character 17: contains(s, sub) wants a string there; 5 is a number`,
		`Contains(event, 'x')`:         `character 1: there is no function Contains; write contains; there are: contains, match, length`,
		`match(event, 'a[b')`:          `character 14: the "[" of the pattern is not closed`,
		`match(event, '` + strings.Repeat("a", 257) + `')`: `character 14: a pattern is at most 256 bytes long`,
		`match(event, 'a\')`:                         `character 14: the pattern ends with a "\"`,
		`match(event, '[z-a]')`:                      `character 14: the range "z-a" of the pattern is the wrong way round`,
		`semver(event, '~', '1')`:                    `character 15: semver compares with`,
		`semver(event, '=', 'one')`:                  `character 20: 'one' is no version`,
		`properties.größe = 1`:                       `character 14: "ö" cannot follow a name; put a "\" before it`,
		`properties.a[0] = 1`:                        `character 13: an item of a list is named by its number, as in products.0`,
		`properties. = 1`:                            `character 13: after the point a name is expected`,
		`properties.a = 5x`:                          `character 17: "x" cannot follow a number`,
		`properties.a = 1.`:                          `character 17: a number does not end with a point`,
		`properties.a = -x`:                          `character 16: a number follows a "-"`,
		`properties.a = ` + strings.Repeat("9", 400): `character 16: the number is too large`,
		`event = “x”`:                                `character 9: "“" is no part of the language; a text wants quotes`,
		`a = '🙂' and b ==1`:                          `character 15: there is no "=="`,
		`x = '\`:                                     `character 5: the text is not closed`,
		`x\`:                                         `character 2: nothing follows the "\"`,
		"a = '\xff'":                                 `the expression is not UTF-8`,
		strings.Repeat("(", 51) + "a" + strings.Repeat(")", 51): `character 51: this nests deeper than 50 levels`,
		strings.Repeat("!", 51) + "a":                           `character 51: this nests deeper than 50 levels`,
		strings.Repeat("x", 6000):                               `an expression is at most 5120 bytes long, this one is 6000`,
	} {
		_, err := fql.Parse(src)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", src, err)
			}
			continue
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.60s\n  got  %v\n  want %s …", src, err, want)
		}
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%.60s: kind %v", src, fault.KindOf(err))
		}
	}
}

func TestExpressionValues(t *testing.T) {
	for src, want := range map[string]string{
		`properties.revenue`: `49.5`, `event`: `"Order Completed"`, `nothing`: `null`, `properties.gift`: `false`,
		`properties.list`: `[1,"a",null,true,[1,2]]`, `[1, event, []]`: `[1,"Order Completed",[]]`, `traits.same`: `{"a":1,"b":[1]}`,
		`lowercase(event)`: `"order completed"`, `type = 'track'`: `true`, `'"<é'`: `"\"<é"`, `1000000000000000000000000`: `1e+24`,
	} {
		e, err := fql.ParseValue(src)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if got := e.Value([]byte(shop)).JSON(); got != want {
			t.Errorf("%s is %s, want %s", src, got, want)
		}
	}
	e, err := fql.ParseValue(`  titlecase( event )`)
	if err != nil || e.String() != `titlecase(event)` || e.Source() != `  titlecase( event )` {
		t.Errorf("%v %v", e, err)
	}
	if v := e.Value([]byte(shop)); v.Kind() != fql.String || v.Text() != "Order Completed" || v.Kind().String() != "string" {
		t.Errorf("%v", v)
	}
}

// TestExpressionsInLargeEvents asks for fields beyond those that a document
// keeps at hand.
func TestExpressionsInLargeEvents(t *testing.T) {
	body := `{"first":1`
	for i := range 60 {
		body += `,"` + strings.Repeat("f", i+1) + `":` + strings.Repeat("1", i%9+1)
	}
	body += `,"last":{"x":[true]}}`
	for src, want := range map[string]bool{`last.x.0`: true, `first = 1`: true, `fff = 111`: true, `none = null`: true} {
		e, err := fql.Parse(src)
		if err != nil || e.Match([]byte(body)) != want {
			t.Errorf("%s is not %v: %v", src, want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`event = 'a' and !(properties.x\ y.0 in [1, "b", null, x]) or match(a.b, '*[^a-z]?\*') and -1.50 <= length(x)`,
		`all`, `\all`, `!!bool(a = 1)`, `semver(context.app.version, ">=", "1.2")`, `string([]) = titlecase(uppercase('é'))`, `((a) = (b or c))`, `"it's" = 'a"b'`} {
		f.Add(s, []byte(shop))
	}
	f.Add(`properties.list = properties.list and a.b.c > 1`, []byte(`{"properties":{"list":[[[{}]]]},"a":{"b":[`))
	f.Fuzz(func(t *testing.T, src string, body []byte) {
		e, err := fql.ParseValue(src)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || e != nil {
				t.Fatalf("%q: %v, %v", src, e, err)
			}
			return
		}
		if _, err := fql.Parse(src); err == nil {
			_ = e.Match(body)
		}
		if len(e.String()) > fql.MaxBytes {
			return // it is longer with its spaces
		}
		again, err := fql.ParseValue(e.String())
		if err != nil {
			t.Fatalf("%q is written %q: %v", src, e, err)
		}
		if again.String() != e.String() {
			t.Fatalf("%q is written %q, then %q", src, e, again)
		}
		for _, b := range [][]byte{body, []byte(shop)} {
			if x, y := e.Value(b).JSON(), again.Value(b).JSON(); x != y {
				t.Fatalf("%q is %s, %q is %s", src, x, e, y)
			}
		}
	})
}

// TestGlobAgainstNaive compares match with the plainest reading of a pattern.
func TestGlobAgainstNaive(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(signs string, n int) string {
		var b strings.Builder
		for range r.IntN(n) {
			b.WriteByte(signs[r.IntN(len(signs))])
		}
		return b.String()
	}
	matches := 0
	for range 200_000 {
		pattern, s := pick("ab*?", 8), pick("ab", 8)
		e, err := fql.Parse(`match('` + s + `', '` + pattern + `')`)
		if err != nil {
			t.Fatal(err)
		}
		want := naive(pattern, s)
		if got := e.Match([]byte("{}")); got != want {
			t.Fatalf("match(%q, %q) is %v", s, pattern, got)
		}
		if want {
			matches++
		}
	}
	if matches < 10_000 {
		t.Fatalf("only %d matches", matches)
	}
}

func naive(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return naive(pattern[1:], s) || s != "" && naive(pattern, s[1:])
	case s == "":
		return false
	}
	return (pattern[0] == '?' || pattern[0] == s[0]) && naive(pattern[1:], s[1:])
}

func BenchmarkExpr(b *testing.B) {
	body := []byte(readLines(b, "testdata/events.jsonl")[0])
	for name, src := range map[string]string{
		"three": `type = "track" and event = "Order Completed" and properties.revenue > 50`,
		"first": `type = "identify"`,
		"match": `match(context.library.name, 'analytics*') and !contains(lowercase(event), 'internal')`,
	} {
		e, err := fql.Parse(src)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				e.Match(body)
			}
		})
	}
	b.Run("200 of one event", func(b *testing.B) {
		e, err := fql.Parse(`event = "Heartbeat" or match(context.ip, '10.*')`)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			d := fql.NewDocument(body)
			for range 200 {
				if e.MatchDocument(d) {
					b.Fatal("it matches")
				}
			}
		}
	})
}
