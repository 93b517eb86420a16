package identity_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// filtering makes a snapshot with event filters, two a filter: name, condition.
func filtering(number uint64, filters ...string) *workspace.Snapshot {
	space := workspace.Space{ID: "spa_1", Slug: "default", Number: rowtest.Space}
	for i := 0; i < len(filters); i += 2 {
		name, disabled := strings.CutPrefix(filters[i], "off ")
		space.Filters = append(space.Filters, workspace.EventFilter{ID: "flt_" + name, Name: name, Enabled: !disabled, If: filters[i+1]})
	}
	s := &workspace.Snapshot{Number: number, Spaces: []workspace.Space{space}, Sources: []workspace.Source{{ID: "src", SpaceID: "spa_1"}}}
	s.Seal()
	return s
}

// graph returns all that identity keeps in an epoch.
func graph(row *rowtest.Row, epoch uint32) (list []string) {
	row.View(func(r kv.Reader) error {
		stem := kv.EpochKey(rowtest.Space, epoch, identity.Room)
		for pair, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			list = append(list, fmt.Sprintf("%x %x", pair.Key[len(stem):], pair.Value))
		}
		return nil
	})
	return list
}

func TestFiltersKeepEventsOut(t *testing.T) {
	stage := func() pipeline.Stage { return identity.New(&pipeline.Layout{}) }
	row := rowtest.New(t, memkv.New(), stage())
	beat := func(user string) rowtest.Call {
		return rowtest.Call{Body: fmt.Sprintf(`{"type":"track","event":"Heartbeat","userId":%q,"context":{"traits":{"email":"%s@example.com"}}}`, user, user), Source: "src"}
	}
	row.Config(filtering(1))
	row.Send(track("userId", "u1"))
	first := lookup(t, row, "user_id", "u1")

	row.Config(filtering(2, "off All", "all", "Beats", `event = 'Heartbeat'`, "Robots", `match(context.userAgent, '*bot*')`))
	row.Send(beat("u1"), beat("u2"),
		rowtest.Call{Body: `{"type":"group","userId":"u3","groupId":"g1","context":{"userAgent":"a bot"}}`, Source: "src"},
		rowtest.Call{Body: `{"type":"track","event":"Heartbeat","userId":"u4","integrations":{"Personas":false}}`, Source: "src"},
		track("userId", "u1"), track("userId", "u5"))
	for _, user := range []string{"u2", "u3", "u4"} {
		if p := lookup(t, row, "user_id", user); !p.IsZero() {
			t.Errorf("%s has a profile", user)
		}
	}
	if p := lookup(t, row, "email", "u1@example.com"); !p.IsZero() || lookup(t, row, "user_id", "u5").IsZero() {
		t.Error("the filter takes away too little or too much")
	}
	var said []string
	for _, o := range row.Changes(pipeline.EventFiltered) {
		if !o.Profile.IsZero() {
			t.Errorf("%+v is somebody's", o)
		}
		said = append(said, fmt.Sprint(o.Change.Kind, " ", o.Change.Subject, " ", o.Change.Detail))
	}
	if want := []string{"event filtered Beats flt_Beats", "event filtered Beats flt_Beats", "event filtered Robots flt_Robots", "event filtered Beats flt_Beats"}; !slices.Equal(said, want) {
		t.Errorf("said: %v", said)
	}
	if n := len(row.Changes()); n != 2+4+2 { // two profiles with an identifier each, and what was filtered
		t.Errorf("%d changes in all: %v", n, row.Changes())
	}
	events := 0
	for _, o := range row.Outputs() {
		if o.Event != nil {
			events++
		}
	}
	if events != 7 {
		t.Errorf("%d of 7 events go on to destinations", events)
	}
	row.View(func(r kv.Reader) error {
		refused, err := identity.NewReader(r, rowtest.Space, rowtest.Epoch).RefusalsOn(event.ProfileID{})
		if err != nil || len(refused) != 1 || refused[0].Violation != identity.Filtered || refused[0].Count != 4 {
			t.Errorf("kept: %+v, %v", refused, err)
		}
		return nil
	})

	row.Restart(stage())
	row.Send(beat("u6"))
	if p := lookup(t, row, "user_id", "u6"); !p.IsZero() {
		t.Error("the filter is forgotten by a restart")
	}
	last := filtering(3, "Beats", `event = 'Nothing'`)
	row.Config(last)
	row.Send(beat("u2"))
	if p := lookup(t, row, "user_id", "u2"); p.IsZero() || lookup(t, row, "user_id", "u1") != first {
		t.Error("what was filtered once stays out")
	}

	// A rebuild decides by the filters of each event's time, one under other
	// rules by those.
	row.Replay(1, nil, stage())
	if live, again := graph(row, 0), graph(row, 1); !slices.Equal(live, again) {
		t.Errorf("the rebuild differs:\n%s\n\n%s", strings.Join(live, "\n"), strings.Join(again, "\n"))
	}
	row.Replay(2, func(tx kv.Tx) error { return identity.SetOverride(tx, rowtest.Space, 2, last) }, stage())
	row.View(func(r kv.Reader) error {
		for _, user := range []string{"u1", "u2", "u3", "u5", "u6"} {
			p, err := identity.NewReader(r, rowtest.Space, 2).Lookup(event.Users, "user_id", user)
			if err != nil || p.IsZero() {
				t.Errorf("without the filters %s has no profile: %v", user, err)
			}
		}
		return nil
	})
}

// rewriter changes events behind Prepare, as the tracking plan does.
type rewriter struct{}

func (rewriter) Name() string                                 { return "rewriter" }
func (rewriter) Begin(*pipeline.Batch) (pipeline.Pass, error) { return rewriter{}, nil }
func (rewriter) Finish() error                                { return nil }
func (rewriter) Handle(r *pipeline.Record) (err error) {
	if r.Event != nil && strings.Contains(string(r.Event.Body), "secret") {
		r.Verdict.Body = []byte(strings.Replace(string(r.Event.Body), "secret", "known", 1))
		r.Event, err = event.Parse(r.Verdict.Body)
	}
	return err
}

// TestFiltersSeeWhatThePlanLetPass: an event is filtered by what intake made
// of it.
func TestFiltersSeeWhatThePlanLetPass(t *testing.T) {
	layout := &pipeline.Layout{}
	row := rowtest.New(t, memkv.New(), rewriter{}, identity.New(layout))
	row.Config(filtering(1, "Secrets", `properties.a = 'secret'`, "Known", `properties.a = 'known'`))
	row.Send(rowtest.Call{Body: `{"type":"track","event":"Seen","userId":"u1","properties":{"a":"secret"}}`, Source: "src"})
	changes := row.Changes(pipeline.EventFiltered)
	if len(changes) != 1 || changes[0].Change.Subject != "Known" {
		t.Errorf("%+v", changes)
	}
}
