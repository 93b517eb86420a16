package revision_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"

	"kith/activation"
	"kith/archive"
	"kith/commitlog"
	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/profile"
	"kith/revision"
	"kith/workspace"
)

// world is the whole row on memkv, with first computations, and a Reviser that
// works when the test says so.
type world struct {
	t       rowtest.T
	row     *rowtest.Row
	engine  *computation.Engine
	reviser *revision.Reviser
	limits  revision.Limits
	snap    workspace.Snapshot
	seen    int
	dead    context.CancelFunc
	longest atomic.Int64 // how long a revision has held the loop, in nanoseconds
	ended   chan error
}

// stages makes a row of new stages.
func (w *world) stages() []pipeline.Stage {
	var layout pipeline.Layout
	who := identity.New(&layout)
	people := profile.New(&layout, who.Slot())
	w.engine = computation.New(&layout, who.Slot(), people.Slot())
	return []pipeline.Stage{who, people, w.engine, activation.New(who.Slot(), people.Slot(), w.engine.Slot(), func(uint32) {})}
}

// frozen makes the stages of a scratch.
func frozen(given *identity.Given) []pipeline.Stage {
	var layout pipeline.Layout
	who := identity.New(&layout)
	if given != nil {
		who.Give(*given)
	}
	people := profile.New(&layout, who.Slot())
	people.Freeze()
	engine := computation.New(&layout, who.Slot(), people.Slot())
	engine.Freeze()
	return []pipeline.Stage{who, people, engine}
}

