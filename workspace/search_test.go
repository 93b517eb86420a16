package workspace_test

import (
	"slices"
	"testing"

	"kith/clock"
	"kith/kv/memkv"
	"kith/workspace"
)

func TestSearchTraitsOfAFile(t *testing.T) {
	defaults := []string{"email", "firstName", "lastName", "name", "phone"}
	s := open(t, memkv.New(), options(clock.NewManual(start), 1))
	for _, test := range []struct {
		file     string
		declared bool
		want     []string
	}{
		{"spaces: [{slug: default}]", false, defaults},
		{"spaces: [{slug: default, searchTraits: [loyaltyTier, email]}]", true, []string{"loyaltyTier", "email"}},
		{"spaces: [{slug: default, searchTraits: []}]", true, []string{}},
		{"spaces: [{slug: default, name: Default}]", false, defaults},
	} {
		f, err := workspace.ParseFile([]byte(test.file))
		if err != nil {
			t.Fatal(err)
		}
		update(t, s, func(d *workspace.Draft) { _ = f.Apply(d, workspace.ApplyOptions{}) })
		sp := s.Current().Space("default")
		if got := sp.SearchedTraits(); !slices.Equal(got, test.want) || (sp.SearchTraits != nil) != test.declared {
			t.Errorf("%s: %v, declared %v", test.file, got, sp.SearchTraits)
		}
	}
}
