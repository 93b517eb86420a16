package event

import (
	"bytes"
	"encoding/json"
	"slices"

	"kith/fault"
)

// Bounds on one command.
const (
	// MaxCommandIdentifiers is how many identifiers a command may name in all.
	MaxCommandIdentifiers = 20_000
	// MaxCommandNote is the longest note, in bytes.
	MaxCommandNote = 2000
)

// Command is an order that changes what is derived from a space's sequence. It
// is a record of that sequence (KindCommand), so it holds after a replay and a
// rebuild as it does live; its body is the Command's JSON. Exactly one of its
// orders is set.
//
// Separate, Block and Lift hold for all time: also for what came before them,
// which is worked out again. DeleteIdentifier and Leave hold from their place
// in the sequence on. Erase holds for everything before it.
type Command struct {
	Separate         *Separate         `json:"separate,omitempty"`
	Block            *ExternalID       `json:"block,omitempty"` // this value identifies nobody
	Lift             *Lift             `json:"lift,omitempty"`
	DeleteIdentifier *DeleteIdentifier `json:"deleteIdentifier,omitempty"`
	Leave            *Leave            `json:"leave,omitempty"`
	Erase            *Erase            `json:"erase,omitempty"`

	By   string `json:"by,omitempty"`   // who ordered it: the name of a token
	Note string `json:"note,omitempty"` // why, for people
}

// ExternalID is an identifier as commands and the Profile API write it.
type ExternalID struct {
	Collection string `json:"collection,omitempty"` // Users when empty
	Type       string `json:"type"`
	ID         string `json:"id"`
}

// Identifier returns the identifier that is named.
func (x ExternalID) Identifier() Identifier {
	id := Identifier{Collection: x.Collection, Type: x.Type, Value: x.ID}
	if id.Collection == "" {
		id.Collection = Users
	}
	return id
}

// ExternalIDOf returns an identifier as commands write it.
func ExternalIDOf(id Identifier) ExternalID {
	return ExternalID{Collection: id.Collection, Type: id.Type, ID: id.Value}
}

// Separate says that no profile may hold an identifier of Left together with
// one of Right, now, later and before. All are of one collection.
type Separate struct {
	Left  []ExternalID `json:"left"`
	Right []ExternalID `json:"right"`
}

// Lift takes back a Separate or a Block: the one at that offset of the raw log.
// From then on it is as if that had never been ordered.
type Lift struct {
	Offset uint64 `json:"offset"`
}

// DeleteIdentifier takes an identifier away from the profile that has it then
// (sheet unify_engage_privacy §1.6). The profile keeps its traits, events and
// merges. A later event with the identifier brings it back.
type DeleteIdentifier struct {
	Identifier ExternalID `json:"identifier"`
}

// Leave ends the membership of a user in an account.
type Leave struct {
	User    ExternalID `json:"user"`
	Account ExternalID `json:"account"`
}

// Erase forgets persons or accounts: all that is derived from their events,
// and the events themselves.
type Erase struct {
	Profiles    []string     `json:"profiles,omitempty"` // "use_…", as they were when it was ordered
	Identifiers []ExternalID `json:"identifiers,omitempty"`
	// Receipt stands for the two once the erasure is complete: a keyed hash.
	Receipt string `json:"receipt,omitempty"`
}

// Standing reports whether the command holds for all time.
func (c *Command) Standing() bool { return c.Separate != nil || c.Block != nil || c.Lift != nil }

// Without returns the command without the identifiers that gone names, or nil
// when it orders nothing any more without them. The command itself stays as it
// is. Erase is not asked.
func (c *Command) Without(gone func(Identifier) bool) *Command {
	names := func(x ExternalID) bool { return gone(x.Identifier()) }
	out := *c
	switch {
	case c.Separate != nil:
		left := slices.DeleteFunc(slices.Clone(c.Separate.Left), names)
		right := slices.DeleteFunc(slices.Clone(c.Separate.Right), names)
		if len(left) == 0 || len(right) == 0 {
			return nil
		}
		out.Separate = &Separate{Left: left, Right: right}
	case c.Block != nil && names(*c.Block),
		c.DeleteIdentifier != nil && names(c.DeleteIdentifier.Identifier),
		c.Leave != nil && (names(c.Leave.User) || names(c.Leave.Account)):
		return nil
	}
	return &out
}

