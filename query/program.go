package query

// Never is the instant at which nothing happens.
const Never = int64(1<<63 - 1)

// MaxKept is the most entries anybody keeps of one windowed count of one
// profile; a window's count is compared with no larger number.
const MaxKept = 10_000

// All is Aggregate.Needed where no number bounds what is asked of a count.
const All = int64(-1)

// Program is a checked audience definition. It is immutable and safe for
// concurrent use.
type Program struct {
	// Traits are the traits read, those that filters read among them.
	Traits []Trait
	// Aggregates are the counts compared, each once.
	Aggregates []Aggregate

	text string
	root *cond
}

// String returns the definition in canonical form.
func (p *Program) String() string { return p.text }

// Trait is a trait that is read.
type Trait struct {
	Name string // as in the query
	Path Path
	At   Pos // where it is read first
}

// Aggregate is a count of one event: those that pass the filter and whose age
// is in the window.
type Aggregate struct {
	Event  string
	Filter *Filter // nil: all
	Window Window
	// Needed is how far the count must be exact: a larger one may be cut down
	// to Needed without changing any answer. All means it must be exact.
	Needed int64
}

// Window is a range of ages in milliseconds: an event at t is in it while
// t+From <= now < t+To. To is Never for a window without an end.
type Window struct{ From, To int64 }

var always = Window{To: Never}

// Whole reports whether every event is in the window.
func (w Window) Whole() bool { return w == always }

// Count is an Aggregate's value at an instant.
type Count struct {
	N int64
	// Next is the first instant after now at which N can change without a new
	// event, or Never.
	Next int64
	// Steps, when not nil, gives all changes of N without a new event. With it,
	// an answer's next instant is the one at which N crosses what it is
	// compared with.
	Steps Steps
}

// Steps are the changes of a count to come.
type Steps interface {
	// Step returns the next change: the instant, and the count from there on.
	// Behind the last the instant is Never.
	Step() (at, n int64)
}

// Env supplies what a Program asks for at an instant.
type Env interface {
	// Trait returns the values of Program.Traits[i]; see Path.Values.
	Trait(i int) []Value
	// Count returns the value of Program.Aggregates[i].
	Count(i int) Count
}

// Eval says whether the definition holds at the instant now (milliseconds
// since 1970), and the first instant after it at which the answer can change
// although nothing that env supplies changes. The instant may be early: then
// the answer there is the same.
func (p *Program) Eval(now int64, env Env) (member bool, next int64) {
	r := p.root.eval(&scope{now: now, env: env})
	return r.truth == yes, r.next
}

// FieldKind says where in an event a field is found.
type FieldKind uint8

// The kinds of field.
const (
	PropertyField FieldKind = iota
	ContextField
	SourceField // the id of the source that the event came from
)

// Field is a part of an event that a filter reads.
type Field struct {
	Kind FieldKind
	Path Path // nil for SourceField
}

// Filter is the condition over an event that where and sources make together.
// It is immutable and safe for concurrent use.
type Filter struct {
	Fields []Field
	Traits []Trait

	key  string
	root *cond
}

// String returns the filter in a form that is the same for filters that differ
// only in the order of what AND and OR join.
func (f *Filter) String() string { return f.key }

// Verdict is what a filter can say of an event when it happens.
type Verdict uint8

// The verdicts.
const (
	No      Verdict = iota // never counted
	Yes                    // counted
	Depends                // it is for Test to say, again and again: on traits, or on how far a date is away
)

// Match judges an event by what it holds; field returns the values of
// Filter.Fields[i].
func (f *Filter) Match(field func(i int) []Value) Verdict {
	switch f.root.eval(&scope{field: field, still: true}).truth {
	case yes:
		return Yes
	case depends:
		return Depends
	}
	return No
}

// Dynamic reports whether Match may answer Depends.
func (f *Filter) Dynamic() bool { return f.root.depends }

// Test judges, at the instant now, an event of which Match said Depends, and
// says when its answer can change by itself. trait returns the values of
// Filter.Traits[i].
func (f *Filter) Test(now int64, field, trait func(i int) []Value) (counts bool, next int64) {
	r := f.root.eval(&scope{now: now, field: field, trait: trait})
	return r.truth == yes, r.next
}
