package script

import (
	"encoding/json"
	"fmt"
	"time"
)

// MaxBytes is the largest script that is read.
const MaxBytes = 4 << 20

// Pos is a place in a script, counted from 1. Columns count characters.
type Pos struct{ Line, Column int }

// At returns the position itself; it makes every statement tell its own.
func (p Pos) At() Pos { return p }

// Error is a mistake in a script, or a statement that failed. Its text begins
// with "file:line:column: ".
type Error struct {
	File string
	Pos
	Message string
	Err     error // the cause; may be nil
}

// Error returns the place and the message.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Script is a script that has been read.
type Script struct {
	File       string
	Statements []Statement
}

// Statement is one of Workspace, Space, Source, Send, Advance, Answer, Order
// and Expect.
type Statement interface{ At() Pos }

// Workspace applies a workspace file.
type Workspace struct {
	Pos
	File string
}

// Space names the space that expectations look into.
type Space struct {
	Pos
	Slug string
}

// Source names the source of the event statements that follow.
type Source struct {
	Pos
	Slug string
}

// Send sends one call.
type Send struct {
	Pos
	Source string // empty: the current one
	Call   string // "track", "identify", …
	Body   json.RawMessage
	Ago    *time.Duration // unless nil, the timestamp is this far from now; negative is the past
}

// Advance moves the clock.
type Advance struct {
	Pos
	By time.Duration
}

// Answer sets what a destination answers with.
type Answer struct {
	Pos
	Destination string
	Status      int
}

// Order is what an operator orders of the current space's profiles.
type Order struct {
	Pos
	Verb string // "separate", "block", "delete", "leave", "erase" or "rebuild"
	Lift bool   // takes back what separate or block has ordered
	// IDs are the identifiers named: of separate the left side, of leave the
	// user and the account, of erase one or more, of rebuild none.
	IDs   []string
	Apart []string // of separate: the right side
	Rules string   // of rebuild: "recorded", "current", or empty
}

// Expect is something that must be true.
type Expect struct {
	Pos
	Not  bool
	What Condition
	Text string // as it stands in the script
}

// Condition is one of Traits, Identifiers, Same, Different, Linked, Events,
// Audience, Delivered, Blocked and Rejected.
type Condition interface{ condition() }

// Traits holds when there is a profile and it has at least these traits.
type Traits struct {
	ID   string
	Want []Field
}

// Identifiers holds when the first one's profile has exactly these.
type Identifiers struct{ IDs []string }

// Same holds when all identifiers belong to one profile.
type Same struct{ IDs []string }

// Different holds when no two identifiers belong to one profile.
type Different struct{ IDs []string }

// Linked holds when the person is part of the account.
type Linked struct{ ID, Account string }

// Events holds when a profile's history has such events.
type Events struct {
	ID   string
	Name string
	Matching
}

// Audience holds when the profile is, or is not, a member.
type Audience struct {
	Key string
	ID  string
	In  bool
}

// Delivered holds when a destination has received such events.
type Delivered struct {
	Destination string
	Matching
}

// Blocked holds when such events rest in a source's quarantine.
type Blocked struct {
	Source string
	Text   string
	Count  *int
}

// Rejected holds when such calls of a source were refused.
type Rejected struct {
	Source string
	Text   string
	Count  *int
}

func (Traits) condition()      {}
func (Identifiers) condition() {}
func (Same) condition()        {}
func (Different) condition()   {}
func (Linked) condition()      {}
func (Events) condition()      {}
func (Audience) condition()    {}
func (Delivered) condition()   {}
func (Blocked) condition()     {}
func (Rejected) condition()    {}

// Matching says which events, and how many: nil is at least one.
type Matching struct {
	Count *int
	Where []Field
}

// Field is a value at a path.
type Field struct {
	Path  []string
	Value json.RawMessage
}
