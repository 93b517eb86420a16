package script

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// check says why a condition does not hold; the empty string when it does.
func (r *run) check(ctx context.Context, c Condition) (string, error) {
	switch c := c.(type) {
	case Traits:
		return r.traits(ctx, c)
	case Identifiers:
		return r.identifiers(ctx, c)
	case Same:
		return r.together(ctx, c.IDs, true)
	case Different:
		return r.together(ctx, c.IDs, false)
	case Linked:
		return r.linked(ctx, c)
	case Audience:
		return r.audience(ctx, c)
	case Events:
		list, err := r.target.Events(ctx, r.space, c.ID, c.Name)
		return c.Matching.judge(list, fmt.Sprintf("%s has", c.ID)), err
	case Delivered:
		list, err := r.target.Delivered(ctx, c.Destination)
		return c.Matching.judge(list, c.Destination+" has received"), err
	case Blocked:
		list, err := r.target.Blocked(ctx, c.Source)
		return judgeReasons(list, c.Text, c.Count, "in quarantine"), err
	case Rejected:
		list, err := r.target.Rejected(ctx, c.Source)
		return judgeReasons(list, c.Text, c.Count, "rejected"), err
	}
	return "", fmt.Errorf("a condition of type %T is unknown", c)
}

func missing(id string) string { return "there is no profile " + id }

func (r *run) traits(ctx context.Context, c Traits) (string, error) {
	p, err := r.target.Profile(ctx, r.space, c.ID)
	if err != nil {
		return "", err
	}
	if p == nil {
		return missing(c.ID), nil
	}
	for _, f := range c.Want {
		got := p.Traits[f.Path[0]]
		if len(f.Path) > 1 {
			got = json.RawMessage(find(gjson.ParseBytes(got), f.Path[1:]).Raw)
		}
		if len(got) == 0 {
			got = json.RawMessage("null")
		}
		if !equal(gjson.ParseBytes(got), gjson.ParseBytes(f.Value)) {
			if string(got) == "null" {
				return fmt.Sprintf("it has no trait %s; want %s", strings.Join(f.Path, "."), f.Value), nil
			}
			return fmt.Sprintf("%s is %s, want %s", strings.Join(f.Path, "."), got, f.Value), nil
		}
	}
	return "", nil
}

func (r *run) identifiers(ctx context.Context, c Identifiers) (string, error) {
	p, err := r.target.Profile(ctx, r.space, c.IDs[0])
	if err != nil {
		return "", err
	}
	if p == nil {
		return missing(c.IDs[0]), nil
	}
	got, want := slices.Sorted(slices.Values(p.Identifiers)), slices.Sorted(slices.Values(c.IDs))
	want = slices.Compact(want)
	if !slices.Equal(got, want) {
		return "the profile has " + strings.Join(got, ", "), nil
	}
	return "", nil
}

// together checks that all identifiers belong to one profile, or each to one of
// its own.
func (r *run) together(ctx context.Context, ids []string, same bool) (string, error) {
	for i, id := range ids {
		p, err := r.target.Profile(ctx, r.space, id)
		if err != nil {
			return "", err
		}
		if p == nil {
			return missing(id), nil
		}
		for _, other := range ids[i+1:] {
			if has := slices.Contains(p.Identifiers, other); has != same {
				if same {
					return fmt.Sprintf("%s and %s belong to different profiles", id, other), nil
				}
				return fmt.Sprintf("%s and %s belong to one profile", id, other), nil
			}
		}
	}
	return "", nil
}

func (r *run) linked(ctx context.Context, c Linked) (string, error) {
	list, err := r.target.Linked(ctx, r.space, c.ID)
	switch {
	case err != nil, slices.Contains(list, c.Account):
		return "", err
	case len(list) == 0:
		return c.ID + " is part of no account", nil
	}
	return fmt.Sprintf("%s is part of %s", c.ID, strings.Join(list, ", ")), nil
}

func (r *run) audience(ctx context.Context, c Audience) (string, error) {
	p, err := r.target.Profile(ctx, r.space, c.ID)
	if err != nil {
		return "", err
	}
	if p == nil {
		return missing(c.ID), nil
	}
	switch in := string(p.Traits[c.Key]) == "true"; {
	case in == c.In:
		return "", nil
	case in:
		return "it is a member", nil
	}
	return "it is no member", nil
}

// judge counts the events that match, and says why they are not as many as
// wanted.
func (m Matching) judge(list []json.RawMessage, who string) string {
	n := 0
	for _, e := range list {
		if m.matches(e) {
			n++
		}
	}
	if why := judgeCount(n, m.Count); why != "" {
		return fmt.Sprintf("%s %d such events among %d; want %s", who, n, len(list), why)
	}
	return ""
}

func (m Matching) matches(e json.RawMessage) bool {
	v := gjson.ParseBytes(e)
	for _, f := range m.Where {
		got := find(v, f.Path)
		if !got.Exists() {
			got = gjson.Parse("null")
		}
		if !equal(got, gjson.ParseBytes(f.Value)) {
			return false
		}
	}
	return true
}

func judgeReasons(list []string, text string, count *int, where string) string {
	n := 0
	for _, reason := range list {
		if strings.Contains(reason, text) {
			n++
		}
	}
	why := judgeCount(n, count)
	if why == "" {
		return ""
	}
	s := fmt.Sprintf("%d such events are %s; want %s", n, where, why)
	if len(list) > 0 {
		s += "; the reasons there are: " + strings.Join(slices.Compact(slices.Sorted(slices.Values(list))), " | ")
	}
	return s
}

// judgeCount says how many are wanted, when n is not it.
func judgeCount(n int, count *int) string {
	switch {
	case count == nil && n == 0:
		return "at least 1"
	case count != nil && n != *count:
		return fmt.Sprint(*count)
	}
	return ""
}

// find follows names and indexes into a JSON value.
func find(v gjson.Result, path []string) gjson.Result {
	for _, name := range path {
		next := gjson.Result{}
		i := 0
		v.ForEach(func(k, member gjson.Result) bool {
			if v.IsObject() && k.String() == name || v.IsArray() && fmt.Sprint(i) == name {
				next = member
			}
			i++
			return true
		})
		v = next
	}
	return v
}

// equal compares two JSON values: numbers by value, objects by their members.
func equal(a, b gjson.Result) bool {
	switch {
	case a.Type != b.Type:
		return false
	case a.Type == gjson.String:
		return a.Str == b.Str
	case a.Type == gjson.Number:
		return a.Raw == b.Raw || equalNumbers(a.Raw, b.Raw)
	case a.Type != gjson.JSON:
		return true // null, true and false are their types
	case a.IsArray() != b.IsArray():
		return false
	case a.IsArray():
		x, y := a.Array(), b.Array()
		return slices.EqualFunc(x, y, equal)
	}
	x, y := a.Map(), b.Map()
	if len(x) != len(y) {
		return false
	}
	for name, v := range x {
		if w, ok := y[name]; !ok || !equal(v, w) {
			return false
		}
	}
	return true
}

func equalNumbers(a, b string) bool {
	const bits = 512
	x, _, err1 := big.ParseFloat(a, 10, bits, big.ToNearestEven)
	y, _, err2 := big.ParseFloat(b, 10, bits, big.ToNearestEven)
	return err1 == nil && err2 == nil && x.Cmp(y) == 0
}
