package computation

import (
	"slices"

	"kith/kv"
)

// shelf is cells of one profile that are kept under one key: those of
// aggregates of one event.
type shelf struct {
	number uint32
	places []spot // in the order of their aggregates
}

// spot is a cell on a shelf. It is unpacked when somebody asks for it.
type spot struct {
	aggregate uint32
	packed    []byte
	cell      *cell // nil: packed
}

// cell returns an aggregate's cell, an empty one if there is none.
func (s *shelf) cell(a *aggregate) (*cell, error) {
	i, found := slices.BinarySearchFunc(s.places, a.Number, func(x spot, n uint32) int { return int(int64(x.aggregate) - int64(n)) })
	if !found {
		s.places = slices.Insert(s.places, i, spot{aggregate: a.Number})
	}
	x := &s.places[i]
	if x.cell == nil {
		var err error
		if x.cell, err = decodeCell(a, x.packed); err != nil {
			return nil, err
		}
	}
	return x.cell, nil
}

// aggregates returns the aggregates of which there are cells.
func (s *shelf) aggregates() []uint32 {
	list := make([]uint32, len(s.places))
	for i := range s.places {
		list[i] = s.places[i].aggregate
	}
	return list
}

// dirty reports whether a cell has changed.
func (s *shelf) dirty() bool {
	return slices.ContainsFunc(s.places, func(x spot) bool { return x.cell != nil && x.cell.dirty })
}

// encode writes the shelf without the cells that hold nothing and those of
// aggregates that are gone; nil when nothing is left.
func (s *shelf) encode(g *graph) kv.Value {
	v := make(kv.Value, 0, 16+16*len(s.places)).Byte(shelfFormat)
	before := uint32(0)
	for i := range s.places {
		x := &s.places[i]
		a := g.aggregates[x.aggregate]
		if a == nil || x.cell != nil && x.cell.empty() {
			continue
		}
		packed := x.packed
		if x.cell != nil && (x.cell.dirty || packed == nil) {
			packed = x.cell.encode(a.aggregate)
		}
		v = v.Uvarint(uint64(x.aggregate - before)).Bytes(packed)
		before = x.aggregate
	}
	if len(v) == 1 {
		return nil
	}
	return v
}

func decodeShelf(number uint32, value []byte) (*shelf, error) {
	s := &shelf{number: number}
	if value == nil {
		return s, nil
	}
	f := kv.FieldsOf(value)
	if f.Byte() != shelfFormat {
		return nil, errStored
	}
	aggregate := uint64(0)
	for len(f.Rest()) > 0 {
		aggregate += f.Uvarint()
		s.places = append(s.places, spot{aggregate: uint32(aggregate), packed: f.Bytes()})
	}
	if !f.OK() {
		return nil, errStored
	}
	return s, nil
}
