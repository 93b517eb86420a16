package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/revision"
	"kith/workspace"
)

// reviseWait is how long a call waits until a command is carried out and what
// came before it is worked out again.
const reviseWait = 30 * time.Second

// Reviser orders what holds for all time, and says what became of it;
// revision.Reviser, with Order and Passed of the server.
type Reviser interface {
	// Order makes a command part of a space's sequence; Passed waits until it
	// is in force.
	Order(ctx context.Context, space uint32, c *event.Command) (commitlog.Offset, error)
	Passed(ctx context.Context, space uint32, at commitlog.Offset) error
	// Revised waits until what came before a command is worked out again.
	Revised(ctx context.Context, space uint32, command commitlog.Offset) (revision.State, error)
	// Try says what would come of a command.
	Try(ctx context.Context, space uint32, c *event.Command) (*revision.Plan, error)
	// Commands lists the standing commands.
	Commands(ctx context.Context, space uint32) ([]revision.Command, error)
	// Owners are the profiles that have the identifiers of a command now.
	Owners(ctx context.Context, space uint32, c *event.Command) ([]revision.Part, error)
	// Parting makes the command that splits identifiers out of a profile.
	Parting(ctx context.Context, space uint32, profile event.ProfileID, out []event.Identifier) (*event.Separate, error)
	// Unmerging makes the command that reverses a merge.
	Unmerging(ctx context.Context, space uint32, child event.ProfileID) (*event.Separate, error)
}

func (a *API) reviseRoutes() {
	a.leaveRoutes()
	const undo = " What lies before is worked out again from the events: profiles, traits, audiences; destinations are told the difference once. " +
		"With wait=true the answer comes when that is done, within 30 seconds; with dryRun=true nothing is ordered and the answer says what would come of it."
	handle(a, http.MethodPost, "/spaces/{spaceId}/identity/separate", "separateIdentifiers", tagIdentity, a.separate,
		about("Kith's own: two groups of identifiers are never one profile again: an un-merge. Name left and right; or a profile and the identifiers to split out "+
			"of it; or, as merge, a profile that was merged away and is to be its own again."+undo), maxBytes(8<<20))
	handle(a, http.MethodPost, "/spaces/{spaceId}/identity/block", "blockIdentifier", tagIdentity, a.block,
		about("Kith's own: a value identifies nobody, from the first event on."+undo))
	handle(a, http.MethodPost, "/spaces/{spaceId}/identity/lift", "liftCommand", tagIdentity, a.lift,
		about("Kith's own: takes back a separate or a block, by its offset."+undo))
	handle(a, http.MethodGet, "/spaces/{spaceId}/identity/commands", "listIdentityCommands", tagIdentity, a.identityCommands,
		about("Kith's own: the separations, blocks and liftings that hold for all time, the newest first: who ordered them, when, why, and whether what came before "+
			"them is worked out again."))
}

// OrderPath is the path and query of every order.
type OrderPath struct {
	SpacePath
	Wait   bool `query:"wait" doc:"Answer when it is done, within 30 seconds"`
	DryRun bool `query:"dryRun" doc:"Order nothing; say what would come of it"`
}

// OrderReason is who orders something and why.
type OrderReason struct {
	By   string `json:"by,omitempty" maxLength:"200" doc:"Who orders it; admin when missing"`
	Note string `json:"note,omitempty" maxLength:"2000" doc:"Why, for people"`
}

// OrderedID is an identifier as orders and answers name it.
type OrderedID struct {
	Collection string `json:"collection,omitempty" enum:"users,accounts" doc:"users when missing, accounts for a type of accounts"`
	Type       string `json:"type" maxLength:"100"`
	ID         string `json:"id" maxLength:"500"`
}

func (x *OrderedID) external(space *workspace.Space) event.ExternalID {
	id := event.ExternalID{Collection: x.Collection, Type: x.Type, ID: x.ID}
	if id.Collection == "" {
		id.Collection = identity.CollectionOf(space, x.Type)
	}
	return id
}

type separateInput struct {
	OrderPath
	Body struct {
		Left        []OrderedID `json:"left,omitempty" doc:"With right: no identifier of the one is ever on a profile with one of the other"`
		Right       []OrderedID `json:"right,omitempty"`
		Profile     string      `json:"profile,omitempty" maxLength:"700" doc:"A profile's id, use_…, or an identifier of it, as email:jo@example.com"`
		Identifiers []OrderedID `json:"identifiers,omitempty" doc:"With profile: split these out of it"`
		Merge       string      `json:"merge,omitempty" maxLength:"40" doc:"The id of a profile that was merged away: reverse that merge"`
		OrderReason
	}
}

