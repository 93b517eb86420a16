package computation

import (
	"slices"

	"kith/pipeline"
	"kith/query"
	"kith/workspace"
)

// References returns the traits of a query that are audiences of the same
// space, by their keys, in the order of the query.
func References(s *workspace.Snapshot, spaceID string, p *query.Program) []Reference {
	var list []Reference
	for _, t := range p.Traits {
		if len(t.Path) != 1 {
			continue
		}
		for i := range s.Audiences {
			if a := &s.Audiences[i]; a.SpaceID == spaceID && a.Key == t.Path[0] {
				list = append(list, Reference{Trait: t.Name, Audience: a.ID})
			}
		}
	}
	return list
}

// Cycle returns the way from an audience back to itself along references, as
// audience ids beginning and ending with it, or nil when there is none.
func Cycle(from string, references map[string][]Reference) []string {
	seen := map[string]bool{}
	var walk func(id string) []string
	walk = func(id string) []string {
		for _, ref := range references[id] {
			if ref.Audience == from {
				return []string{id, from}
			}
			if seen[ref.Audience] {
				continue
			}
			seen[ref.Audience] = true
			if rest := walk(ref.Audience); rest != nil {
				return append([]string{id}, rest...)
			}
		}
		return nil
	}
	return walk(from)
}

// configure brings the registry in line with the snapshot that a config record
// puts in force.
func (p *pass) configure(r *pipeline.Record) error {
	if p.engine.frozen {
		return nil
	}
	space := r.Snapshot.SpaceByNumber(p.batch.Space)
	return p.rewrite(func(reg *registry) {
		reg.configure(r, space)
	})
}

func (r *registry) configure(rec *pipeline.Record, space *workspace.Space) {
	declared := map[string]*workspace.Audience{}
	references := map[string][]Reference{}
	programs := map[string]*query.Program{}
	var order []*workspace.Audience
	for i := range rec.Snapshot.Audiences {
		a := &rec.Snapshot.Audiences[i]
		if space == nil || a.SpaceID != space.ID {
			continue
		}
		declared[a.ID] = a
		order = append(order, a)
		if prog, err := query.ParseAudience(a.Query); err == nil {
			programs[a.ID] = prog
			references[a.ID] = References(rec.Snapshot, space.ID, prog)
		}
	}
	seen := r.current()
	for _, b := range slices.Clone(r.Builds) {
		switch a := declared[b.Audience.ID]; {
		case a == nil && (b.State == live || b.State == frozen):
			b.State, b.Announcing = leaving, false
		case a == nil && b.State != leaving:
			b.State = retired
		case a == nil:
		case !a.Enabled && b.State == live:
			b.State = frozen // what is still to be announced is so once it is enabled again
		case !a.Enabled && b.State != frozen:
			b.State = retired
		}
	}
	for _, a := range order {
		newest := r.newest(a.ID)
		if a.Enabled && (newest == nil || newest.State == frozen || newest.Audience.Version != a.Version ||
			!slices.Equal(newest.References, references[a.ID])) {
			r.start(rec, a, programs[a.ID], references, seen)
			continue
		}
		for _, b := range r.Builds {
			if b.Audience.ID == a.ID && b.Audience.Version == a.Version {
				b.Audience = *a // its name and connections, for the day when it is deleted
			}
		}
	}
	r.Early = slices.DeleteFunc(r.Early, func(b *build) bool { return b.Offset <= rec.Offset })
}

// newest returns the build that an audience came to last, nil when there is
// none but retired ones.
func (r *registry) newest(audience string) *build {
	var newest *build
	for _, b := range r.Builds {
		if b.Audience.ID == audience && b.State != retired {
			newest = b
		}
	}
	return newest
}

// start adds a build for an audience. One that was on its way is given up; the
// one that answers for the audience goes on until the new one is live. seen are
// the aggregates that it may share.
func (r *registry) start(rec *pipeline.Record, a *workspace.Audience, prog *query.Program, references map[string][]Reference, seen map[uint32]bool) {
	r.Last++
	b := &build{
		Number: r.Last, State: waiting, Audience: *a, Offset: rec.Offset, At: rec.At, References: references[a.ID],
	}
	for _, old := range r.Builds {
		if old.Audience.ID != a.ID {
			continue
		}
		b.Before = append(b.Before, old.Number)
		if old.State != live && old.State != frozen {
			old.State = retired
		}
	}
	r.Builds = append(r.Builds, b)
	// A snapshot is checked before it is accepted: these two are met only by a
	// build of another version of the language.
	if prog == nil {
		_, err := query.ParseAudience(a.Query)
		b.State, b.Failure = failed, err.Error()
		return
	}
	if way := Cycle(a.ID, references); way != nil {
		b.State, b.Failure = failed, "the audience would read its own membership"
		return
	}
	r.claim(b, prog, seen)
}
