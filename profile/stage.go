package profile

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tidwall/gjson"

	"kith/event"
	"kith/identity"
	"kith/pipeline"
)

const (
	// MaxTraitsPerCall is how many traits of one call are taken; the others
	// are reported (sheet unify_engage_privacy §1.4, §4).
	MaxTraitsPerCall = 300
	// MaxNameBytes is the longest name of a trait.
	MaxNameBytes = 500
)

// Profiles is the stage that keeps traits. It serves all spaces and is safe
// for concurrent use.
type Profiles struct {
	slot     pipeline.Slot[View]
	identity pipeline.Slot[identity.Resolution]
	frozen   bool // see Freeze

	mu    sync.Mutex // guards wakes
	wakes map[place]chan struct{}
}

// New returns the stage, its place in records taken from layout; it reads
// whose a record is from identity's.
func New(layout *pipeline.Layout, identity pipeline.Slot[identity.Resolution]) *Profiles {
	return &Profiles{slot: pipeline.NewSlot[View](layout), identity: identity, wakes: map[place]chan struct{}{}}
}

// changed returns a channel on which something comes whenever the index of a
// place wants work.
func (s *Profiles) changed(at place) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wakes[at] == nil {
		s.wakes[at] = make(chan struct{}, 1)
	}
	return s.wakes[at]
}

// wake tells the Indexer of a place to look.
func (s *Profiles) wake(at place) {
	select {
	case s.changed(at) <- struct{}{}:
	default: // it will look anyway
	}
}

// Slot is where a record's View is.
func (s *Profiles) Slot() pipeline.Slot[View] { return s.slot }

// Name returns "profile".
func (s *Profiles) Name() string { return "profile" }

// Begin starts a pass over a batch.
func (s *Profiles) Begin(b *pipeline.Batch) (pipeline.Pass, error) {
	p := &pass{stage: s, batch: b, keys: keys{b.Space, b.Epoch}, books: map[event.ProfileID]*book{}}
	var err error
	if p.index, err = readIndex(b.Tx, p.keys); err != nil {
		return nil, err
	}
	return p, p.configure(b.Snapshot)
}

// pass is the stage at work on one batch. The books it has opened stay open
// until Finish, so that a profile's traits are read and written once a batch.
type pass struct {
	stage *Profiles
	batch *pipeline.Batch
	keys  keys
	index *index
	spare []View

	mu    sync.Mutex // guards books and all in them
	books map[event.ProfileID]*book
	order []*book // in the order in which they were opened
	held  int     // bytes of their traits
}

// maxHeld is about how many bytes of traits a transaction holds: a small batch
// may touch thousands of large profiles.
const maxHeld = 64 << 20

