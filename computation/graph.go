package computation

import (
	"slices"

	"kith/event"
	"kith/pipeline"
	"kith/query"
)

// graph is a registry compiled. It is immutable and shared by all passes.
type graph struct {
	registry *registry
	// definitions are the awake builds, each behind those that it reads.
	definitions []*definition
	// watches are what an event of a name can touch.
	watches map[string]*watch
	// byTrait are the definitions that read a trait, by its top-level name.
	byTrait map[string][]int
	// fresh are the definitions that a profile without anything may meet, now
	// or later.
	fresh      []int
	byBuild    map[uint32]*definition
	readers    map[uint32][]int // the definitions that read a build's membership, also of one that stands still
	aggregates map[uint32]*counter
	known      map[uint32]bool // builds of which a page may hold entries
}

// definition is an awake build.
type definition struct {
	index    int
	build    *build
	program  *query.Program
	counters []*counter // by the program's aggregates
	traits   []origin   // by the program's traits
	filtered [][]origin // by the program's aggregates: the traits of their filters
	types    []string   // identifiers that make a profile eligible
}

// origin is where the value of a trait comes from: the profile, or the build
// that answers for another audience, which says true of its members and false
// of everybody else. While there is none, nobody is a member.
type origin struct {
	path     query.Path
	audience bool
	build    uint32
}

// counter is an aggregate that events feed.
type counter struct {
	*aggregate
	filter  *query.Filter
	fields  []int // of the filter, as numbers of the watch's fields
	readers []int // definitions that count with it
}

// watch is what an event of one name touches.
type watch struct {
	fields   []query.Field
	counters []*counter
}

// defaultTypes are the identifiers that make a profile eligible when an
// audience names none (sheet unify_engage_privacy §2.1, "Include anonymous
// users").
var defaultTypes = []string{"user_id", "email", "android.idfa", "ios.idfa"}

func compile(reg *registry) (*graph, error) {
	g := &graph{
		registry: reg, watches: map[string]*watch{}, byTrait: map[string][]int{}, byBuild: map[uint32]*definition{}, readers: map[uint32][]int{},
		aggregates: map[uint32]*counter{}, known: map[uint32]bool{},
	}
	programs := map[uint32]*query.Program{}
	for _, b := range reg.Builds {
		g.known[b.Number] = b.State != retired
		if !b.State.fed() {
			continue
		}
		p, err := b.program()
		if err != nil {
			return nil, err
		}
		programs[b.Number] = p
		g.feed(b, p)
	}
	for _, b := range reg.Early {
		p, err := b.program()
		if err != nil {
			return nil, err
		}
		g.feed(b, p)
	}
	for _, b := range reg.Builds {
		for _, earlier := range b.Before {
			g.known[earlier] = g.known[earlier] || b.State != retired
		}
	}
	visited := map[uint32]bool{}
	for _, b := range reg.Builds {
		g.add(b, programs, visited)
	}
	for _, d := range g.definitions {
		if held, next := d.program.Eval(0, nobody{d}); held || next != query.Never {
			g.fresh = append(g.fresh, d.index)
		}
	}
	return g, nil
}

// feed has events feed what a build counts with.
func (g *graph) feed(b *build, p *query.Program) {
	for i, n := range b.Counts {
		if n > 0 { // a build to come may count from its own record on only
			g.watch(g.registry.aggregate(n), p.Aggregates[i].Filter)
		}
	}
}

// watch has events feed an aggregate.
func (g *graph) watch(a *aggregate, f *query.Filter) {
	if g.aggregates[a.Number] != nil {
		return
	}
	c := &counter{aggregate: a, filter: f}
	w := g.watches[a.Event]
	if w == nil {
		w = &watch{}
		g.watches[a.Event] = w
	}
	if f != nil {
		for _, field := range f.Fields {
			c.fields = append(c.fields, w.field(field))
		}
	}
	w.counters = append(w.counters, c)
	g.aggregates[a.Number] = c
}

