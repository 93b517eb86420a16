package computation

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kith/event"
	"kith/identity"
	"kith/internal/sim/rowtest"
	"kith/kv"
	"kith/timer"
	"kith/workspace"
)

var rewriteFlag = flag.Bool("rewrite", false, "write what is found into the scripts")

// TestScripts runs testdata/*.txt: lines behind "> " are commands, the lines
// that follow are what they show. Every command that does something shows what
// was announced because of it.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{world: newWorld(t, memory())}
			var out strings.Builder
			for line := range strings.SplitSeq(string(data), "\n") {
				switch {
				case strings.HasPrefix(line, "> "):
					out.WriteString(line + "\n")
					for _, shown := range s.run(line[2:]) {
						out.WriteString("  " + shown + "\n")
					}
				case strings.HasPrefix(line, "#") || line == "":
					out.WriteString(line + "\n")
				}
			}
			got := strings.TrimSuffix(out.String(), "\n")
			if *rewriteFlag {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(data) {
				t.Errorf("got\n%s\nwant\n%s", got, data)
			}
		})
	}
}

type script struct{ *world }

func (s *script) run(command string) []string {
	verb, rest, _ := strings.Cut(command, " ")
	switch verb {
	case "audience": // key [option=value ...]: query
		head, query, _ := strings.Cut(rest, ": ")
		fields := strings.Fields(head)
		a := workspace.Audience{Key: fields[0], Name: fields[0], Enabled: true, Query: query}
		for _, o := range fields[1:] {
			s.option(&a, o)
		}
		s.declare(a)
	case "disable", "enable":
		a := s.audience(rest)
		a.Enabled = verb == "enable"
		s.declare(a)
	case "delete":
		s.remove(rest)
	case "build":
		s.build()
	case "step":
		s.buildStep()
	case "advance":
		s.world.advance(duration(s.t, rest))
	case "track", "page", "screen", "identify":
		s.send(verb, rest)
	case "unidentify": // type value
		name, value, _ := strings.Cut(rest, " ")
		s.row.Order(&event.Command{DeleteIdentifier: &event.DeleteIdentifier{Identifier: event.ExternalID{Type: name, ID: value}}})
	case "members":
		lines := []string{strings.Join(s.members(rest), " ")}
		var n int64
		s.row.View(func(r kv.Reader) (err error) {
			n, err = s.engine.Reader().Size(r, rowtest.Space, rowtest.Epoch, "aud_"+rest)
			return err
		})
		if n != int64(len(s.members(rest))) {
			lines = append(lines, fmt.Sprintf("but the size is %d", n))
		}
		return lines
	case "status":
		st := s.status(rest)
		return []string{strings.TrimSpace(fmt.Sprintf("%s, version %d, %d members, progress %g, announcing %v %s", st.State, st.Version, st.Size, st.Progress, st.Announcing, st.Reason))}
	case "profile":
		return s.profile(rest)
	case "kept":
		return s.kept(rest)
	default:
		s.t.Fatalf("unknown command %q", command)
	}
	return s.changes()
}

func (s *script) option(a *workspace.Audience, option string) {
	name, value, _ := strings.Cut(option, "=")
	switch name {
	case "history":
		yes := value == "yes"
		a.Options.IncludeHistoricalData = &yes
	case "days":
		n, err := strconv.Atoi(value)
		if err != nil {
			s.t.Fatal(err)
		}
		a.Options.BackfillEventDataDays = &n
	case "ids":
		a.Options.FilterByExternalIDs = strings.Split(value, ",")
	default:
		s.t.Fatalf("unknown option %q", option)
	}
}

// send reads: ids [name] [json] [ago duration] [from source].
func (s *script) send(kind, rest string) {
	ids, rest, _ := strings.Cut(rest, " ")
	c := rowtest.Call{Source: "web"}
	if before, source, ok := strings.Cut(rest, " from "); ok {
		rest, c.Source = before, source
	}
	if before, ago, ok := strings.Cut(rest, " ago "); ok {
		rest, c.Time = before, s.row.Clock.Now().Add(-duration(s.t, ago))
	}
	name, doc := rest, ""
	if i := strings.Index(rest, "{"); i >= 0 {
		name, doc = rest[:i], rest[i:]
	}
	name = strings.TrimSpace(name)
	var body []string
	switch {
	case kind == "track":
		body = append(body, fmt.Sprintf(`"event":%q`, name))
	case kind != "identify":
		body = append(body, fmt.Sprintf(`"name":%q`, name))
	}
	if doc != "" {
		field := "properties"
		if kind == "identify" {
			field = "traits"
		}
		body = append(body, fmt.Sprintf(`%q:%s`, field, doc))
	}
	c.Body = call(kind, ids, strings.Join(body, ","))
	s.row.Send(c)
}

func (s *script) lookup(name string) event.ProfileID {
	var id event.ProfileID
	s.row.View(func(r kv.Reader) (err error) {
		kind, value := "user_id", name
		if v, ok := strings.CutPrefix(name, "a:"); ok {
			kind, value = "anonymous_id", v
		}
		id, err = identity.NewReader(r, rowtest.Space, rowtest.Epoch).Lookup(event.Users, kind, value)
		return err
	})
	return id
}

// profile shows what the reader says of a profile's memberships.
func (s *script) profile(name string) (lines []string) {
	s.row.View(func(r kv.Reader) error {
		list, err := s.engine.Reader().Memberships(r, rowtest.Space, rowtest.Epoch, s.lookup(name))
		for _, m := range list {
			next := "never"
			if m.Next != timer.Never {
				next = day(time.UnixMilli(m.Next).Sub(rowtest.Start()))
			}
			lines = append(lines, fmt.Sprintf("%s %v since %s, next %s, live %v", m.Audience.Key, m.Member,
				day(time.UnixMilli(m.Since).Sub(rowtest.Start())), next, m.Live))
		}
		return err
	})
	return lines
}

// kept counts the keys of the forms: what is left of profiles and builds.
func (s *script) kept(form string) (lines []string) {
	s.row.View(func(r kv.Reader) error {
		n := 0
		for _, err := range r.Scan(kv.Prefix(keys{rowtest.Space, rowtest.Epoch}.form(form[0]))) {
			if err != nil {
				return err
			}
			n++
		}
		lines = append(lines, fmt.Sprint(n))
		return nil
	})
	return lines
}

func duration(t interface{ Fatal(...any) }, s string) time.Duration {
	days, rest := 0, s
	if before, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.Atoi(before)
		if err != nil {
			t.Fatal(err)
		}
		days, rest = n, after
	}
	d := time.Duration(days) * 24 * time.Hour
	if rest != "" {
		x, err := time.ParseDuration(rest)
		if err != nil {
			t.Fatal(err)
		}
		d += x
	}
	return d
}
