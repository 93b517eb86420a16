package workspace

import (
	"fmt"
	"regexp/syntax"
	"slices"

	"kith/event"
)

// The types of tracking plan (sheet connections_protocols §5.1).
const (
	PlanLive            = "LIVE"
	PlanPropertyLibrary = "PROPERTY_LIBRARY"
	PlanRuleLibrary     = "RULE_LIBRARY"
	PlanEngage          = "ENGAGE"
	PlanTemplate        = "TEMPLATE"
)

func (o *Options) checkPlans(p *problems, base, next *Snapshot) {
	u := unique{}
	heldBy := map[string]string{} // the plan of each source
	before := map[string]*TrackingPlan{}
	for i := range base.TrackingPlans {
		before[base.TrackingPlans[i].ID] = &base.TrackingPlans[i]
	}
	for _, plan := range unchangedFirst(next.TrackingPlans, func(t *TrackingPlan) *TrackingPlan { return before[t.ID] }) {
		at := "trackingPlans." + plan.Slug
		slug(p, at+".slug", plan.Slug)
		u.claim(p, at+".slug", "slug "+plan.Slug, "another tracking plan")
		u.claim(p, at+".id", "id "+plan.ID, "another tracking plan")
		named(p, at+".name", plan.Name, true)
		text(p, at+".description", plan.Description, maxDescription)
		switch plan.Type {
		case PlanLive, PlanPropertyLibrary, PlanRuleLibrary, PlanEngage, PlanTemplate:
		default:
			p.add(at+".type", "%q is not a type of tracking plan: want LIVE, PROPERTY_LIBRARY, RULE_LIBRARY, ENGAGE or TEMPLATE", plan.Type)
		}
		for j, id := range plan.SourceIDs {
			place := fmt.Sprintf("%s.sources.%d", at, j)
			if next.Source(id) == nil {
				p.add(place, "there is no source %q", id)
			}
			if other, held := heldBy[id]; held {
				p.add(place, "the source is connected to the tracking plan %s already; a source has one at most", other)
			}
			heldBy[id] = plan.Slug
		}
		o.checkRules(p, at+".rules", plan.Rules, before[plan.ID])
	}
}

func (o *Options) checkRules(p *problems, at string, rules []Rule, before *TrackingPlan) {
	if len(rules) > maxRules {
		p.add(at, "%d rules; a plan has at most %d", len(rules), maxRules)
		return
	}
	rule := func(r *Rule) string { return r.Type + " " + r.Key + " " + string(r.JSONSchema) }
	known := map[string]bool{} // rules that were checked before
	if before != nil {
		for i := range before.Rules {
			known[rule(&before.Rules[i])] = true
		}
	}
	seen := map[string]bool{}
	for i := range rules {
		r := &rules[i]
		place := fmt.Sprintf("%s.%d", at, i)
		text(p, place+".key", r.Key, maxDescription)
		if r.Version < 0 {
			p.add(place+".version", "%d is negative", r.Version)
		}
		name := fmt.Sprintf("%s %d %s", r.Type, r.Version, r.Key)
		if seen[name] {
			p.add(place, "there is another %s rule with key %q and version %d", r.Type, r.Key, r.Version)
		}
		seen[name] = true
		if !document(p, place+".jsonSchema", r.JSONSchema, maxSchema) || o.CheckRule == nil || known[rule(r)] {
			continue
		}
		p.wrap(place, o.CheckRule(*r))
	}
}

// checkNormalize checks in which form a rule has values compared.
func checkNormalize(p *problems, place string, r *IdentifierRule) {
	form := r.Normalize
	if form == "" && r.Type == NormalizeMAC {
		form = NormalizeMAC
	}
	switch form {
	case "", NormalizeNone, NormalizeEmail, NormalizePhone, NormalizeMAC:
	default:
		p.add(place+".normalize", "%q is not a form: want none, email, phone or mac", r.Normalize)
	}
	if r.EmailProvider && form != NormalizeEmail {
		p.add(place+".emailProvider", "is for e-mail addresses: set normalize to email too")
	}
	if r.Region != "" && form != NormalizePhone {
		p.add(place+".region", "is for phone numbers: set normalize to phone too")
	}
	if r.Region != "" && !regionForm.MatchString(r.Region) {
		p.add(place+".region", "%q is not a region: want two capital letters, as in DE", r.Region)
	}
	if r.NetworkKey != "" && form != NormalizeMAC {
		p.add(place+".networkKey", "is for MAC addresses: set normalize to mac too")
	}
	if r.NetworkKey != "" {
		named(p, place+".networkKey", r.NetworkKey, true)
	}
	switch r.ValidFor {
	case "", "ever", "weekly", "monthly", "annually":
	default:
		p.add(place+".validFor", "%q is not a span: want ever, weekly, monthly or annually", r.ValidFor)
	}
}

