package profile

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/kv/memkv"
)

// FuzzCursors gives back what callers may have changed: nothing panics, and
// what is taken is written again as it was.
func FuzzCursors(f *testing.F) {
	for _, s := range []string{"", "map_", "map_2_0", "map_zz_-1", "MTAwMDAwMDo6MQ==", markEvents(archive.Mark{Time: -62135596800000, Offset: 1<<64 - 1}), markEvents(archive.Mark{})} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := parseIDMark(s); err == nil {
			if again, err := parseIDMark(m.String()); err != nil || again != m {
				t.Errorf("%q is %v, which is written as %q", s, m, m)
			}
		}
		if m, ok := parseEventsMark(s); ok {
			if again, ok := parseEventsMark(markEvents(m)); !ok || again != m {
				t.Errorf("%q is %v, which is written as %q", s, m, markEvents(m))
			}
		}
	})
}

func TestPageIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		traits := []Trait{}
		for i := range rapid.IntRange(0, 9).Draw(t, "traits") {
			x := Trait{Name: fmt.Sprint(i, rapid.StringN(0, 8, 40).Draw(t, "name")), Time: rapid.Int64().Draw(t, "time"),
				Offset: commitlog.Offset(rapid.Uint64().Draw(t, "offset")), Derived: rapid.Bool().Draw(t, "derived"), SourceID: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "source")}
			if rapid.Bool().Draw(t, "value") {
				x.Value = rapid.StringN(1, 8, 40).Draw(t, "value")
			}
			traits = append(traits, x)
		}
		depth, size := uint8(rapid.IntRange(0, maxDepth).Draw(t, "depth")), rapid.IntRange(0, 1<<30).Draw(t, "bytes")
		value := encodePage(depth, size, traits)
		gotDepth, gotSize, got, err := decodePage(value)
		if err != nil || gotDepth != depth || gotSize != size {
			t.Fatalf("%d, %d, %v", gotDepth, gotSize, err)
		}
		if diff := cmp.Diff(traits, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if _, _, _, err := decodePage(value[:rapid.IntRange(0, len(value)-1).Draw(t, "cut")]); err == nil {
			t.Fatal("a page that was cut is read")
		}
		junk := rapid.SliceOfN(rapid.Byte(), 1, 60).Draw(t, "junk")
		junk[0] = pageFormat
		_, _, _, _ = decodePage(junk) // must not panic
	})
}

// TestTheOrderOfLearningDoesNotMatter says the same things in two sequences.
func TestTheOrderOfLearningDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var said []Trait
		for i := range rapid.IntRange(1, 8).Draw(t, "said") {
			said = append(said, Trait{
				Name: "x", Value: rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "value"), Derived: rapid.Bool().Draw(t, "derived"),
				Time: int64(rapid.IntRange(0, 3).Draw(t, "time")), Offset: commitlog.Offset(i),
			})
		}
		learn := func(list []Trait) Trait {
			b, err := open(empty{}, keys{}, event.ProfileID{})
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range list {
				if _, _, err := b.set(x); err != nil {
					t.Fatal(err)
				}
			}
			x, err := b.get("x")
			if err != nil {
				t.Fatal(err)
			}
			return *x
		}
		if diff := cmp.Diff(learn(said), learn(rapid.Permutation(said).Draw(t, "another sequence"))); diff != "" {
			t.Fatal(diff)
		}
	})
}

// empty is a store with nothing in it.
type empty struct{ kv.Reader }

func (empty) Get([]byte) ([]byte, error) { return nil, nil }

// BenchmarkTraitsRead answers one read of 20 traits.
func BenchmarkTraitsRead(b *testing.B) {
	db := memkv.New()
	ctx := context.Background()
	id := event.ProfileID{1}
	err := db.Update(ctx, "loop/1/0", kv.Lazy, func(tx kv.Tx) error {
		book, err := open(tx, keys{1, 0}, id)
		if err != nil {
			return err
		}
		for i := range 20 {
			x := Trait{Name: fmt.Sprintf("trait_%d", i), Value: `"` + strings.Repeat("v", 20) + `"`, Time: time.Hour.Milliseconds(), SourceID: "src_1"}
			if _, _, err := book.set(x); err != nil {
				return err
			}
		}
		return book.write(tx)
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		err := db.View(ctx, func(r kv.Reader) error {
			book, err := open(r, keys{1, 0}, id)
			if err != nil {
				return err
			}
			traits, err := live(book)
			if len(traits) != 20 {
				b.Fatal(len(traits))
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
