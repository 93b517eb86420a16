package computation

import (
	"slices"

	"kith/kv"
	"kith/query"
)

// cell is what an aggregate keeps of one profile. Which parts are used is its
// aggregate's kind.
type cell struct {
	count   uint64   // tallies
	at      []int64  // times: effective times in order
	moments []moment // moments: in the order of their times
	dirty   bool
}

// moment is an event whose filter has not decided for good.
type moment struct {
	at     int64
	sure   bool            // it counts, whatever becomes of traits and dates
	fields [][]query.Value // by the filter's fields, when not sure
}

// maxMomentBytes bounds what the moments of one cell take, about.
const maxMomentBytes = 256 << 10

// maxFieldBytes bounds what is kept of one field of one event; what is longer
// is kept as missing, and equals nothing.
const maxFieldBytes = 1 << 10

// add counts an event of that effective time. It reports whether anything has
// changed.
func (c *cell) add(a *aggregate, now, at int64, h *hit) bool {
	switch a.Kind {
	case tallies:
		c.count++
		c.dirty = true
		return true
	case times:
		if expired(at, a.Reach, now) || int64(len(c.at)) >= a.keep() && at < c.at[0] {
			return false
		}
		i, _ := slices.BinarySearch(c.at, at)
		c.at = slices.Insert(c.at, i, at)
	case moments:
		if expired(at, a.Reach, now) {
			return false
		}
		m := moment{at: at, sure: h.sure}
		if !h.sure {
			m.fields = bounded(h.fields)
		}
		i, _ := slices.BinarySearchFunc(c.moments, at, func(m moment, at int64) int { return int(min(max(m.at-at, -1), 1)) })
		c.moments = slices.Insert(c.moments, i, m)
	}
	c.trim(a, now)
	return true
}

func bounded(fields [][]query.Value) [][]query.Value {
	out := make([][]query.Value, len(fields))
	for i, values := range fields {
		size := 0
		for _, v := range values {
			size += v.Size()
		}
		if size <= maxFieldBytes {
			out[i] = values
		}
	}
	return out
}

// join adds what another cell of the same aggregate holds, and leaves that one
// as it is.
func (c *cell) join(a *aggregate, now int64, o *cell) {
	c.count += o.count
	if len(o.at) > 0 {
		c.at = append(c.at, o.at...)
		slices.Sort(c.at)
	}
	if len(o.moments) > 0 {
		c.moments = append(c.moments, o.moments...)
		slices.SortStableFunc(c.moments, func(x, y moment) int { return int(min(max(x.at-y.at, -1), 1)) })
	}
	c.trim(a, now)
}

// unite adds what another cell holds of the same events and this one does not.
func (c *cell) unite(o *cell) {
	c.count = max(c.count, o.count)
	if len(o.moments) > len(c.moments) { // of windows that begin together
		c.moments = o.moments
	}
	var all []int64
	mine, theirs := c.at, o.at
	for len(mine) > 0 && len(theirs) > 0 {
		if mine[0] <= theirs[0] {
			if mine[0] == theirs[0] {
				theirs = theirs[1:]
			}
			all, mine = append(all, mine[0]), mine[1:]
		} else {
			all, theirs = append(all, theirs[0]), theirs[1:]
		}
	}
	c.at = append(append(all, mine...), theirs...)
}

// keep returns how many entries an aggregate's cells hold at most.
func (a *aggregate) keep() int64 {
	if a.Keep == query.All {
		return query.MaxKept
	}
	return a.Keep
}

// expired reports whether an entry has left every window.
func expired(at, reach, now int64) bool { return reach != query.Never && at+reach <= now }

// trim drops what nobody can ask for any more: entries that have left every
// window, and the oldest beyond what is kept.
func (c *cell) trim(a *aggregate, now int64) {
	c.dirty = true
	switch a.Kind {
	case times:
		i := max(int64(len(c.at))-a.keep(), 0)
		for int(i) < len(c.at) && expired(c.at[i], a.Reach, now) {
			i++
		}
		c.at = c.at[i:]
	case moments:
		i := max(int64(len(c.moments))-a.keep(), 0)
		for int(i) < len(c.moments) && expired(c.moments[i].at, a.Reach, now) {
			i++
		}
		size := 0
		for j := len(c.moments) - 1; j >= int(i); j-- {
			if size += c.moments[j].size(); size > maxMomentBytes {
				i = int64(j) + 1
				break
			}
		}
		c.moments = c.moments[i:]
	}
}

func (m *moment) size() int {
	n := 16
	for _, values := range m.fields {
		for _, v := range values {
			n += 4 + v.Size()
		}
	}
	return n
}

