package api

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"kith/fault"
	"kith/workspace"
)

// maxRulesAtOnce is the most rules one update names (sheet
// connections_protocols §5.1).
const maxRulesAtOnce = 200

type ruleBody struct {
	Type       string   `json:"type"`
	Key        string   `json:"key,omitempty"`
	JSONSchema document `json:"jsonSchema"`
	Version    int      `json:"version"`
	CreatedAt  string   `json:"createdAt"`
	UpdatedAt  string   `json:"updatedAt"`
}

func showRule(r *workspace.Rule) ruleBody {
	return ruleBody{
		Type: r.Type, Key: r.Key, JSONSchema: document(r.JSONSchema), Version: r.Version,
		CreatedAt: when(r.CreatedAt), UpdatedAt: when(r.UpdatedAt),
	}
}

type ruleInput struct {
	Type       string   `json:"type" enum:"TRACK,IDENTIFY,GROUP,PAGE,SCREEN,COMMON"`
	Key        string   `json:"key,omitempty" doc:"The event's name"`
	JSONSchema document `json:"jsonSchema" doc:"Draft-07, over the whole event"`
	Version    int      `json:"version" minimum:"0"`
}

func (r *ruleInput) rule() workspace.Rule {
	return workspace.Rule{Type: r.Type, Key: r.Key, Version: r.Version, JSONSchema: r.JSONSchema.raw()}
}

// ruleName tells the rules of a plan apart.
type ruleName struct {
	kind, key string
	version   int
}

func nameOf(r *workspace.Rule) ruleName { return ruleName{r.Type, r.Key, r.Version} }

// sortable is a name's key in a page.
func (n ruleName) sortable() string { return fmt.Sprintf("%s\x00%s\x00%09d", n.kind, n.key, n.version) }

type listRulesInput struct {
	PlanPath
	Paging
}

type rulesAnswer struct {
	Rules      []ruleBody `json:"rules"`
	Pagination pageInfo   `json:"pagination"`
}

func (a *API) listRules(_ context.Context, in *listRulesInput) (rulesAnswer, error) {
	plan, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return rulesAnswer{}, err
	}
	page, info, err := paged(plan.Rules, func(r *workspace.Rule) string { return nameOf(r).sortable() }, &in.Paging)
	return rulesAnswer{each(page, showRule), info}, err
}

type upsertRule struct {
	Type       string   `json:"type" enum:"TRACK,IDENTIFY,GROUP,PAGE,SCREEN,COMMON"`
	Key        string   `json:"key,omitempty" doc:"The event's name"`
	NewKey     *string  `json:"newKey,omitempty" doc:"Another key for the rule"`
	JSONSchema document `json:"jsonSchema" doc:"Draft-07, over the whole event"`
	Version    int      `json:"version" minimum:"0"`
}

type updateRulesInput struct {
	PlanPath
	Body struct {
		Rules []upsertRule `json:"rules" maxItems:"200"`
	}
}

func (a *API) updateRules(ctx context.Context, in *updateRulesInput) (status, error) {
	var asked map[int]int // the place in the request of each rule that it names
	_, err := a.changePlan(ctx, &in.PlanPath, func(field string) string { return asAsked(field, asked) },
		func(_ *workspace.Draft, p *workspace.TrackingPlan) error {
			asked = map[int]int{}
			for n := range in.Body.Rules {
				change := &in.Body.Rules[n]
				r := workspace.Rule{Type: change.Type, Key: change.Key, Version: change.Version, JSONSchema: change.JSONSchema.raw()}
				i := slices.IndexFunc(p.Rules, func(h workspace.Rule) bool { return nameOf(&h) == nameOf(&r) })
				set(&r.Key, change.NewKey)
				if i < 0 {
					i = len(p.Rules)
					p.Rules = append(p.Rules, r)
				} else {
					p.Rules[i] = r
				}
				asked[i] = n
			}
			return nil
		})
	return success(), err
}

var rulePlace = regexp.MustCompile(`^rules\.(\d+)(.*)$`)

// asAsked turns a rule's place in the plan into its place in the request.
func asAsked(field string, asked map[int]int) string {
	m := rulePlace.FindStringSubmatch(field)
	if m == nil {
		return field
	}
	i, err := strconv.Atoi(m[1])
	if n, ok := asked[i]; ok && err == nil {
		return "rules." + strconv.Itoa(n) + m[2]
	}
	return field
}

type replaceRulesInput struct {
	PlanPath
	Body struct {
		Rules []ruleInput `json:"rules"`
	}
}

func (a *API) replaceRules(ctx context.Context, in *replaceRulesInput) (status, error) {
	_, err := a.changePlan(ctx, &in.PlanPath, nil, func(_ *workspace.Draft, p *workspace.TrackingPlan) error {
		p.Rules = nil
		for i := range in.Body.Rules {
			p.Rules = append(p.Rules, in.Body.Rules[i].rule())
		}
		return nil
	})
	return success(), err
}

type removeRulesInput struct {
	PlanPath
	rules []ruleName
}

// Resolve reads the rules of the query as the SDKs write them: nested with
// brackets, or by the Go SDK with a dot before the index.
func (in *removeRulesInput) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	var err error
	if in.rules, err = namedRules(u.Query()); err != nil {
		return []error{&huma.ErrorDetail{Location: "query.rules", Message: err.Error()}}
	}
	return nil
}

var ruleParam = regexp.MustCompile(`^rules(?:\[(\d{1,3})\]|\.(\d{1,3}))(?:\[(\w+)\]|\.(\w+))$`)

func namedRules(query url.Values) ([]ruleName, error) {
	at := map[string]*ruleName{}
	var order []string
	for _, name := range sortedKeys(query) {
		m := ruleParam.FindStringSubmatch(name)
		if m == nil {
			if strings.HasPrefix(name, "rules") {
				return nil, fmt.Errorf("%q is not understood: want rules[0][type], rules[0][key] and rules[0][version]", name)
			}
			continue
		}
		index, part, value := m[1]+m[2], m[3]+m[4], query.Get(name)
		if at[index] == nil {
			at[index] = &ruleName{}
			order = append(order, index)
		}
		switch part {
		case "type":
			at[index].kind = value
		case "key":
			at[index].key = value
		case "version":
			n, err := strconv.Atoi(value)
			if err != nil {
				return nil, fmt.Errorf("%s: %q is no version", name, value)
			}
			at[index].version = n
		default:
			return nil, fmt.Errorf("a rule is named by its type, key and version, not by %q", part)
		}
	}
	if len(order) == 0 || len(order) > maxRulesAtOnce {
		return nil, fmt.Errorf("want 1 to %d rules, as rules[0][type]=TRACK&rules[0][key]=…&rules[0][version]=1", maxRulesAtOnce)
	}
	var names []ruleName
	for _, index := range order {
		names = append(names, *at[index])
	}
	return names, nil
}

func sortedKeys(query url.Values) []string {
	names := make([]string, 0, len(query))
	for name := range query {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (a *API) removeRules(ctx context.Context, in *removeRulesInput) (status, error) {
	_, err := a.changePlan(ctx, &in.PlanPath, nil, func(_ *workspace.Draft, p *workspace.TrackingPlan) error {
		for _, name := range in.rules {
			i := slices.IndexFunc(p.Rules, func(r workspace.Rule) bool { return nameOf(&r) == name })
			if i < 0 {
				return fault.New(fault.NotFound, "there is no %s rule with key %q and version %d", name.kind, name.key, name.version)
			}
			p.Rules = slices.Delete(p.Rules, i, i+1)
		}
		return nil
	})
	return success(), err
}
