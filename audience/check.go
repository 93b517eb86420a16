package audience

import (
	"slices"
	"strings"

	"kith/computation"
	"kith/fault"
	"kith/query"
	"kith/workspace"
)

// Check checks an audience as it stands in a snapshot that is to replace base
// (nil: none): its query is one that Kith evaluates whole, the audiences that
// it reads are there and enabled, and it does not read itself by way of
// others. Errors are fault.Invalid; their text begins with the place in the
// query, "line:column: ", and errors.As finds the *query.Error.
//
// A trait that is no audience's key is a trait of the profile, so a reference
// to an audience that was never there is not an error; one to an audience that
// the same change takes away is.
func Check(base, next *workspace.Snapshot, a *workspace.Audience) error {
	program, err := query.ParseAudience(a.Query)
	if err != nil {
		return err
	}
	if err := checkLost(base, next, a, program); err != nil {
		return err
	}
	references := map[string][]computation.Reference{a.ID: computation.References(next, a.SpaceID, program)}
	for _, ref := range references[a.ID] {
		if other := next.Audience(ref.Audience); a.Enabled && !other.Enabled {
			return refuse(program, ref.Trait, "the audience %s is disabled; enable it, or leave it out", other.Key)
		}
	}
	return checkCycle(next, a, program, references)
}

// checkLost refuses to read an audience that is being taken away.
func checkLost(base, next *workspace.Snapshot, a *workspace.Audience, program *query.Program) error {
	if base == nil {
		return nil
	}
	for _, ref := range computation.References(base, a.SpaceID, program) {
		if next.Audience(ref.Audience) == nil {
			return refuse(program, ref.Trait, "the audience %s is being deleted; leave it out first", base.Audience(ref.Audience).Key)
		}
	}
	return nil
}

// checkCycle refuses an audience whose membership would depend on itself.
func checkCycle(next *workspace.Snapshot, a *workspace.Audience, program *query.Program, references map[string][]computation.Reference) error {
	if len(references[a.ID]) == 0 {
		return nil
	}
	// Only what can be reached is read: most audiences read no other.
	reached := []string{a.ID}
	for i := 0; i < len(reached); i++ {
		other := next.Audience(reached[i])
		if _, known := references[other.ID]; !known {
			if p, err := query.ParseAudience(other.Query); err == nil {
				references[other.ID] = computation.References(next, a.SpaceID, p)
			}
		}
		for _, ref := range references[other.ID] {
			if !slices.Contains(reached, ref.Audience) {
				reached = append(reached, ref.Audience)
			}
		}
	}
	way := computation.Cycle(a.ID, references)
	if way == nil {
		return nil
	}
	keys := make([]string, len(way))
	for i, id := range way {
		keys[i] = next.Audience(id).Key
	}
	i := slices.IndexFunc(references[a.ID], func(ref computation.Reference) bool { return ref.Audience == way[1] })
	return refuse(program, references[a.ID][i].Trait, "this would create a cycle: %s", strings.Join(keys, " reads "))
}

// refuse returns an error at the place where the query first reads a trait.
func refuse(program *query.Program, trait, format string, args ...any) error {
	at := query.Pos{Line: 1, Column: 1}
	for _, t := range program.Traits {
		if t.Name == trait {
			at = t.At
		}
	}
	message := fault.New(fault.Invalid, format, args...).Error()
	return fault.New(fault.Invalid, "%w", &query.Error{Pos: at, Message: message})
}
