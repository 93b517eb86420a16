package kvtest

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strings"
	"testing"

	"kith/kv"
)

// Replay runs a random script of steps on db and returns all answers, a line
// each. The script depends on the seed alone, so two stores that obey the
// contract answer alike.
func Replay(t *testing.T, db kv.DB, seed uint64, steps int) string {
	s := &script{t: t, db: db, rng: rand.New(rand.NewPCG(seed, 2))}
	for range steps {
		switch n := s.rng.IntN(20); {
		case n < 12:
			s.update()
		case n < 19:
			s.view()
		default:
			s.deleteRange()
		}
	}
	s.note("at the end")
	view(t, db, func(r kv.Reader) error { s.scan(r, kv.Range{}); return nil })
	return s.log.String()
}

type script struct {
	t   *testing.T
	db  kv.DB
	rng *rand.Rand
	log strings.Builder
}

var errScript = errors.New("a step of the script")

func (s *script) note(format string, args ...any) { fmt.Fprintf(&s.log, format+"\n", args...) }

func (s *script) update() {
	fence := kv.Fence(fmt.Sprint("fence ", s.rng.IntN(2)))
	d := kv.Durability(s.rng.IntN(4) == 0)
	s.note("update under %s", fence)
	err := s.db.Update(context.Background(), fence, d, func(tx kv.Tx) error {
		for range s.rng.IntN(30) {
			switch n := s.rng.IntN(10); {
			case n < 4:
				s.set(tx)
			case n < 6:
				key := s.key()
				s.note("delete %q: %v", key, tx.Delete(key))
			default:
				s.read(tx)
			}
		}
		if s.rng.IntN(6) == 0 {
			return errScript
		}
		return nil
	})
	s.note("updated: %v", err)
}

func (s *script) set(tx kv.Tx) {
	key, value := s.key(), make([]byte, s.rng.IntN(20))
	if s.rng.IntN(30) == 0 {
		value = make([]byte, s.rng.IntN(20_000))
	}
	for i := range value {
		value[i] = byte(s.rng.Uint32())
	}
	s.note("set %q to %s: %v", key, show(value), tx.Set(key, value))
}

func (s *script) view() {
	s.note("view")
	err := s.db.View(context.Background(), func(r kv.Reader) error {
		for range s.rng.IntN(8) {
			s.read(r)
		}
		return nil
	})
	s.note("viewed: %v", err)
}

func (s *script) read(r kv.Reader) {
	switch s.rng.IntN(4) {
	case 0:
		key := s.key()
		value, err := r.Get(key)
		s.note("get %q: %s %v", key, show(value), err)
	case 1:
		keys := make([][]byte, s.rng.IntN(6))
		for i := range keys {
			keys[i] = s.key()
		}
		values, err := r.GetMany(keys)
		s.note("get many: %v", err)
		for i, value := range values {
			s.note("  %q: %s", keys[i], show(value))
		}
	default:
		rg := kv.Range{Reverse: s.rng.IntN(2) == 0, Limit: max(0, s.rng.IntN(8)-3)}
		if s.rng.IntN(5) > 0 {
			rg.From = s.key()
		}
		if s.rng.IntN(5) > 0 {
			rg.To = s.key()
		}
		s.scan(r, rg)
	}
}

func (s *script) scan(r kv.Reader, rg kv.Range) {
	s.note("scan %q to %q, reverse %v, limit %d", rg.From, rg.To, rg.Reverse, rg.Limit)
	for pair, err := range r.Scan(rg) {
		s.note("  %q=%s %v", pair.Key, show(pair.Value), err)
	}
}

func (s *script) deleteRange() {
	from, to := s.key(), s.key()
	ranges, ok := s.db.(kv.RangeDeleter)
	if ok {
		s.note("delete %q to %q: %v", from, to, ranges.DeleteRange(context.Background(), from, to))
		return
	}
	update(s.t, s.db, func(tx kv.Tx) error {
		var keys [][]byte
		for pair, err := range tx.Scan(kv.Range{From: from, To: to}) {
			if err != nil {
				return err
			}
			keys = append(keys, append([]byte(nil), pair.Key...))
		}
		for _, key := range keys {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	s.note("delete %q to %q: %v", from, to, nil)
}

// key returns one of few keys, many of which are prefixes of others.
func (s *script) key() []byte {
	const letters = "\x00\x01ab\xfe\xff"
	key := make([]byte, 1+s.rng.IntN(3))
	for i := range key {
		key[i] = letters[s.rng.IntN(len(letters))]
	}
	return key
}

func show(value []byte) string {
	switch {
	case value == nil:
		return "nil"
	case len(value) > 24:
		return fmt.Sprintf("%d bytes with sum %x", len(value), crc32.ChecksumIEEE(value))
	}
	return fmt.Sprintf("%x.", value)
}
