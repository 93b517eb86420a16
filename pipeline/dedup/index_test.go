package dedup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"kith/commitlog"
	"kith/kv"
	"kith/kv/memkv"
)

const day = int64(24 * time.Hour / time.Millisecond)

// plain is a store that cannot drop ranges.
type plain struct{ kv.DB }

// failer is what tests of both kinds have.
type failer interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
}

// world is an index in a store, and the truth.
type world struct {
	t     failer
	mem   *memkv.DB
	plain bool
	x     *Index
	limit int64
	log   bytes.Buffer

	window  int64
	at      int64
	offset  commitlog.Offset
	counted map[string]First // the newest record that counted
}

func newWorld(t failer, window int64) *world {
	w := &world{t: t, mem: memkv.New(), window: window, at: 20_000 * day, counted: map[string]First{}}
	w.open()
	return w
}

// open opens the index where the last one was left.
func (w *world) open() {
	w.t.Helper()
	var db kv.DB = w.mem
	if w.plain {
		db = plain{db}
	}
	x, err := Open(context.Background(), Config{
		DB: db, Space: 7, Window: time.Duration(w.window) * time.Millisecond, FilterBytes: w.limit,
		Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	}, w.at)
	if err != nil {
		w.t.Fatal(err)
	}
	x.part = 3
	w.x = x
}

// expected says which record counted for an id, as of an instant.
func (w *world) expected(name string, at int64) (First, bool) {
	f, ok := w.counted[name]
	return f, ok && at-f.At < w.window
}

var errAgain = errors.New("the transaction fails")

