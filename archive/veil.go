package archive

import (
	"slices"
	"strings"
	"sync"

	"kith/archive/redact"
	"kith/commitlog"
	"kith/event"
)

// Veil is what readers of a space hide: the erasures whose blocks are not yet
// written anew, and the bodies before the horizon. It is safe for concurrent use.
type Veil struct {
	list    []*Erasure // by offset
	horizon Horizon

	mu   sync.Mutex
	last *Mask // the one that was asked for last
}

// Mask is some of a veil's erasures in one: those that hold for a record.
type Mask struct {
	from     int // the first erasure of the veil's list that is part of it
	profiles map[event.ProfileID]bool
	epochs   map[uint32]map[event.ProfileID]bool // the same, by the epoch that says whose events are
	ids      []event.Identifier
	set      *redact.Set
}

// NewVeil returns the veil of erasures.
func NewVeil(list []*Erasure) *Veil {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *Erasure) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	return &Veil{list: list}
}

// behind has the veil hide the bodies before a horizon too.
func (v *Veil) behind(h Horizon) *Veil {
	v.horizon = h
	return v
}

// End returns the offset behind the last record that the veil may hide.
func (v *Veil) End() commitlog.Offset {
	if len(v.list) == 0 {
		return 0
	}
	return v.list[len(v.list)-1].Offset
}

// OutputsEnd returns the offset behind the last output that it may hide.
func (v *Veil) OutputsEnd() (end commitlog.Offset) {
	for _, e := range v.list {
		end = max(end, e.Resolved)
	}
	return end
}

// At returns the mask that holds for a record of the raw log, or nil.
func (v *Veil) At(at commitlog.Offset) *Mask {
	return v.mask(func(e *Erasure) bool { return at < e.Offset })
}

// AtOutput returns the mask that holds for an output of the resolved log, or
// nil.
func (v *Veil) AtOutput(at commitlog.Offset) *Mask {
	return v.mask(func(e *Erasure) bool { return at < e.Resolved })
}

// mask returns the mask of the erasures from the first on for which holds says
// so. Those that come later in the log hold for more of it.
func (v *Veil) mask(holds func(*Erasure) bool) *Mask {
	from := slices.IndexFunc(v.list, holds)
	if from < 0 {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last == nil || v.last.from != from {
		v.last = newMask(from, v.list[from:])
	}
	return v.last
}

func newMask(from int, list []*Erasure) *Mask {
	m := &Mask{from: from, profiles: map[event.ProfileID]bool{}, epochs: map[uint32]map[event.ProfileID]bool{}}
	for _, e := range list {
		if m.epochs[e.Epoch] == nil {
			m.epochs[e.Epoch] = map[event.ProfileID]bool{}
		}
		for _, p := range e.Profiles {
			m.profiles[p], m.epochs[e.Epoch][p] = true, true
		}
		m.ids = append(m.ids, e.Identifiers...)
	}
	m.set = redact.New(m.ids)
	return m
}

// Whose reports whether a profile is one of those that were erased.
func (m *Mask) Whose(p event.ProfileID) bool { return m.profiles[p] }

// Identifiers returns the identifiers that were erased.
func (m *Mask) Identifiers() []event.Identifier { return m.ids }

// Set returns what finds these identifiers.
func (m *Mask) Set() *redact.Set { return m.set }

// subject reports whether the subject of a change, "type:value", is one of the
// identifiers.
func (m *Mask) subject(text string) bool {
	kind, value, ok := strings.Cut(text, ":")
	return ok && (m.set.Has(event.Identifier{Collection: event.Users, Type: kind, Value: value}) ||
		m.set.Has(event.Identifier{Collection: event.Accounts, Type: kind, Value: value}))
}