// Handle takes the traits on a record.
func (p *pass) Handle(r *pipeline.Record) error {
	if r.Kind == event.KindConfig {
		return p.configure(r.Snapshot)
	}
	res := p.stage.identity.Get(r)
	if res == nil {
		return nil // nothing that could be anybody's
	}
	v := p.view(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	var said change
	for _, m := range res.Merged {
		if err := p.merge(r, v, m, &said); err != nil {
			return err
		}
	}
	if r.Event != nil && r.Event.Traits != "" {
		var err error
		switch {
		case r.Type == event.Identify && !r.Profile.IsZero():
			err = p.take(r, r.Profile, &v.Changed, &said)
		case r.Type == event.Group && !r.Account.IsZero():
			err = p.take(r, r.Account, &v.AccountChanged, &said)
		}
		if err != nil {
			return err
		}
	}
	v.Changed, v.AccountChanged = real(v.Changed), real(v.AccountChanged)
	p.tell(r, v, &said)
	return nil
}

// view gives the record an empty View.
func (p *pass) view(r *pipeline.Record) *View {
	v := p.stage.slot.Get(r)
	if v == nil {
		if len(p.spare) == 0 {
			p.spare = make([]View, 64)
		}
		v, p.spare = &p.spare[0], p.spare[1:]
		p.stage.slot.Set(r, v)
	}
	*v = View{Profile: r.Profile, Account: r.Account, pass: p}
	return v
}

// change gathers what a record could not add.
type change struct {
	refused []refusal
}

// refusal is traits of one profile that were not taken, for one reason.
type refusal struct {
	profile event.ProfileID
	first   string // name
	count   int
	why     string
}

func (c *change) refuse(profile event.ProfileID, name, why string) {
	for i := range c.refused {
		if c.refused[i].profile == profile && c.refused[i].why == why {
			c.refused[i].count++
			return
		}
	}
	c.refused = append(c.refused, refusal{profile, name, 1, why})
}

// The reasons for which a trait is not taken.
const (
	tooManyInCall = "beyond the 300 that a call may set"
	nameTooLong   = "with an empty name or one of more than 500 bytes"
	profileFull   = "for which the profile, which may hold 1 MiB of traits, has no room"
)

// merge joins the traits of a profile that was merged away into those of the
// survivor.
func (p *pass) merge(r *pipeline.Record, v *View, m identity.Merge, said *change) error {
	from, err := p.book(m.From)
	if err != nil {
		return err
	}
	traits, err := from.all()
	if err != nil || len(traits) == 0 {
		return err
	}
	from.merged = true
	into, err := p.book(m.Into)
	if err != nil {
		return err
	}
	changed := &v.Changed
	if m.Into == r.Account {
		changed = &v.AccountChanged
	}
	for _, t := range traits {
		if err := set(into, t, changed, said); err != nil {
			return err
		}
	}
	return nil
}

// take takes the traits of the record's call.
func (p *pass) take(r *pipeline.Record, profile event.ProfileID, changed *[]TraitChange, said *change) error {
	b, err := p.book(profile)
	if err != nil {
		return err
	}
	var first, last string
	named, n := false, 0
	gjson.Parse(r.Event.Traits).ForEach(func(key, v gjson.Result) bool {
		t := Trait{Name: key.String(), Value: v.Raw, Time: r.Time, Offset: r.Offset, SourceID: r.Head.Source}
		switch {
		case t.Name == "" || len(t.Name) > MaxNameBytes:
			said.refuse(profile, t.Name[:min(len(t.Name), 40)], nameTooLong)
			return true
		case n == MaxTraitsPerCall:
			said.refuse(profile, t.Name, tooManyInCall)
			return true
		}
		n++
		switch t.Name {
		case "name":
			named = true
		case "firstName":
			first = text(v)
		case "lastName":
			last = text(v)
		}
		if v.Type == gjson.Null {
			t.Value = ""
		}
		err = set(b, t, changed, said)
		return err == nil
	})
	if err != nil || named || first == "" || last == "" || r.Type != event.Identify {
		return err
	}
	name := Trait{Name: "name", Derived: true, Time: r.Time, Offset: r.Offset, SourceID: r.Head.Source}
	name.Value = string(gjson.AppendJSONString(nil, first+" "+last))
	return set(b, name, changed, said)
}

func text(v gjson.Result) string {
	if v.Type == gjson.String {
		return v.Str
	}
	return ""
}

// set takes one trait and notes what becomes of it.
func set(b *book, t Trait, changed *[]TraitChange, said *change) error {
	old, fits, err := b.set(t)
	if err != nil {
		return err
	}
	if !fits {
		said.refuse(b.profile, t.Name, profileFull)
		return nil
	}
	now, err := b.get(t.Name)
	if err != nil || now.Value == old {
		return err
	}
	b.indexed(t.Name, old)
	for i := range *changed {
		if (*changed)[i].Name == t.Name {
			(*changed)[i].New = now.Value
			return nil
		}
	}
	*changed = append(*changed, TraitChange{Name: t.Name, Old: old, New: now.Value})
	return nil
}

// real returns the changes that are left when those that were taken back
// within the record are not counted.
func real(changed []TraitChange) []TraitChange {
	return slices.DeleteFunc(changed, func(c TraitChange) bool { return c.Old == c.New })
}

// book returns a profile's book.
func (p *pass) book(profile event.ProfileID) (*book, error) {
	if b, ok := p.books[profile]; ok {
		return b, nil
	}
	b, err := open(p.batch.Tx, p.keys, profile)
	if err != nil {
		return nil, err
	}
	b.index = p.index
	p.books[profile] = b
	p.order = append(p.order, b)
	if p.held += b.bytes; p.held > maxHeld {
		p.batch.Full = true
	}
	return b, nil
}

// Finish writes the pages that have changed.
func (p *pass) Finish() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.order {
		if err := b.writeIndex(p.batch.Tx); err != nil {
			return err
		}
		if err := b.write(p.batch.Tx); err != nil {
			return err
		}
	}
	return nil
}

// tell emits what has changed.
func (p *pass) tell(r *pipeline.Record, v *View, said *change) {
	emit := func(profile event.ProfileID, c pipeline.Change) {
		c.Cause = r.ID
		p.batch.Emit(pipeline.Output{At: r.At, Profile: profile, Change: &c})
	}
	for _, c := range v.Changed {
		emit(v.Profile, pipeline.Change{Kind: pipeline.TraitChanged, Subject: c.Name, Detail: c.detail()})
	}
	for _, c := range v.AccountChanged {
		emit(v.Account, pipeline.Change{Kind: pipeline.TraitChanged, Subject: c.Name, Detail: c.detail()})
	}
	for _, f := range said.refused {
		traits := "1 trait"
		if f.count > 1 {
			traits = fmt.Sprintf("%d traits", f.count)
		}
		emit(f.profile, pipeline.Change{Kind: pipeline.TraitRefused, Subject: f.first, Detail: traits + " not taken: " + f.why})
	}
}

// detail is the new value, for people; a long one is cut.
func (c *TraitChange) detail() string {
	const most = 100
	switch {
	case c.New == "":
		return "removed"
	case len(c.New) > most:
		return strings.ToValidUTF8(c.New[:most], "") + "…"
	}
	return c.New
}
