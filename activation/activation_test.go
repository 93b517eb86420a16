package activation_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"kith/activation"
	"kith/clock"
	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/job"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/profile"
	"kith/workspace"
)

// world is the whole row on memkv, with first computations and first syncs
// running beside it.
type world struct {
	t      *testing.T
	row    *rowtest.Row
	engine *computation.Engine
	jobs   *job.Jobs
	snap   workspace.Snapshot
	seen   int
	syncs  *activation.Syncs
	held   *atomic.Bool // keeps first syncs from beginning
}

// members are those of an engine, of which nothing is known while they are held.
type members struct {
	computation.Reader
	held *atomic.Bool
}

func (m members) Computing(r kv.Reader, space, epoch uint32, audience string) (bool, error) {
	if m.held.Load() {
		return true, nil
	}
	return m.Reader.Computing(r, space, epoch, audience)
}

// loop gives rowtest's loop the shape that syncs need.
type loop struct{ *pipeline.Loop }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, held: &atomic.Bool{}}
	var layout pipeline.Layout
	who := identity.New(&layout)
	people := profile.New(&layout, who.Slot())
	w.engine = computation.New(&layout, who.Slot(), people.Slot())
	db := memkv.New()
	syncs := activation.NewSyncs(db, members{w.engine.Reader(), w.held}, func(uint32) (activation.Loop, error) { return loop{w.row.Loop}, nil })
	w.syncs = syncs
	stage := activation.New(who.Slot(), people.Slot(), w.engine.Slot(), syncs.Connected)
	w.row = rowtest.New(t, db, who, people, w.engine, stage)
	logger := slog.New(slog.DiscardHandler)
	w.jobs = job.New(db, clock.System{}, logger, syncs.Kinds()...)
	builder := computation.NewBuilder(computation.BuilderConfig{
		DB: db, Loop: w.row.Loop, History: w.row.Archive, Engine: w.engine, Space: rowtest.Space, Epoch: rowtest.Epoch, Logger: logger,
		Profiles: func(r kv.Reader, space, epoch uint32, after event.ProfileID, limit int) ([]event.ProfileID, error) {
			return identity.NewReader(r, space, epoch).People(after, limit)
		},
		Live: func() { syncs.Connected(rowtest.Space) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	go func() { ended <- builder.Run(ctx) }()
	go func() { ended <- w.jobs.Run(ctx) }()
	go func() { ended <- syncs.Run(ctx, w.jobs, rowtest.Space) }()
	t.Cleanup(func() {
		cancel()
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	w.snap = workspace.Snapshot{
		Spaces:  []workspace.Space{{ID: "spa_1", Number: rowtest.Space, Slug: "default"}},
		Sources: []workspace.Source{{ID: "web", SpaceID: "spa_1", Enabled: true}},
		Destinations: []workspace.Destination{
			{ID: "hook", Name: "Hook", MetadataID: "webhook", Enabled: true},
			{ID: "mail", Name: "Mail", MetadataID: "webhook", Enabled: true},
		},
	}
	return w
}

// declare puts a changed configuration in force, waits until its audiences
// are live and its connections synced.
func (w *world) declare(change func(*workspace.Snapshot)) {
	w.t.Helper()
	w.configure(change)
	w.settled()
}

// configure puts a changed configuration in force.
func (w *world) configure(change func(*workspace.Snapshot)) {
	w.t.Helper()
	next := w.snap
	next.Audiences = slices.Clone(next.Audiences)
	next.Destinations = slices.Clone(next.Destinations)
	change(&next)
	next.Number++
	w.snap = next
	sealed := next
	sealed.Seal()
	w.row.Config(&sealed)
}

// release lets the first syncs begin that were held, and waits for them.
func (w *world) release() {
	w.t.Helper()
	w.held.Store(false)
	w.syncs.Connected(rowtest.Space)
	w.settled()
}

// settled waits until every audience is live and every job has ended.
func (w *world) settled() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		busy := false
		w.row.View(func(r kv.Reader) error {
			for i := range w.snap.Audiences {
				s, err := w.engine.Reader().Status(r, rowtest.Space, rowtest.Epoch, &w.snap.Audiences[i])
				if err != nil {
					return err
				}
				busy = busy || (w.snap.Audiences[i].Enabled && (s.State != computation.Live || s.Announcing))
			}
			return nil
		})
		waiting := 0
		w.row.View(func(r kv.Reader) (err error) {
			waiting, err = activation.Pending(r, rowtest.Space)
			return err
		})
		if !busy && waiting == 0 {
			return
		}
	}
	w.t.Fatal("audiences or syncs did not settle in time")
}

func (w *world) send(bodies ...string) {
	w.t.Helper()
	var calls []rowtest.Call
	for _, b := range bodies {
		calls = append(calls, rowtest.Call{Body: b, Source: "web"})
	}
	w.row.Send(calls...)
}

// told returns the messages since it was last asked, one a line: the
// destination, the form, the identifiers and what was said.
func (w *world) told() []string {
	w.t.Helper()
	var lines []string
	outputs := w.row.Outputs()
	for _, o := range outputs[w.seen:] {
		if o.Message == nil {
			continue
		}
		m := gjson.ParseBytes(o.Message.Body)
		var said []string
		for _, field := range []string{"userId", "anonymousId", "event", "traits", "properties", "context.traits", "context.device", "context.externalIds"} {
			if v := m.Get(field); v.Exists() {
				said = append(said, field+"="+v.Raw)
			}
		}
		lines = append(lines, o.Message.Destination+" "+m.Get("type").String()+" "+strings.Join(said, " "))
	}
	w.seen = len(outputs)
	return lines
}

func (w *world) expect(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.told()); diff != "" {
		w.t.Errorf("-want +told:\n%s", diff)
	}
}

// bookers is the audience of those who booked in the last 60 days.
func bookers(connections ...workspace.AudienceConnection) workspace.Audience {
	return workspace.Audience{
		ID: "aud_1", SpaceID: "spa_1", Name: "Bookers", Key: "bookers", Enabled: true, Version: 1,
		Query: "event('Booking Completed').within(60 days).count() >= 1", Connections: connections,
	}
}

const booked = `{"type":"track","event":"Booking Completed","userId":"u1"}`

func TestEntryAndExitInBothForms(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences = []workspace.Audience{bookers(workspace.AudienceConnection{ID: "c", DestinationID: "hook"})}
	})
	w.send(`{"type":"identify","userId":"u1","traits":{"email":"jo@example.com"}}`)
	w.expect()
	w.send(booked)
	w.expect(
		`hook identify userId="u1" traits={"bookers":true,"email":"jo@example.com"}`,
		`hook track userId="u1" event="Audience Entered" properties={"audience_key":"bookers","bookers":true} context.traits={"email":"jo@example.com"}`,
		`hook identify userId="u1" traits={"bookers":true,"email":"jo@example.com"}`,
		`hook track userId="u1" event="Audience Entered" properties={"audience_key":"bookers","bookers":true} context.traits={"email":"jo@example.com"}`,
	)
	w.send(booked) // nothing new
	w.expect()
	w.row.Clock.Set(rowtest.Start().Add(60 * 24 * time.Hour))
	w.send(`{"type":"track","event":"Anything","userId":"other"}`)
	lines := w.told()
	if len(lines) != 4 || !strings.Contains(lines[1], "Audience Exited") || !strings.Contains(lines[0], `"bookers":false`) {
		t.Errorf("on exit was told:\n%s", strings.Join(lines, "\n"))
	}
}