// batch looks all ids up and then notes the new ones, as the loop does; with
// fail set its first transaction fails at the end, and its second one has only
// half of them.
func (w *world) batch(names []string, fail bool) {
	w.t.Helper()
	if fail {
		if err := w.transact(names); err != nil {
			w.t.Fatal(err)
		}
		names = names[:(len(names)+1)/2]
	}
	noted := map[string]First{}
	err := w.mem.Update(context.Background(), "loop", kv.Durable, func(tx kv.Tx) error {
		clear(noted)
		seen := map[string]First{}
		for _, name := range names {
			id := IDOf(name)
			got, ok, err := w.x.Seen(tx, &id, w.at)
			if err != nil {
				return err
			}
			if want, known := w.expected(name, w.at); ok != known || ok && got != want {
				return fmt.Errorf("%s is seen as %+v %v, want %+v %v", name, got, ok, want, known)
			}
			if ok {
				seen[name] = got
			}
		}
		for i, name := range names {
			if _, ok := seen[name]; ok {
				continue
			}
			if _, ok := noted[name]; ok {
				continue
			}
			id, f := IDOf(name), First{Offset: w.offset + commitlog.Offset(i), At: w.at}
			if err := w.x.Note(tx, &id, f); err != nil {
				return err
			}
			noted[name] = f
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for name, f := range noted {
		w.counted[name] = f
	}
	w.offset += commitlog.Offset(len(names))
	w.x.Passed(w.at)
}

// transact notes ids in a transaction that fails.
func (w *world) transact(names []string) error {
	err := w.mem.Update(context.Background(), "loop", kv.Durable, func(tx kv.Tx) error {
		for _, name := range names {
			id := IDOf(name)
			if _, ok, err := w.x.Seen(tx, &id, w.at); err != nil || ok {
				return errors.Join(err, errAgain)
			}
			if err := w.x.Note(tx, &id, First{Offset: w.offset + 1000, At: w.at}); err != nil {
				return err
			}
		}
		return errAgain
	})
	if !errors.Is(err, errAgain) {
		return err
	}
	return nil
}

// find compares Find with the truth: what counts is found, and what counted
// once may be.
func (w *world) find(name string) {
	w.t.Helper()
	err := w.mem.View(context.Background(), func(r kv.Reader) error {
		got, ok, err := Find(r, 7, name)
		want, known := w.expected(name, w.at)
		if known && (!ok || got != want) || !known && ok && got != w.counted[name] {
			w.t.Errorf("%s is found as %+v %v, want %+v %v", name, got, ok, want, known)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stats(want string) {
	w.t.Helper()
	s := w.x.Stats()
	if got := fmt.Sprintf("%d buckets, %d bare", s.Buckets, s.Bare); got != want {
		w.t.Errorf("there are %s, want %s", got, want)
	}
	bytes := int64(0)
	for _, b := range w.x.buckets {
		bytes += b.added.bytes()
		if s := b.sealed.Load(); s != nil {
			bytes += s.bytes()
		}
	}
	if s.FilterBytes != bytes {
		w.t.Errorf("filters are said to take %d bytes and take %d", s.FilterBytes, bytes)
	}
}

// TestAgainstModel leads random histories through an index and a map.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.SampledFrom([]int64{1, 3_600_000, 4 * day, 5 * day, 30 * day, 90 * day}).Draw(t, "window")
		w := newWorld(t, window)
		w.plain = rapid.Bool().Draw(t, "plain")
		w.limit = rapid.SampledFrom([]int64{1, 3 << 10, 30 << 10, DefaultFilterBytes}).Draw(t, "limit")
		w.open()
		name := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("m", rapid.IntRange(0, 30).Draw(t, "id")) })
		pause := rapid.SampledFrom([]int64{0, 0, 1, 3_600_000, 3_599_999, day, 4 * day, 5*day - 1, 5 * day, window - 1, window, window + 1, 60 * day})
		t.Repeat(map[string]func(*rapid.T){
			"batch": func(t *rapid.T) {
				w.batch(rapid.SliceOfN(name, 1, 12).Draw(t, "ids"), rapid.IntRange(0, 4).Draw(t, "fail") == 0)
			},
			"wait":   func(t *rapid.T) { w.at += pause.Draw(t, "pause") },
			"settle": func(t *rapid.T) { w.x.settle(context.Background()) },
			"restart": func(t *rapid.T) {
				w.open()
			},
			"crash": func(t *rapid.T) {
				w.mem = w.mem.Crash(rapid.IntRange(0, 2).Draw(t, "kept"))
				w.open()
			},
			"": func(t *rapid.T) {
				w.find(name.Draw(t, "find"))
				if s := w.x.Stats(); s.FilterBytes > max(w.limit, 1) && w.limit != 0 || s.FilterBytes < 0 {
					t.Fatalf("filters take %d bytes of %d", s.FilterBytes, w.limit)
				}
			},
		})
	})
}

// TestFilters makes the filters tell what they rule out.
func TestFilters(t *testing.T) {
	const keys = 300_000
	random := rand.New(rand.NewPCG(1, 2))
	made := &sealed{}
	var grown growing
	var ids []ID
	for i := range keys {
		ids = append(ids, IDOf(fmt.Sprint("there ", i)))
	}
	sorted := append([]ID(nil), ids...)
	sortIDs(sorted)
	for len(sorted) > 0 {
		n := min(len(sorted), 1+random.IntN(partKeys))
		made.add(sorted[:n])
		sorted = sorted[n:]
	}
	for i := range ids {
		if n, perKey := grown.next(); n > 0 {
			grown.grow(n, perKey)
		}
		grown.add(&ids[i])
	}
	for i := range ids {
		if !made.has(&ids[i]) || !grown.has(&ids[i]) {
			t.Fatalf("id %d is ruled out, though it is there", i)
		}
	}
	wrong := [2]int{}
	for i := range keys {
		id := IDOf(fmt.Sprint("missing ", i))
		if made.has(&id) {
			wrong[0]++
		}
		if grown.has(&id) {
			wrong[1]++
		}
	}
	t.Logf("not ruled out: %v of %d", wrong, keys)
	if made, grown := float64(wrong[0])/keys, float64(wrong[1])/keys; made > 0.006 || grown > 0.006 {
		t.Errorf("of what is not there, %.4f and %.4f is not ruled out", made, grown)
	}
	if perKey := float64(made.bytes()) / keys; perKey > 1.6 {
		t.Errorf("a sealed filter takes %.2f bytes a key", perKey)
	}
}

func sortIDs(ids []ID) {
	slices.SortFunc(ids, func(a, b ID) int { return bytes.Compare(a[:], b[:]) })
}

// TestOnePlaceInTwoParts has IDs whose first halves are equal on both sides of
// a border.
func TestOnePlaceInTwoParts(t *testing.T) {
	s := &sealed{}
	var ids []ID
	for i := range byte(9) {
		ids = append(ids, ID{0: 1, 8: i, 12: i * 17})
	}
	s.add(ids[:3])
	s.add(ids[3:6])
	s.add(ids[6:])
	for i := range ids {
		if !s.has(&ids[i]) {
			t.Errorf("id %d is ruled out, though it is there", i)
		}
	}
	if s.has(&ID{}) {
		t.Error("an id before all others is not ruled out")
	}
}

// names returns n messageIds.
func names(form string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf(form, i))
	}
	return all
}

