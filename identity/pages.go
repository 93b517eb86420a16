package identity

import (
	"kith/event"
	"kith/kv"
)

// pageItems is how many items a page holds: a profile's list of identifiers, or
// of those that were merged into it, is stored in full pages and what is left
// behind them, so that a profile of a hundred thousand identifiers gets another
// without being written anew.
const pageItems = 256

// list is a list of which the front may be stored in pages. Versions of a
// profile within a batch share a list's memory: a tail is only ever appended
// to, and only by the newest version.
type list[T any] struct {
	front *front[T] // nil: there are no pages
	tail  []T
	old   int // pages that are stored and have to be written anew, or go
}

// front is the stored pages of a list, read when they are asked for.
type front[T any] struct {
	pages  [][]T // nil while they are not read
	read   func(from, to int) ([][]T, error)
	joined []T // the pages and the tail as far as they were asked for together
}

func (l *list[T]) stored() int {
	if l.front == nil {
		return 0
	}
	return len(l.front.pages)
}

func (l *list[T]) len() int { return l.stored()*pageItems + len(l.tail) }

// page returns one stored page.
func (l *list[T]) page(i int) ([]T, error) {
	f := l.front
	if f.pages[i] == nil {
		pages, err := f.read(i, i+1)
		if err != nil {
			return nil, err
		}
		f.pages[i] = pages[0]
	}
	return f.pages[i], nil
}

// all returns the whole list. It must not be changed.
func (l *list[T]) all() ([]T, error) {
	f := l.front
	if f == nil {
		return l.tail, nil
	}
	if f.joined == nil {
		f.joined = make([]T, 0, l.len()+pageItems)
		const atOnce = 64
		for from := 0; from < len(f.pages); from += atOnce {
			to := min(from+atOnce, len(f.pages))
			pages, err := f.read(from, to)
			if err != nil {
				f.joined = nil
				return nil, err
			}
			for _, p := range pages {
				f.joined = append(f.joined, p...)
			}
		}
	}
	if have := len(f.joined) - l.stored()*pageItems; have < len(l.tail) {
		f.joined = append(f.joined, l.tail[have:]...)
	}
	return f.joined[:l.len():l.len()], nil
}

// without returns the list without the items that are; the pages have to be
// written anew.
func (l *list[T]) without(are func(T) bool) (list[T], error) {
	items, err := l.all()
	if err != nil {
		return list[T]{}, err
	}
	next := list[T]{old: max(l.old, l.stored()), tail: make([]T, 0, len(items))}
	for _, x := range items {
		if !are(x) {
			next.tail = append(next.tail, x)
		}
	}
	return next, nil
}

// write writes what fills pages, and returns what is left behind them, with
// how many pages there are then.
func (l *list[T]) write(tx kv.Tx, key func(page int) kv.Key, encode func([]T) kv.Value) (pages int, rest []T, err error) {
	pages, rest = l.stored(), l.tail
	for ; len(rest) >= pageItems; pages, rest = pages+1, rest[pageItems:] {
		if err := tx.Set(key(pages), encode(rest[:pageItems])); err != nil {
			return 0, nil, err
		}
	}
	for i := pages; i < l.old; i++ {
		if err := tx.Delete(key(i)); err != nil {
			return 0, nil, err
		}
	}
	return pages, rest, nil
}

// frontOf returns a list's n stored pages.
func frontOf[T any](r kv.Reader, n int, key func(page int) kv.Key, decode func([]byte) ([]T, error)) *front[T] {
	if n == 0 {
		return nil
	}
	return &front[T]{pages: make([][]T, n), read: func(from, to int) ([][]T, error) {
		stored := make([][]byte, to-from)
		for i := range stored {
			stored[i] = key(from + i)
		}
		values, err := r.GetMany(stored)
		if err != nil {
			return nil, err
		}
		pages := make([][]T, len(values))
		for i, v := range values {
			if pages[i], err = decode(v); err != nil {
				return nil, err
			}
			if len(pages[i]) != pageItems {
				return nil, errStored
			}
		}
		return pages, nil
	}}
}

func encodeIdentifierPage(ids []Identified) kv.Value {
	return appendIdentified(kv.Value{pageFormat}, ids)
}

// decodeIdentifierPage returns the decoder of pages of a collection.
func decodeIdentifierPage(collection string) func([]byte) ([]Identified, error) {
	return func(value []byte) ([]Identified, error) {
		f := kv.FieldsOf(value)
		if f.Byte() != pageFormat {
			return nil, errStored
		}
		ids := readIdentified(&f, collection, len(value))
		if !f.OK() {
			return nil, errStored
		}
		return ids, nil
	}
}

func encodeMergedPage(merged []event.ProfileID) kv.Value {
	return appendMerged(kv.Value{pageFormat}, merged)
}

func decodeMergedPage(value []byte) ([]event.ProfileID, error) {
	f := kv.FieldsOf(value)
	if f.Byte() != pageFormat {
		return nil, errStored
	}
	merged := readMerged(&f, len(value))
	if !f.OK() {
		return nil, errStored
	}
	return merged, nil
}

// span is what one page holds of one type: how many, and the first and last
// instant at which they were attached.
type span struct {
	name     string
	count    int
	from, to int64
}

// spansOf sums up a page.
func spansOf(ids []Identified) (spans []span) {
page:
	for i := range ids {
		x := &ids[i]
		for j := range spans {
			if s := &spans[j]; s.name == x.Type {
				s.count++
				s.from, s.to = min(s.from, x.At), max(s.to, x.At)
				continue page
			}
		}
		spans = append(spans, span{x.Type, 1, x.At, x.At})
	}
	return spans
}
