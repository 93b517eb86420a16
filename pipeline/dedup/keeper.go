package dedup

import (
	"bytes"
	"context"
	"errors"

	"kith/kv"
)

var (
	// errNoRoom means that a filter would take more memory than there is for it.
	errNoRoom = errors.New("dedup: no room for another filter")
	// errGone means that the bucket has left the window meanwhile.
	errGone = errors.New("dedup: the bucket is no longer needed")
)

// Run makes and loads filters and drops what has left the window, until ctx
// ends. What fails costs time and no answer: it is logged, and a filter is made
// at the next start, a bucket dropped with the next one.
func (x *Index) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-x.wake:
			x.settle(ctx)
		}
	}
}

// settle does all there is to do.
func (x *Index) settle(ctx context.Context) {
	if err := x.drop(ctx); err != nil && ctx.Err() == nil {
		x.cfg.Logger.Warn("messageIds that have left the dedup window could not be dropped", "space", x.cfg.Space, "error", err)
	}
	for b := x.task(); b != nil; b = x.task() {
		err := x.seal(ctx, b)
		if ctx.Err() != nil {
			x.stir() // for the next Run
			return
		}
		x.finish(b)
		switch {
		case err == nil || errors.Is(err, errGone):
		case errors.Is(err, errNoRoom):
			x.cfg.Logger.Warn("a dedup filter finds no room in memory; looking messageIds up takes longer", "space", x.cfg.Space,
				"bucket", b.number, "limit", x.cfg.FilterBytes)
		default:
			x.cfg.Logger.Warn("a dedup filter could not be made; looking messageIds up takes longer", "space", x.cfg.Space,
				"bucket", b.number, "error", err)
		}
	}
}

// task returns the bucket whose filter is to be made next, or nil.
func (x *Index) task() *bucket {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.tasks) == 0 {
		return nil
	}
	return x.tasks[0]
}

// finish takes the bucket off the list.
func (x *Index) finish(b *bucket) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.tasks) > 0 && x.tasks[0] == b {
		x.tasks = x.tasks[1:]
	}
}

// seal gives a bucket the filter of the keys it has in the store: the one that
// is kept there if it gets no more, otherwise one made anew.
func (x *Index) seal(ctx context.Context, b *bucket) error {
	x.mu.Lock()
	passed := b.passed
	x.mu.Unlock()
	m := &maker{x: x, b: b, s: &sealed{whole: passed}}
	if passed {
		whole, err := m.load(ctx)
		if whole || err != nil {
			return m.publish(err)
		}
		m.release()
	}
	return m.publish(m.read(ctx))
}

// maker makes a filter, whose memory it accounts for until it is published.
type maker struct {
	x    *Index
	b    *bucket
	s    *sealed
	held int64
}

// reserve asks for the memory of one more part.
func (m *maker) reserve(keys int) error {
	size := bloomBytes(keys, bits) + 8
	m.x.mu.Lock()
	defer m.x.mu.Unlock()
	if m.b.gone {
		return errGone
	}
	if m.x.held+size > m.x.cfg.FilterBytes {
		return errNoRoom
	}
	m.x.held += size
	m.held += size
	return nil
}

// release forgets what was made so far.
func (m *maker) release() {
	m.x.mu.Lock()
	defer m.x.mu.Unlock()
	m.x.held -= m.held
	m.held, m.s = 0, &sealed{whole: m.s.whole}
}

// publish puts the filter in force unless making it has failed.
func (m *maker) publish(err error) error {
	if err != nil {
		m.release()
		return err
	}
	m.x.mu.Lock()
	defer m.x.mu.Unlock()
	m.x.held -= m.held
	if m.b.gone {
		return errGone
	}
	m.x.held += m.s.bytes()
	if old := m.b.sealed.Swap(m.s); old != nil {
		m.x.held -= old.bytes()
	}
	return nil
}

