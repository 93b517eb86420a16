package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
)

// identityCommand changes who is whom, for all time, and takes it back.
type identityCommand struct {
	Split      splitCommand            `cmd:"" help:"Split identifiers out of a profile: they are never one person with its others again."`
	Unmerge    unmergeCommand          `cmd:"" help:"Reverse a merge: a profile that was merged away is its own again."`
	Block      blockCommand            `cmd:"" help:"Block a value: it identifies nobody, from the first event on."`
	Leave      leaveCommand            `cmd:"" help:"End the membership of a user in an account."`
	Lift       liftCommand             `cmd:"" help:"Take back a split, an unmerge or a block."`
	Simulate   simulateCommand         `cmd:"" help:"Say what other identity rules would have made of the past. Nothing changes."`
	Suspicious suspiciousCommand       `cmd:"" help:"List who may be no one person: many identifiers, many merges at once, shared values."`
	Types      typesCommand            `cmd:"" help:"List the types of identifiers, and those that events carry and no rule names."`
	Commands   identityCommandsCommand `cmd:"" help:"List what was split and blocked, who ordered it, and whether the past is worked out again."`
}

// orderFlags are what all orders have.
type orderFlags struct {
	remote
	Space  string `default:"default" placeholder:"SLUG" help:"The space."`
	DryRun bool   `help:"Order nothing; show what would come of it."`
	NoWait bool   `help:"Do not wait until what came before is worked out again."`
	By     string `placeholder:"NAME" help:"Who orders it, for the list."`
	Note   string `placeholder:"TEXT" help:"Why, for the list."`
}

// identityID is an identifier as the API has it.
type identityID struct {
	Collection string `json:"collection,omitempty"`
	Type       string `json:"type"`
	ID         string `json:"id"`
}

func (x identityID) String() string { return x.Type + ":" + x.ID }

// readIDs reads identifiers as "type:value".
func readIDs(list []string) (ids []identityID, err error) {
	for _, text := range list {
		kind, value, ok := strings.Cut(text, ":")
		if !ok || kind == "" || value == "" {
			return nil, usage{fmt.Errorf("%q is no identifier: want its type and its value, as email:jo@example.com", text)}
		}
		ids = append(ids, identityID{Type: kind, ID: value})
	}
	return ids, nil
}

// standing is a command that holds for all time, as the API shows it.
type standing struct {
	Offset    uint64       `json:"offset"`
	Kind      string       `json:"kind"`
	At        string       `json:"at,omitempty"`
	By        string       `json:"by,omitempty"`
	Note      string       `json:"note,omitempty"`
	Left      []identityID `json:"left,omitempty"`
	Right     []identityID `json:"right,omitempty"`
	Blocked   *identityID  `json:"blocked,omitempty"`
	Lifts     *uint64      `json:"lifts,omitempty"`
	LiftedBy  *uint64      `json:"liftedBy,omitempty"`
	State     string       `json:"state"`
	Reason    string       `json:"reason,omitempty"`
	Events    int          `json:"events"`
	Before    int          `json:"profilesBefore"`
	After     int          `json:"profilesAfter"`
	Changed   int          `json:"profilesChanged"`
	Announced int          `json:"announced"`

	StayedWith []string `json:"stayedWith,omitempty"`
	Horizon    string   `json:"horizon,omitempty"`
}

// orderAnswer is the answer to an order.
type orderAnswer struct {
	Ordered  bool             `json:"ordered"`
	Command  standing         `json:"command"`
	Profiles []orderedProfile `json:"profiles"`
	Nobodys  []identityID     `json:"nobodys,omitempty"`
	Message  string           `json:"message"`
}

type orderedProfile struct {
	ID          string       `json:"id"`
	Collection  string       `json:"collection"`
	Identifiers []identityID `json:"identifiers"`
	Count       int          `json:"identifierCount"`
	Events      int          `json:"events"`
	Audiences   []string     `json:"audiences"`
	PartOf      string       `json:"partOf,omitempty"`
	Changed     *bool        `json:"changed,omitempty"`
	Joined      []string     `json:"joined,omitempty"`
	Left        []string     `json:"left,omitempty"`
}

// order sends an order and shows what came of it.
func (c *orderFlags) order(r *run, path string, body map[string]any) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	if c.By != "" {
		body["by"] = c.By
	}
	if c.Note != "" {
		body["note"] = c.Note
	}
	q := url.Values{}
	switch {
	case c.DryRun:
		q.Set("dryRun", "true")
	case !c.NoWait:
		q.Set("wait", "true")
	}
	var out orderAnswer
	if err := server.Call(r.ctx, http.MethodPost, "/spaces/"+url.PathEscape(c.Space)+"/identity/"+path+"?"+q.Encode(), body, &out); err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(out)
	}
	return printOrder(r.Stdout, &out)
}

