package computation

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/profile"
	"kith/workspace"
)

// world is the row up to computation, as in a server, and a Builder that moves
// only when the test says so.
type world struct {
	t       rowtest.T
	row     *rowtest.Row
	engine  *Engine
	builder *Builder
	parts   int // when not zero: how much the Builder takes at once

	snapshot workspace.Snapshot
	seen     int // outputs printed
}

func newWorld(t rowtest.T, db kv.DB) *world {
	w := &world{t: t}
	w.row = rowtest.New(t, db, w.stages()...)
	w.builder = w.newBuilder()
	w.snapshot = workspace.Snapshot{
		Spaces:  []workspace.Space{{ID: "spa_1", Number: rowtest.Space, Slug: "default"}},
		Sources: []workspace.Source{{ID: "web", SpaceID: "spa_1", Enabled: true}, {ID: "app", SpaceID: "spa_1", Enabled: true}},
	}
	return w
}

// stages makes a row of new stages.
func (w *world) stages() []pipeline.Stage {
	var layout pipeline.Layout
	who := identity.New(&layout)
	people := profile.New(&layout, who.Slot())
	w.engine = New(&layout, who.Slot(), people.Slot())
	return []pipeline.Stage{who, people, w.engine}
}

func (w *world) newBuilder() *Builder {
	b := NewBuilder(BuilderConfig{
		DB: w.row.DB, Loop: w.row.Loop, History: w.row.Archive, Engine: w.engine, Space: rowtest.Space, Epoch: rowtest.Epoch,
		Logger: slog.New(slog.DiscardHandler),
		Profiles: func(r kv.Reader, space, epoch uint32, after event.ProfileID, limit int) ([]event.ProfileID, error) {
			return identity.NewReader(r, space, epoch).People(after, limit)
		},
	})
	if w.parts > 0 {
		b.parts, b.step = w.parts, w.parts
	}
	return b
}

// restart stops the loop and the Builder, which remember nothing, and starts
// others.
func (w *world) restart() {
	w.row.Restart(w.stages()...)
	w.builder = w.newBuilder()
}

func memory() kv.DB { return memkv.New() }

// declare adds or changes audiences, with their versions as workspace keeps
// them, and puts the snapshot in force.
func (w *world) declare(audiences ...workspace.Audience) {
	w.t.Helper()
	next := w.snapshot
	next.Audiences = slices.Clone(w.snapshot.Audiences)
	next.Number++
	for _, a := range audiences {
		a.SpaceID = "spa_1"
		if a.ID == "" {
			a.ID = "aud_" + a.Key
		}
		i := slices.IndexFunc(next.Audiences, func(x workspace.Audience) bool { return x.ID == a.ID })
		if i < 0 {
			a.Version = 1
			next.Audiences = append(next.Audiences, a)
			continue
		}
		had := next.Audiences[i]
		a.Version = had.Version
		if a.Query != had.Query || fmt.Sprint(a.Options) != fmt.Sprint(had.Options) || a.Enabled && !had.Enabled {
			a.Version++
		}
		next.Audiences[i] = a
	}
	w.apply(next)
}

func (w *world) remove(key string) {
	next := w.snapshot
	next.Number++
	next.Audiences = slices.DeleteFunc(slices.Clone(w.snapshot.Audiences), func(a workspace.Audience) bool { return a.Key == key })
	w.apply(next)
}

func (w *world) apply(next workspace.Snapshot) {
	w.t.Helper()
	w.snapshot = next
	sealed := next
	sealed.Seal()
	w.row.Config(&sealed)
}

func (w *world) audience(key string) workspace.Audience {
	i := slices.IndexFunc(w.snapshot.Audiences, func(x workspace.Audience) bool { return x.Key == key })
	if i < 0 {
		w.t.Fatalf("there is no audience %s", key)
	}
	return w.snapshot.Audiences[i]
}

// build lets the Builder work until there is nothing left to do.
func (w *world) build() {
	w.t.Helper()
	for w.buildStep() {
	}
}

func (w *world) buildStep() bool {
	w.t.Helper()
	busy, err := w.builder.work(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return busy
}

// advance moves the clock and waits until all that is due has fired.
func (w *world) advance(d time.Duration) {
	w.t.Helper()
	w.row.Clock.Set(w.row.Clock.Now().Add(d))
	at, err := w.row.Loop.Tick(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	w.row.Passed(at)
}

// name returns the least of a profile's identifiers, which is how tests call
// it: user_id, then email, then anonymous_id.
func (w *world) name(id event.ProfileID) string {
	var name string
	w.row.View(func(r kv.Reader) error {
		list, err := identity.NewReader(r, rowtest.Space, rowtest.Epoch).Identifiers(id)
		if err != nil {
			return err
		}
		var names []string
		for _, x := range list {
			names = append(names, map[string]string{"user_id": "1:", "email": "2:e:", "anonymous_id": "3:a:"}[x.Type]+x.Value)
		}
		name = slices.Min(names)[2:]
		return nil
	})
	return name
}

// members returns the names of an audience's members.
func (w *world) members(key string) []string {
	var ids []event.ProfileID
	w.row.View(func(r kv.Reader) (err error) {
		ids, err = w.engine.Reader().Members(r, rowtest.Space, rowtest.Epoch, "aud_"+key, event.ProfileID{}, 1000)
		return err
	})
	var names []string
	for _, id := range ids {
		names = append(names, w.name(id))
	}
	slices.Sort(names)
	return names
}

// changes returns what has been announced since it was last asked.
func (w *world) changes() (lines []string) {
	outputs := w.row.Outputs()
	for _, o := range outputs[w.seen:] {
		if o.Change == nil || o.Change.Kind != pipeline.AudienceEntered && o.Change.Kind != pipeline.AudienceExited {
			continue
		}
		verb := strings.TrimPrefix(o.Change.Kind.String(), "audience ")
		at := time.UnixMilli(o.At).UTC().Sub(rowtest.Start())
		lines = append(lines, fmt.Sprintf("%s %s %s %s", day(at), w.name(o.Profile), verb, o.Change.Subject))
	}
	w.seen = len(outputs)
	return lines
}

// day prints a time since the start in days and a time of day.
func day(d time.Duration) string {
	days := d / (24 * time.Hour)
	rest := time.UnixMilli(0).UTC().Add(d - days*24*time.Hour).Format("15:04:05.000")
	return fmt.Sprintf("%dd %s", days, rest)
}

func (w *world) status(key string) Status {
	a := w.audience(key)
	var s Status
	w.row.View(func(r kv.Reader) (err error) {
		s, err = w.engine.Reader().Status(r, rowtest.Space, rowtest.Epoch, &a)
		return err
	})
	return s
}

// call makes a body: ids are "u1" (user), "a:x" (anonymous), "e:x" (email),
// joined by "+".
func call(kind, ids, rest string) string {
	var parts []string
	traits := ""
	for id := range strings.SplitSeq(ids, "+") {
		switch {
		case strings.HasPrefix(id, "a:"):
			parts = append(parts, fmt.Sprintf(`"anonymousId":%q`, id[2:]))
		case strings.HasPrefix(id, "e:"):
			traits = fmt.Sprintf(`"context":{"traits":{"email":%q}}`, id[2:])
		default:
			parts = append(parts, fmt.Sprintf(`"userId":%q`, id))
		}
	}
	if traits != "" {
		parts = append(parts, traits)
	}
	if rest != "" {
		parts = append(parts, rest)
	}
	return fmt.Sprintf(`{"type":%q,%s}`, kind, strings.Join(parts, ","))
}