func TestActivationsChooseForms(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences = []workspace.Audience{bookers(
			workspace.AudienceConnection{ID: "c", DestinationID: "hook", Activations: []workspace.Activation{
				{ID: "in", Type: workspace.AudienceEntered, Enabled: true, Traits: map[string]string{"tier": "loyalty_tier", "gone": "gone"}},
				{ID: "off", Type: workspace.AudienceMembershipChanged, Enabled: false},
			}},
			workspace.AudienceConnection{ID: "d", DestinationID: "mail", Activations: []workspace.Activation{
				{ID: "both", Type: workspace.AudienceMembershipChanged, Enabled: true},
			}},
		)}
	})
	w.send(`{"type":"identify","userId":"u1","traits":{"tier":"gold","points":1.50}}`, booked)
	w.expect(
		`hook track userId="u1" event="Audience Entered" properties={"audience_key":"bookers","bookers":true,"loyalty_tier":"gold"}`,
		`mail identify userId="u1" traits={"bookers":true}`,
	)
}

func TestTriggersChooseMessages(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) {
		s.Audiences = []workspace.Audience{bookers(workspace.AudienceConnection{ID: "c", DestinationID: "hook", Activations: []workspace.Activation{
			{ID: "in", Type: workspace.AudienceEntered, Enabled: true, Traits: map[string]string{"tier": "tier"}, Trigger: `properties.tier = "gold"`},
			{ID: "broken", Type: workspace.AudienceEntered, Enabled: true, Trigger: "("},
		}})}
	})
	w.send(`{"type":"identify","userId":"u1","traits":{"tier":"gold"}}`, booked)
	w.expect(`hook track userId="u1" event="Audience Entered" properties={"audience_key":"bookers","bookers":true,"tier":"gold"}`)
	w.send(`{"type":"identify","userId":"u2","traits":{"tier":"iron"}}`, `{"type":"track","event":"Booking Completed","userId":"u2"}`)
	w.expect()
}