func checkIdentifiers(p *problems, at string, rules []IdentifierRule) {
	if len(rules) > maxIdentifiers {
		p.add(at, "%d rules; a space has at most %d", len(rules), maxIdentifiers)
		return
	}
	if len(rules) > 0 && !slices.ContainsFunc(rules, func(r IdentifierRule) bool { return r.Type == "user_id" && r.Collection != event.Accounts }) {
		p.add(at, "a list of identifiers replaces the default one, and this one is without user_id: events would belong to nobody. "+
			"List {type: user_id} and the other types to keep, as email, anonymous_id and group_id, beside your own")
	}
	seen, ranks := map[string]bool{}, map[int]string{}
	for i := range rules {
		r := &rules[i]
		place := fmt.Sprintf("%s.%d", at, i)
		if !typeForm.MatchString(r.Type) || len(r.Type) > maxSlug {
			p.add(place+".type", "%q is not an identifier type: want lower-case letters, digits, '_', '.', '-' and '$', as in user_id", r.Type)
		}
		if r.Collection != "" && r.Collection != event.Users && r.Collection != event.Accounts {
			p.add(place+".collection", "%q is not a collection: want users or accounts", r.Collection)
		}
		name := r.Collection + " " + r.Type
		if r.Collection == "" {
			name = event.Users + name
		}
		if seen[name] {
			p.add(place+".type", "there is another rule for %s", r.Type)
		}
		seen[name] = true
		if r.Limit < 0 || r.Limit > maxLimit {
			p.add(place+".limit", "%d is out of bounds: want 0 (the default) to %d", r.Limit, maxLimit)
		}
		switch r.Window {
		case "", "ever", "weekly", "monthly", "annually":
		default:
			p.add(place+".window", "%q is not a window: want ever, weekly, monthly or annually", r.Window)
		}
		checkNormalize(p, place, r)
		if r.Priority < 0 {
			p.add(place+".priority", "%d is negative: 1 is the highest", r.Priority)
		}
		if other, taken := ranks[r.Priority]; taken && r.Priority > 0 {
			p.add(place+".priority", "%s has the priority %d already; each type has its own", other, r.Priority)
		}
		ranks[r.Priority] = r.Type
		if len(r.Keys) > maxLabels || len(r.Blocked) > maxBlocked || len(r.BlockedPatterns) > maxBlocked {
			p.add(place, "at most %d keys, %d blocked values and %d patterns are kept", maxLabels, maxBlocked, maxBlocked)
			continue
		}
		for j, k := range r.Keys {
			named(p, fmt.Sprintf("%s.keys.%d", place, j), k, true)
		}
		total := 0
		for j, pattern := range r.BlockedPatterns {
			if total > maxAllSteps {
				break
			}
			if len(pattern) > maxPattern {
				p.add(fmt.Sprintf("%s.blockedPatterns.%d", place, j), "has %d bytes; at most %d are read", len(pattern), maxPattern)
			} else if n, err := PatternSteps(pattern); err != nil {
				p.add(fmt.Sprintf("%s.blockedPatterns.%d", place, j), "is not a regular expression (RE2): %v", err)
			} else if total += n; n > maxSteps {
				p.add(fmt.Sprintf("%s.blockedPatterns.%d", place, j), "is too large once its repetitions are written out: %d steps, at most %d are possible; repeat less often, as in .* instead of .{1000}", n, maxSteps)
			}
		}
		if total > maxAllSteps {
			p.add(place+".blockedPatterns", "are too large together: %d steps, at most %d are possible", total, maxAllSteps)
		}
	}
}

// Bounds of the patterns of one rule, in steps of the compiled pattern. Memory
// grows with them, and so does the time that each identifier of an event takes:
// 5,000 steps are about 10 ms at worst.
const (
	maxSteps    = 5000
	maxAllSteps = 100_000
)

// PatternSteps returns how large a regular expression is when it is compiled.
// Nothing else bounds that: 1,000 bytes of repetitions make 300,000 steps.
func PatternSteps(pattern string) (int, error) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return 0, err
	}
	return len(program.Inst), nil
}
