package identity

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"kith/event"
	"kith/workspace"
)

// The limits of a rule that names none (sheet unify_engage_privacy §1.2).
const (
	userIDLimit  = 1
	defaultLimit = 5
)

// Bounds on what events may bring in.
const (
	// MaxTypeBytes is the longest name of a type.
	MaxTypeBytes = 100
	// MaxRegisteredTypes is how many types events may add to a space's rules
	// by carrying them.
	MaxRegisteredTypes = 300
	// MaxIdentifiers is how many identifiers a profile holds at most, whatever
	// its space's limits allow. Long before that a space is told: see
	// workspace.IdentityGuard.
	MaxIdentifiers = 1_000_000
	// maxMoved is about how many bytes of identifiers one merge may move, each
	// written two times: a transaction has room for that.
	maxMoved = 24 << 20
)

// windows are the spans of IdentifierRule.Window in milliseconds; zero is
// without end.
var windows = map[string]int64{
	"": 0, "ever": 0,
	"weekly":   7 * 24 * 3600 * 1000,
	"monthly":  30 * 24 * 3600 * 1000,
	"annually": 365 * 24 * 3600 * 1000,
}

// standardType is a type that collect finds in the places where Segment's
// calls have it. One that a space's rules do not name is no identifier there,
// which is counted; all other types register themselves. There are at most 16.
type standardType struct {
	name, collection string
	byDefault        bool // is in the rules of a space that declares none
}

var standardTypes = []standardType{
	{"user_id", event.Users, true},
	{"email", event.Users, true},
	{"android.id", event.Users, true},
	{"android.idfa", event.Users, true},
	{"android.push_token", event.Users, true},
	{"anonymous_id", event.Users, true},
	{"ga_client_id", event.Users, true},
	{"group_id", event.Accounts, true},
	{"ios.id", event.Users, true},
	{"ios.idfa", event.Users, true},
	{"ios.push_token", event.Users, true},
	{"braze_id", event.Users, false},
	{"cross_domain_id", event.Users, false},
	{MACType, event.Users, false},
}

// standardNumber returns the place of a standard type in standardTypes, and -1
// for any other.
func standardNumber(name string) int {
	for i := range standardTypes {
		if standardTypes[i].name == name {
			return i
		}
	}
	return -1
}

// standardCollection returns the collection of a standard type, and nothing
// for any other.
func standardCollection(name string) string {
	if n := standardNumber(name); n >= 0 {
		return standardTypes[n].collection
	}
	return ""
}

// DefaultIdentifiers returns the rules of a space that declares none: the
// eleven defaults of sheet unify_engage_privacy §1.1, with the default limits.
// Priorities are left zero, which is the default order.
func DefaultIdentifiers() []workspace.IdentifierRule {
	var list []workspace.IdentifierRule
	for _, t := range standardTypes {
		if t.byDefault {
			list = append(list, workspace.IdentifierRule{Type: t.name, Collection: t.collection, Limit: limitOf(t.name)})
		}
	}
	return list
}

// RuleTable returns the rules as they work: those a space declares or, if
// none, the defaults, then the types that events have registered, every field
// filled in, in the order of their priority.
func RuleTable(space *workspace.Space, registered []RegisteredType) ([]workspace.IdentifierRule, error) {
	rs, err := compile(space)
	if err != nil {
		return nil, err
	}
	table := make([]workspace.IdentifierRule, 0, len(rs.list)+len(registered))
	for _, r := range rs.list {
		declared := r.declared
		declared.Collection, declared.Limit, declared.Window = r.collection, r.limit, cmp.Or(declared.Window, "ever")
		table = append(table, declared)
	}
	for _, t := range registered {
		if rs.of(t.Collection, t.Type) == nil {
			table = append(table, workspace.IdentifierRule{Type: t.Type, Collection: t.Collection, Limit: limitOf(t.Type), Window: "ever"})
		}
	}
	slices.SortStableFunc(table, func(a, b workspace.IdentifierRule) int {
		return rs.compare(a.Collection, a.Type, b.Collection, b.Type)
	})
	for i := range table {
		table[i].Priority = i + 1
	}
	return table, nil
}

// rules are a space's rules, ready for use. They never change.
type rules struct {
	list  []*rule // in the order of their priority
	index map[typeKey]*rule
	// ranked says that some priority was set by hand: then types that
	// register themselves come after all that were declared.
	ranked  bool
	lookups []lookup
	filters []filter
	guard   workspace.IdentityGuard
}

type typeKey struct{ collection, name string }

type rule struct {
	declared   workspace.IdentifierRule
	collection string
	name       string
	limit      int
	window     int64  // milliseconds; zero is without end
	validFor   int64  // likewise
	form       string // in which values are compared; empty: as sent
	rank       int    // of declared types, 1 the highest; only where ranks were set by hand
	exact      map[string]bool
	patterns   []*regexp.Regexp
}

