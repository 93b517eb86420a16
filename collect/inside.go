package collect

import (
	"context"

	"kith/fault"
	"kith/workspace"
)

// Refused is a call from inside that was not kept, and why.
type Refused struct {
	Index   int // in the calls that were handed over, from zero
	Code    string
	Message string
	Field   string // where in the call, as a path; may be empty
}

// TakeCalls takes calls that come from inside the server, such as the rows of
// an import, for a source of the workspace's present snapshot: they are judged,
// completed and made durable as those of a request are, and what is refused is
// also told as any rejection is. Each is a JSON object, valid and without
// repeated keys, with its type. Unlike calls from outside, one may come without
// a userId and an anonymousId: who sends it has seen to it that it names
// somebody in another way. With dryRun they are only judged; nothing is kept,
// told or counted.
//
// The calls that were not refused are durable on return. The error is
// fault.RetryAfter while too much waits to be written, fault.Unavailable when
// the Collector is closing, and fault.Conflict when the source is disabled;
// then nothing was kept, or it is not known whether.
func (c *Collector) TakeCalls(ctx context.Context, source *workspace.Source, calls []string, dryRun bool) ([]Refused, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !c.enter() {
		return nil, fault.New(fault.Unavailable, "the server is shutting down")
	}
	defer c.running.Done()
	if !source.Enabled {
		return nil, fault.New(fault.Conflict, "the source %s is disabled", source.Slug)
	}
	space := c.config.Workspace.Current().Space(source.SpaceID)
	if space == nil {
		return nil, fault.New(fault.NotFound, "the source %s feeds a space that does not exist", source.Slug)
	}
	held := &hold{c: c}
	defer held.release()
	in := c.intake()
	defer c.forget(in)
	in.route, in.from, in.now = route{inside: true}, source, c.config.Clock.Now()
	in.items = append(in.items, calls...)
	if !held.grow(in.size()) {
		return nil, &fault.Error{Kind: fault.RetryAfter, Message: "too much is being received"}
	}
	refused, err := in.judgeInside(dryRun)
	if err != nil || dryRun || len(in.records) == 0 {
		return refused, err
	}
	return refused, in.keep(space)
}

// judgeInside turns the calls into records and lists those that are not kept.
func (in *intake) judgeInside(quiet bool) (list []Refused, err error) {
	in.begin()
	for i, raw := range in.items {
		r, err := in.event(raw)
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		list = append(list, Refused{Index: i, Code: r.code, Message: r.message, Field: r.field})
		if !quiet {
			in.refuse(*r, raw)
		}
	}
	if !quiet {
		in.tellWarnings(false)
	}
	return list, nil
}
