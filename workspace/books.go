package workspace

import (
	"bytes"
	"slices"
	"time"
)

// keepBooks sets what follows from the difference between base and next: the
// times of creation and change, and the audiences' versions.
func keepBooks(base, next *Snapshot, now time.Time) {
	created := func(t *time.Time) {
		if t.IsZero() {
			*t = now
		}
	}
	for i := range next.Spaces {
		created(&next.Spaces[i].CreatedAt)
		keepFilters(base, &next.Spaces[i], now)
	}
	for i := range next.Sources {
		created(&next.Sources[i].CreatedAt)
	}
	for i := range next.Destinations {
		created(&next.Destinations[i].CreatedAt)
	}
	plans := map[string]*TrackingPlan{}
	for i := range base.TrackingPlans {
		plans[base.TrackingPlans[i].ID] = &base.TrackingPlans[i]
	}
	for i := range next.TrackingPlans {
		keepPlan(plans[next.TrackingPlans[i].ID], &next.TrackingPlans[i], now)
	}
	for i := range next.Audiences {
		a := &next.Audiences[i]
		created(&a.CreatedAt)
		had := base.Audience(a.ID)
		if had == nil {
			a.Version, a.UpdatedAt = 1, now
			continue
		}
		a.Version, a.UpdatedAt = had.Version, had.UpdatedAt
		if a.Query != had.Query || !sameOptions(&a.Options, &had.Options) || a.Enabled && !had.Enabled {
			a.Version++
		}
		if !sameText(a, had) {
			a.UpdatedAt = now
		}
	}
}

func keepPlan(had, plan *TrackingPlan, now time.Time) {
	if plan.CreatedAt.IsZero() {
		plan.CreatedAt = now
	}
	before := map[ruleName]*Rule{}
	if had != nil {
		for i := range had.Rules {
			before[had.Rules[i].name()] = &had.Rules[i]
		}
	}
	for i := range plan.Rules {
		r := &plan.Rules[i]
		old := before[r.name()]
		if old == nil {
			r.CreatedAt, r.UpdatedAt = now, now
			continue
		}
		r.CreatedAt, r.UpdatedAt = old.CreatedAt, old.UpdatedAt
		if !sameJSON(r.JSONSchema, old.JSONSchema) {
			r.UpdatedAt = now
		}
	}
	if had != nil {
		plan.UpdatedAt = had.UpdatedAt
	}
	if had == nil || !sameText(plan, had) {
		plan.UpdatedAt = now
	}
}

// ruleName is what tells the rules of a plan apart.
type ruleName struct {
	kind, key string
	version   int
}

func (r *Rule) name() ruleName { return ruleName{r.Type, r.Key, r.Version} }

func sameOptions(a, b *AudienceOptions) bool {
	return a.includesHistory() == b.includesHistory() && slices.Equal(a.FilterByExternalIDs, b.FilterByExternalIDs) &&
		days(a) == days(b)
}

func (o *AudienceOptions) includesHistory() bool {
	return o.IncludeHistoricalData == nil || *o.IncludeHistoricalData
}

func days(o *AudienceOptions) int {
	if o.BackfillEventDataDays == nil {
		return -1
	}
	return *o.BackfillEventDataDays
}

func sameText(a, b any) bool {
	x, err := marshal(a)
	if err != nil {
		return false
	}
	y, err := marshal(b)
	return err == nil && bytes.Equal(x, y)
}