type blockInput struct {
	OrderPath
	Body struct {
		OrderedID
		OrderReason
	}
}

type liftInput struct {
	OrderPath
	Body struct {
		Offset uint64 `json:"offset" doc:"Of the command, as the list of commands has it"`
		OrderReason
	}
}

// standingBody is a standing command as the API shows it.
type standingBody struct {
	Offset   uint64      `json:"offset" doc:"Its place in the space's log, by which it is lifted"`
	Kind     string      `json:"kind" enum:"separate,block,lift"`
	At       string      `json:"at,omitempty" doc:"When it was ordered"`
	By       string      `json:"by,omitempty"`
	Note     string      `json:"note,omitempty"`
	Left     []OrderedID `json:"left,omitempty"`
	Right    []OrderedID `json:"right,omitempty"`
	Blocked  *OrderedID  `json:"blocked,omitempty"`
	Lifts    *uint64     `json:"lifts,omitempty" doc:"The offset of the command that it takes back"`
	LiftedBy *uint64     `json:"liftedBy,omitempty" doc:"The offset of the command that took it back"`
	State    string      `json:"state" enum:"pending,announcing,done,needs-rebuild" doc:"Whether what came before it is worked out again; it is in force in any case"`
	Reason   string      `json:"reason,omitempty" doc:"Why it needs a rebuild"`

	Events    int `json:"events" doc:"Events that were worked out again"`
	Before    int `json:"profilesBefore" doc:"Profiles that it concerned"`
	After     int `json:"profilesAfter" doc:"Profiles that came of them"`
	Changed   int `json:"profilesChanged" doc:"Of those, the ones that are others than before"`
	Announced int `json:"announced" doc:"Messages to destinations"`

	StayedWith []string `json:"stayedWith,omitempty" doc:"The profiles with which traits, counts and events of before Horizon remained: it is not known any more what of them was whose"`
	Horizon    string   `json:"horizon,omitempty" doc:"The instant before which events have been trimmed"`
}

// revisedProfile is a profile that came of a command, or would.
type revisedProfile struct {
	ID          string      `json:"id"`
	Collection  string      `json:"collection" enum:"users,accounts"`
	Identifiers []OrderedID `json:"identifiers" doc:"At most 100 of them"`
	Count       int         `json:"identifierCount"`
	Events      int         `json:"events"`
	Audiences   []string    `json:"audiences" doc:"The keys of those that it is a member of"`
	PartOf      string      `json:"partOf,omitempty" doc:"Of a dry run: the profile that it is part of now"`
	Changed     *bool       `json:"changed,omitempty" doc:"Of a dry run: whether it would be another than now"`
	Joined      []string    `json:"joined,omitempty" doc:"Of a dry run: audiences that it would enter"`
	Left        []string    `json:"left,omitempty" doc:"Of a dry run: audiences that it would leave"`
}

// revised is the answer to an order.
type revised struct {
	Ordered  bool             `json:"ordered" doc:"false for a dry run"`
	Command  standingBody     `json:"command"`
	Profiles []revisedProfile `json:"profiles" doc:"Who has the command's identifiers when it is done; of a dry run, what would come of all profiles that it concerns. At most 100"`
	Nobodys  []OrderedID      `json:"nobodys,omitempty" doc:"Of a dry run: identifiers that nobody would have any more"`
	Message  string           `json:"message" doc:"In plain words"`
}

func (a *API) separate(ctx context.Context, in *separateInput) (*revised, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	s, err := a.separation(ctx, space, in)
	if err != nil {
		return nil, err
	}
	return a.order(ctx, space, &in.OrderPath, &in.Body.OrderReason, &event.Command{Separate: s})
}

