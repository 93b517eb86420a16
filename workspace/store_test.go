package workspace_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"kith/clock"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/workspace"
)

var start = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

// reversing is a Sealer that anyone can read, for tests: the text backwards
// behind a number that makes each sealing another text.
type reversing struct{ n *int }

func (r reversing) Seal(plain string) (string, error) {
	*r.n++
	return fmt.Sprintf("sealed:test:%d:%s", *r.n, backwards(plain)), nil
}

func (r reversing) Unseal(sealed string) (string, error) {
	parts := strings.SplitN(sealed, ":", 4)
	if len(parts) != 4 {
		return "", errors.New("not sealed")
	}
	return backwards(parts[3]), nil
}

func backwards(s string) string {
	r := []rune(s)
	slices.Reverse(r)
	return string(r)
}

func options(clk clock.Clock, seed uint64) workspace.Options {
	return workspace.Options{
		Clock: clk, Random: rand.NewChaCha8([32]byte{byte(seed)}), Secrets: reversing{new(int)},
		Connectors: []workspace.Connector{{
			ID: "webhook", Slug: "webhook", Name: "Webhook", Secrets: []string{"sharedSecret"},
			Actions: []workspace.Action{{ID: "send", Slug: "send", Name: "Send"}},
			Check: func(settings json.RawMessage) error {
				var s struct {
					URL          string `json:"url"`
					SharedSecret string `json:"sharedSecret"`
				}
				if err := json.Unmarshal(settings, &s); err != nil {
					return err
				}
				if s.URL == "" {
					return fault.Field("url", "is missing")
				}
				if strings.HasPrefix(s.SharedSecret, "sealed:") {
					return fault.Field("sharedSecret", "came sealed to the check")
				}
				return nil
			},
		}},
		CheckRule: func(r workspace.Rule) error {
			if strings.Contains(string(r.JSONSchema), `"text"`) {
				return fault.Field("jsonSchema.type", `want "string"`)
			}
			return nil
		},
		CheckTrigger: func(t string) error {
			if t == "bad" {
				return fault.New(fault.Invalid, "position 1: no such field")
			}
			return nil
		},
		CheckFilter: func(condition string) (int, error) {
			if condition == "bad" {
				return 0, fault.New(fault.Invalid, "character 1: no such word")
			}
			return len(condition), nil
		},
		CheckQuery: func(next *workspace.Snapshot, a *workspace.Audience) error {
			name, refers := strings.CutPrefix(a.Query, "in ")
			if !refers {
				return nil
			}
			for i := range next.Audiences {
				if next.Audiences[i].Key == name {
					return nil
				}
			}
			return fault.New(fault.Invalid, "position 4: there is no audience %q", name)
		},
	}
}

