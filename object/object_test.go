package object_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/object"
	"kith/pipeline"
)

// world is a store and what has been put into it.
type world struct {
	t    failing
	db   kv.DB
	next commitlog.Offset
	read *object.Reader
}

type failing interface {
	Helper()
	Fatalf(format string, v ...any)
}

func newWorld(t failing) *world {
	db := memkv.New()
	return &world{t: t, db: db, read: object.NewReader(db)}
}

// record makes an object record at the next offset, a second after the one
// before.
func (w *world) record(source, collection, id, properties string) *pipeline.Record {
	quoted, err := json.Marshal(id)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	r := &pipeline.Record{Offset: w.next, Object: fmt.Appendf(nil, `{"collection":%q,"id":%s,"properties":%s}`, collection, quoted, properties)}
	r.Kind, r.Name, r.Head.Source, r.At = event.KindObject, collection, source, 1000*int64(w.next)
	w.next++
	return r
}

// pass leads records through the stage as one batch.
func (w *world) pass(live bool, records ...*pipeline.Record) {
	w.t.Helper()
	stage := object.New()
	err := w.db.Update(context.Background(), "loop/1/1", kv.Durable, func(tx kv.Tx) error {
		b := &pipeline.Batch{Tx: tx, Space: 1, Epoch: 1, Live: live}
		p, err := stage.Begin(b)
		if err != nil {
			return err
		}
		for _, r := range records {
			if err := p.Handle(r); err != nil {
				return err
			}
		}
		return p.Finish()
	})
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

// show returns all objects of a source as lines, read in pages of size.
func (w *world) show(source string, size int) (lines []string) {
	w.t.Helper()
	ctx := context.Background()
	collections := ""
	for {
		list, next, err := w.read.Collections(ctx, 1, source, collections, size)
		if err != nil {
			w.t.Fatalf("%v", err)
		}
		for _, c := range list {
			lines = append(lines, fmt.Sprintf("%s: %d, %ds", c.Name, c.Objects, c.LastAt.Unix()))
			cursor := ""
			for {
				found, next, err := w.read.Objects(ctx, 1, source, c.Name, cursor, size)
				if err != nil {
					w.t.Fatalf("%v", err)
				}
				for _, o := range found {
					lines = append(lines, fmt.Sprintf("%s/%s %d–%d %ds–%ds %s", c.Name, o.ID, o.First, o.Last, o.FirstAt.Unix(), o.LastAt.Unix(), o.Properties))
				}
				if cursor = next; cursor == "" {
					break
				}
			}
		}
		if collections = next; collections == "" {
			return lines
		}
	}
}

func TestObjects(t *testing.T) {
	w := newWorld(t)
	first := []*pipeline.Record{
		w.record("s1", "rooms", "a", `{"name":"Ocean","reviews":47,"pets":null}`),
		w.record("s1", "rooms", "a", `{"reviews":48,"owner":"Calvin"}`),
		w.record("s1", "rooms", "b", `{}`),
		w.record("s2", "rooms", "a", `{"name":"another source"}`),
	}
	w.pass(true, first...)
	w.pass(true, w.record("s1", "rooms", "a", `{"name":"Sea","price":12.50}`), w.record("s1", "products", "x\x00y", `{"n":1}`))
	want := []string{
		`products: 1, 5s`,
		"products/x\x00y 5–5 5s–5s {\"n\":1}",
		`rooms: 2, 4s`,
		`rooms/a 0–4 0s–4s {"name":"Sea","reviews":48,"pets":null,"owner":"Calvin","price":12.50}`,
		`rooms/b 2–2 2s–2s {}`,
	}
	for size := 1; size < 4; size++ {
		if diff := cmp.Diff(want, w.show("s1", size)); diff != "" {
			t.Errorf("in pages of %d (-want +got):\n%s", size, diff)
		}
	}
	if got := w.show("s2", 10); len(got) != 2 {
		t.Errorf("of the other source: %q", got)
	}

	// Records that pass again, live or in another epoch, change nothing.
	w.pass(true, first...)
	w.pass(false, w.record("s1", "rooms", "c", `{}`))
	tick := &pipeline.Record{}
	tick.Kind = event.KindTick
	w.pass(true, tick, &pipeline.Record{})
	if diff := cmp.Diff(want, w.show("s1", 10)); diff != "" {
		t.Errorf("after they have passed again (-want +got):\n%s", diff)
	}
	if _, _, err := w.read.Objects(context.Background(), 1, "s1", "rooms", "!", 10); !fault.Is(err, fault.Invalid) {
		t.Errorf("a strange cursor: %v", err)
	}
}

// An object may not grow without end: what would make it too large is dropped
// and says so, and the object stays.
func TestLargeObject(t *testing.T) {
	w := newWorld(t)
	half := strings.Repeat("x", object.MaxBytes/2)
	w.pass(true, w.record("s", "rooms", "a", fmt.Sprintf(`{"p":%q}`, half)))
	grown, fits := w.record("s", "rooms", "a", fmt.Sprintf(`{"q":%q}`, half)), w.record("s", "rooms", "a", `{"r":1}`)
	w.pass(true, grown, fits)
	if grown.Verdict.Code != pipeline.Dropped || !strings.Contains(grown.Verdict.Reason, "object_too_large") {
		t.Errorf("verdict %+v", grown.Verdict)
	}
	list, _, err := w.read.Objects(context.Background(), 1, "s", "rooms", "", 10)
	if err != nil || len(list) != 1 || string(list[0].Properties) != fmt.Sprintf(`{"p":%q,"r":1}`, half) {
		t.Errorf("%d objects, %v", len(list), err)
	}
}

// A batch that touches more than memory should hold ends the transaction where
// it is, and nothing is read ahead of that.
func TestManyLargeObjectsEndTheTransaction(t *testing.T) {
	w := newWorld(t)
	large := fmt.Sprintf(`{"p":%q}`, strings.Repeat("x", object.MaxBytes-100))
	const n = 40
	var touch []*pipeline.Record
	for i := range n {
		id := fmt.Sprint(i)
		w.pass(true, w.record("s", "rooms", id, large))
		touch = append(touch, w.record("s", "rooms", id, `{"q":1}`))
	}
	rounds := 0
	for rest := touch; len(rest) > 0; rounds++ {
		stage := object.New()
		err := w.db.Update(context.Background(), "loop/1/1", kv.Durable, func(tx kv.Tx) error {
			b := &pipeline.Batch{Tx: tx, Space: 1, Epoch: 1, Live: true}
			ahead := 0
			for _, r := range rest {
				values, err := tx.GetMany(stage.Keys(b, r))
				if err != nil {
					return err
				}
				for _, v := range values {
					ahead += len(v)
				}
			}
			if ahead > object.MaxBytes {
				t.Errorf("%d bytes are read ahead", ahead)
			}
			p, err := stage.Begin(b)
			if err != nil {
				return err
			}
			for len(rest) > 0 && !b.Full {
				if err := p.Handle(rest[0]); err != nil {
					return err
				}
				rest = rest[1:]
			}
			return p.Finish()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if rounds < 3 || rounds > 4 { // 40 MiB, 16 a round
		t.Errorf("%d transactions", rounds)
	}
	list, _, err := w.read.Objects(context.Background(), 1, "s", "rooms", "", 10)
	if err != nil || len(list) == 0 || !strings.HasSuffix(string(list[0].Properties), `,"q":1}`) {
		t.Errorf("%d objects, %v", len(list), err)
	}
}

// However the records are cut into batches, an object has the newest of each
// property.
func TestObjectsAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		model := map[string]map[string]int{}
		var batch []*pipeline.Record
		for i := range rapid.IntRange(1, 40).Draw(t, "records") {
			id, property := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id"), rapid.SampledFrom([]string{"p", "q", `é"`}).Draw(t, "property")
			if model[id] == nil {
				model[id] = map[string]int{}
			}
			model[id][property] = i
			batch = append(batch, w.record("s", "rooms", id, fmt.Sprintf(`{%q:%d}`, property, i)))
			if rapid.Bool().Draw(t, "cut") {
				w.pass(true, batch...)
				batch = nil
			}
		}
		w.pass(true, batch...)
		list, _, err := w.read.Objects(context.Background(), 1, "s", "rooms", "", 10)
		if err != nil || len(list) != len(model) {
			t.Fatalf("%d objects, want %d: %v", len(list), len(model), err)
		}
		for _, o := range list {
			n := 0
			for property, value := range model[o.ID] {
				n++
				if !strings.Contains(string(o.Properties), fmt.Sprintf(`%q:%d`, property, value)) {
					t.Fatalf("%s: %s, want %v", o.ID, o.Properties, model[o.ID])
				}
			}
			if strings.Count(string(o.Properties), ":") != n {
				t.Fatalf("%s: %s, want %v", o.ID, o.Properties, model[o.ID])
			}
		}
		collections, _, err := w.read.Collections(context.Background(), 1, "s", "", 10)
		if err != nil || len(collections) != 1 || collections[0].Objects != uint64(len(model)) {
			t.Fatalf("%+v, %v", collections, err)
		}
	})
}
