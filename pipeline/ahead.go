package pipeline

import (
	"fmt"
	"sync"

	"kith/event"
	"kith/kv"
)

// readAhead looks up whether the records came before, and returns tx with
// everything in memory that the batch is known to look up besides: the stages
// name the keys, and all cores read them at once before the row, which goes one
// by one, begins.
func (l *Loop) readAhead(tx kv.Tx, b *Batch, at int64, records []*Record) (kv.Tx, error) {
	for _, r := range records {
		at = max(at, r.Stamped)
		r.At = at
	}
	if len(records) < 16 {
		return tx, l.lookUp(tx, records)
	}
	var readers []Reader
	for _, s := range l.cfg.Stages {
		if r, ok := s.(Reader); ok {
			readers = append(readers, r)
		}
	}
	const chunk = 64
	a := &aheadTx{Tx: tx, seen: make(map[string][]byte, 4*len(records))}
	var mu sync.Mutex
	var failed error
	each((len(records)+chunk-1)/chunk, func(i int) {
		some := records[i*chunk : min(len(records), (i+1)*chunk)]
		err := l.lookUp(tx, some)
		var keys, values [][]byte
		if err == nil {
			for _, r := range some {
				for _, s := range readers {
					keys = append(keys, l.hint(s, b, r)...)
				}
			}
			values, err = tx.GetMany(keys)
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed = err
			return
		}
		for i, k := range keys {
			a.seen[string(k)] = values[i]
		}
	})
	return a, failed
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

// aheadTx answers Get from what was read ahead or written since.
type aheadTx struct {
	kv.Tx
	seen map[string][]byte
}

func (a *aheadTx) Get(key []byte) ([]byte, error) {
	if v, ok := a.seen[string(key)]; ok {
		return v, nil
	}
	return a.Tx.Get(key)
}

func (a *aheadTx) GetMany(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, k := range keys {
		v, err := a.Get(k)
		if err != nil {
			return nil, err
		}
		values[i] = v
	}
	return values, nil
}

func (a *aheadTx) Set(key, value []byte) error {
	delete(a.seen, string(key))
	return a.Tx.Set(key, value)
}

func (a *aheadTx) Delete(key []byte) error {
	delete(a.seen, string(key))
	return a.Tx.Delete(key)
}