func open(t *testing.T, db kv.DB, o workspace.Options) *workspace.Store {
	t.Helper()
	s, err := workspace.Open(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func update(t *testing.T, s *workspace.Store, fn func(*workspace.Draft)) *workspace.Snapshot {
	t.Helper()
	snap, err := s.Update(t.Context(), func(d *workspace.Draft) error { fn(d); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func source(d *workspace.Draft, slug string, keys ...string) *workspace.Source {
	d.Sources = append(d.Sources, workspace.Source{
		ID: d.NewSourceID(), Slug: slug, Name: slug, MetadataID: "http-api", Enabled: true, WriteKeys: keys,
		SpaceID: d.Space("default").ID, Schema: workspace.DefaultSchema(),
	})
	return &d.Sources[len(d.Sources)-1]
}

func TestFirstStart(t *testing.T) {
	db := memkv.New()
	o := options(clock.NewManual(start), 1)
	first := open(t, db, o).Current()
	if first.Number != 1 || len(first.Spaces) != 1 || first.ID == "" || !first.At.Equal(start) {
		t.Fatalf("first snapshot: %+v", first)
	}
	space := first.Space("default")
	if space == nil || space.Number != 1 || !strings.HasPrefix(space.ID, "spa_") || len(space.ID) != 26 {
		t.Fatalf("default space: %+v", space)
	}
	again := open(t, db, o).Current()
	if again.Number != 1 || again.Spaces[0].ID != space.ID {
		t.Fatalf("second start made another workspace: %+v", again)
	}
}

func TestUpdateNumbersAndKeeps(t *testing.T) {
	db := memkv.New()
	clk := clock.NewManual(start)
	s := open(t, db, options(clk, 1))
	clk.Set(start.Add(time.Hour))
	two := update(t, s, func(d *workspace.Draft) { source(d, "web", "key-1") })
	three := update(t, s, func(d *workspace.Draft) { source(d, "app", "key-2") })
	if two.Number != 2 || three.Number != 3 || s.Current() != three {
		t.Fatalf("numbers %d, %d; current %d", two.Number, three.Number, s.Current().Number)
	}
	if !two.Sources[0].CreatedAt.Equal(start.Add(time.Hour)) {
		t.Errorf("createdAt %v", two.Sources[0].CreatedAt)
	}
	if two.SourceByWriteKey("key-2") != nil || three.SourceByWriteKey("key-2") == nil {
		t.Error("a later change shows in an earlier snapshot, or not in its own")
	}
	fresh := open(t, db, options(clk, 2))
	if fresh.Current().Number != 3 {
		t.Fatalf("after a restart the current snapshot is %d", fresh.Current().Number)
	}
	err := db.View(t.Context(), func(r kv.Reader) error {
		old, err := fresh.At(r, 2)
		if err != nil {
			return err
		}
		if len(old.Sources) != 1 || old.SourceByWriteKey("key-1") == nil {
			t.Errorf("snapshot 2 read back: %+v", old.Sources)
		}
		if hit, _ := fresh.At(r, 2); hit != old {
			t.Error("an immutable snapshot was read twice")
		}
		_, err = fresh.At(r, 9)
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("a number never given: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNoChangeMakesNoSnapshot(t *testing.T) {
	s := open(t, memkv.New(), options(clock.NewManual(start), 1))
	two := update(t, s, func(d *workspace.Draft) { source(d, "web", "k") })
	same := update(t, s, func(d *workspace.Draft) { d.Sources[0].Name = "web" })
	if same != two {
		t.Fatalf("nothing changed, but snapshot %d came", same.Number)
	}
}

func TestAnnounceComesBeforeCurrent(t *testing.T) {
	db := memkv.New()
	o := options(clock.NewManual(start), 1)
	var s *workspace.Store
	var told []uint64
	fail := errors.New("disk full")
	var answer error
	o.Announce = func(_ context.Context, next *workspace.Snapshot) error {
		if s.Current().Number >= next.Number {
			t.Errorf("snapshot %d is current before it was announced", next.Number)
		}
		told = append(told, next.Number)
		return answer
	}
	s = open(t, db, o)
	answer = fail
	_, err := s.Update(t.Context(), func(d *workspace.Draft) error { source(d, "web", "k"); return nil })
	if !errors.Is(err, fail) || s.Current().Number != 1 {
		t.Fatalf("failed announcement: %v, current %d", err, s.Current().Number)
	}
	answer = nil
	three := update(t, s, func(d *workspace.Draft) { source(d, "app", "k2") })
	if three.Number != 3 || len(three.Sources) != 2 || !slices.Equal(told, []uint64{2, 2, 3}) {
		t.Fatalf("snapshot %d with %d sources, announced %v", three.Number, len(three.Sources), told)
	}
}

func TestTwoNodes(t *testing.T) {
	db := memkv.New()
	a := open(t, db, options(clock.NewManual(start), 1))
	b := open(t, db, options(clock.NewManual(start), 2))
	update(t, a, func(d *workspace.Draft) { source(d, "from-a", "ka") })
	runs := 0
	snap, err := b.Update(t.Context(), func(d *workspace.Draft) error {
		runs++
		if runs == 1 { // meanwhile the other node writes
			update(t, a, func(d *workspace.Draft) { source(d, "again-a", "kaa") })
		}
		source(d, "from-b", "kb")
		return nil
	})
	if err != nil || runs != 2 || snap.Number != 4 || len(snap.Sources) != 3 {
		t.Fatalf("runs %d, %v, %+v", runs, err, snap)
	}
}

func TestWatch(t *testing.T) {
	s := open(t, memkv.New(), options(clock.NewManual(start), 1))
	ctx, cancel := context.WithCancel(t.Context())
	ch := s.Watch(ctx)
	update(t, s, func(d *workspace.Draft) { source(d, "a", "ka") })
	last := update(t, s, func(d *workspace.Draft) { source(d, "b", "kb") })
	if got := <-ch; got != last {
		t.Fatalf("a slow watcher got snapshot %d, want the newest, %d", got.Number, last.Number)
	}
	cancel()
	if _, open := <-ch; open {
		t.Fatal("the channel is open after its context is done")
	}
	update(t, s, func(d *workspace.Draft) { source(d, "c", "kc") }) // must not panic
}

func TestSecretsAreSealed(t *testing.T) {
	db := memkv.New()
	s := open(t, db, options(clock.NewManual(start), 1))
	add := func(settings string) *workspace.Snapshot {
		return update(t, s, func(d *workspace.Draft) {
			if len(d.Destinations) == 0 {
				d.Destinations = append(d.Destinations, workspace.Destination{ID: d.NewDestinationID(), Slug: "crm", Name: "CRM", MetadataID: "webhook"})
			}
			d.Destinations[0].Settings = json.RawMessage(settings)
		})
	}
	one := add(`{"url":"https://example.com","sharedSecret":"hush"}`)
	text := string(one.Destinations[0].Settings)
	if strings.Contains(text, "hush") || !strings.Contains(text, "https://example.com") {
		t.Fatalf("stored settings: %s", text)
	}
	if m := string(workspace.MaskSettings(one.Destinations[0].Settings)); strings.Contains(m, "sealed:") || !strings.Contains(m, workspace.Mask) {
		t.Errorf("masked settings: %s", m)
	}
	plain, err := workspace.UnsealSettings(one.Destinations[0].Settings, reversing{new(int)})
	if err != nil || !strings.Contains(string(plain), `"sharedSecret":"hush"`) {
		t.Errorf("unsealed: %s, %v", plain, err)
	}
	if same := add(`{"sharedSecret":"hush","url":"https://example.com"}`); same != one {
		t.Errorf("the same secret again made snapshot %d: %s", same.Number, same.Destinations[0].Settings)
	}
	if same := add(`{"sharedSecret":"` + workspace.Mask + `","url":"https://example.com"}`); same != one {
		t.Errorf("the same secrets again made snapshot %d: %s", same.Number, same.Destinations[0].Settings)
	}
	two := add(`{"url":"https://example.com","sharedSecret":"other"}`)
	if plain, _ := workspace.UnsealSettings(two.Destinations[0].Settings, reversing{new(int)}); !strings.Contains(string(plain), "other") {
		t.Errorf("changed secret: %s", plain)
	}
	for _, bad := range []string{`{"url":"u","sharedSecret":"sealed:test:1:x"}`, `{"url":"u","sharedSecret":["` + workspace.Mask + `"]}`, `{"url":"sealed:test:1:x"}`} {
		_, err := s.Update(t.Context(), func(d *workspace.Draft) error {
			d.Destinations[0].Settings = json.RawMessage(bad)
			return nil
		})
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	err = db.View(t.Context(), func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Range{}) {
			if err != nil {
				return err
			}
			if bytes.Contains(pair.Value, []byte("hush")) {
				t.Error("a secret is in the store in plain")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAudienceVersions(t *testing.T) {
	clk := clock.NewManual(start)
	s := open(t, memkv.New(), options(clk, 1))
	a := func(snap *workspace.Snapshot) workspace.Audience { return snap.Audiences[0] }
	snap := update(t, s, func(d *workspace.Draft) {
		d.Audiences = append(d.Audiences, workspace.Audience{ID: d.NewAudienceID(), SpaceID: d.Space("default").ID, Name: "VIP", Key: "vip", Query: "q", Enabled: true})
	})
	if a(snap).Version != 1 || a(snap).UpdatedAt.IsZero() {
		t.Fatalf("new: %+v", a(snap))
	}
	clk.Set(start.Add(time.Minute))
	steps := []struct {
		what    string
		change  func(*workspace.Audience)
		version int
	}{
		{"another name", func(a *workspace.Audience) { a.Name = "Very important" }, 1},
		{"another query", func(a *workspace.Audience) { a.Query = "q2" }, 2},
		{"off", func(a *workspace.Audience) { a.Enabled = false }, 2},
		{"on again", func(a *workspace.Audience) { a.Enabled = true }, 3},
		{"other options", func(a *workspace.Audience) { a.Options.FilterByExternalIDs = []string{"anonymous_id"} }, 4},
	}
	for _, step := range steps {
		before := a(s.Current()).UpdatedAt
		clk.Set(clk.Now().Add(time.Minute))
		snap = update(t, s, func(d *workspace.Draft) { step.change(&d.Audiences[0]) })
		if a(snap).Version != step.version || !a(snap).UpdatedAt.After(before) {
			t.Errorf("%s: version %d, want %d; updated %v after %v", step.what, a(snap).Version, step.version, a(snap).UpdatedAt, before)
		}
	}
}
