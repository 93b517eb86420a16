package trackingplan

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"

	"kith/event"
	"kith/workspace"
)

// plan is a tracking plan made ready to run: its rules by type and key, oldest
// version first. It is immutable; its rules are compiled when first asked for.
type plan struct {
	id     string
	digest [sha256.Size]byte
	rules  map[ruleName][]versioned
	common []versioned
}

type ruleName struct{ kind, key string }

type versioned struct {
	version int
	rule    func() *rule // nil when the rule cannot be used
}

func newPlan(p *workspace.TrackingPlan, digest [sha256.Size]byte, log *slog.Logger) *plan {
	out := &plan{id: p.ID, digest: digest, rules: make(map[ruleName][]versioned, len(p.Rules))}
	for _, r := range p.Rules {
		v := versioned{version: r.Version, rule: sync.OnceValue(func() *rule {
			compiled, err := compile(r)
			if err != nil { // Check refuses such a rule; one that got in otherwise holds for nothing
				log.Error("a rule of a tracking plan cannot be used", "plan", p.ID, "type", r.Type, "key", r.Key, "version", r.Version, "error", err)
			}
			return compiled
		})}
		if r.Type == "COMMON" {
			out.common = append(out.common, v)
			continue
		}
		name := ruleName{r.Type, r.Key}
		out.rules[name] = append(out.rules[name], v)
	}
	for _, versions := range out.rules {
		slices.SortStableFunc(versions, func(a, b versioned) int { return cmp.Compare(a.version, b.version) })
	}
	return out
}

// rulesFor returns the rules, other than COMMON ones, that hold for a call in
// the version its event asks for; none when the plan does not know it.
func (p *plan) rulesFor(e *event.Event, version int) []*rule {
	var out []*rule
	add := func(kind, key string) bool {
		versions := p.rules[ruleName{kind, key}]
		if len(versions) == 0 {
			return false
		}
		chosen := versions[0]
		for _, v := range versions {
			if v.version == version {
				chosen = v
				break
			}
		}
		if r := chosen.rule(); r != nil {
			out = append(out, r)
		}
		return true
	}
	switch e.Type {
	case event.Track:
		add("TRACK", e.Event)
	case event.Identify:
		add("IDENTIFY", "")
	case event.Group:
		add("GROUP", "")
	case event.Page:
		add("TRACK", event.PageViewed)
		if e.Name == "" || !add("PAGE", e.Name) {
			add("PAGE", "")
		}
	case event.Screen:
		add("TRACK", event.ScreenViewed)
		if e.Name == "" || !add("SCREEN", e.Name) {
			add("SCREEN", "")
		}
	}
	return out
}

// commonRules returns the rules that hold for every call.
func (p *plan) commonRules() []*rule {
	var out []*rule
	for _, v := range p.common {
		if r := v.rule(); r != nil {
			out = append(out, r)
		}
	}
	return out
}

// knows reports whether the plan has a TRACK rule of that name.
func (p *plan) knows(name string) bool { return len(p.rules[ruleName{"TRACK", name}]) > 0 }

// maxPlans bounds the cache. A rebuild may pass many snapshots; those that do
// not change a plan share its compiled form.
const maxPlans = 64

// plans is a bounded cache of plans by snapshot and id. A cached plan is never
// changed, so it may still be in use after it has left the cache.
type plans struct {
	log *slog.Logger

	mu    sync.Mutex
	byKey map[planKey]*plan
	order []planKey // oldest first
}

type planKey struct {
	snapshot uint64
	id       string
}

func (c *plans) get(snapshot uint64, p *workspace.TrackingPlan) *plan {
	key := planKey{snapshot, p.ID}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.byKey[key]; found != nil {
		return found
	}
	digest := digestOf(p)
	var made *plan
	for _, k := range c.order {
		if old := c.byKey[k]; k.id == p.ID && old.digest == digest {
			made = old
		}
	}
	if made == nil {
		made = newPlan(p, digest, c.log)
	}
	if len(c.order) == maxPlans {
		delete(c.byKey, c.order[0])
		c.order = c.order[1:]
	}
	if c.byKey == nil {
		c.byKey = map[planKey]*plan{}
	}
	c.byKey[key] = made
	c.order = append(c.order, key)
	return made
}

func digestOf(p *workspace.TrackingPlan) (sum [sha256.Size]byte) {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(p.Rules) // plain data always encodes, and a hash takes everything
	h.Sum(sum[:0])
	return sum
}
