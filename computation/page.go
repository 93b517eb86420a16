package computation

import (
	"slices"

	"kith/kv"
	"kith/timer"
)

// page is what is known of a profile's memberships: an entry for each build in
// which there is anything to know.
type page struct {
	armed   int64   // when the profile's timer fires; timer.Never when there is none
	entries []entry // in the order of their builds
}

// entry is a profile's standing in one build.
type entry struct {
	build  uint32
	held   bool  // the query held when it was evaluated last
	member bool  // and the profile was eligible
	told   bool  // the last change announced was an entry
	past   bool  // it was announced once and has left
	since  int64 // when member changed last, in milliseconds
	// due is the next instant at which the answer can change by itself, or an
	// earlier one; timer.Never when there is none.
	due int64
}

// The bits of an entry's stored form.
const (
	bitHeld = 1 << iota
	bitMember
	bitTold
	bitPast
	bitSince
	bitDue
)

func (p *page) find(build uint32) *entry {
	i, found := slices.BinarySearchFunc(p.entries, build, compareEntry)
	if !found {
		return nil
	}
	return &p.entries[i]
}

// at returns the entry of a build, which it adds when there is none.
func (p *page) at(build uint32) *entry {
	i, found := slices.BinarySearchFunc(p.entries, build, compareEntry)
	if !found {
		p.entries = slices.Insert(p.entries, i, entry{build: build, due: timer.Never})
	}
	return &p.entries[i]
}

func (p *page) remove(build uint32) {
	if i, found := slices.BinarySearchFunc(p.entries, build, compareEntry); found {
		p.entries = slices.Delete(p.entries, i, i+1)
	}
}

func compareEntry(e entry, build uint32) int {
	switch {
	case e.build < build:
		return -1
	case e.build > build:
		return 1
	}
	return 0
}

// nothing reports whether the entry says no more than a missing one.
func (e *entry) nothing() bool {
	return !e.held && !e.member && !e.told && !e.past && e.due == timer.Never
}

// in reports whether the profile is a member of a build; there is none of
// number 0.
func (p *page) in(build uint32) bool {
	e := p.find(build)
	return e != nil && e.member
}

// encode writes the page without the entries that say nothing and those of
// builds that are gone; nil when nothing is left.
func (p *page) encode(known map[uint32]bool) kv.Value {
	p.entries = slices.DeleteFunc(p.entries, func(e entry) bool { return e.nothing() || !known[e.build] })
	if len(p.entries) == 0 && p.armed == timer.Never {
		return nil
	}
	v := kv.Value{pageFormat}
	if p.armed == timer.Never {
		v = v.Byte(0)
	} else {
		v = v.Byte(1).Varint(p.armed)
	}
	v = v.Uvarint(uint64(len(p.entries)))
	before := uint32(0)
	for i := range p.entries {
		e := &p.entries[i]
		v = v.Uvarint(uint64(e.build - before))
		before = e.build
		v = v.Byte(bit(e.held, bitHeld) | bit(e.member, bitMember) | bit(e.told, bitTold) | bit(e.past, bitPast) |
			bit(e.since != 0, bitSince) | bit(e.due != timer.Never, bitDue))
		if e.since != 0 {
			v = v.Varint(e.since)
		}
		if e.due != timer.Never {
			v = v.Varint(e.due)
		}
	}
	return v
}

// bit returns a bit where it is set.
func bit(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func emptyPage() *page { return &page{armed: timer.Never} }

func decodePage(value []byte) (*page, error) {
	p := emptyPage()
	if value == nil {
		return p, nil
	}
	f := kv.FieldsOf(value)
	if f.Byte() != pageFormat {
		return nil, errStored
	}
	if f.Byte() == 1 {
		p.armed = f.Varint()
	}
	n := f.Count(len(value))
	p.entries = make([]entry, 0, n+1)
	build := uint64(0)
	for range n {
		build += f.Uvarint()
		bits := f.Byte()
		e := entry{
			build: uint32(build), held: bits&bitHeld != 0, member: bits&bitMember != 0, told: bits&bitTold != 0,
			past: bits&bitPast != 0, due: timer.Never,
		}
		if bits&bitSince != 0 {
			e.since = f.Varint()
		}
		if bits&bitDue != 0 {
			e.due = f.Varint()
		}
		p.entries = append(p.entries, e)
	}
	if !f.OK() {
		return nil, errStored
	}
	return p, nil
}