// TestFiltersComeBack looks at which buckets have filters, through passing,
// restart and damage, and at what they spare the store.
func TestFiltersComeBack(t *testing.T) {
	w := newWorld(t, 30*day)
	ctx := context.Background()
	for range 3 {
		w.batch(names(fmt.Sprintf("at %d, %%d", w.at), 500), false)
		w.at += 5 * day
	}
	w.batch(names("last %d", 10), false)
	w.stats("4 buckets, 0 bare")
	w.x.settle(ctx)
	w.batch(nil, false) // frees what the settled filters replace
	w.stats("4 buckets, 0 bare")
	made := w.passedBytes()

	w.open()
	w.stats("4 buckets, 4 bare")
	w.batch(names("last %d", 10), false) // are looked for in the store
	w.x.settle(ctx)
	w.stats("4 buckets, 0 bare")
	if loaded := w.passedBytes(); loaded != made {
		t.Errorf("filters that took %d bytes take %d after a start", made, loaded)
	}
	before := w.x.Stats().Asked
	w.batch(names("new %d", 50), false)
	if asked := w.x.Stats().Asked - before; asked > 10 {
		t.Errorf("the store was asked %d times about 50 new ids", asked)
	}

	// The filter of a bucket that has passed comes from the store as it is.
	oldest := w.x.buckets[0].number
	bare := newWorld(t, 30*day)
	bare.mem, bare.at = w.mem.Crash(0), w.at
	if err := bare.mem.DeleteRange(ctx, firstsOf(7, oldest), kv.PrefixEnd(firstsOf(7, oldest))); err != nil {
		t.Fatal(err)
	}
	bare.open()
	bare.x.settle(ctx)
	if loaded := bare.passedBytes(); loaded != made {
		t.Errorf("filters that took %d bytes take %d without the keys they were made of", made, loaded)
	}

	// Half of a filter is no filter.
	err := w.mem.Update(ctx, Fence(7), kv.Durable, func(tx kv.Tx) error {
		return tx.Set(filterOf(7, oldest).Uint32(100), []byte{filterFormat, 9, 1, 2})
	})
	if err != nil {
		t.Fatal(err)
	}
	w.open()
	w.x.settle(ctx)
	w.stats("4 buckets, 0 bare")
	w.at += 1
	for name := range w.counted {
		w.batch([]string{name}, false)
	}
	if w.log.Len() > 0 {
		t.Errorf("it complained:\n%s", &w.log)
	}
}

// passedBytes returns what the filters of the buckets that have passed take.
func (w *world) passedBytes() (n int64) {
	for _, b := range w.x.buckets {
		if s := b.sealed.Load(); s != nil && s.whole {
			n += s.bytes()
		}
	}
	return n
}

// TestNoRoom gives the filters too little memory, which costs no answer.
func TestNoRoom(t *testing.T) {
	w := newWorld(t, 30*day)
	w.limit = 60 << 10 // one chain's first bloom, and a few parts
	w.open()
	ctx := context.Background()
	for range 6 {
		w.batch(names(fmt.Sprintf("at %d, %%d", w.at), 40), false)
		w.x.settle(ctx)
		w.at += 5 * day
	}
	w.batch(names("new %d", 20_000), false)
	w.x.settle(ctx)
	w.stats("7 buckets, 1 bare")
	for name := range w.counted {
		w.batch([]string{name}, false)
	}
	w.limit = 100
	w.open()
	w.x.settle(ctx)
	w.stats("7 buckets, 7 bare")
	if !strings.Contains(w.log.String(), "no room") {
		t.Errorf("nobody was told: %s", &w.log)
	}
}

