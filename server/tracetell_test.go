package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNotesOfThePlan(t *testing.T) {
	got := planNotes([]byte(`{"context":{"protocols":{"sourceId":"s","violations":[{"type":"Invalid Type","field":"properties.revenue",` +
		`"description":"Invalid type. Expected: number, given: string"}],"unplanned":["properties.n"],"omitted":["properties.card"],"omitted_on_violation":["properties.revenue"]}}}`))
	want := []string{
		"violation: Invalid type. Expected: number, given: string (properties.revenue)", "not in the plan: properties.n",
		"taken out, not in the plan: properties.card", "taken out for its violation: properties.revenue",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var many []string
	for i := range 25 {
		many = append(many, fmt.Sprintf("%q", fmt.Sprint("properties.p", i)))
	}
	got = planNotes([]byte(`{"context":{"protocols":{"unplanned":[` + strings.Join(many, ",") + `]}}}`))
	if len(got) != maxNotes+1 || !strings.HasPrefix(got[maxNotes], "and 5 more") {
		t.Errorf("%q", got)
	}
}
