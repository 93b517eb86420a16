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
		_, p, err := locateID(r, t)
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
func (rd *Reader) traitsOf(ctx context.Context, r kv.Reader, t Target, p event.ProfileID, q *TraitsQuery, limit int) (shown map[string]json.RawMessage, next string, err error) {
	all, err := rd.traits(ctx, r, t, p, q.Class)
	if err != nil {
		return nil, "", err
	}
	if q.Next != "" || len(q.Include) > 0 {
		all = slices.DeleteFunc(all, func(x Computed) bool {
			return x.Name < q.Next || (len(q.Include) > 0 && !slices.Contains(q.Include, x.Name))
		})
	}
	if len(all) > limit {
		next, all = all[limit].Name, all[:limit]
	}
	shown = make(map[string]json.RawMessage, len(all))
	size := 0
	for i := range all {
		size += len(all[i].Value)
	}
	values := make([]byte, 0, size) // all of them, one behind the other
	for i := range all {
		x := &all[i]
		at := len(values)
		values = append(values, x.Value...)
		value := json.RawMessage(values[at:len(values):len(values)])
		if q.Verbose {
			if value, err = json.Marshal(VerboseTrait{Value: value, SourceID: x.SourceID, UpdatedAt: instant(x.UpdatedAt)}); err != nil {
				return nil, "", fmt.Errorf("trait %q of %s: %w", x.Name, p, err)
			}
		}
		shown[x.Name] = value
	}
	return shown, next, nil
}

// traits returns the traits of a class by name, of all classes if none is
// asked for.
func (rd *Reader) traits(ctx context.Context, r kv.Reader, t Target, p event.ProfileID, class string) ([]Computed, error) {
	var computed []Computed
	if rd.computations != nil {
		var err error
		if computed, err = rd.computations.Computed(ctx, r, t.Space, t.Epoch, p); err != nil {
			return nil, err
		}
	}
	byName := func(a, b Computed) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(computed, byName) {
		slices.SortStableFunc(computed, byName)
	}
	if class != "" {
		return slices.DeleteFunc(computed, func(c Computed) bool { return c.Class != class }), nil
	}
	b, err := open(r, keys{t.Space.Number, t.Epoch}, p)
	if err != nil {
		return nil, err
	}
	sent, err := b.all()
	if err != nil || len(sent) == 0 {
		return computed, err
	}
	all := make([]Computed, 0, len(computed)+len(sent))
	for i := range sent { // both lists are in order
		s := &sent[i]
		for len(computed) > 0 && computed[0].Name < s.Name {
			all, computed = append(all, computed[0]), computed[1:]
		}
		if !s.Removed() && (len(computed) == 0 || computed[0].Name != s.Name) {
			all = append(all, Computed{Name: s.Name, Value: s.Value, SourceID: s.SourceID, UpdatedAt: s.Time})
		}
	}
	return append(all, computed...), nil
}

// instant writes milliseconds as Segment writes timestamps.
func instant(ms int64) string { return event.FormatTime(time.UnixMilli(ms)) }
