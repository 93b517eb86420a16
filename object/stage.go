package object

import (
	"fmt"

	"github.com/tidwall/gjson"

	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// MaxBytes is the most that the properties of one object may have together, as
// JSON. A record that would make them larger is dropped, with that reason.
const MaxBytes = 1 << 20

// maxHeld is about how many bytes of objects one transaction holds. A small
// file may touch thousands of large objects.
const maxHeld = 16 << 20

// Stage is the room's door in the row: a pipeline.Stage and Reader.
type Stage struct{}

// New returns the stage.
func New() *Stage { return &Stage{} }

// Name returns "object".
func (s *Stage) Name() string { return "object" }

// Keys names what a record's collection is kept under. Objects are not read
// ahead: all those of a batch would be in memory at once.
func (s *Stage) Keys(b *pipeline.Batch, r *pipeline.Record) [][]byte {
	if r.Kind != event.KindObject {
		return nil
	}
	return [][]byte{countStem(b.Space, r.Head.Source).String(r.Name)}
}

func idOf(r *pipeline.Record) string { return gjson.GetBytes(r.Object, "id").Str }

// Begin starts a pass over a batch.
func (s *Stage) Begin(b *pipeline.Batch) (pipeline.Pass, error) {
	return &pass{batch: b}, nil
}

// pass holds the objects and collections that the batch has changed.
type pass struct {
	batch   *pipeline.Batch
	objects map[string]*state
	tallies map[string]*tally
	changed []change
	held    int // bytes of objects, about
}

// change is a value that is written when the batch is through.
type change struct {
	key    kv.Key
	encode func() kv.Value
}

// Handle sets the properties of an object record. The live epoch alone does;
// a record that it has passed before changes nothing.
func (p *pass) Handle(r *pipeline.Record) error {
	if r.Kind != event.KindObject || !p.batch.Live {
		return nil
	}
	key := objectStem(p.batch.Space, r.Head.Source, r.Name).String(idOf(r))
	s, err := p.object(key)
	if err != nil {
		return err
	}
	known := s.properties != ""
	if known && r.Offset <= s.last {
		return nil
	}
	properties := merge(s.properties, gjson.GetBytes(r.Object, "properties"))
	if len(properties) > MaxBytes {
		r.Verdict = pipeline.Verdict{Code: pipeline.Dropped, Reason: fmt.Sprintf(
			"object_too_large: with this the properties of the object would have %d bytes, the most is %d", len(properties), MaxBytes)}
		return nil
	}
	collection := countStem(p.batch.Space, r.Head.Source).String(r.Name)
	t, err := p.tally(collection)
	if err != nil {
		return err
	}
	if !known {
		s.first, s.firstAt = r.Offset, r.At
		t.objects++
	}
	p.hold(len(properties) - len(s.properties))
	s.last, s.lastAt, s.properties = r.Offset, r.At, properties
	t.lastAt = r.At
	if !s.changed {
		s.changed = true
		p.changed = append(p.changed, change{key, s.encode})
	}
	if !t.changed {
		t.changed = true
		p.changed = append(p.changed, change{collection, t.encode})
	}
	return nil
}

// object returns what is known of an object, to be changed and written once.
func (p *pass) object(key kv.Key) (*state, error) {
	if s := p.objects[string(key)]; s != nil {
		return s, nil
	}
	value, err := p.batch.Tx.Get(key)
	if err != nil {
		return nil, err
	}
	s := &state{}
	if value != nil {
		if s, err = decodeState(value); err != nil {
			return nil, err
		}
	}
	if p.objects == nil {
		p.objects = map[string]*state{}
	}
	p.objects[string(key)] = s
	p.hold(len(key) + len(value))
	return s, nil
}

func (p *pass) hold(bytes int) {
	if p.held += bytes; p.held > maxHeld {
		p.batch.Full = true
	}
}

func (p *pass) tally(key kv.Key) (*tally, error) {
	if t := p.tallies[string(key)]; t != nil {
		return t, nil
	}
	value, err := p.batch.Tx.Get(key)
	if err != nil {
		return nil, err
	}
	t, err := decodeTally(value)
	if err != nil {
		return nil, err
	}
	if p.tallies == nil {
		p.tallies = map[string]*tally{}
	}
	p.tallies[string(key)] = t
	return t, nil
}

// Finish writes what the batch has changed.
func (p *pass) Finish() error {
	for _, c := range p.changed {
		if err := p.batch.Tx.Set(c.key, c.encode()); err != nil {
			return err
		}
	}
	return nil
}

// merge returns the members of old, as set again by those of update, and then
// those that are new.
func merge(old string, update gjson.Result) string {
	if old == "" {
		return update.Raw
	}
	values, at := map[string]gjson.Result{}, map[string]bool{}
	update.ForEach(func(key, v gjson.Result) bool {
		values[key.Str] = v
		return true
	})
	out := append(make([]byte, 0, len(old)+len(update.Raw)), '{')
	put := func(key, raw string) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, key...), ':'), raw...)
	}
	gjson.Parse(old).ForEach(func(key, v gjson.Result) bool {
		at[key.Str] = true
		if set, ok := values[key.Str]; ok {
			v = set
		}
		put(key.Raw, v.Raw)
		return true
	})
	update.ForEach(func(key, v gjson.Result) bool {
		if !at[key.Str] {
			put(key.Raw, v.Raw)
		}
		return true
	})
	return string(append(out, '}'))
}
