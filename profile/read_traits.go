package profile

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
)

// Traits returns a page of a profile's traits by name: those that were sent
// and what is computed. Of two of one name, what is computed holds.
func (rd *Reader) Traits(ctx context.Context, t Target, q TraitsQuery) (*TraitsPage, error) {
	limit, err := q.check()
	if err != nil {
		return nil, err
	}
	var page *TraitsPage
	err = rd.db.View(ctx, func(r kv.Reader) error {
		_, p, err := locate(r, t)
		if err != nil {
			return err
		}
		traits, next, err := rd.traitsOf(ctx, r, t, p, &q, limit)
		page = &TraitsPage{Traits: traits, Cursor: cursor(t, p, "traits", limit, next)}
		return err
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

func (q *TraitsQuery) check() (limit int, err error) {
	if q.Class != "" && q.Class != ClassAudience && q.Class != ClassComputedTrait {
		return 0, fault.Field("class", "%q is not a class of traits: want %s or %s", q.Class, ClassAudience, ClassComputedTrait)
	}
	return limitOf(q.Limit, MaxLimit)
}

// traitsOf returns the traits of a page as they are shown, and the name that
// the next one begins with.
func (rd *Reader) traitsOf(ctx context.Context, r kv.Reader, t Target, p *identity.Profile, q *TraitsQuery, limit int) (shown map[string]json.RawMessage, next string, err error) {
	all, err := rd.traits(ctx, r, t, p, q.Class)
	if err != nil {
		return nil, "", err
	}
	all = slices.DeleteFunc(all, func(x Computed) bool {
		return x.Name < q.Next || (len(q.Include) > 0 && !slices.Contains(q.Include, x.Name))
	})
	if len(all) > limit {
		next, all = all[limit].Name, all[:limit]
	}
	shown = make(map[string]json.RawMessage, len(all))
	for _, x := range all {
		value := json.RawMessage(x.Value)
		if q.Verbose {
			if value, err = json.Marshal(VerboseTrait{Value: value, SourceID: x.SourceID, UpdatedAt: instant(x.UpdatedAt)}); err != nil {
				return nil, "", fmt.Errorf("trait %q of %s: %w", x.Name, p.ID, err)
			}
		}
		shown[x.Name] = value
	}
	return shown, next, nil
}

// traits returns the traits of a class by name, of all classes if none is
// asked for.
func (rd *Reader) traits(ctx context.Context, r kv.Reader, t Target, p *identity.Profile, class string) ([]Computed, error) {
	var all []Computed
	if rd.computations != nil {
		computed, err := rd.computations.Computed(ctx, r, t.Space, t.Epoch, p.ID)
		if err != nil {
			return nil, err
		}
		for _, c := range computed {
			if class == "" || class == c.Class {
				all = append(all, c)
			}
		}
	}
	byName := func(a, b Computed) int { return strings.Compare(a.Name, b.Name) }
	slices.SortStableFunc(all, byName)
	if class != "" {
		return all, nil
	}
	b, err := open(r, keys{t.Space.Number, t.Epoch}, p.ID)
	if err != nil {
		return nil, err
	}
	sent, err := live(b)
	if err != nil {
		return nil, err
	}
	computed := len(all)
	for _, s := range sent {
		if _, found := slices.BinarySearchFunc(all[:computed], Computed{Name: s.Name}, byName); !found {
			all = append(all, Computed{Name: s.Name, Value: s.Value, SourceID: s.SourceID, UpdatedAt: s.Time})
		}
	}
	slices.SortFunc(all, byName)
	return all, nil
}

// instant writes milliseconds as Segment writes timestamps.
func instant(ms int64) string { return event.FormatTime(time.UnixMilli(ms)) }
