package workspace_test

import (
	"fmt"
	"testing"

	"kith/clock"
	"kith/kv/memkv"
	"kith/workspace"
)

// BenchmarkUpdate changes one thing in a large workspace: 500 sources, 500
// audiences, a plan with 1,000 rules.
func BenchmarkUpdate(b *testing.B) {
	s, err := workspace.Open(b.Context(), memkv.New(), options(clock.NewManual(start), 1))
	if err != nil {
		b.Fatal(err)
	}
	_, err = s.Update(b.Context(), func(d *workspace.Draft) error {
		plan := workspace.TrackingPlan{ID: "tp_1", Slug: "plan", Name: "Plan", Type: "LIVE"}
		for i := range 1000 {
			plan.Rules = append(plan.Rules, workspace.Rule{Type: "TRACK", Key: fmt.Sprint("Event ", i), Version: 1,
				JSONSchema: []byte(`{"type":"object","properties":{"properties":{"type":"object","required":["id"],"properties":{"id":{"type":"string"}}}}}`)})
		}
		d.TrackingPlans = append(d.TrackingPlans, plan)
		for i := range 500 {
			source(d, fmt.Sprint("source-", i), fmt.Sprint("key-", i))
			d.Audiences = append(d.Audiences, workspace.Audience{ID: d.NewAudienceID(), SpaceID: d.Spaces[0].ID, Name: "A", Key: fmt.Sprint("a", i), Query: "q"})
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Update(b.Context(), func(d *workspace.Draft) error {
			d.Sources[0].WriteKeys = []string{d.NewWriteKey()}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}