// empty reports whether the cell holds nothing, which is how a missing one is
// read.
func (c *cell) empty() bool { return c.count == 0 && len(c.at) == 0 && len(c.moments) == 0 }

func (c *cell) encode(a *aggregate) kv.Value {
	v := make(kv.Value, 0, 16+4*len(c.at)).Byte(byte(a.Kind))
	switch a.Kind {
	case tallies:
		return v.Uvarint(c.count)
	case times:
		v = v.Uvarint(uint64(len(c.at)))
		before := int64(0)
		for _, at := range c.at {
			v = v.Varint(at - before)
			before = at
		}
	case moments:
		v = v.Uvarint(uint64(len(c.moments)))
		before := int64(0)
		for i := range c.moments {
			m := &c.moments[i]
			v = v.Varint(m.at - before)
			before = m.at
			if m.sure {
				v = v.Byte(1)
				continue
			}
			v = v.Byte(0).Uvarint(uint64(len(m.fields)))
			for _, values := range m.fields {
				v = v.Uvarint(uint64(len(values)))
				for _, x := range values {
					v = x.Append(v)
				}
			}
		}
	}
	return v
}

func decodeCell(a *aggregate, value []byte) (*cell, error) {
	c := &cell{}
	if value == nil {
		return c, nil
	}
	f := kv.FieldsOf(value)
	if f.Byte() != byte(a.Kind) {
		return nil, errStored
	}
	before := int64(0)
	switch a.Kind {
	case tallies:
		c.count = f.Uvarint()
	case times:
		n := f.Count(len(value))
		c.at = make([]int64, n, n+1) // most are read to be added to
		for i := range c.at {
			before += f.Varint()
			c.at[i] = before
		}
	case moments:
		c.moments = make([]moment, f.Count(len(value)))
		for i := range c.moments {
			before += f.Varint()
			m := &c.moments[i]
			m.at = before
			if m.sure = f.Byte() == 1; m.sure {
				continue
			}
			for range f.Count(len(value)) {
				m.fields = append(m.fields, decodeValues(&f, len(value)))
			}
		}
	}
	if !f.OK() {
		return nil, errStored
	}
	return c, nil
}

func decodeValues(f *kv.Fields, limit int) (values []query.Value) {
	for range f.Count(limit) {
		v, rest, ok := query.ReadValue(f.Rest())
		if !ok {
			f.Fail()
			return nil
		}
		f.Fixed(len(f.Rest()) - len(rest))
		values = append(values, v)
	}
	return values
}

// tally returns the count of a whole-history cell.
func (c *cell) tally() query.Count { return query.Count{N: int64(c.count), Next: query.Never} }

// within returns the count of times in a window at an instant, with its
// changes to come.
func (c *cell) within(w query.Window, now int64) query.Count {
	// Entries before in have come into the window, entries before out have
	// left it; both in the order of their times.
	in, _ := slices.BinarySearch(c.at, now-w.From+1)
	out, _ := slices.BinarySearch(c.at, now-w.To+1)
	s := &steps{c.at, w, in, out}
	return query.Count{N: int64(in - out), Next: s.next(), Steps: s}
}

// steps are the changes of a windowed count to come: in entries have come into
// the window, out have left it.
type steps struct {
	at      []int64
	window  query.Window
	in, out int
}

// next returns when the next entry comes in or leaves.
func (s *steps) next() int64 {
	at := query.Never
	if s.in < len(s.at) {
		at = s.at[s.in] + s.window.From
	}
	if s.out < len(s.at) {
		at = min(at, s.at[s.out]+s.window.To)
	}
	return at
}

// Step implements query.Steps.
func (s *steps) Step() (at, n int64) {
	if at = s.next(); at == query.Never {
		return at, 0
	}
	for s.in < len(s.at) && s.at[s.in]+s.window.From <= at {
		s.in++
	}
	for s.out < len(s.at) && s.at[s.out]+s.window.To <= at {
		s.out++
	}
	return at, int64(s.in - s.out)
}

// judged returns the count of moments in a window that pass the filter at an
// instant.
func (c *cell) judged(w query.Window, f *query.Filter, now int64, trait func(int) []query.Value) query.Count {
	n := query.Count{Next: query.Never}
	for i := range c.moments {
		m := &c.moments[i]
		from, to := m.at+w.From, query.Never
		if w.To != query.Never {
			to = m.at + w.To
		}
		if now >= to {
			continue
		}
		if now < from {
			n.Next = min(n.Next, from)
			continue
		}
		counts, next := true, query.Never
		if !m.sure {
			counts, next = f.Test(now, func(i int) []query.Value { return m.fields[i] }, trait)
		}
		if counts {
			n.N++
			next = min(next, to)
		}
		if counts || next < to {
			n.Next = min(n.Next, next)
		}
	}
	return n
}
