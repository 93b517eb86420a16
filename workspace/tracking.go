package workspace

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Bounds of an httpConfig. They are above all that the SDKs have as defaults.
const (
	maxHTTPConfig = 16 << 10 // bytes of JSON
	maxRetries    = 10_000
	maxSeconds    = 30 * 24 * 60 * 60
	maxOverrides  = 200
)

// fieldRule says what a field of an httpConfig may hold.
type fieldRule struct {
	kind     kind
	least    float64
	most     float64
	fraction bool
}

// What the sections of an httpConfig may hold (sheet connections_protocols
// §1.6). Durations are in seconds. A number is whole unless it says otherwise:
// Kotlin's parser forgets the whole of the settings over one that is not.
var (
	rateLimitFields = map[string]fieldRule{
		"enabled":              {kind: isFlag},
		"maxRetryCount":        {kind: isNumber, most: maxRetries},
		"maxRetryInterval":     {kind: isNumber, least: 1, most: maxSeconds},
		"maxRateLimitDuration": {kind: isNumber, least: 1, most: maxSeconds},
	}
	backoffFields = map[string]fieldRule{
		"enabled":                 {kind: isFlag},
		"maxRetryCount":           {kind: isNumber, most: maxRetries},
		"baseBackoffInterval":     {kind: isNumber, least: 0.01, most: maxSeconds, fraction: true},
		"maxBackoffInterval":      {kind: isNumber, least: 1, most: maxSeconds},
		"maxTotalBackoffDuration": {kind: isNumber, least: 1, most: maxSeconds},
		"jitterPercent":           {kind: isNumber, most: 100},
		"default4xxBehavior":      {kind: isText},
		"default5xxBehavior":      {kind: isText},
		"unknownCodeBehavior":     {kind: isText},
		"statusCodeOverrides":     {kind: isObject},
	}
)

// checkHTTPConfig holds a source's httpConfig to what the SDKs can read. A
// status that is not named in statusCodeOverrides keeps its usual treatment:
// the settings CDN publishes the whole map, since Swift and Kotlin would take a
// part of it for all.
func checkHTTPConfig(p *problems, at string, doc json.RawMessage) {
	if len(doc) == 0 {
		return
	}
	for _, f := range jsonNode(doc).fields {
		switch f.name {
		case "rateLimitConfig":
			checkSection(p, join(at, f.name), f.value, rateLimitFields)
		case "backoffConfig":
			checkSection(p, join(at, f.name), f.value, backoffFields)
		default:
			p.add(join(at, f.name), "there is no such section: want rateLimitConfig and backoffConfig")
		}
	}
}

func checkSection(p *problems, at string, section *node, rules map[string]fieldRule) {
	if section.kind != isObject {
		p.add(at, "want an object, not %s", kindNames[section.kind])
		return
	}
	for _, f := range section.fields {
		place := join(at, f.name)
		rule, ok := rules[f.name]
		switch {
		case !ok:
			names := map[string]bool{}
			for name := range rules {
				names[name] = true
			}
			p.add(place, "there is no field %q here; there are: %s", f.name, joinSorted(names))
		case f.value.kind != rule.kind:
			p.add(place, "want %s, not %s", kindNames[rule.kind], kindNames[f.value.kind])
		case rule.kind == isNumber:
			rule.checkNumber(p, place, f.value.text)
		case rule.kind == isText:
			checkBehavior(p, place, f.value)
		case rule.kind == isObject:
			checkOverrides(p, place, f.value)
		}
	}
}

func (r *fieldRule) checkNumber(p *problems, at, text string) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v < r.least || v > r.most {
		p.add(at, "%s is not between %v and %v", text, r.least, r.most)
		return
	}
	if _, err := strconv.Atoi(text); err != nil && !r.fraction {
		p.add(at, "want a whole number, not %s", text)
	}
}

func checkBehavior(p *problems, at string, n *node) {
	if n.kind != isText || n.text != "retry" && n.text != "drop" {
		p.add(at, `want "retry" or "drop"`)
	}
}

func checkOverrides(p *problems, at string, n *node) {
	if len(n.fields) > maxOverrides {
		p.add(at, "%d statuses; at most %d are kept", len(n.fields), maxOverrides)
		return
	}
	for _, f := range n.fields {
		if status, err := strconv.Atoi(f.name); err != nil || len(f.name) != 3 || status < 400 || status > 599 {
			p.add(join(at, f.name), "%q is not a status of a failure: want 400 to 599", f.name)
			continue
		}
		checkBehavior(p, join(at, f.name), f.value)
	}
}

// read takes a source's tracking from a file.
func (t *Tracking) read(o *object) {
	t.FilterBots = o.flagOr("filterBots", false)
	t.RequireToken = o.flagOr("requireToken", false)
	t.HTTPConfig = o.raw("httpConfig")
}

// node is a source's tracking in a file, empty when all of it is as usual.
func (t *Tracking) node() *node {
	n := objectNode()
	if t.FilterBots {
		n.set("filterBots", flagNode(true))
	}
	if t.RequireToken {
		n.set("requireToken", flagNode(true))
	}
	n.setDocument("httpConfig", jsonNode(t.HTTPConfig))
	return n
}

// tidy leaves nothing where there is nothing to say.
func (t *Tracking) tidy() {
	if slices.Contains([]string{"null", "{}"}, strings.TrimSpace(string(t.HTTPConfig))) {
		t.HTTPConfig = nil
	}
}