// load reads the filter that is kept in the store. It returns false when there
// is none, or not the whole of one.
func (m *maker) load(ctx context.Context) (whole bool, err error) {
	const atOnce = 64 // parts in one view
	all := kv.Prefix(filterOf(m.x.cfg.Space, m.b.number))
	all.Limit = atOnce
	for {
		n := 0
		err := m.x.cfg.DB.View(ctx, func(r kv.Reader) error {
			for pair, err := range r.Scan(all) {
				if err != nil {
					return err
				}
				n++
				all.From = append(bytes.Clone(pair.Key), 0)
				if err := m.reserve(m.x.part); err != nil {
					return err
				}
				end, ok := m.s.decodePart(pair.Value)
				if !ok {
					return nil // made anew
				}
				if end {
					whole = true
					return nil
				}
			}
			return nil
		})
		if err != nil || whole || n < atOnce {
			return whole, err
		}
	}
}

// read makes the filter from the bucket's keys, and keeps it when the bucket
// gets no more.
func (m *maker) read(ctx context.Context) error {
	all := kv.Prefix(firstsOf(m.x.cfg.Space, m.b.number))
	all.Limit = m.x.part
	stem := firstsOf(m.x.cfg.Space, m.b.number)
	ids := make([]ID, 0, 1024)
	for {
		ids = ids[:0]
		err := m.x.cfg.DB.View(ctx, func(r kv.Reader) error {
			for pair, err := range r.Scan(all) {
				if err != nil {
					return err
				}
				parts := kv.PartsAfter(pair.Key, stem)
				ids = append(ids, ID(parts.Fixed(len(ID{}))))
				if !parts.OK() {
					return errDamaged
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(ids) > 0 {
			all.From = append(firstKey(m.x.cfg.Space, m.b.number, &ids[len(ids)-1]), 0)
			if err := m.reserve(len(ids)); err != nil {
				return err
			}
			m.s.add(ids)
		}
		end := len(ids) < m.x.part
		if m.s.whole {
			if err := m.keep(ctx, len(ids) > 0, end); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

// keep stores the newest part, and the end.
func (m *maker) keep(ctx context.Context, part, end bool) error {
	return m.x.cfg.DB.Update(ctx, Fence(m.x.cfg.Space), kv.Lazy, func(tx kv.Tx) error {
		set := func(n int) error {
			return tx.Set(filterOf(m.x.cfg.Space, m.b.number).Uint32(uint32(n)), m.s.encodePart(n))
		}
		n := len(m.s.parts)
		if part {
			if err := set(n - 1); err != nil {
				return err
			}
		}
		if end {
			return set(n)
		}
		return nil
	})
}

// drop drops the buckets that have left the window, and what kith wrote before
// there were buckets, which is older than any.
func (x *Index) drop(ctx context.Context) error {
	x.mu.Lock()
	cut := x.cut
	x.mu.Unlock()
	if cut == 0 {
		return nil
	}
	if x.hadFormer {
		if err := x.dropRange(ctx, kv.Prefix(kv.SpaceKey(x.cfg.Space, formerRoom))); err != nil {
			return err
		}
	}
	if err := x.dropRange(ctx, kv.Range{From: stem(x.cfg.Space), To: stem(x.cfg.Space).Uint32(cut)}); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cut == cut {
		x.cut = 0
	}
	return nil
}

// dropAtOnce is how many keys are deleted in one transaction on a store that
// cannot drop a range.
const dropAtOnce = 10_000

func (x *Index) dropRange(ctx context.Context, doomed kv.Range) error {
	if ranges, ok := x.cfg.DB.(kv.RangeDeleter); ok {
		return ranges.DeleteRange(ctx, doomed.From, doomed.To)
	}
	doomed.Limit = dropAtOnce
	for {
		var keys [][]byte
		err := x.cfg.DB.Update(ctx, Fence(x.cfg.Space), kv.Lazy, func(tx kv.Tx) error {
			keys = keys[:0]
			for pair, err := range tx.Scan(doomed) {
				if err != nil {
					return err
				}
				keys = append(keys, bytes.Clone(pair.Key))
			}
			for _, key := range keys {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(keys) < dropAtOnce {
			return err
		}
	}
}
