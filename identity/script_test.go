package identity_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kith/commitlog"
	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata answer into them")

// TestScripts runs the scripts in testdata. A line that begins at the margin
// is a command or a comment; the indented lines below it are its answer.
//
//	rule TYPE [collection=C] [limit=N] [window=W] [priority=N] [keys=K,…] [blocked=V] [pattern=RE]
//	     [normalize=FORM] [provider=yes] [region=R] [network=K] [valid=SPAN]
//	apply                      puts the rules given since the last apply in force
//	advance DURATION           moves the clock ("3d", "2h")
//	CALL [TYPE=VALUE …] [time=DURATION]   sends an event with these identifiers; time is before now
//	send JSON                  sends an event as it stands
//	separate TYPE=VALUE … | TYPE=VALUE …   orders that the left stay apart from the right
//	block TYPE=VALUE           orders that the value is nobody's
//	lift N                     takes the N-th separate or block back
//	delete TYPE=VALUE          orders that the identifier be taken from its profile
//	leave TYPE=VALUE TYPE=VALUE   orders that the user leave the account
//	refusals [TYPE=VALUE]      what was kept of refusals: of an identifier, or on every profile
//	rebuild                    replays everything into another epoch, with all standing commands
//	                           from its start, and goes on reading that
//	space                      goes on in a new space
//	show                       all profiles with their identifiers, merges and links
//	table                      the rules as they work
//	unwanted                   the standard types that events carried and no rule named
//	had TYPE=VALUE             the profiles that the identifier was taken away from
//
// Profiles are called P1, P2 … and accounts A1, A2 … in the order in which
// they were created.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := (&interpreter{t: t}).run(string(script))
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

type interpreter struct {
	t      *testing.T
	row    *rowtest.Row
	number uint64
	rules  []workspace.IdentifierRule
	space  *workspace.Space
	names  map[event.ProfileID]string
	seen   []event.ProfileID
	last   *identity.Resolution
	orders []commitlog.Offset // separates and blocks
	epoch  uint32             // that is read
}

// open begins a space in which nothing has happened.
func (s *interpreter) open() {
	*s = interpreter{t: s.t, names: map[event.ProfileID]string{{}: "nobody"}}
	layout := &pipeline.Layout{}
	stage := identity.New(layout)
	slot := stage.Slot()
	s.row = rowtest.New(s.t, memkv.New(), stage, rowtest.Probe("see", func(r *pipeline.Record) error {
		s.last = slot.Get(r)
		return nil
	}))
}

func (s *interpreter) run(text string) string {
	s.open()
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		for _, answer := range s.do(line) {
			out.WriteString("\t" + answer + "\n")
		}
	}
	return out.String()
}

func (s *interpreter) do(line string) []string {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "rule":
		s.rule(rest)
	case "apply":
		s.number++
		s.space = &workspace.Space{ID: "spa_1", Slug: "default", Number: rowtest.Space, Identifiers: s.rules}
		snapshot := &workspace.Snapshot{Number: s.number, Spaces: []workspace.Space{*s.space}, Sources: []workspace.Source{{ID: "src", SpaceID: "spa_1"}}}
		snapshot.Seal()
		s.row.Config(snapshot)
		s.rules = nil
	case "advance":
		s.row.Clock.Set(s.row.Clock.Now().Add(s.duration(rest)))
	case "send":
		return s.send(rowtest.Call{Body: rest, Source: "src"})
	case "space":
		s.open()
	case "separate":
		left, right, _ := strings.Cut(rest, " | ")
		return s.order(&event.Command{Separate: &event.Separate{Left: s.ids(left), Right: s.ids(right)}})
	case "block":
		return s.order(&event.Command{Block: &s.ids(rest)[0]})
	case "lift":
		return s.order(&event.Command{Lift: &event.Lift{Offset: uint64(s.orders[s.int(rest)-1])}})
	case "delete":
		return s.order(&event.Command{DeleteIdentifier: &event.DeleteIdentifier{Identifier: s.ids(rest)[0]}})
	case "leave":
		ids := s.ids(rest)
		return s.order(&event.Command{Leave: &event.Leave{User: ids[0], Account: ids[1]}})
	case "refusals":
		return s.refusals(rest)
	case "rebuild":
		s.rebuild()
	case "show":
		return s.show()
	case "table":
		return s.table()
	case "unwanted":
		return s.unwanted()
	case "had":
		return s.had(s.ids(rest)[0].Identifier())
	default:
		return s.send(s.call(verb, rest))
	}
	return nil
}

