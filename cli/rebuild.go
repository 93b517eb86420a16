package cli

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"kith/api"
	"kith/client"
	"kith/rebuild"
)

// rebuildCommand works out again what is derived of a space.
type rebuildCommand struct {
	Start    rebuildStartCommand    `cmd:"" default:"withargs" help:"Work out again all that is derived of a space, beside the live state, and put it in its place."`
	List     rebuildListCommand     `cmd:"" help:"Show the states of a space: the live one, one that is being made, those that are kept."`
	Follow   rebuildFollowCommand   `cmd:"" help:"Follow a rebuild to its end."`
	Pause    rebuildPauseCommand    `cmd:"" help:"Stop a rebuild until it is resumed."`
	Resume   rebuildResumeCommand   `cmd:"" help:"Let a rebuild go on that is paused or has failed."`
	Swap     rebuildSwapCommand     `cmd:"" help:"Put a rebuild that waits for it in the place of the live state."`
	Cancel   rebuildCancelCommand   `cmd:"" help:"Give up a rebuild, or remove a former state before its time."`
	SwapBack rebuildSwapBackCommand `cmd:"" name:"swap-back" help:"Make the state live again that was replaced last."`
}

// rebuildSpace is which space a rebuild is of.
type rebuildSpace struct {
	remote
	Space string `default:"default" placeholder:"SLUG" help:"The space, default by default."`
}

func (c *rebuildSpace) path(parts ...string) string {
	p := "/spaces/" + url.PathEscape(c.Space) + "/rebuilds"
	for _, part := range parts {
		p += "/" + url.PathEscape(part)
	}
	return p
}

// call asks the server about one rebuild.
func (c *rebuildSpace) call(ctx context.Context, server *client.Client, method, path string, in any) (*api.Rebuilding, error) {
	var out struct {
		Rebuild *api.Rebuilding `json:"rebuild"`
	}
	if err := server.Call(ctx, method, path, in, &out); err != nil {
		return nil, c.explain(err)
	}
	return out.Rebuild, nil
}

type rebuildStartCommand struct {
	rebuildSpace
	Rules string `placeholder:"WHICH" help:"recorded: each event by the identity rules of its time. current: today's rules from the first event on. By default as the live state was made."`
	Note  string `placeholder:"TEXT" help:"Why, for people."`
	Hold  bool   `help:"Stand still when it has caught up, so that somebody can look; kith rebuild swap ID goes on."`
	Wait  bool   `help:"Follow it to its end."`
}

// Run starts a rebuild.
func (c *rebuildStartCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	in := map[string]any{"note": c.Note, "hold": c.Hold}
	if c.Rules != "" {
		in["rules"] = c.Rules
	}
	one, err := c.call(r.ctx, server, "POST", c.path(), in)
	if err != nil {
		return err
	}
	return c.started(r, server, one, c.Wait)
}

// started says that a rebuild has begun, or follows it.
func (c *rebuildSpace) started(r *run, server *client.Client, one *api.Rebuilding, wait bool) error {
	if wait {
		return c.follow(r, server, one.ID)
	}
	if r.json {
		return r.encode(one)
	}
	fmt.Fprintf(r.Stdout, "rebuild %d has begun, %s\n", one.ID, rulesText(one))
	fmt.Fprintf(r.Stderr, "follow it with: kith rebuild follow %d%s\n", one.ID, spaceFlag(c.Space))
	return nil
}

func rulesText(one *api.Rebuilding) string {
	if one.Rules == string(rebuild.Current) {
		return fmt.Sprintf("by the rules of configuration %d from the first event on", one.Snapshot)
	}
	return "each event by the rules of its time"
}

type rebuildListCommand struct{ rebuildSpace }

// Run lists the states of a space.
func (c *rebuildListCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		Rebuilds []*api.Rebuilding `json:"rebuilds"`
	}
	if err := server.Call(r.ctx, "GET", c.path(), nil, &out); err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(out.Rebuilds)
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tRULES\tCREATED\tABOUT")
	for _, one := range out.Rebuilds {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", one.ID, one.State, one.Rules, one.CreatedAt, rebuildText(one))
	}
	return w.Flush()
}

