package trackingplan

import (
	"reflect"
	"strings"
	"testing"

	"github.com/tidwall/gjson"

	"kith/event"
	"kith/workspace"
)

// FuzzJudge holds any event that collect takes to a plan that uses every
// keyword: nothing may panic, the answer is the same every time, and what goes
// on is the event as it came, but for what was taken out and noted.
func FuzzJudge(f *testing.F) {
	for _, seed := range []string{
		`{"type":"track","event":"E","properties":{"revenue":"1"}}`,
		`{"type":"track","event":"E","properties":{"n":1e999999999,"m":-0e-99999,"list":[1,1.0,{"a":[]}],"a.b":{"":null}}}`,
		`{"type":"identify","userId":"u","traits":{"email":"x","age":1.5,"\u0000":"\ud800"}}`,
		`{"type":"page","name":"Home","properties":null,"context":{"protocols":[{}]}}`,
		`{"type":"group","groupId":"g","context":{"protocols":{"event_version":2,"violations":"x"}}}`,
		`{"type":"alias","previousId":"a","userId":"b"}`,
		`{"properties":[[[[]]]]}`, `{}`,
	} {
		f.Add(seed, byte(0))
		f.Add(seed, byte(255))
	}
	const all = `{"required":["userId"],"properties":{"properties":{"propertyNames":{"maxLength":40},"maxProperties":9,"patternProperties":{"^a":{"type":["object","null"]}},
		"properties":{"revenue":{"type":"number","minimum":1,"maximum":1e6,"multipleOf":0.01},"n":{"type":"integer","exclusiveMaximum":5},"m":{"enum":[0,"x",[1]]},
		"list":{"type":"array","uniqueItems":true,"contains":{"const":{"a":1}},"items":{"anyOf":[{"type":"object","required":["a"]},{"oneOf":[{"type":"number"},{"minimum":3}]}]}}},
		"dependencies":{"n":["m"]},"if":{"required":["n"]},"then":{"required":["revenue"]},"else":{"not":{"required":["list"]}}},
		"traits":{"properties":{"email":{"format":"email"},"age":{"type":"integer"}},"additionalProperties":{"type":"string","pattern":"^x"}}}}`
	rules := []workspace.Rule{aRule("COMMON", "", 1, all)}
	for _, kind := range []string{"TRACK", "IDENTIFY", "GROUP", "PAGE", "SCREEN"} {
		key := ""
		if kind == "TRACK" {
			key = "E"
		}
		rules = append(rules, aRule(kind, key, 1, all), aRule(kind, key, 2, `{"allOf":[{"required":["properties"]}]}`))
	}
	snapshot := newLine(f, workspace.SchemaSettings{}, rules...).snapshot
	f.Fuzz(func(t *testing.T, body string, choice byte) {
		if repeated, err := event.CheckJSON([]byte(body)); err != nil || repeated || len(body) > 32<<10 {
			return // collect refuses or settles it
		}
		e, err := event.Parse([]byte(body))
		if err != nil {
			return
		}
		s := allowAll()
		bit := func(n int) bool { return choice>>n&1 == 0 }
		s.Track = workspace.TrackSettings{AllowUnplannedEvents: bit(0), AllowUnplannedEventProperties: bit(1), AllowEventOnViolations: bit(2), AllowPropertiesOnViolations: bit(3)}
		s.Identify = workspace.TraitsSettings{AllowUnplannedTraits: bit(4), AllowTraitsOnViolations: bit(5)}
		if !bit(6) {
			s.Track.CommonEventOnViolations, s.Identify.CommonEventOnViolations = workspace.OmitProperties, workspace.OmitTraits
		}
		src := &workspace.Source{ID: "shop", Schema: s}
		p := newPlan(&snapshot.TrackingPlans[0], [32]byte{}, nil)
		out := judge(p, src, e)
		if again := judge(newPlan(&snapshot.TrackingPlans[0], [32]byte{}, nil), src, e); !reflect.DeepEqual(out, again) {
			t.Fatalf("%s\nonce  %+v\nthen %+v", body, out, again)
		}
		if out.event == nil {
			return
		}
		if !gjson.ValidBytes(out.event.Body) {
			t.Fatalf("%s\nbecame %s", body, out.event.Body)
		}
		taken := map[string]bool{"context.protocols": true}
		for _, field := range append(out.Omitted, out.OmittedOnViolation...) {
			taken[field] = true
		}
		same(t, "", gjson.Parse(body), gjson.ParseBytes(out.event.Body), taken)
	})
}

// same checks that b has every member of a, text for text, but those taken.
func same(t *testing.T, at string, a, b gjson.Result, taken map[string]bool) {
	t.Helper()
	if taken[at] || at == "context" && !a.IsObject() {
		return
	}
	if !a.IsObject() || !b.IsObject() {
		if a.Raw != b.Raw {
			t.Fatalf("%s was %s and is %s", at, a.Raw, b.Raw)
		}
		return
	}
	members := map[string]gjson.Result{}
	b.ForEach(func(k, v gjson.Result) bool { members[k.String()] = v; return true })
	a.ForEach(func(k, v gjson.Result) bool {
		name := strings.TrimPrefix(at+"."+k.String(), ".")
		if !taken[cut(name)] {
			same(t, name, v, members[k.String()], taken)
		}
		return true
	})
}

// BenchmarkPrepare holds a hotel booking of about 1 KB to its rule and a COMMON one.
func BenchmarkPrepare(b *testing.B) {
	const booking = `{"type":"track","event":"Booking Completed","userId":"u1","anonymousId":"a1","messageId":"node-next-1700000000000-0f0f0f0f","timestamp":"2026-03-01T10:00:00.000Z",
		"properties":{"booking_id":"b-1","booking_value":640.50,"currency":"EUR","check_in_date":"2026-04-01","nights":3,"rooms":[{"type":"double","adults":2,"children":0,"rate":213.5}],"channel":"direct","hotel":"harbour","breakfast":true,"coupon":"SPRING"},
		"context":{"ip":"192.0.2.1","userAgent":"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15","library":{"name":"@segment/analytics-node","version":"2.0.0"},"page":{"path":"/book","referrer":"https://www.example.com/","search":"?utm_source=mail","title":"Book","url":"https://www.example.com/book"},"campaign":{"name":"spring","source":"mail"},"locale":"en-GB","timezone":"Europe/Berlin"}}`
	const rule = `{"type":"object","properties":{"properties":{"type":"object","properties":{"booking_id":{"type":"string"},"booking_value":{"type":"number","minimum":0},"currency":{"type":"string","pattern":"^[A-Z]{3}$"},
		"check_in_date":{"type":"string","format":"date-time"},"nights":{"type":"integer"},"rooms":{"type":"array","items":{"type":"object","properties":{"rate":{"type":"number"}},"required":["type"]}},"channel":{"enum":["direct","agency"]},
		"hotel":{},"breakfast":{"type":"boolean"},"coupon":{"type":"string"}},"required":["booking_id","booking_value"]}}}`
	l := newLine(b, allowAll(), aRule("TRACK", "Booking Completed", 1, rule), aRule("COMMON", "", 1, `{"required":["userId","context"]}`))
	for name, body := range map[string]string{
		"fits":     booking,
		"violates": strings.Replace(booking, "640.50", `"640.50"`, 1),
	} {
		b.Run(name, func(b *testing.B) {
			r := l.record("shop", body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				l.stage.Prepare(r)
			}
			if o := l.stage.Outcome(r); len(o.Violations) != map[string]int{"violates": 1}[name] {
				b.Fatalf("%+v", o)
			}
		})
	}
}
