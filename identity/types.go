package identity

import (
	"context"
	"slices"

	"kith/archive"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/workspace"
)

// Where a type of identifiers comes from.
const (
	TypeDeclared   = "declared"   // by the space's rules
	TypeDefault    = "default"    // is in the rules of a space that declares none
	TypeRegistered = "registered" // by an event that carried it
	TypeNoRule     = "noRule"     // events carry it and the rules do not name it: it identifies nobody
)

// TypeInfo is a type of identifiers in a space.
type TypeInfo struct {
	workspace.IdentifierRule        // as it works, every field filled in; of a TypeNoRule only type and collection
	Origin                   string `json:"origin" enum:"declared,default,registered,noRule" doc:"declared by the space's rules; default, in a space without rules; registered by an event that carried it; noRule: events carry it, the rules do not name it, and so it identifies nobody"`

	RegisteredAt string  `json:"registeredAt,omitempty" doc:"Of a registered one"`
	Unused       *Unused `json:"unused,omitempty" doc:"The events that carried it while no rule named it"`
}

// Unused are the events that carried a type of identifiers which no rule named.
type Unused struct {
	Count  uint64     `json:"count"`
	First  []Sighting `json:"first" doc:"The first eight"`
	Newest []Sighting `json:"newest" doc:"The newest eight behind those"`
}

// Types returns the types of identifiers of a space, by their priority, and
// behind them those that events carry and no rule names.
func (x *Explainer) Types(ctx context.Context, space *workspace.Space, epoch uint32) ([]TypeInfo, error) {
	var registered []RegisteredType
	var unwanted []Unwanted
	err := x.db.View(ctx, func(kr kv.Reader) (err error) {
		r := NewReader(kr, space.Number, epoch)
		if registered, err = r.Types(); err != nil {
			return err
		}
		unwanted, err = r.Unwanted()
		return err
	})
	if err != nil {
		return nil, err
	}
	table, err := RuleTable(space, registered)
	if err != nil {
		return nil, err
	}
	origin := TypeDefault
	if len(space.Identifiers) > 0 {
		origin = TypeDeclared
	}
	list := make([]TypeInfo, 0, len(table)+len(unwanted))
	for _, rule := range table {
		info := TypeInfo{IdentifierRule: rule, Origin: origin}
		at := slices.IndexFunc(registered, func(t RegisteredType) bool { return t.Type == rule.Type && t.Collection == rule.Collection })
		named := slices.ContainsFunc(space.Identifiers, func(d workspace.IdentifierRule) bool {
			return d.Type == rule.Type && CollectionOf(space, d.Type) == rule.Collection
		})
		if at >= 0 && !named {
			info.Origin, info.RegisteredAt = TypeRegistered, instant(registered[at].At)
		}
		list = append(list, info)
	}
	for i := range unwanted {
		u := &unwanted[i]
		at := slices.IndexFunc(list, func(t TypeInfo) bool { return t.Type == u.Type && t.Collection == u.Collection })
		if at < 0 {
			at = len(list)
			list = append(list, TypeInfo{IdentifierRule: workspace.IdentifierRule{Type: u.Type, Collection: u.Collection}, Origin: TypeNoRule})
		}
		told := &Unused{Count: u.Count}
		for _, kept := range []struct {
			from []Refused
			to   *[]Sighting
		}{{u.First, &told.First}, {u.Newest, &told.Newest}} {
			*kept.to = make([]Sighting, 0, len(kept.from))
			for i := range kept.from {
				s, err := x.met(ctx, space.Number, epoch, &kept.from[i])
				if err != nil {
					return nil, err
				}
				*kept.to = append(*kept.to, s)
			}
		}
		list[at].Unused = told
	}
	return list, nil
}

// met tells of the event of a Refused.
func (x *Explainer) met(ctx context.Context, space, epoch uint32, at *Refused) (Sighting, error) {
	s := Sighting{Offset: uint64(at.Offset), ReceivedAt: instant(at.At), Timestamp: instant(at.Time)}
	p, err := x.past.Passed(ctx, space, epoch, at.Offset)
	if fault.Is(err, fault.NotFound) || err == nil && gone(&p) {
		s.Gone = true
		return s, nil
	}
	if err != nil {
		return s, err
	}
	h := &p.Head
	s.MessageID, s.RecordID, s.SourceID, s.Type, s.Event = h.MessageID, h.ID.String(), h.Source, h.Type.String(), event.Label(h.Type, h.Name)
	return s, nil
}

// gone reports whether the body of an event is not kept any more.
func gone(p *archive.Passed) bool { return len(p.Body) == 0 && p.Head.Kind == event.KindEvent }