func (w *watch) field(f query.Field) int {
	i := slices.IndexFunc(w.fields, func(x query.Field) bool { return x.Kind == f.Kind && slices.Equal(x.Path, f.Path) })
	if i < 0 {
		w.fields = append(w.fields, f)
		i = len(w.fields) - 1
	}
	return i
}

// add adds a build that is awake, behind the builds that it reads.
func (g *graph) add(b *build, programs map[uint32]*query.Program, visited map[uint32]bool) {
	p := programs[b.Number]
	if !b.State.awake() || p == nil || visited[b.Number] {
		return
	}
	visited[b.Number] = true
	d := &definition{build: b, program: p, types: b.Audience.Options.FilterByExternalIDs}
	if len(d.types) == 0 {
		d.types = defaultTypes
	}
	read := map[string]*build{}
	for _, ref := range b.References {
		target := g.target(b, ref.Audience)
		read[ref.Trait] = target
		if target != nil {
			g.add(target, programs, visited)
		}
	}
	d.index = len(g.definitions)
	g.definitions = append(g.definitions, d)
	g.byBuild[b.Number] = d
	from := func(traits []query.Trait) (list []origin) {
		for _, t := range traits {
			target, audience := read[t.Name]
			switch {
			case !audience:
				list = append(list, origin{path: t.Path})
				g.byTrait[t.Path[0]] = addIndex(g.byTrait[t.Path[0]], d.index)
			case target == nil:
				list = append(list, origin{audience: true})
			default:
				list = append(list, origin{audience: true, build: target.Number})
				g.readers[target.Number] = addIndex(g.readers[target.Number], d.index)
			}
		}
		return list
	}
	d.traits = from(p.Traits)
	for i := range p.Aggregates {
		a := &p.Aggregates[i]
		c := g.aggregates[b.Counts[i]]
		c.readers = addIndex(c.readers, d.index)
		d.counters = append(d.counters, c)
		var traits []origin
		if a.Filter != nil {
			traits = from(a.Filter.Traits)
		}
		d.filtered = append(d.filtered, traits)
	}
}

// target returns the build of another audience that b reads: one that goes
// live together with it, else the one that answers for that audience.
func (g *graph) target(b *build, audience string) *build {
	var standing *build
	for _, t := range g.registry.Builds {
		if t.Audience.ID != audience {
			continue
		}
		if b.State == settling && t.State == settling {
			return t
		}
		if t.State == live || t.State == frozen {
			standing = t
		}
	}
	return standing
}

// addIndex adds i to a list in order, once.
func addIndex(list []int, i int) []int {
	at, found := slices.BinarySearch(list, i)
	if found {
		return list
	}
	return slices.Insert(list, at, i)
}

// nobody is the Env of a profile without anything, as a definition asks for it.
type nobody struct{ *definition }

// Trait implements query.Env.
func (n nobody) Trait(i int) []query.Value {
	if n.traits[i].audience {
		return []query.Value{query.Bool(false)}
	}
	return nil
}

// Count implements query.Env.
func (nobody) Count(int) query.Count { return query.Count{Next: query.Never} }

// hit is an event that an aggregate counts, or may count.
type hit struct {
	counter *counter
	sure    bool
	fields  [][]query.Value // when not sure: what the filter reads
}

// hits judges an event by the filters of all who watch its name. It depends on
// the record alone.
func (g *graph) hits(r *pipeline.Record) []hit {
	label := event.Label(r.Type, r.Name)
	w := g.watches[label]
	if w == nil || label == "" {
		return nil
	}
	var list []hit
	item := item{record: r, watch: w}
	for _, c := range w.counters {
		if r.Offset < c.From || r.Time < c.Since.Time {
			continue
		}
		if h, ok := item.judge(c); ok {
			list = append(list, h)
		}
	}
	return list
}
