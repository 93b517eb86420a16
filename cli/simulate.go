package cli

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"kith/api"
	"kith/identity"
)

// simulateCommand tries identity rules on the past.
type simulateCommand struct {
	remote
	Space  string `default:"default" placeholder:"SLUG" help:"The space, default by default."`
	Rules  string `required:"" placeholder:"FILE" help:"The rules to try: the identifiers of a space as a workspace file has them (YAML). - is standard input."`
	Since  string `placeholder:"TIME" help:"From when on: 30d, 12h, or 2026-01-31T00:00:00Z. Before that each event goes by the rules of its time. Without it, from the first event on."`
	Note   string `placeholder:"TEXT" help:"Why, for people."`
	NoWait bool   `help:"Do not wait for the end: print the simulation's id."`
}

// Help is the longer text of --help.
func (c *simulateCommand) Help() string {
	return `Everybody's identifiers are replayed in a state of their own, beside the live one, of which nothing changes and which goes away at the end. The report says how many profiles there would be, which merges would be made and prevented, who would be the largest, and which profiles would change, and why.

To go by the new rules from now on: kith apply. To go by them from the first event on: kith apply, then kith rebuild --rules current.`
}

// Run tries the rules and prints the report.
func (c *simulateCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	text, err := readRules(r, c.Rules)
	if err != nil {
		return err
	}
	path := "/spaces/" + url.PathEscape(c.Space) + "/identity/simulations"
	var out struct {
		Simulation *api.Simulation `json:"simulation"`
	}
	if err := server.Call(r.ctx, "POST", path, map[string]any{"rules": string(text), "since": c.Since, "note": c.Note}, &out); err != nil {
		return c.explain(err)
	}
	id := out.Simulation.ID
	if c.NoWait {
		if r.json {
			return r.encode(out.Simulation)
		}
		fmt.Fprintf(r.Stdout, "%d\n", id)
		return nil
	}
	at := fmt.Sprintf("%s/%d", path, id)
	left := "the simulation goes on in the server; its report will be at GET /api" + at
	s, err := follow(r, following[*api.Simulation]{
		ask: func() (*api.Simulation, error) {
			err := server.Call(r.ctx, "GET", at, nil, &out)
			return out.Simulation, err
		},
		tell: func(s *api.Simulation) (string, bool) {
			return replayText(s.Done, s.Total, s.PerSecond, s.SecondsLeft), s.State == "running"
		},
		left: left, gone: left,
	})
	if err != nil {
		return c.explain(err)
	}
	if s.Report == nil {
		return fmt.Errorf("the simulation is %s: %s", s.State, s.Error)
	}
	if r.json {
		return r.encode(s)
	}
	return printSimulation(r.Stdout, s)
}

func readRules(r *run, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(r.Stdin, 1<<20))
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, wrong("--rules: %w", err)
	}
	return text, nil
}

// printSimulation writes a report for people.
func printSimulation(to io.Writer, s *api.Simulation) error {
	x := s.Report
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	from := "from the first event on"
	if s.Since != "" {
		from = "since " + s.Since
	}
	fmt.Fprintf(w, "With these rules %s, over %s records:\n\n", from, grouped(x.Records))
	if x.Horizon != "" {
		fmt.Fprintf(w, "Events from before %s have been trimmed: what they made is taken as it is, and the rules are tried from then on.\n\n", x.Horizon)
	}
	fmt.Fprintln(w, "\tnow\twith these rules")
	fmt.Fprintf(w, "profiles\t%s\t%s\n", grouped(uint64(x.Now.Profiles)), grouped(uint64(x.Then.Profiles)))
	fmt.Fprintf(w, "merges %s\t%s\t%s\n", from, grouped(uint64(x.Now.Merges)), grouped(uint64(x.Then.Merges)))
	fmt.Fprintf(w, "\n%s profiles would stay as they are.\n", grouped(uint64(x.Unchanged)))
	fmt.Fprintf(w, "%s would be split, %s would be joined with what is somebody else's now, %s would lose identifiers.\n",
		grouped(uint64(x.Split)), grouped(uint64(x.Joined)), grouped(uint64(x.Altered)))
	merges := map[string][2]int{}
	for by, n := range x.Now.MergesBy {
		merges[by] = [2]int{n, merges[by][1]}
	}
	for by, n := range x.Then.MergesBy {
		merges[by] = [2]int{merges[by][0], n}
	}
	if len(merges) > 0 {
		fmt.Fprintln(w, "\nMerges, by what the event carried\tnow\twith these rules")
		for _, by := range sortedKeys(merges) {
			fmt.Fprintf(w, "  %s\t%d\t%d\n", by, merges[by][0], merges[by][1])
		}
	}
	if len(x.Prevented) > 0 {
		fmt.Fprintln(w, "\nWhat these rules would refuse\tevents\tof them merges")
		for _, p := range x.Prevented {
			fmt.Fprintf(w, "  %s: %s\t%d\t%d\n", p.Type, p.Violation, p.Events, p.Merges)
		}
	}
	largest(w, "\nThe largest profiles now", x.Now.Largest)
	largest(w, "\nThe largest with these rules", x.Then.Largest)
	if len(x.Examples) > 0 {
		fmt.Fprintln(w, "\nFor example")
	}
	for _, e := range x.Examples {
		fmt.Fprintf(w, "  %s (%s)\n    %s\n", e.ProfileID, strings.Join(e.Identifiers, ", "), e.Reason)
		for _, part := range e.Parts {
			fmt.Fprintf(w, "      → %s\n", strings.Join(part, ", "))
		}
	}
	return w.Flush()
}

func largest(w io.Writer, title string, list []identity.Cluster) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintln(w, title)
	for _, c := range list[:min(len(list), 5)] {
		fmt.Fprintf(w, "  %s\t%d identifiers, %d merges\t%s\n", c.ProfileID, c.Count, c.Merged, strings.Join(c.Identifiers[:min(3, len(c.Identifiers))], ", "))
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