// compile reads the rules of a space; nil has the defaults. It fails only on
// what workspace refuses to store.
func compile(space *workspace.Space) (*rules, error) {
	declared := DefaultIdentifiers()
	if space != nil && len(space.Identifiers) > 0 {
		declared = space.Identifiers
	}
	rs := &rules{index: make(map[typeKey]*rule, len(declared)), guard: guardOf(space)}
	for _, d := range declared {
		r := &rule{declared: d, name: d.Type, collection: d.Collection, limit: d.Limit}
		if r.collection == "" {
			r.collection = cmp.Or(standardCollection(d.Type), event.Users)
		}
		if r.limit <= 0 {
			r.limit = limitOf(d.Type)
		}
		window, ok := windows[d.Window]
		if !ok {
			return nil, fmt.Errorf("identifier %s: window %q is not ever, weekly, monthly or annually", d.Type, d.Window)
		}
		r.window, r.form = window, formOf(&d)
		if r.validFor, ok = windows[d.ValidFor]; !ok {
			return nil, fmt.Errorf("identifier %s: validFor %q is not ever, weekly, monthly or annually", d.Type, d.ValidFor)
		}
		if r.validFor > 0 && (r.window == 0 || r.validFor < r.window) {
			r.window = r.validFor // what is valid no more counts towards no limit
		}
		if len(d.Blocked) > 0 {
			r.exact = make(map[string]bool, len(d.Blocked))
			for _, v := range d.Blocked {
				r.exact[v] = true
			}
		}
		for _, p := range d.BlockedPatterns {
			re, err := regexp.Compile(p)
			if err != nil {
				return nil, fmt.Errorf("identifier %s: blocked pattern %q: %w", d.Type, p, err)
			}
			r.patterns = append(r.patterns, re)
		}
		rs.ranked = rs.ranked || d.Priority > 0
		keys := d.Keys
		if len(keys) == 0 && d.Type == MACType {
			keys = macKeys
			rs.lookups = append(rs.lookups, lookup{collection: r.collection, name: r.name, context: "device.mac"})
		}
		rs.lookups = append(rs.lookups, lookupsOf(r.collection, r.name, keys)...)
		rs.list = append(rs.list, r)
		rs.index[typeKey{r.collection, r.name}] = r
	}
	rs.order()
	var err error
	rs.filters, err = compileFilters(space)
	return rs, err
}

// order gives the declared types their ranks. A priority that was set is the
// place in the list; the types without one fill the places left, in the
// default order.
func (rs *rules) order() {
	var placed, rest []*rule
	for _, r := range rs.list {
		if r.declared.Priority > 0 {
			placed = append(placed, r)
		} else {
			rest = append(rest, r)
		}
	}
	slices.SortStableFunc(placed, func(a, b *rule) int {
		return cmp.Or(cmp.Compare(a.declared.Priority, b.declared.Priority), byDefault(a.name, b.name))
	})
	slices.SortStableFunc(rest, func(a, b *rule) int { return byDefault(a.name, b.name) })
	list := make([]*rule, 0, len(rs.list))
	for len(placed)+len(rest) > 0 {
		if len(rest) == 0 || (len(placed) > 0 && placed[0].declared.Priority <= len(list)+1) {
			list, placed = append(list, placed[0]), placed[1:]
		} else {
			list, rest = append(list, rest[0]), rest[1:]
		}
		list[len(list)-1].rank = len(list)
	}
	rs.list = list
}

// of returns the rule of a type, or nil when it is not declared.
func (rs *rules) of(collection, name string) *rule { return rs.index[typeKey{collection, name}] }

// compare orders two types by priority: negative when the first is higher.
// Types that nobody declared stand in the default order among the others, or
// after them where ranks were set by hand; so a newly seen type never changes
// how two others stand to each other.
func (rs *rules) compare(collectionA, a, collectionB, b string) int {
	if rs.ranked {
		rank := func(collection, name string) int {
			if r := rs.of(collection, name); r != nil {
				return r.rank
			}
			return math.MaxInt
		}
		if c := cmp.Compare(rank(collectionA, a), rank(collectionB, b)); c != 0 {
			return c
		}
	}
	return cmp.Or(byDefault(a, b), strings.Compare(collectionB, collectionA))
}

// limit returns a type's limit and window.
func (rs *rules) limit(collection, name string) (limit int, window int64) {
	if r := rs.of(collection, name); r != nil {
		return r.limit, r.window
	}
	return limitOf(name), 0
}

// blocked reports whether a value of the type is never used as identifier.
func (r *rule) blocked(value string) bool {
	if r.exact[value] {
		return true
	}
	for _, p := range r.patterns {
		if p.MatchString(value) {
			return true
		}
	}
	return false
}

func limitOf(name string) int {
	if name == "user_id" {
		return userIDLimit
	}
	return defaultLimit
}

// byDefault is the default order of priority: user_id, email, the others by
// name (sheet unify_engage_privacy §1.2).
func byDefault(a, b string) int {
	class := func(name string) int {
		switch name {
		case "user_id":
			return 0
		case "email":
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(class(a), class(b)), strings.Compare(a, b))
}

// counts reports whether an identifier first attached at the instant at counts
// towards a limit with that window, for an event of that time.
func counts(at, time, window int64) bool {
	return window == 0 || (at > time-window && at <= time)
}