// Name returns which order it is, as its JSON says it.
func (c *Command) Name() string {
	switch {
	case c.Separate != nil:
		return "separate"
	case c.Block != nil:
		return "block"
	case c.Lift != nil:
		return "lift"
	case c.DeleteIdentifier != nil:
		return "deleteIdentifier"
	case c.Leave != nil:
		return "leave"
	case c.Erase != nil:
		return "erase"
	}
	return ""
}

// Encode returns the body of the command's record.
func (c *Command) Encode() ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return nil, fault.New(fault.Internal, "encode command: %w", err)
	}
	return body, nil
}

// ParseCommand reads the body of a command's record.
func ParseCommand(body []byte) (*Command, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	c := &Command{}
	if err := d.Decode(c); err != nil {
		return nil, fault.New(fault.Invalid, "command: %w", err)
	}
	return c, c.Check()
}

// Check reports what is wrong with a command as fault.Invalid.
func (c *Command) Check() error {
	orders := 0
	for _, set := range []bool{c.Separate != nil, c.Block != nil, c.Lift != nil, c.DeleteIdentifier != nil, c.Leave != nil, c.Erase != nil} {
		if set {
			orders++
		}
	}
	if orders != 1 {
		return fault.New(fault.Invalid, "a command has exactly one of separate, block, lift, deleteIdentifier, leave and erase; this one has %d", orders)
	}
	if len(c.Note) > MaxCommandNote {
		return fault.Field("note", "%d bytes; at most %d are kept", len(c.Note), MaxCommandNote)
	}
	switch {
	case c.Separate != nil:
		return c.Separate.check()
	case c.Block != nil:
		return checkIDs("block", *c.Block)
	case c.DeleteIdentifier != nil:
		return checkIDs("deleteIdentifier.identifier", c.DeleteIdentifier.Identifier)
	case c.Leave != nil:
		if err := checkIDs("leave.user", c.Leave.User); err != nil {
			return err
		}
		if c.Leave.User.Identifier().Collection != Users || c.Leave.Account.Collection != Accounts {
			return fault.Field("leave", "want a user and an account: account.collection is \"accounts\"")
		}
		return checkIDs("leave.account", c.Leave.Account)
	case c.Erase != nil:
		return c.Erase.check()
	}
	return nil
}

func (s *Separate) check() error {
	if len(s.Left) == 0 || len(s.Right) == 0 {
		return fault.Field("separate", "want at least one identifier on each side, left and right")
	}
	if len(s.Left)+len(s.Right) > MaxCommandIdentifiers {
		return fault.Field("separate", "%d identifiers; at most %d", len(s.Left)+len(s.Right), MaxCommandIdentifiers)
	}
	if err := checkIDs("separate.left", s.Left...); err != nil {
		return err
	}
	if err := checkIDs("separate.right", s.Right...); err != nil {
		return err
	}
	left := make(map[Identifier]bool, len(s.Left))
	collection := s.Left[0].Identifier().Collection
	for _, x := range s.Left {
		left[x.Identifier()] = true
	}
	for _, x := range slices.Concat(s.Left, s.Right) {
		if x.Identifier().Collection != collection {
			return fault.Field("separate", "all identifiers must be of one collection, users or accounts")
		}
	}
	for _, x := range s.Right {
		if left[x.Identifier()] {
			return fault.Field("separate", "an identifier of type %s stands on both sides", x.Type)
		}
	}
	return nil
}

func (e *Erase) check() error {
	if e.Receipt != "" {
		return nil
	}
	if len(e.Profiles)+len(e.Identifiers) == 0 {
		return fault.Field("erase", "name at least one profile or identifier")
	}
	if len(e.Profiles)+len(e.Identifiers) > MaxCommandIdentifiers {
		return fault.Field("erase", "%d profiles and identifiers; at most %d at once", len(e.Profiles)+len(e.Identifiers), MaxCommandIdentifiers)
	}
	for _, p := range e.Profiles {
		if _, err := ParseProfileID(p); err != nil {
			return fault.Field("erase.profiles", "%v", err)
		}
	}
	return checkIDs("erase.identifiers", e.Identifiers...)
}

func checkIDs(field string, ids ...ExternalID) error {
	for _, x := range ids {
		switch {
		case x.Type == "" || x.ID == "":
			return fault.Field(field, "an identifier needs a type and an id")
		case x.Collection != "" && x.Collection != Users && x.Collection != Accounts:
			return fault.Field(field, "%q is not a collection: want users or accounts", x.Collection)
		case len(x.ID) > MaxIdentifierBytes:
			return fault.Field(field, "an id of %d bytes is longer than any identifier (%d)", len(x.ID), MaxIdentifierBytes)
		}
	}
	return nil
}