func TestNewIdentifierAndMerge(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) {
		a := bookers(workspace.AudienceConnection{ID: "c", DestinationID: "hook", Activations: []workspace.Activation{
			{ID: "both", Type: workspace.AudienceMembershipChanged, Enabled: true},
		}})
		a.Options.FilterByExternalIDs = []string{"user_id", "anonymous_id", "email"}
		s.Audiences = []workspace.Audience{a}
	})
	w.send(`{"type":"track","event":"Booking Completed","anonymousId":"a1"}`)
	w.expect(`hook identify anonymousId="a1" traits={"bookers":true}`)
	// Another person, who is no member yet.
	w.send(`{"type":"identify","anonymousId":"a2","userId":"u2","traits":{"email":"jo@example.com"}}`)
	w.expect()
	// Both are one: everything the second brought is told.
	w.send(`{"type":"identify","anonymousId":"a1","userId":"u2"}`)
	w.expect(
		`hook identify userId="u2" traits={"bookers":true,"email":"jo@example.com"}`, // for user_id u2
		`hook identify userId="u2" traits={"bookers":true,"email":"jo@example.com"}`, // for its email
		`hook identify userId="u2" anonymousId="a2" traits={"bookers":true,"email":"jo@example.com"}`,
	)
}

func TestConnectedLater(t *testing.T) {
	w := newWorld(t)
	w.declare(func(s *workspace.Snapshot) { s.Audiences = []workspace.Audience{bookers()} })
	for i := range 1200 {
		w.row.Append(rowtest.Call{Source: "web", Body: fmt.Sprintf(`{"type":"track","event":"Booking Completed","userId":"u%04d"}`, i)})
	}
	w.send(`{"type":"track","event":"Other","userId":"v"}`)
	w.expect()
	connect := func(s *workspace.Snapshot) {
		s.Audiences[0].Connections = []workspace.AudienceConnection{{ID: "c", DestinationID: "hook", Activations: []workspace.Activation{
			{ID: "both", Type: workspace.AudienceMembershipChanged, Enabled: true},
		}}}
	}
	w.declare(connect)
	lines := w.told()
	if len(lines) != 1200 || !slices.Contains(lines, `hook identify userId="u1199" traits={"bookers":true}`) {
		t.Fatalf("the first sync told %d things", len(lines))
	}
	// While the destination is switched off people leave; when it is back it
	// is told of them, and of nobody else.
	w.declare(func(s *workspace.Snapshot) { s.Destinations[0].Enabled = false })
	w.row.Clock.Set(rowtest.Start().Add(30 * 24 * time.Hour))
	w.send(`{"type":"track","event":"Booking Completed","userId":"u0007"}`)
	w.row.Clock.Set(rowtest.Start().Add(61 * 24 * time.Hour))
	w.send(`{"type":"track","event":"Other","userId":"v"}`)
	w.expect()
	w.declare(func(s *workspace.Snapshot) { s.Destinations[0].Enabled = true })
	lines = w.told()
	if len(lines) != 1199 || slices.ContainsFunc(lines, func(l string) bool { return !strings.Contains(l, `"bookers":false`) || strings.Contains(l, "u0007") }) {
		t.Errorf("when it was back it was told %d things, want the exits of 1199", len(lines))
	}
}