// separation reads which of the three ways to name the two sides was taken.
func (a *API) separation(ctx context.Context, space *workspace.Space, in *separateInput) (*event.Separate, error) {
	b := &in.Body
	ways := 0
	for _, taken := range []bool{len(b.Left)+len(b.Right) > 0, b.Profile != "" || len(b.Identifiers) > 0, b.Merge != ""} {
		if taken {
			ways++
		}
	}
	if ways != 1 {
		return nil, fault.New(fault.Invalid, "name left and right, or a profile and identifiers, or a merge: one of the three")
	}
	switch {
	case b.Merge != "":
		child, err := event.ParseProfileID(b.Merge)
		if err != nil {
			return nil, fault.Field("merge", "%v", err)
		}
		return a.cfg.Reviser.Unmerging(ctx, space.Number, child)
	case b.Profile != "":
		if len(b.Identifiers) == 0 {
			return nil, fault.Field("identifiers", "name the identifiers to split out of the profile")
		}
		id, err := a.profileOf(ctx, space, b.Profile)
		if err != nil {
			return nil, err
		}
		out := each(b.Identifiers, func(x *OrderedID) event.Identifier { return x.external(space).Identifier() })
		return a.cfg.Reviser.Parting(ctx, space.Number, id, out)
	case len(b.Identifiers) > 0:
		return nil, fault.Field("profile", "name the profile that the identifiers are to be split out of")
	}
	external := func(x *OrderedID) event.ExternalID { return x.external(space) }
	return &event.Separate{Left: each(b.Left, external), Right: each(b.Right, external)}, nil
}

// profileOf reads a profile's id, or an identifier that leads to it.
func (a *API) profileOf(ctx context.Context, space *workspace.Space, text string) (event.ProfileID, error) {
	if strings.HasPrefix(text, "use_") {
		id, err := event.ParseProfileID(text)
		if err != nil {
			err = fault.Field("profile", "%v", err)
		}
		return id, err
	}
	id, err := identifierOf(space, "profile", text, true)
	if err != nil {
		return event.ProfileID{}, err
	}
	x := event.ExternalIDOf(id)
	owners, err := a.cfg.Reviser.Owners(ctx, space.Number, &event.Command{Block: &x})
	if err != nil {
		return event.ProfileID{}, err
	}
	if len(owners) == 0 {
		return event.ProfileID{}, fault.New(fault.NotFound, "no profile has %s", text)
	}
	return owners[0].ID, nil
}

func (a *API) block(ctx context.Context, in *blockInput) (*revised, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	id := in.Body.external(space)
	return a.order(ctx, space, &in.OrderPath, &in.Body.OrderReason, &event.Command{Block: &id})
}

func (a *API) lift(ctx context.Context, in *liftInput) (*revised, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Reviser.Commands(ctx, space.Number)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if c := &list[i]; uint64(c.Offset) == in.Body.Offset && c.Command.Lift == nil {
			if c.Lifted != 0 {
				return nil, fault.New(fault.Conflict, "the command at %d was lifted already, by the one at %d", in.Body.Offset, c.Lifted)
			}
			return a.order(ctx, space, &in.OrderPath, &in.Body.OrderReason, &event.Command{Lift: &event.Lift{Offset: in.Body.Offset}})
		}
	}
	return nil, fault.New(fault.NotFound, "there is no separate or block at %d: list the commands of the space for their offsets", in.Body.Offset)
}

// order orders a command, or says what would come of it.
func (a *API) order(ctx context.Context, space *workspace.Space, in *OrderPath, why *OrderReason, c *event.Command) (*revised, error) {
	c.By, c.Note = cmp.Or(why.By, "admin"), why.Note
	if err := c.Check(); err != nil {
		return nil, err
	}
	if in.DryRun {
		return a.try(ctx, space, c)
	}
	at, err := a.cfg.Reviser.Order(ctx, space.Number, c)
	if err != nil {
		return nil, err
	}
	out := &revised{Ordered: true, Profiles: []revisedProfile{}}
	standing := identity.Standing{Offset: at, At: a.cfg.Clock.Now().UnixMilli(), Command: c}
	out.Command = standingOf(&revision.Command{Standing: standing, State: revision.State{Phase: revision.Pending}})
	out.Message = "It is in force for what comes from now on; what came before is being worked out again."
	if !in.Wait {
		return out, nil
	}
	waiting, cancel := context.WithTimeout(ctx, reviseWait)
	defer cancel()
	state, err := a.await(waiting, space.Number, at)
	if err != nil {
		if waiting.Err() != nil && ctx.Err() == nil {
			out.Message += " It is not done after 30 seconds; the list of commands says when it is."
			return out, nil
		}
		return nil, err
	}
	out.Command = standingOf(&revision.Command{Standing: standing, State: state})
	if state.Phase == revision.NeedsRebuild {
		out.Message = "It is in force for what comes from now on. What came before is too much to be worked out beside what comes in: rebuild the space."
		return out, nil
	}
	out.Message = "Done."
	owners, err := a.cfg.Reviser.Owners(ctx, space.Number, c)
	out.Profiles = each(owners, func(p *revision.Part) revisedProfile { return revisedOf(p) })
	return out, err
}

