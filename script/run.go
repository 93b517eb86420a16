package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidwall/sjson"

	"kith/clock"
)

// Target is what a script runs against. A method that fails ends the script.
type Target interface {
	// Apply makes the workspace in the file's text the current one.
	Apply(ctx context.Context, workspace []byte) error
	// Send sends one call of a source, by its slug.
	Send(ctx context.Context, source, call string, body json.RawMessage) error
	// Advance moves the clock and returns the instant it then shows, once all
	// that was sent, and every timer and retry due by then, has run. Zero only
	// waits.
	Advance(ctx context.Context, by time.Duration) (time.Time, error)
	// Answer sets the status with which a destination answers from here on.
	Answer(ctx context.Context, destination string, status int) error
	// Order gives an order in a space and returns once all that comes of it is
	// done.
	Order(ctx context.Context, space string, o *Order) error

	// Profile returns the profile that an identifier belongs to, or nil.
	Profile(ctx context.Context, space, id string) (*Profile, error)
	// Linked returns the identifiers of the accounts that a person is part of;
	// none when there is no such person.
	Linked(ctx context.Context, space, id string) ([]string, error)
	// Events returns the events of that name in a profile's history, as the
	// Profile API shows them; none when there is no such profile.
	Events(ctx context.Context, space, id, name string) ([]json.RawMessage, error)
	// Delivered returns the events that a destination has received, in order.
	Delivered(ctx context.Context, destination string) ([]json.RawMessage, error)
	// Blocked returns the reasons of the events in a source's quarantine.
	Blocked(ctx context.Context, source string) ([]string, error)
	// Rejected returns the reasons for which calls of a source were refused.
	Rejected(ctx context.Context, source string) ([]string, error)
}

// Profile is what a script sees of a person.
type Profile struct {
	Identifiers []string // "type:value"
	Traits      map[string]json.RawMessage
}

// Options are how a script is run.
type Options struct {
	// Open reads a file that the script names, such as a workspace file.
	Open func(name string) ([]byte, error)
	// Patience is how long, by Clock, an expectation that does not hold yet is
	// looked at again. Zero looks once and needs no clock.
	Patience time.Duration
	Clock    clock.Clock
}

// Result is what came of a script.
type Result struct {
	Held   int // expectations that held
	Failed []*Error
}

// DefaultSpace is the space that expectations look into until a script names
// another.
const DefaultSpace = "default"

// again is how long a look at an expectation is after the one before.
const again = 25 * time.Millisecond

// Run leads a script against a target. Expectations that do not hold are in the
// result; the error is an *Error, of the statement that could not be run.
func (s *Script) Run(ctx context.Context, t Target, o Options) (Result, error) {
	r := &run{script: s, target: t, options: o, space: DefaultSpace}
	for _, statement := range s.Statements {
		if err := r.do(ctx, statement); err != nil {
			return r.result, &Error{File: s.File, Pos: statement.At(), Message: nameOf(statement), Err: err}
		}
	}
	return r.result, nil
}

type run struct {
	script  *Script
	target  Target
	options Options

	space   string
	source  string
	settled bool // nothing has happened since the target was last waited for
	result  Result
}

func nameOf(s Statement) string {
	switch s := s.(type) {
	case *Workspace:
		return "workspace"
	case *Send:
		return "send"
	case *Advance:
		return "advance"
	case *Answer:
		return "answer"
	case *Order:
		return s.String()
	}
	return "expect"
}

func (r *run) do(ctx context.Context, s Statement) error {
	switch s := s.(type) {
	case *Space:
		r.space = s.Slug
		return nil
	case *Source:
		r.source = s.Slug
		return nil
	case *Workspace:
		r.settled = false
		if r.options.Open == nil {
			return errors.New("no files can be read here")
		}
		text, err := r.options.Open(s.File)
		if err != nil {
			return err
		}
		return r.target.Apply(ctx, text)
	case *Send:
		return r.send(ctx, s)
	case *Advance:
		r.settled = true
		_, err := r.target.Advance(ctx, s.By)
		return err
	case *Answer:
		return r.target.Answer(ctx, s.Destination, s.Status)
	case *Order:
		if _, err := r.target.Advance(ctx, 0); err != nil {
			return err
		}
		r.settled = false
		return r.target.Order(ctx, r.space, s)
	case *Expect:
		return r.expect(ctx, s)
	}
	return fmt.Errorf("a statement of type %T is unknown", s)
}

func (r *run) send(ctx context.Context, s *Send) error {
	source, body := s.Source, s.Body
	if source == "" {
		source = r.source
	}
	if s.Ago != nil {
		now, err := r.target.Advance(ctx, 0)
		if err != nil {
			return err
		}
		at := now.Add(*s.Ago).UTC().Format("2006-01-02T15:04:05.000Z")
		if body, err = sjson.SetBytes(body, "timestamp", at); err != nil {
			return err
		}
	}
	r.settled = false
	return r.target.Send(ctx, source, s.Call, body)
}

// expect looks at an expectation until it holds or patience ends.
func (r *run) expect(ctx context.Context, e *Expect) error {
	if !r.settled {
		if _, err := r.target.Advance(ctx, 0); err != nil {
			return err
		}
		r.settled = true
	}
	var deadline time.Time
	if r.options.Patience > 0 {
		deadline = r.options.Clock.Now().Add(r.options.Patience)
	}
	for {
		why, err := r.check(ctx, e.What)
		if err != nil {
			return err
		}
		if e.Not {
			if why == "" {
				why = "it does"
			} else {
				why = ""
			}
		}
		if why == "" {
			r.result.Held++
			return nil
		}
		if deadline.IsZero() || !r.options.Clock.Now().Before(deadline) {
			r.result.Failed = append(r.result.Failed, &Error{File: r.script.File, Pos: e.Pos, Message: e.Text + "\n\t" + why})
			return nil
		}
		next, give := r.options.Clock.Until(r.options.Clock.Now().Add(again))
		select {
		case <-next:
		case <-ctx.Done():
			give()
			return ctx.Err()
		}
	}
}
