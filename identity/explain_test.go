package identity_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/workspace"
)

// snapshotsOf gives the configurations that a script has put in force.
type snapshotsOf map[uint64]*workspace.Snapshot

func (s snapshotsOf) At(_ kv.Reader, n uint64) (*workspace.Snapshot, error) {
	if s[n] == nil {
		return nil, fault.New(fault.NotFound, "there is no snapshot %d", n)
	}
	return s[n], nil
}

// explaining is an interpreter that also knows
//
//	explain TYPE=VALUE         the explanation of a profile, in words
//	why TYPE=VALUE TYPE=VALUE  why the two are one person, or not
//	graph TYPE=VALUE           nodes and edges
type explaining struct {
	*interpreter
	snapshots snapshotsOf
}

func (s *explaining) run(text string) string {
	s.open()
	s.snapshots = snapshotsOf{}
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		var answer []string
		switch verb {
		case "explain":
			answer = s.words(s.explain(rest, "").Sentences)
		case "why":
			a, b, _ := strings.Cut(rest, " ")
			answer = s.words(s.explain(a, b).With.Sentences)
		case "graph":
			answer = s.words(s.graph(rest))
		default:
			s.do(line)
		}
		if verb == "apply" {
			snap := &workspace.Snapshot{Number: s.number, Spaces: []workspace.Space{*s.space}}
			snap.Seal()
			s.snapshots[s.number] = snap
		}
		for _, a := range answer {
			out.WriteString("\t" + a + "\n")
		}
	}
	return out.String()
}

func (s *explaining) explainer() *identity.Explainer {
	return identity.NewExplainer(s.row.DB, s.row.Archive, s.snapshots)
}

func (s *explaining) explain(id, with string) *identity.Explanation {
	s.t.Helper()
	space := s.space
	if space == nil {
		space = &workspace.Space{ID: "spa_1", Slug: "default", Number: rowtest.Space}
	}
	q := identity.Question{Space: space, Epoch: s.epoch, ID: s.ids(id)[0].Identifier()}
	if with != "" {
		other := s.ids(with)[0].Identifier()
		q.With = &other
	}
	x, err := s.explainer().Explain(context.Background(), q)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := json.Marshal(x); err != nil {
		s.t.Fatal(err)
	}
	s.whole(x)
	return x
}

// whole checks that a graph can be drawn: every edge has both its nodes, every
// node is there once.
func (s *explaining) whole(x *identity.Explanation) {
	s.t.Helper()
	nodes := map[string]bool{}
	for _, n := range x.Graph.Nodes {
		if nodes[n.ID] {
			s.t.Errorf("node %s is there twice", n.ID)
		}
		nodes[n.ID] = true
	}
	for _, e := range x.Graph.Edges {
		if !nodes[e.From] || !nodes[e.To] {
			s.t.Errorf("the edge %+v has no node at one end", e)
		}
	}
}

// words gives profiles their names in the script.
func (s *explaining) words(lines []string) (out []string) {
	var names []string
	for id, name := range s.names {
		if !id.IsZero() {
			names = append(names, id.String(), name)
		}
	}
	replace := strings.NewReplacer(names...)
	for _, line := range lines {
		line = replace.Replace(line)
		line = strings.ReplaceAll(line, "2026-03-02T09:00:00.000Z", "START")
		out = append(out, line)
	}
	return out
}

func (s *explaining) graph(id string) (lines []string) {
	x := s.explain(id, "")
	for _, n := range x.Graph.Nodes {
		lines = append(lines, fmt.Sprintf("%s %s %s", n.Kind, n.ID, n.State))
	}
	for _, e := range x.Graph.Edges {
		lines = append(lines, fmt.Sprintf("%s —%s→ %s (%d %s)", e.From, e.Kind, e.To, e.Offset, e.MessageID))
	}
	lines = s.words(lines)
	sort.Strings(lines)
	return lines
}

// TestExplain runs the scripts in testdata/explain.
func TestExplain(t *testing.T) {
	files, err := filepath.Glob("testdata/explain/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := (&explaining{interpreter: &interpreter{t: t}}).run(string(script))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(script), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestExplainWhatIsNotThere asks for profiles that were never given, and with
// what is no identifier.
func TestExplainWhatIsNotThere(t *testing.T) {
	s := &explaining{interpreter: &interpreter{t: t}}
	s.run("track user_id=u1\n")
	ask := func(id string, with *event.Identifier) error {
		_, err := s.explainer().Explain(context.Background(), identity.Question{
			Space: &workspace.Space{Number: rowtest.Space}, Epoch: s.epoch, ID: event.Identifier{Collection: event.Users, Value: id}, With: with,
		})
		return err
	}
	var never event.ProfileID
	never[3] = 9
	if err := ask(never.String(), nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("a profile that was never given: %v", err)
	}
	if err := ask("what", nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("no identifier and no profile: %v", err)
	}
	if err := ask(never.String(), &event.Identifier{Type: "user_id", Value: "u1"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a profile and an identifier: %v", err)
	}
}
