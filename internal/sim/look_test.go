package sim

import (
	"context"
	"slices"

	"kith/archive"
	"kith/clock"
	"kith/commitlog"
	"kith/commitlog/kvlog"
	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/internal/sim/model"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/profile"
	"kith/query"
	"kith/workspace"
)

// The one space of the simulation.
const space = 1

// look is what a copy of the store holds, as the rooms read it.
type look struct {
	db    *memkv.DB
	epoch uint32 // the live one
	// override is the number of a snapshot, and rules the space with those of
	// it, which hold in the live epoch from the start; zero when it goes by the
	// rules as recorded.
	override uint64
	rules    *workspace.Space

	archive *archive.Archive
	engine  computation.Reader
	now     *workspace.Snapshot

	raw     []event.Record // by offset
	history []model.Record // what the model is told of them
	at      []int64        // of each in history: the row's instant
	began   map[string]int // "audience/version" → the offset of the record that brought it on
	outputs []pipeline.Output
	// corrected says that a command or other rules have changed the past: what
	// was announced of it no longer adds up to what is so.
	corrected bool
}

// look reads a copy of the store as it is.
func (h *history) look() *look {
	h.t.Helper()
	l := &look{db: h.disk.Load().Clone(false), began: map[string]int{}, corrected: h.ruled}
	l.archive = archive.New(l.db, func(uint32) (commitlog.Log, error) { return l.log(h, 'r', "log/raw/1"), nil })
	var layout pipeline.Layout
	who := identity.New(&layout)
	people := profile.New(&layout, who.Slot())
	l.engine = computation.New(&layout, who.Slot(), people.Slot()).Reader()
	ctx := context.Background()
	h.view(l.db, func(r kv.Reader) error { // docs/keys.md, server: the live epoch
		f := kv.FieldsOf(must(r.Get(kv.WorkspaceKey('m').Byte('e').Uint32(space))))
		f.Byte()
		l.epoch = uint32(f.Uvarint())
		var err error
		l.override, l.rules, err = identity.NewReader(r, space, l.epoch).Override()
		return err
	})
	snapshots, err := workspace.Open(ctx, l.db, workspace.Options{Clock: clock.NewManual(h.now), Random: newDice(0, 0)})
	if err != nil {
		h.t.Fatal(err)
	}
	l.now = snapshots.Current()
	for _, b := range l.blocks(h, l.log(h, 'r', "log/raw/1"), 0) {
		l.raw = append(l.raw, must(event.DecodeBlock(b.Data))...)
	}
	h.whole(l)
	at := int64(0)
	for i, r := range l.raw {
		at = max(at, r.At)
		switch r.Kind {
		case event.KindEvent:
			l.history = append(l.history, model.Record{
				Offset: i, ID: r.ID, Time: min(r.Time, at), Body: r.Body, Source: r.Source, MessageID: r.MessageID,
			})
		case event.KindConfig:
			var snap *workspace.Snapshot
			h.view(l.db, func(reader kv.Reader) error {
				snap = must(snapshots.At(reader, must(event.ConfigNumber(r.Body))))
				return nil
			})
			rules := snap.SpaceByNumber(space)
			if snap.Number < l.override {
				rules = l.rules
			}
			l.history = append(l.history, model.Record{Offset: i, Rules: rules.Identifiers, Filters: filtersOf(rules)})
			for _, a := range snap.Audiences {
				if _, known := l.began[version(&a)]; !known {
					l.began[version(&a)] = i
				}
			}
		case event.KindCommand:
			l.history = append(l.history, model.Record{Offset: i, Command: must(event.ParseCommand(r.Body))})
			l.corrected = true
		default:
			continue
		}
		l.at = append(l.at, at)
	}
	l.outputs = slices.Clone(h.kept.outputs[:h.kept.trimmed])
	for _, b := range l.blocks(h, l.log(h, 'o', "resolved"), commitlog.Offset(h.kept.trimmed)) {
		l.outputs = append(l.outputs, must(pipeline.DecodeOutputs(b.Data))...)
	}
	h.kept.outputs = l.outputs
	return l
}

// filtersOf returns the filters of a space as the model reads them.
func filtersOf(s *workspace.Space) (list []model.Filter) {
	for _, f := range s.Filters {
		i := slices.IndexFunc(filters, func(known eventFilter) bool { return known.text == f.If })
		if f.Enabled {
			list = append(list, filters[i].match)
		}
	}
	return list
}

func version(a *workspace.Audience) string {
	return a.ID + "/" + string(rune('0'+a.Version))
}

func (l *look) log(h *history, room byte, fence kv.Fence) *kvlog.Log {
	log, err := kvlog.Open(context.Background(), l.db, kv.SpaceKey(space, room), fence, kvlog.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	return log
}

func (l *look) blocks(h *history, log *kvlog.Log, from commitlog.Offset) []commitlog.Block {
	if log.End() == from {
		return nil
	}
	blocks, err := log.Read(context.Background(), from, 1<<30)
	if err != nil {
		h.t.Fatal(err)
	}
	return blocks
}

func (h *history) view(db kv.DB, fn func(kv.Reader) error) {
	h.t.Helper()
	if err := db.View(context.Background(), fn); err != nil {
		h.t.Fatal(err)
	}
}

// resolvedEnd returns where the resolved log ends.
func (h *history) resolvedEnd() uint64 {
	l := &look{db: h.disk.Load().Clone(false)}
	return uint64(l.log(h, 'o', "resolved").End())
}

// audience returns an audience as the model reads it.
func (l *look) audience(h *history, a *workspace.Audience) *model.Audience {
	m := &model.Audience{
		Query: must(query.ParseAudience(a.Query)), Types: a.Options.FilterByExternalIDs, After: -1, Since: -1 << 62,
		Reads: map[string]*model.Audience{},
	}
	if o := a.Options.IncludeHistoricalData; o != nil && !*o {
		m.After = l.began[version(a)]
	}
	if since := l.since(h, a); since > 0 {
		m.After = max(m.After, l.behind(since))
	}
	if key := readsOf(a); key != "" {
		i := slices.IndexFunc(l.now.Audiences, func(x workspace.Audience) bool { return x.Key == key })
		m.Reads[key] = l.audience(h, &l.now.Audiences[i])
	}
	return m
}

// told is what destinations were told last: by identifier, then by
// "audience destination".
type told map[event.Identifier]map[string]bool

// told reads what activation remembers (docs/keys.md, room 'a').
func (l *look) told(h *history) told {
	all := told{}
	stem := kv.SpaceKey(space, 'a').Byte('i')
	h.view(l.db, func(r kv.Reader) error {
		for p, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			parts, f := kv.PartsAfter(p.Key, stem), kv.FieldsOf(p.Value)
			id := event.Identifier{Collection: parts.String(), Type: parts.String(), Value: parts.String()}
			all[id] = map[string]bool{}
			for f.Byte(); len(f.Rest()) > 0; {
				pair := f.String() + " " + f.String()
				bits := f.Byte()
				if bits&2 != 0 {
					f.Uvarint() // the connection's number
				}
				all[id][pair] = bits&1 != 0
			}
			if !parts.OK() || !f.OK() {
				h.t.Fatalf("what was told cannot be read: %q = %q", p.Key, p.Value)
			}
		}
		return nil
	})
	return all
}
