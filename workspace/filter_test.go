package workspace_test

import (
	"testing"
	"time"

	"kith/clock"
	"kith/kv/memkv"
	"kith/workspace"
)

// TestFilters follows event filters through changes by the API and by a file:
// ids and times stay what they were, and only a change moves UpdatedAt.
func TestFilters(t *testing.T) {
	c := clock.NewManual(start)
	s := open(t, memkv.New(), options(c, 1))
	snap := update(t, s, func(d *workspace.Draft) {
		d.Spaces[0].Filters = []workspace.EventFilter{
			{ID: d.NewFilterID(), Name: "Tests", Enabled: true, If: "properties.test"},
			{ID: d.NewFilterID(), Name: "Tests", If: "event = 'x'"},
		}
	})
	first, second := snap.Space("default").Filters[0], snap.Space("default").Filters[1]
	if first.ID == second.ID || !first.CreatedAt.Equal(c.Now()) || !first.UpdatedAt.Equal(c.Now()) {
		t.Fatalf("%+v %+v", first, second)
	}
	if space, f := snap.Filter(second.ID); f == nil || f.If != second.If || space.Slug != "default" {
		t.Fatalf("found %+v in %+v", f, space)
	}
	if _, f := snap.Filter("flt_none"); f != nil {
		t.Fatalf("found %+v", f)
	}

	c.Set(start.Add(time.Hour))
	file, err := workspace.ParseFile([]byte(`spaces:
  - slug: default
    name: Default
    filters:
      - {name: Tests, if: properties.test}
      - {name: Tests, enabled: true, if: "event = 'x'"}
      - {name: Third, description: it is new, if: all}
`))
	if err != nil {
		t.Fatal(err)
	}
	snap = update(t, s, func(d *workspace.Draft) {
		if err := file.Apply(d, workspace.ApplyOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	got := snap.Space("default").Filters
	if len(got) != 3 || got[0] != first {
		t.Fatalf("%+v", got)
	}
	if got[1].ID != second.ID || !got[1].Enabled || !got[1].CreatedAt.Equal(second.CreatedAt) || !got[1].UpdatedAt.Equal(c.Now()) {
		t.Errorf("changed: %+v", got[1])
	}
	if got[2].Name != "Third" || !got[2].CreatedAt.Equal(c.Now()) || got[2].Description != "it is new" {
		t.Errorf("new: %+v", got[2])
	}
}