func (s *interpreter) unwanted() (lines []string) {
	s.row.View(func(r kv.Reader) error {
		list, err := identity.NewReader(r, rowtest.Space, s.epoch).Unwanted()
		for i := range list {
			u := &list[i]
			line := fmt.Sprintf("%s/%s %d:", u.Collection, u.Type, u.Count)
			for _, kept := range [][]identity.Refused{u.First, u.Newest} {
				for _, x := range kept {
					line += fmt.Sprintf(" %d", x.Offset)
				}
			}
			lines = append(lines, line)
		}
		return err
	})
	return lines
}

func (s *interpreter) had(id event.Identifier) (lines []string) {
	s.row.View(func(r kv.Reader) error {
		list, err := identity.NewReader(r, rowtest.Space, s.epoch).Had(id)
		for _, p := range list {
			lines = append(lines, s.names[p])
		}
		return err
	})
	return lines
}

func (s *interpreter) rule(text string) {
	fields := strings.Fields(text)
	r := workspace.IdentifierRule{Type: fields[0]}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "collection":
			r.Collection = value
		case "limit":
			r.Limit = s.int(value)
		case "window":
			r.Window = value
		case "priority":
			r.Priority = s.int(value)
		case "keys":
			r.Keys = strings.Split(value, ",")
		case "blocked":
			r.Blocked = append(r.Blocked, value)
		case "normalize":
			r.Normalize = value
		case "provider":
			r.EmailProvider = value == "yes"
		case "region":
			r.Region = value
		case "network":
			r.NetworkKey = value
		case "valid":
			r.ValidFor = value
		case "pattern":
			r.BlockedPatterns = append(r.BlockedPatterns, value)
		default:
			s.t.Fatalf("rule %s: what is %s", text, f)
		}
	}
	s.rules = append(s.rules, r)
}

func (s *interpreter) int(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *interpreter) duration(text string) time.Duration {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		return time.Duration(s.int(days)) * 24 * time.Hour
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// call makes an event that carries identifiers where Segment's calls have
// them, others in context.externalIds.
func (s *interpreter) call(kind, text string) rowtest.Call {
	c := rowtest.Call{Source: "src"}
	body := map[string]any{"type": kind}
	context := map[string]any{}
	external := []map[string]string{}
	for _, f := range strings.Fields(text) {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "time":
			c.Time = s.row.Clock.Now().Add(-s.duration(value))
		case "user_id":
			body["userId"] = value
		case "anonymous_id":
			body["anonymousId"] = value
		case "group_id":
			body["groupId"] = value
		case "email":
			context["traits"] = map[string]string{"email": value}
		default:
			collection, kind, ok := strings.Cut(key, "/")
			if !ok {
				collection, kind = event.Users, key
			}
			external = append(external, map[string]string{"collection": collection, "type": kind, "id": value, "encoding": "none"})
		}
	}
	context["externalIds"] = external
	body["context"] = context
	text2, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	c.Body = string(text2)
	return c
}

// ids reads identifiers; group_id and those that say so are accounts'.
func (s *interpreter) ids(text string) (list []event.ExternalID) {
	for _, f := range strings.Fields(text) {
		key, value, _ := strings.Cut(f, "=")
		x := event.ExternalID{Type: key, ID: value}
		if collection, name, ok := strings.Cut(key, "/"); ok {
			x.Collection, x.Type = collection, name
		} else if key == "group_id" {
			x.Collection = event.Accounts
		}
		list = append(list, x)
	}
	return list
}

// order gives a command and shows the changes that it made.
func (s *interpreter) order(c *event.Command) (answer []string) {
	before := len(s.row.Changes())
	at := s.row.Order(c)
	if c.Separate != nil || c.Block != nil {
		s.orders = append(s.orders, at)
	}
	for _, o := range s.row.Changes()[before:] {
		line := s.names[o.Profile] + " " + o.Change.Kind.String()
		if !o.Change.Other.IsZero() {
			line += " " + s.names[o.Change.Other]
		}
		answer = append(answer, strings.TrimSpace(line+" "+o.Change.Subject))
	}
	return answer
}

// rebuild makes the next epoch, in which standing commands hold from the start.
func (s *interpreter) rebuild() {
	var standing []identity.Standing
	s.row.View(func(r kv.Reader) (err error) {
		standing, err = identity.NewReader(r, rowtest.Space, s.epoch).Standing()
		return err
	})
	s.epoch++
	s.row.Replay(s.epoch, func(tx kv.Tx) error {
		return identity.Preload(tx, rowtest.Space, s.epoch, standing)
	}, identity.New(&pipeline.Layout{}))
	s.row.View(func(r kv.Reader) error {
		due, err := identity.NewReader(r, rowtest.Space, s.epoch).Revisions()
		if len(due) > 0 {
			s.t.Errorf("revisions are due in an epoch that began with all commands: %v", due)
		}
		return err
	})
}