// await waits until a command is in force and what came before it is done.
func (a *API) await(ctx context.Context, space uint32, at commitlog.Offset) (revision.State, error) {
	if err := a.cfg.Reviser.Passed(ctx, space, at); err != nil {
		return revision.State{}, err
	}
	return a.cfg.Reviser.Revised(ctx, space, at)
}

func (a *API) try(ctx context.Context, space *workspace.Space, c *event.Command) (*revised, error) {
	trying, cancel := context.WithTimeout(ctx, reviseWait)
	defer cancel()
	plan, err := a.cfg.Reviser.Try(trying, space.Number, c)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fault.New(fault.Unavailable, "it was not worked out within 30 seconds")
		}
		return nil, err
	}
	state := revision.State{Phase: revision.Pending, Events: plan.Events, Before: plan.Before, After: plan.After, Changed: plan.Changed, Reason: plan.NeedsRebuild, Stayed: plan.Stayed, Horizon: plan.Horizon}
	out := &revised{Message: "Nothing was ordered. This is what would come of it."}
	if plan.NeedsRebuild != "" {
		state.Phase = revision.NeedsRebuild
		out.Message = "Nothing was ordered. It would hold from its place on; for what came before, the space would have to be rebuilt."
	}
	out.Command = standingOf(&revision.Command{Standing: identity.Standing{Command: c}, State: state})
	out.Command.At = ""
	out.Profiles = each(plan.Parts, func(p *revision.Part) revisedProfile {
		r := revisedOf(p)
		r.Changed, r.Joined, r.Left = &p.Changed, p.Joined, p.Left
		if !p.Of.IsZero() {
			r.PartOf = p.Of.String()
		}
		return r
	})
	out.Nobodys = each(plan.Nobodys, func(id *event.Identifier) OrderedID { return orderedOf(event.ExternalIDOf(*id)) })
	return out, nil
}

type identityCommandsInput struct {
	SpacePath
	Limit int `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"How many, the newest first"`
}

type identityCommandsAnswer struct {
	Commands []standingBody `json:"commands"`
	Total    int            `json:"total" doc:"How many there are in all"`
}

func (a *API) identityCommands(ctx context.Context, in *identityCommandsInput) (*identityCommandsAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Reviser.Commands(ctx, space.Number)
	if err != nil {
		return nil, err
	}
	out := &identityCommandsAnswer{Commands: []standingBody{}, Total: len(list)}
	for i := len(list) - 1; i >= 0 && len(out.Commands) < in.Limit; i-- {
		out.Commands = append(out.Commands, standingOf(&list[i]))
	}
	return out, nil
}

func standingOf(c *revision.Command) standingBody {
	b := standingBody{
		Offset: uint64(c.Offset), Kind: c.Command.Name(), By: c.Command.By, Note: c.Command.Note, At: when(time.UnixMilli(c.At).UTC()),
		State: string(c.State.Phase), Reason: c.State.Reason, Events: c.State.Events, Before: c.State.Before, After: c.State.After,
		Changed: c.State.Changed, Announced: c.State.Announced,
	}
	for _, id := range c.State.Stayed {
		b.StayedWith = append(b.StayedWith, id.String())
	}
	if len(c.State.Stayed) > 0 {
		b.Horizon = when(time.UnixMilli(c.State.Horizon).UTC())
	}
	ordered := func(x *event.ExternalID) OrderedID { return orderedOf(*x) }
	switch {
	case c.Command.Separate != nil:
		b.Left, b.Right = each(c.Command.Separate.Left, ordered), each(c.Command.Separate.Right, ordered)
	case c.Command.Block != nil:
		b.Blocked = ptr(ordered(c.Command.Block))
	case c.Command.Lift != nil:
		b.Lifts = &c.Command.Lift.Offset
	}
	if c.Lifted != 0 {
		b.LiftedBy = ptr(uint64(c.Lifted))
	}
	return b
}

func orderedOf(x event.ExternalID) OrderedID {
	return OrderedID{Collection: x.Identifier().Collection, Type: x.Type, ID: x.ID}
}

func revisedOf(p *revision.Part) revisedProfile {
	r := revisedProfile{ID: p.ID.String(), Collection: p.Collection, Count: p.Count, Events: p.Events, Audiences: p.Audiences}
	if r.Audiences == nil {
		r.Audiences = []string{}
	}
	r.Identifiers = each(p.Identifiers, func(id *event.Identifier) OrderedID { return orderedOf(event.ExternalIDOf(*id)) })
	return r
}