// rebuildText says how a rebuild stands, in a line.
func rebuildText(one *api.Rebuilding) string {
	switch rebuild.State(one.State) {
	case rebuild.Running:
		return replayText(one.Done, one.Total, one.PerSecond, one.SecondsLeft)
	case rebuild.Paused:
		return fmt.Sprintf("%s of %s records", grouped(one.Done), grouped(one.Total))
	case rebuild.Waiting:
		return fmt.Sprintf("has caught up; go on with: kith rebuild swap %d", one.ID)
	case rebuild.Failed:
		return one.Error
	case rebuild.Live:
		if one.SwappedAt == "" {
			return one.Note
		}
		text := fmt.Sprintf("live since %s", one.SwappedAt)
		if x := one.Reconciled; x != nil && x.State != "finished" {
			text += fmt.Sprintf("; telling destinations what has changed: %s, %s looked at", x.State, grouped(x.Looked))
		}
		return text
	case rebuild.Kept:
		return "kept until " + one.KeptUntil
	}
	return one.Note
}

// replayText says how far a replay is.
func replayText(done, total uint64, rate, left float64) string {
	text := fmt.Sprintf("%s of %s records", grouped(done), grouped(total))
	if rate >= 1 {
		text += fmt.Sprintf(", %s a second", grouped(uint64(rate)))
	}
	if left >= 1 {
		text += ", about " + (time.Duration(left) * time.Second).String() + " left"
	}
	return text
}

// oneRebuild is a command about one rebuild.
type oneRebuild struct {
	rebuildSpace
	ID uint32 `arg:"" help:"The number of the rebuild, as kith rebuild list shows it."`
}

func (c *oneRebuild) do(r *run, verb string) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	one, err := c.call(r.ctx, server, "POST", c.path(strconv.FormatUint(uint64(c.ID), 10), verb), nil)
	if err != nil {
		return err
	}
	if r.json {
		return r.encode(one)
	}
	fmt.Fprintf(r.Stdout, "rebuild %d is %s\n", one.ID, one.State)
	return nil
}

type rebuildPauseCommand struct{ oneRebuild }

// Run pauses a rebuild.
func (c *rebuildPauseCommand) Run(r *run) error { return c.do(r, "pause") }

type rebuildResumeCommand struct{ oneRebuild }

// Run resumes a rebuild.
func (c *rebuildResumeCommand) Run(r *run) error { return c.do(r, "resume") }

type rebuildSwapCommand struct{ oneRebuild }

// Run lets a rebuild take the place of the live state.
func (c *rebuildSwapCommand) Run(r *run) error { return c.do(r, "swap") }

type rebuildCancelCommand struct{ oneRebuild }

// Run gives up a rebuild.
func (c *rebuildCancelCommand) Run(r *run) error { return c.do(r, "cancel") }

type rebuildFollowCommand struct{ oneRebuild }

// Run follows a rebuild.
func (c *rebuildFollowCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	return c.follow(r, server, c.ID)
}

type rebuildSwapBackCommand struct {
	rebuildSpace
	Note string `placeholder:"TEXT" help:"Why, for people."`
	Wait bool   `help:"Follow it to its end."`
}

// Run makes the former state live again.
func (c *rebuildSwapBackCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	one, err := c.call(r.ctx, server, "POST", c.path("swap-back"), map[string]any{"note": c.Note})
	if err != nil {
		return err
	}
	return c.started(r, server, one, c.Wait)
}

// follow shows a rebuild until it is live and destinations were told what has
// changed, or until it stands.
func (c *rebuildSpace) follow(r *run, server *client.Client, id uint32) error {
	left := fmt.Sprintf("the rebuild goes on in the server: follow it with kith rebuild follow %d%s", id, spaceFlag(c.Space))
	one, err := follow(r, following[*api.Rebuilding]{
		ask: func() (*api.Rebuilding, error) {
			return c.call(r.ctx, server, "GET", c.path(strconv.FormatUint(uint64(id), 10)), nil)
		},
		tell: func(one *api.Rebuilding) (string, bool) {
			telling := one.State == string(rebuild.Live) && (one.Reconciled == nil || one.Reconciled.State == "running")
			return rebuildText(one), telling || one.State == string(rebuild.Running)
		},
		left: left, gone: left,
	})
	switch {
	case err != nil:
		return err
	case one.State == string(rebuild.Failed):
		return fmt.Errorf("rebuild %d failed: %s\nTry again with: kith rebuild resume %d%s", id, one.Error, id, spaceFlag(c.Space))
	case r.json:
		return r.encode(one)
	case one.State == string(rebuild.Live):
		fmt.Fprintf(r.Stdout, "rebuild %d is live: %s records, %s; nothing was processed for %.1f ms at the swap\n", one.ID, grouped(one.Done), rulesText(one), one.PauseMs)
	default:
		fmt.Fprintf(r.Stdout, "rebuild %d is %s: %s\n", one.ID, one.State, rebuildText(one))
	}
	return nil
}