// refusals shows what is kept of refusals.
func (s *interpreter) refusals(text string) (answer []string) {
	show := func(of string, list []identity.Refusals) {
		for _, r := range list {
			line := fmt.Sprintf("%s: %d × %s:", of, r.Count, r.Violation)
			for _, x := range append(r.First, r.Newest...) {
				line += fmt.Sprintf(" %d", x.Offset)
				if x.Against.ByCommand {
					line += fmt.Sprintf(" (command %d)", x.Against.Command)
				} else if x.Against.Type != "" {
					line += fmt.Sprintf(" (%s %d)", x.Against.Type, x.Against.Limit)
				}
			}
			answer = append(answer, line)
		}
	}
	s.row.View(func(r kv.Reader) error {
		graph := identity.NewReader(r, rowtest.Space, s.epoch)
		if text != "" {
			list, err := graph.RefusalsOf(s.ids(text)[0].Identifier())
			show(text, list)
			return err
		}
		for _, id := range append([]event.ProfileID{{}}, s.seen...) {
			list, err := graph.RefusalsOn(id)
			if err != nil {
				return err
			}
			show(s.names[id], list)
		}
		return nil
	})
	return answer
}

func (s *interpreter) send(c rowtest.Call) (answer []string) {
	s.row.Send(c)
	res := s.last
	s.name(res.Profile, "P")
	s.name(res.Account, "A")
	line := s.names[res.Profile]
	if res.Created {
		line += " created"
	}
	if !res.Account.IsZero() {
		line += " of " + s.names[res.Account]
		if res.AccountCreated {
			line += " created"
		}
		if res.Linked {
			line += " linked"
		}
	}
	if res.Reason != "" {
		line += ": " + res.Reason
	}
	answer = append(answer, line)
	for _, m := range res.Merged {
		answer = append(answer, fmt.Sprintf("%s merged into %s", s.names[m.From], s.names[m.Into]))
	}
	for _, id := range res.Attached {
		answer = append(answer, fmt.Sprintf("attached %s:%s", id.Type, id.Value))
	}
	for _, f := range res.Refused {
		answer = append(answer, fmt.Sprintf("refused %s:%s (%s)", f.Type, f.Value, f.Violation))
	}
	return answer
}

func (s *interpreter) name(id event.ProfileID, letter string) {
	if _, ok := s.names[id]; ok {
		return
	}
	n := 1
	for _, other := range s.seen {
		if strings.HasPrefix(s.names[other], letter) {
			n++
		}
	}
	s.names[id] = letter + strconv.Itoa(n)
	s.seen = append(s.seen, id)
}

func (s *interpreter) show() (answer []string) {
	s.row.View(func(r kv.Reader) error {
		graph := identity.NewReader(r, rowtest.Space, s.epoch)
		for _, id := range s.seen {
			if frozen, err := graph.Frozen(id); err != nil || frozen == nil {
				if err != nil {
					return err
				}
				answer = append(answer, s.names[id]+" is not there")
				continue
			}
			link, err := graph.Link(id)
			if err != nil {
				return err
			}
			if link != nil {
				var via []string
				for _, v := range link.Via {
					via = append(via, v.Type+":"+v.Value)
				}
				answer = append(answer, fmt.Sprintf("%s is %s (record %d, rules %d, via %s)", s.names[id], s.names[link.Parent], link.Offset, link.Snapshot, strings.Join(via, " ")))
				continue
			}
			p, err := graph.Profile(id)
			if err != nil {
				return err
			}
			line := s.names[id]
			for _, x := range p.Identifiers {
				line += " " + x.Type + ":" + x.Value
			}
			answer = append(answer, line)
			links, err := graph.Links(id, identity.LinkMark{}, 0)
			if err != nil {
				return err
			}
			for _, l := range links {
				answer = append(answer, fmt.Sprintf("%s linked to %s since record %d", s.names[id], s.names[l.Profile], l.Offset))
			}
		}
		return nil
	})
	return answer
}

func (s *interpreter) table() (answer []string) {
	var types []identity.RegisteredType
	s.row.View(func(r kv.Reader) (err error) {
		types, err = identity.NewReader(r, rowtest.Space, rowtest.Epoch).Types()
		return err
	})
	table, err := identity.RuleTable(s.space, types)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range table {
		answer = append(answer, fmt.Sprintf("%d %s/%s %d %s", r.Priority, r.Collection, r.Type, r.Limit, r.Window))
	}
	return answer
}