// printOrder writes what came of an order for people.
func printOrder(to io.Writer, x *orderAnswer) error {
	var b strings.Builder
	fmt.Fprintln(&b, x.Message)
	if x.Ordered && x.Command.Kind != "lift" {
		fmt.Fprintf(&b, "Command %d: take it back with kith identity lift %d\n", x.Command.Offset, x.Command.Offset)
	}
	if x.Command.Reason != "" {
		fmt.Fprintln(&b, x.Command.Reason)
	}
	if s := &x.Command; s.Events > 0 || s.State == "done" {
		fmt.Fprintf(&b, "%s of %s worked out again: %s, %d of them changed", count(s.Events, "event"), count(s.Before, "profile"), count(s.After, "profile"), s.Changed)
		if x.Ordered {
			fmt.Fprintf(&b, "; %s to destinations", count(s.Announced, "message"))
		}
		b.WriteString("\n")
	}
	if len(x.Command.StayedWith) > 0 {
		fmt.Fprintf(&b, "Traits, counts and events from before %s stay with %s: those events have been trimmed.\n", x.Command.Horizon, strings.Join(x.Command.StayedWith, ", "))
	}
	for i := range x.Profiles {
		x.Profiles[i].print(&b)
	}
	for i, id := range x.Nobodys {
		if i == 0 {
			b.WriteString("\nNobody has any more\n")
		}
		fmt.Fprintf(&b, "  %s\n", id)
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func (p *orderedProfile) print(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s: %s, %s", p.ID, count(p.Count, "identifier"), count(p.Events, "event"))
	switch {
	case p.Changed != nil && !*p.Changed:
		b.WriteString(", as it is now")
	case p.Changed != nil && p.PartOf != p.ID && p.PartOf != "":
		fmt.Fprintf(b, ", out of %s", p.PartOf)
	case p.Changed != nil && p.PartOf == "":
		b.WriteString(", new")
	}
	b.WriteString("\n")
	for _, id := range p.Identifiers {
		fmt.Fprintf(b, "  %s\n", id)
	}
	if p.Count > len(p.Identifiers) {
		fmt.Fprintf(b, "  and %d more\n", p.Count-len(p.Identifiers))
	}
	for _, line := range []struct {
		what string
		list []string
	}{{"audiences", p.Audiences}, {"enters", p.Joined}, {"leaves", p.Left}} {
		if len(line.list) > 0 {
			fmt.Fprintf(b, "  %s: %s\n", line.what, strings.Join(line.list, ", "))
		}
	}
}

// splitCommand splits identifiers out of a profile.
type splitCommand struct {
	orderFlags
	Profile     string   `arg:"" name:"profile" help:"The profile: its id, use_…, or an identifier of it, as user_id:42."`
	Identifiers []string `arg:"" name:"type:value" help:"What to split out of it, as email:jo@example.com; several may follow."`
}

// Run splits.
func (c *splitCommand) Run(r *run) error {
	ids, err := readIDs(c.Identifiers)
	if err != nil {
		return err
	}
	return c.order(r, "separate", map[string]any{"profile": c.Profile, "identifiers": ids})
}

// unmergeCommand reverses a merge.
type unmergeCommand struct {
	orderFlags
	Profile string `arg:"" name:"use_…" help:"The id of the profile that was merged away; kith explain lists them."`
}

// Run reverses the merge.
func (c *unmergeCommand) Run(r *run) error {
	return c.order(r, "separate", map[string]any{"merge": c.Profile})
}

// blockCommand blocks a value.
type blockCommand struct {
	orderFlags
	Identifier string `arg:"" name:"type:value" help:"What is to identify nobody, as email:info@example.com."`
}

// Run blocks.
func (c *blockCommand) Run(r *run) error {
	ids, err := readIDs([]string{c.Identifier})
	if err != nil {
		return err
	}
	return c.order(r, "block", map[string]any{"type": ids[0].Type, "id": ids[0].ID})
}

// liftCommand takes a command back.
type liftCommand struct {
	orderFlags
	Offset uint64 `arg:"" name:"command" help:"Its number, as kith identity commands lists it."`
}

// Run lifts.
func (c *liftCommand) Run(r *run) error {
	return c.order(r, "lift", map[string]any{"offset": c.Offset})
}

// identityCommandsCommand lists what holds for all time.
type identityCommandsCommand struct {
	remote
	Space string `default:"default" placeholder:"SLUG" help:"The space."`
	Limit int    `default:"100" help:"How many to show, newest first."`
}

// Run lists.
func (c *identityCommandsCommand) Run(r *run) error {
	if c.Limit < 1 || c.Limit > 1000 {
		return usage{errors.New("--limit: want 1 to 1000")}
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		Commands []standing `json:"commands"`
		Total    int        `json:"total"`
	}
	path := fmt.Sprintf("/spaces/%s/identity/commands?limit=%d", url.PathEscape(c.Space), c.Limit)
	if err := server.Call(r.ctx, http.MethodGet, path, nil, &out); err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(out)
	}
	if len(out.Commands) == 0 {
		_, err := fmt.Fprintln(r.Stdout, "Nothing was split or blocked.")
		return err
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COMMAND\tORDERED\tBY\tSTATE\tWHAT\tNOTE")
	for i := range out.Commands {
		s := &out.Commands[i]
		state := s.State
		if s.LiftedBy != nil {
			state = fmt.Sprintf("lifted by %d", *s.LiftedBy)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", s.Offset, s.At, s.By, state, s.what(), s.Note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if out.Total > len(out.Commands) {
		_, err = fmt.Fprintf(r.Stdout, "%d of %d\n", len(out.Commands), out.Total)
	}
	return err
}

// what says in a few words what a command is about.
func (s *standing) what() string {
	switch {
	case s.Blocked != nil:
		return "block " + s.Blocked.String()
	case s.Lifts != nil:
		return fmt.Sprintf("lift %d", *s.Lifts)
	}
	return cmp.Or(some(s.Left), "nothing") + " apart from " + cmp.Or(some(s.Right), "nothing")
}

// some names the first identifiers of a list.
func some(ids []identityID) string {
	const most = 3
	var names []string
	for _, id := range ids[:min(len(ids), most)] {
		names = append(names, id.String())
	}
	text := strings.Join(names, ", ")
	if len(ids) > most {
		text += fmt.Sprintf(" and %d more", len(ids)-most)
	}
	return text
}