func TestMessageIDsAreTheSameAfterACrash(t *testing.T) {
	ids := func() []string {
		w := newWorld(t)
		w.declare(func(s *workspace.Snapshot) {
			s.Audiences = []workspace.Audience{bookers(workspace.AudienceConnection{ID: "c", DestinationID: "hook"})}
		})
		w.send(`{"type":"identify","userId":"u1","traits":{"email":"jo@example.com"}}`, booked)
		var all []string
		for _, o := range w.row.Outputs() {
			if o.Message != nil {
				all = append(all, o.Message.MessageID)
			}
		}
		return all
	}
	first, second := ids(), ids()
	if len(first) != 4 || !slices.Equal(first, second) {
		t.Errorf("ids differ between two runs:\n%v\n%v", first, second)
	}
	slices.Sort(first)
	if len(slices.Compact(first)) != 4 {
		t.Errorf("two messages have one id: %v", first)
	}
}

// TestMessageIDsOfBuildsDiffer edits an audience to and fro: whoever is told of
// another that reads it must not take the second exit for the first sent again.
func TestMessageIDsOfBuildsDiffer(t *testing.T) {
	w := newWorld(t)
	read := bookers()
	reader := workspace.Audience{
		ID: "aud_2", SpaceID: "spa_1", Name: "Reader", Key: "reader", Enabled: true, Version: 1, Query: "trait('bookers') = 'true'",
		Connections: []workspace.AudienceConnection{{ID: "c", DestinationID: "hook", Activations: []workspace.Activation{
			{ID: "both", Type: workspace.AudienceMembershipChanged, Enabled: true},
		}}},
	}
	w.declare(func(s *workspace.Snapshot) { s.Audiences = []workspace.Audience{read, reader} })
	w.send(booked)
	for i, query := range []string{"event('Other').count() >= 1", read.Query, "event('Other').count() >= 1"} {
		w.declare(func(s *workspace.Snapshot) { s.Audiences[0].Query, s.Audiences[0].Version = query, i+2 })
	}
	w.send(`{"type":"track","event":"Anything","userId":"v"}`) // what is told is told
	w.expect(
		`hook identify userId="u1" traits={"reader":true}`,
		`hook identify userId="u1" traits={"reader":false}`,
		`hook identify userId="u1" traits={"reader":true}`,
		`hook identify userId="u1" traits={"reader":false}`,
	)
	ids := map[string]bool{}
	for _, o := range w.row.Outputs() {
		if o.Message != nil && ids[o.Message.MessageID] {
			t.Errorf("two messages have the id %s", o.Message.MessageID)
		}
		if o.Message != nil {
			ids[o.Message.MessageID] = true
		}
	}
}
