package pipeline

import (
	"fmt"
	"sync"

	"kith/event"
	"kith/kv"
)

// What a loop has the store keep at hand of its epoch, in bytes: who was seen
// lately comes again, and a replay meets everybody.
const (
	keepLive   = 64 << 20
	keepReplay = 128 << 20
)

// keep has the store keep at hand what the loop reads, where it can.
func (l *Loop) keep() (end func()) {
	k, ok := l.cfg.DB.(kv.Keeper)
	if !ok {
		return func() {}
	}
	bytes := keepLive
	if l.cfg.Past != nil {
		bytes = keepReplay
	}
	return k.Keep(Fence(l.cfg.Space, l.cfg.Epoch), kv.EpochRange(l.cfg.Space, l.cfg.Epoch).From, bytes)
}

// readAhead looks up whether the records came before, and reads what the batch
// is known to look up besides: the stages name the keys, and all cores read them
// at once before the row, which goes one by one, begins. What was read so the
// store has at hand; see keep.
func (l *Loop) readAhead(tx kv.Tx, b *Batch, at int64, records []*Record) error {
	for _, r := range records {
		at = max(at, r.Stamped)
		r.At = at
	}
	if len(records) < 16 {
		return l.lookUp(tx, records)
	}
	var readers []Reader
	for _, s := range l.cfg.Stages {
		if r, ok := s.(Reader); ok {
			readers = append(readers, r)
		}
	}
	const chunk = 64
	var once sync.Once
	var failed error
	each((len(records)+chunk-1)/chunk, func(i int) {
		some := records[i*chunk : min(len(records), (i+1)*chunk)]
		err := l.lookUp(tx, some)
		var keys [][]byte
		for _, r := range some {
			for _, s := range readers {
				keys = append(keys, l.hint(s, b, r)...)
			}
		}
		if err == nil {
			_, err = tx.GetMany(keys)
		}
		if err != nil {
			once.Do(func() { failed = err })
		}
	})
	return failed
}

// lookUp asks the index of dedup for the first record of each messageId. It is
// asked before the transaction writes.
func (l *Loop) lookUp(tx kv.Tx, records []*Record) error {
	if l.index == nil {
		return nil
	}
	for _, r := range records {
		r.first = nil
		if r.Kind != event.KindEvent {
			continue
		}
		first, ok, err := l.index.Seen(tx, &r.dedup, r.At)
		if err != nil {
			return err
		}
		if ok {
			r.first = &first
		}
	}
	return nil
}

// hint asks a stage for keys. A defect there costs time and nothing else.
func (l *Loop) hint(s Reader, b *Batch, r *Record) (keys [][]byte) {
	defer func() {
		if p := recover(); p != nil {
			l.cfg.Logger.Error("a stage panicked on what to read ahead", "space", b.Space, "record", r.Offset, "panic", fmt.Sprint(p))
		}
	}()
	return s.Keys(b, r)
}