func newWorld(t rowtest.T, db kv.DB) *world {
	w := &world{t: t}
	w.row = rowtest.New(t, db, w.stages()...)
	w.snap = workspace.Snapshot{
		Spaces:       []workspace.Space{{ID: "spa_1", Number: rowtest.Space, Slug: "default"}},
		Sources:      []workspace.Source{{ID: "web", SpaceID: "spa_1", Enabled: true}},
		Destinations: []workspace.Destination{{ID: "hook", Name: "Hook", MetadataID: "webhook", Enabled: true}},
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

// start runs the Builder and the Reviser.
func (w *world) start() {
	w.reviser = w.newReviser(w.row.DB)
	builder := computation.NewBuilder(computation.BuilderConfig{
		DB: w.row.DB, Loop: w.row.Loop, History: w.row.Archive, Engine: w.engine, Space: rowtest.Space, Epoch: rowtest.Epoch,
		Logger: slog.New(slog.DiscardHandler),
		Profiles: func(r kv.Reader, space, epoch uint32, after event.ProfileID, limit int) ([]event.ProfileID, error) {
			return identity.NewReader(r, space, epoch).People(after, limit)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	w.dead, w.ended = cancel, make(chan error, 2)
	go func() { w.ended <- builder.Run(ctx) }()
	go func() {
		w.ended <- w.reviser.Run(ctx, func() []uint32 { return []uint32{rowtest.Space} })
	}()
}

func (w *world) newReviser(db kv.DB) *revision.Reviser {
	return revision.New(revision.Config{
		DB: db, Loop: func(uint32) (revision.Loop, error) { return held{w.row.Loop, w}, nil }, Archive: w.row.Archive, Snapshots: w.row.Snapshots(),
		Computation: w.engine.Reader(), Row: func(g identity.Given) []pipeline.Stage { return frozen(&g) },
		Scratch: func() kv.DB { return memkv.New() }, Logger: slog.New(slog.DiscardHandler), Limits: w.limits,
	})
}

// held is a loop that measures how long a revision holds it.
type held struct {
	*pipeline.Loop
	w *world
}

// Do has the loop run fn.
func (h held) Do(ctx context.Context, fn pipeline.Work) error {
	began := time.Now()
	err := h.Loop.Do(ctx, fn)
	h.w.longest.Store(max(h.w.longest.Load(), int64(time.Since(began))))
	return err
}

func (w *world) stop() {
	w.dead()
	for range 2 {
		if err := <-w.ended; err != nil {
			w.t.Errorf("beside the loop: %v", err)
		}
	}
}

// restart stops everything and starts it anew.
func (w *world) restart() {
	w.stop()
	w.row.Restart(w.stages()...)
	w.start()
}

// declare puts a changed configuration in force and waits until its audiences
// are live.
func (w *world) declare(change func(*workspace.Snapshot)) {
	w.t.Helper()
	next := w.snap
	next.Audiences = slices.Clone(next.Audiences)
	next.Spaces = slices.Clone(next.Spaces)
	change(&next)
	next.Number++
	w.snap = next
	sealed := next
	sealed.Seal()
	w.row.Config(&sealed)
	w.until("audiences did not become live", func() (done bool) {
		w.row.View(func(r kv.Reader) error {
			s, err := w.engine.Reader().Standing(r, rowtest.Space, rowtest.Epoch)
			done = s.Settled
			return err
		})
		return done
	})
}

// until waits for a condition.
func (w *world) until(otherwise string, done func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for !done() {
		if ctx.Err() != nil {
			w.t.Fatalf("%s in time", otherwise)
		}
	}
}

// audience declares one that is told to the hook.
func (w *world) audience(key, query string) {
	w.t.Helper()
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences = append(s.Audiences, workspace.Audience{
			ID: "aud_" + key, SpaceID: "spa_1", Name: key, Key: key, Enabled: true, Version: 1, Query: query,
			Connections: []workspace.AudienceConnection{{ID: "c", DestinationID: "hook"}},
			Options:     workspace.AudienceOptions{FilterByExternalIDs: []string{"user_id", "email", "anonymous_id"}},
		})
	})
}

// send sends calls, "track Booked user_id:u anonymous_id:a", one a line;
// "identify city=Ulm user_id:u" sets a trait, "group g user_id:u" joins an
// account.
func (w *world) send(lines ...string) commitlog.Offset {
	w.t.Helper()
	var last commitlog.Offset
	for _, line := range lines {
		last = w.row.Send(call(w.t, line))
	}
	return last
}

func call(t rowtest.T, line string) rowtest.Call {
	t.Helper()
	parts := strings.Fields(line)
	body := map[string]string{}
	var ids []string
	for _, id := range parts[2:] {
		name, value, _ := strings.Cut(id, ":")
		switch name {
		case "user_id":
			body["userId"] = value
		case "anonymous_id":
			body["anonymousId"] = value
		default:
			ids = append(ids, fmt.Sprintf(`{"id":%q,"type":%q,"collection":"users","encoding":"none"}`, value, name))
		}
	}
	text := fmt.Sprintf(`{"type":%q`, parts[0])
	for _, field := range []string{"userId", "anonymousId"} {
		if body[field] != "" {
			text += fmt.Sprintf(`,%q:%q`, field, body[field])
		}
	}
	switch parts[0] {
	case "track":
		text += fmt.Sprintf(`,"event":%q`, parts[1])
	case "identify":
		name, value, _ := strings.Cut(parts[1], "=")
		text += fmt.Sprintf(`,"traits":{%q:%q}`, name, value)
	case "group":
		text += fmt.Sprintf(`,"groupId":%q`, parts[1])
	default:
		t.Fatalf("no call: %s", line)
	}
	if len(ids) > 0 {
		text += `,"context":{"externalIds":[` + strings.Join(ids, ",") + `]}`
	}
	return rowtest.Call{Body: text + "}", Source: "web"}
}

func ext(id string) event.ExternalID {
	name, value, _ := strings.Cut(id, ":")
	x := event.ExternalID{Type: name, ID: value}
	if name == "group_id" {
		x.Collection = event.Accounts
	}
	return x
}

func exts(ids string) (list []event.ExternalID) {
	for _, id := range strings.Fields(ids) {
		list = append(list, ext(id))
	}
	return list
}

func separate(left, right string) *event.Command {
	return &event.Command{Separate: &event.Separate{Left: exts(left), Right: exts(right)}}
}

func block(id string) *event.Command {
	x := ext(id)
	return &event.Command{Block: &x}
}

func lift(at commitlog.Offset) *event.Command {
	return &event.Command{Lift: &event.Lift{Offset: uint64(at)}}
}

// order orders a command and waits until what it changes of the past is done.
func (w *world) order(c *event.Command) commitlog.Offset {
	w.t.Helper()
	at := w.row.Order(c)
	w.reviser.Wake()
	w.revised(at)
	return at
}

func (w *world) revised(at commitlog.Offset) revision.State {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := w.reviser.Revised(ctx, rowtest.Space, at)
	if err != nil {
		w.t.Fatalf("the command at %d was not revised: %v; %+v", at, err, s)
	}
	return s
}

// people returns the profiles, each as the sorted list of its identifiers, in
// their order.
func (w *world) people() []string {
	w.t.Helper()
	var list []string
	w.row.View(func(r kv.Reader) error {
		read := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		ids, err := read.People(event.ProfileID{}, 10_000)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if l, err := read.Link(id); err != nil || l != nil {
				if err != nil {
					return err
				}
				continue
			}
			p, err := read.Profile(id)
			if err != nil {
				return err
			}
			var names []string
			for _, x := range p.Identifiers {
				names = append(names, x.Type+":"+x.Value)
			}
			slices.Sort(names)
			list = append(list, strings.Join(names, " "))
		}
		return nil
	})
	slices.Sort(list)
	return list
}

// of returns the profile that has an identifier; zero for nobody.
func (w *world) of(id string) (p event.ProfileID) {
	w.t.Helper()
	x := ext(id).Identifier()
	w.row.View(func(r kv.Reader) (err error) {
		p, err = identity.NewReader(r, rowtest.Space, rowtest.Epoch).Lookup(x.Collection, x.Type, x.Value)
		return err
	})
	return p
}

// told returns the messages since it was last asked: form, identifiers and the
// audience's value.
func (w *world) told() []string {
	w.t.Helper()
	var lines []string
	outputs := w.row.Outputs()
	for _, o := range outputs[w.seen:] {
		if o.Message == nil {
			continue
		}
		m := gjson.ParseBytes(o.Message.Body)
		key := m.Get("context.personas.computation_key").String()
		value := m.Get("traits." + key).Raw
		if m.Get("type").String() == "track" {
			value = m.Get("properties." + key).Raw
		}
		line := fmt.Sprintf("%s %s=%s", m.Get("type"), key, value)
		for _, f := range []string{"userId", "anonymousId", "context.externalIds.0.id", "context.personas.computation_run_id"} {
			if v := m.Get(f); v.Exists() {
				line += " " + v.String()
			}
		}
		lines = append(lines, line)
	}
	w.seen = len(outputs)
	slices.Sort(lines)
	return lines
}

// replayed is the epoch that same leads everything into.
const replayed = 9

// same checks that the live epoch is what a replay of everything from the
// beginning gives, with the standing commands in force from its start: key by
// key in every room that a revision writes, and event by event.
func (w *world) same() {
	w.t.Helper()
	w.row.Replay(replayed, func(tx kv.Tx) error {
		list, err := identity.NewReader(tx, rowtest.Space, rowtest.Epoch).Standing()
		if err != nil {
			return err
		}
		if err := identity.Preload(tx, rowtest.Space, replayed, list); err != nil {
			return err
		}
		// What there is to compute, and what is indexed, is taken as it stands.
		for _, key := range []string{"cr", "cv", "ft"} {
			room, form := key[0], key[1:]
			value, err := tx.Get(append(kv.EpochKey(rowtest.Space, rowtest.Epoch, room), form...))
			if err != nil {
				return err
			}
			if value == nil {
				continue
			}
			if err := tx.Set(append(kv.EpochKey(rowtest.Space, replayed, room), form...), value); err != nil {
				return err
			}
		}
		return nil
	}, frozen(nil)...)
	live, again := w.keys(rowtest.Epoch), w.keys(replayed)
	for key, value := range live {
		if other, ok := again[key]; !ok {
			w.t.Errorf("after a replay there is no %q (%q)", key, value)
		} else if other != value {
			w.t.Errorf("after a replay %q is\n%q, live it is\n%q", key, other, value)
		}
	}
	for key, value := range again {
		if _, ok := live[key]; !ok {
			w.t.Errorf("only after a replay there is %q (%q)", key, value)
		}
	}
	a, b := w.whose(rowtest.Epoch), w.whose(replayed)
	for at := range a {
		if a[at] != b[at] {
			w.t.Errorf("after a replay the event at %d is %s's, live it is %s's", at, b[at], a[at])
		}
	}
	w.drop(replayed)
}

func (w *world) drop(epoch uint32) {
	w.t.Helper()
	err := w.row.DB.Update(context.Background(), pipeline.Fence(rowtest.Space, epoch), kv.Lazy, func(tx kv.Tx) error {
		var doomed [][]byte
		stem := kv.EpochKey(rowtest.Space, epoch, 0)
		stem = stem[:len(stem)-1]
		for pair, err := range tx.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			doomed = append(doomed, bytes.Clone(pair.Key))
		}
		for _, key := range doomed {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// keys returns what the rooms keep of profiles in an epoch.
func (w *world) keys(epoch uint32) map[string]string {
	w.t.Helper()
	all := map[string]string{}
	w.row.View(func(r kv.Reader) error {
		for _, prefix := range []string{"ik", "ig", "il", "im", "ix", "ib", "iu", "is", "f", "ca", "cp", "cm", "cs", "h", "t"} {
			stem := append(kv.EpochKey(rowtest.Space, epoch, prefix[0]), prefix[1:]...)
			for pair, err := range r.Scan(kv.Prefix(stem)) {
				if err != nil {
					return err
				}
				if prefix == "t" && len(pair.Key) == len(stem) {
					continue // the floor, which is no timer
				}
				if prefix == "cs" && string(pair.Value) == "\x01\x00" {
					continue // nobody
				}
				all[prefix+string(pair.Key[len(stem):])] = string(pair.Value)
			}
		}
		return nil
	})
	return all
}

// whose returns the owners of the admitted events.
func (w *world) whose(epoch uint32) map[commitlog.Offset]archive.Whose {
	w.t.Helper()
	all := map[commitlog.Offset]archive.Whose{}
	err := w.row.Archive.Scan(context.Background(), rowtest.Space, epoch, 0, w.row.Loop.Position().Next, nil, func(e archive.Entry) error {
		all[e.Offset] = archive.Whose{Profile: e.Profile, Account: e.Account}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// upToDate checks that what the hook was told last under every identifier is
// what is true of the one who has it, and that nothing left twice.
func (w *world) upToDate() {
	w.t.Helper()
	type under struct{ audience, id string }
	last := map[under]bool{}
	seen := map[string]bool{}
	for _, o := range w.row.Outputs() {
		if o.Message != nil {
			if seen[o.Message.MessageID] {
				w.t.Errorf("message %s left twice", o.Message.MessageID)
			}
			seen[o.Message.MessageID] = true
		}
	}
	w.row.View(func(r kv.Reader) error {
		stem := kv.SpaceKey(rowtest.Space, activation.Room).Byte('i')
		for pair, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			_ = parts.String() // the collection
			id := parts.String() + ":" + parts.String()
			f := kv.FieldsOf(pair.Value)
			f.Byte()
			for len(f.Rest()) > 0 {
				audience := strings.TrimPrefix(f.String(), "aud_")
				_ = f.String() // the destination
				bits := f.Byte()
				if bits&2 != 0 {
					f.Uvarint() // the connection's number
				}
				last[under{audience, id}] = bits&1 != 0
			}
			if !f.OK() || !parts.OK() {
				w.t.Fatalf("what was told under %s cannot be read", id)
			}
		}
		return nil
	})
	holds := map[under]bool{}
	w.row.View(func(r kv.Reader) error {
		graph := identity.NewReader(r, rowtest.Space, rowtest.Epoch)
		people, err := graph.People(event.ProfileID{}, 10_000)
		if err != nil {
			return err
		}
		for _, id := range people {
			if l, err := graph.Link(id); err != nil || l != nil {
				continue
			}
			p, err := graph.Profile(id)
			if err != nil {
				return err
			}
			memberships, err := w.engine.Reader().Memberships(r, rowtest.Space, rowtest.Epoch, id)
			if err != nil {
				return err
			}
			for _, m := range memberships {
				for _, x := range p.Identifiers {
					if m.Member && slices.Contains([]string{"user_id", "email", "anonymous_id"}, x.Type) {
						holds[under{m.Audience.Key, x.Type + ":" + x.Value}] = true
					}
				}
			}
		}
		return nil
	})
	for u, member := range last {
		if member && !holds[u] {
			w.t.Errorf("the hook thinks that %s is in %s", u.id, u.audience)
		}
	}
	for u := range holds {
		if !last[u] {
			w.t.Errorf("the hook does not know that %s is in %s", u.id, u.audience)
		}
	}
}
