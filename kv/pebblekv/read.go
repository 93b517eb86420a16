package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"kith/kv"
)

// reader reads Pebble itself: a snapshot, or the newest state.
type reader struct{ from pebble.Reader }

func (r reader) Get(key []byte) ([]byte, error) {
	value, held, err := r.from.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	own := append(make([]byte, 0, len(value)), value...)
	if err := held.Close(); err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	return own, nil
}

func (r reader) GetMany(keys [][]byte) ([][]byte, error) { return getMany(r, keys) }

// getMany reads one key after the other.
func getMany(r interface{ Get([]byte) ([]byte, error) }, keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		var err error
		if values[i], err = r.Get(key); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (r reader) Scan(rg kv.Range) iter.Seq2[kv.Pair, error] {
	return func(yield func(kv.Pair, error) bool) {
		if empty(rg) {
			return
		}
		c, err := r.cursor(rg)
		if err != nil {
			yield(kv.Pair{}, err)
			return
		}
		n := 0
		for c.valid {
			if !yield(c.pair, nil) {
				c.close()
				return
			}
			if n++; n == rg.Limit {
				break
			}
			c.next()
		}
		if err := c.close(); err != nil {
			yield(kv.Pair{}, err)
		}
	}
}

func empty(rg kv.Range) bool { return rg.To != nil && bytes.Compare(rg.From, rg.To) >= 0 }

// cursor stands at a pair of a range in Pebble, or is not valid.
type cursor struct {
	it      *pebble.Iterator
	reverse bool
	valid   bool
	pair    kv.Pair // until the cursor moves
	err     error   // of a value; Pebble keeps others
}

// cursor returns a cursor at the first pair of rg in its direction.
func (r reader) cursor(rg kv.Range) (*cursor, error) {
	it, err := r.from.NewIter(&pebble.IterOptions{LowerBound: rg.From, UpperBound: rg.To})
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	c := &cursor{it: it, reverse: rg.Reverse}
	if rg.Reverse {
		c.read(it.Last())
	} else {
		c.read(it.First())
	}
	return c, nil
}

func (c *cursor) next() {
	if c.reverse {
		c.read(c.it.Prev())
	} else {
		c.read(c.it.Next())
	}
}

func (c *cursor) read(valid bool) {
	c.valid = valid
	if !valid {
		return
	}
	c.pair.Key = c.it.Key()
	if c.pair.Value, c.err = c.it.ValueAndErr(); c.pair.Value == nil {
		c.pair.Value = []byte{} // empty, not missing
	}
	c.valid = c.err == nil
}

// failed reports whether the cursor stands nowhere because of an error.
func (c *cursor) failed() bool { return c.err != nil || !c.valid && c.it.Error() != nil }

// close frees the cursor and returns the error that ended it, if one did.
func (c *cursor) close() error {
	if err := errors.Join(c.err, c.it.Close()); err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	return nil
}