// keys counts the keys of the space.
func (w *world) keys() (n int) {
	w.t.Helper()
	err := w.mem.View(context.Background(), func(r kv.Reader) error {
		for _, err := range r.Scan(kv.SpaceRange(7)[0]) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestBucketsGo sees what has left the window go from the disk, also when it
// was left there by a crash.
func TestBucketsGo(t *testing.T) {
	for _, noRanges := range []bool{false, true} {
		w := newWorld(t, 30*day)
		w.plain = noRanges
		w.open()
		ctx := context.Background()
		w.batch(names("old %d", 100), false)
		w.at += 10 * day
		w.batch(names("newer %d", 100), false)
		w.at += 25 * day
		w.batch(names("new %d", 1), false)
		w.open() // before anything was dropped
		w.x.settle(ctx)
		w.batch(nil, false)
		if n := w.keys(); n < 101 || n > 140 { // and the filters' parts
			t.Errorf("%d keys are left, want 101 and a filter", n)
		}
		w.stats("2 buckets, 0 bare")
		w.at += 60 * day
		w.batch(nil, false)
		w.x.settle(ctx)
		if n := w.keys(); n != 0 {
			t.Errorf("%d keys are left, want none", n)
		}
		w.stats("0 buckets, 0 bare")
		w.find("old 1")
	}
}

// TestFormerKeys begins with the keys of a store from before there were
// buckets.
func TestFormerKeys(t *testing.T) {
	w := newWorld(t, 30*day)
	ctx := context.Background()
	err := w.mem.Update(ctx, "loop", kv.Durable, func(tx kv.Tx) error {
		for i := range 20 {
			id, f := IDOf(fmt.Sprint("former ", i)), First{Offset: commitlog.Offset(i), At: w.at - int64(i)*day}
			w.counted[fmt.Sprint("former ", i)] = f
			if err := tx.Set(formerKey(7, &id), kv.Value{1}.Uvarint(uint64(f.Offset)).Varint(f.At)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.open()
	w.batch(append(names("former %d", 25), "new"), false)
	w.at += 20 * day
	w.batch(names("former %d", 25), false) // half of them are too old, and begin anew
	w.find("former 3")
	w.find("former 15")
	w.x.settle(ctx)
	if n := w.keys(); n < 20 {
		t.Errorf("%d keys are left, want all of before", n)
	}
	w.at += 16 * day // the bucket of the start goes, and what was before it too
	w.batch(names("former %d", 25), false)
	w.x.settle(ctx)
	err = w.mem.View(ctx, func(r kv.Reader) error {
		for range r.Scan(kv.Prefix(kv.SpaceKey(7, formerRoom))) {
			t.Error("a key of the former form is left")
			return nil
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.open()
	w.batch(names("former %d", 25), false)
}

// TestDamage reads values that nobody wrote.
func TestDamage(t *testing.T) {
	for _, value := range [][]byte{{}, {0}, {1}, {1, 5}, {2, 5, 5}} {
		if _, ok, err := decodeFirst(3, value); ok || err == nil {
			t.Errorf("%v was read as an entry", value)
		}
		if _, ok, err := decodeFormer(value); ok || err == nil {
			t.Errorf("%v was read as a former entry", value)
		}
		s := &sealed{}
		if _, ok := s.decodePart(value); ok {
			t.Errorf("%v was read as a part of a filter", value)
		}
	}
	f := First{Offset: 1 << 40, At: begins(3) + 12345}
	if got, ok, err := decodeFirst(3, encodeFirst(3, f)); got != f || !ok || err != nil {
		t.Errorf("read %+v %v %v, want %+v", got, ok, err, f)
	}
}
