package identity

import (
	"context"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/workspace"
)

// How much one explanation looks at. What is beyond is left out, and said so.
const (
	maxExplainedProfiles    = 1_000 // that were merged into one
	maxExplainedIdentifiers = 2_000
	maxExplainedRefusals    = 500 // events
	maxReadEvents           = 2_000
	maxReadCommands         = 2_000
)

// Past is the events and commands behind the graph; archive.Archive has them.
type Past interface {
	// Passed returns a record with its profile at that epoch.
	Passed(ctx context.Context, space, epoch uint32, at commitlog.Offset) (archive.Passed, error)
	// Raw returns a record as it lies in the log.
	Raw(ctx context.Context, space uint32, at commitlog.Offset) (event.Record, error)
	// Landmarks returns where configurations and commands are, in order.
	Landmarks(ctx context.Context, space uint32, before commitlog.Offset) ([]archive.Landmark, error)
	// History calls fn with the events of profiles until it returns false.
	History(ctx context.Context, space, epoch uint32, family []event.ProfileID, w archive.Window, fn func(archive.Entry) (bool, error)) error
}

// Snapshots gives the configurations that were in force; workspace.Store does.
type Snapshots interface {
	// At returns a snapshot, or fault.NotFound.
	At(r kv.Reader, n uint64) (*workspace.Snapshot, error)
}

// Explainer says why profiles are what they are: which message attached each
// identifier, which merges there were and by which rules, what was refused and
// why, and why two identifiers are or are not one person. It reads the graph
// and, where that is not enough, the events themselves. It is safe for
// concurrent use.
type Explainer struct {
	db        kv.DB
	past      Past
	snapshots Snapshots
}

// NewExplainer returns an explainer over a store and the past behind it.
func NewExplainer(db kv.DB, past Past, snapshots Snapshots) *Explainer {
	return &Explainer{db, past, snapshots}
}

// Question is what is to be explained.
type Question struct {
	Space *workspace.Space
	Epoch uint32
	// ID is an identifier, or has only a Value that is a profile's id.
	ID event.Identifier
	// With is another identifier: why are the two one person, or not? Nil: the
	// profile of ID is explained alone.
	With *event.Identifier
	// SourceName, if given, returns what people call a source.
	SourceName func(id string) string
}

// Explanation is a profile explained, as data and in words.
type Explanation struct {
	Asked      *event.ExternalID `json:"asked,omitempty" doc:"The identifier that was asked for"`
	ProfileID  string            `json:"profileId,omitempty" doc:"The profile that has it; missing when it is nobody's"`
	Collection string            `json:"collection" enum:"users,accounts"`
	// With is why two identifiers are one person or not, when that was asked.
	With        *Connection           `json:"with,omitempty" doc:"Why the two identifiers are one person, or not"`
	Sentences   []string              `json:"sentences" doc:"The explanation in words, in the order of time"`
	Created     *Sighting             `json:"created,omitempty"`
	Identifiers []ExplainedIdentifier `json:"identifiers"`
	Removed     []ExplainedIdentifier `json:"removed" doc:"Identifiers that were taken from it, or from what was merged into it"`
	Merges      []ExplainedMerge      `json:"merges"`
	Refusals    []ExplainedRefusals   `json:"refusals" doc:"What protection kept from its events, and its identifiers from the events of others"`
	Commands    []ExplainedCommand    `json:"commands" doc:"Separations and blocks that concern it, and deletions"`
	Accounts    []ExplainedLink       `json:"accounts" doc:"The accounts of a user, or the users of an account"`
	Rules       []ExplainedRules      `json:"rules" doc:"The rules that are spoken of, by the number of the configuration"`
	Graph       Graph                 `json:"graph" doc:"The same as nodes and edges, ready to be drawn"`
	Notes       []string              `json:"notes" doc:"What was left out, and why"`
}

// Sighting is a message, or a command, that brought something about.
type Sighting struct {
	Offset     uint64 `json:"offset" doc:"Its place in the space's raw log"`
	ReceivedAt string `json:"receivedAt,omitempty"`
	Timestamp  string `json:"timestamp,omitempty" doc:"The event's own time, corrected"`
	MessageID  string `json:"messageId,omitempty"`
	RecordID   string `json:"recordId,omitempty"`
	SourceID   string `json:"sourceId,omitempty"`
	Type       string `json:"type,omitempty" doc:"track, identify, …"`
	Event      string `json:"event,omitempty" doc:"A track call's event"`
	Command    string `json:"command,omitempty" doc:"Of a command: which"`
	Gone       bool   `json:"gone,omitempty" doc:"It is not kept any more, or was erased"`
	Trimmed    bool   `json:"trimmed,omitempty" doc:"It is older than the space's retention: only its head is kept"`
}

// ExplainedIdentifier is an identifier and the message that attached it.
type ExplainedIdentifier struct {
	event.ExternalID
	ProfileID string   `json:"profileId" doc:"The profile it was attached to first: this one, or one that was merged into it"`
	Attached  Sighting `json:"attached"`
	OwnerID   string   `json:"ownerId,omitempty" doc:"Of a removed one: who has it now, if anybody"`
	RemovedAt string   `json:"removedAt,omitempty"`
	Removed   uint64   `json:"removed,omitempty" doc:"The offset of the command that took it away"`
	Lapsed    bool     `json:"lapsed,omitempty" doc:"Of a removed one: its type is valid for a time, and after that a message gave it to another"`
}

// ExplainedMerge is two profiles becoming one.
type ExplainedMerge struct {
	From        string             `json:"from" doc:"The profile that was merged away"`
	Into        string             `json:"into" doc:"The one that was created first, which it became part of"`
	Because     Sighting           `json:"because"`
	Via         []event.ExternalID `json:"via" doc:"The identifiers that the message used"`
	Snapshot    uint64             `json:"snapshot" doc:"The configuration whose rules allowed it"`
	Created     Sighting           `json:"created" doc:"What had created the profile that was merged away"`
	Identifiers []event.ExternalID `json:"identifiers" doc:"What it brought along"`
}

// ExplainedRefusals are the times that one violation kept identifiers away: the
// first and the newest, and how many there were.
type ExplainedRefusals struct {
	Violation  string             `json:"violation"`
	ProfileID  string             `json:"profileId,omitempty" doc:"On events of this profile; empty when Identifier is set"`
	Identifier *event.ExternalID  `json:"identifier,omitempty" doc:"This identifier of the profile, on any event"`
	Count      uint64             `json:"count"`
	Events     []ExplainedRefusal `json:"events"`
}

// ExplainedRefusal is one identifier that one event did not use.
type ExplainedRefusal struct {
	Identifier *event.ExternalID `json:"identifier,omitempty" doc:"Missing when the event is gone"`
	OwnerID    string            `json:"ownerId,omitempty" doc:"Who has that identifier now"`
	ProfileID  string            `json:"profileId,omitempty" doc:"Whose the event is"`
	On         Sighting          `json:"on"`
	Snapshot   uint64            `json:"snapshot"`
	Limit      *ExplainedLimit   `json:"limit,omitempty" doc:"The limit that stood against it"`
	Command    *uint64           `json:"command,omitempty" doc:"The offset of the command that stood against it"`
	Words      string            `json:"words"`
}

// ExplainedLimit is the limit of a type.
type ExplainedLimit struct {
	Type   string `json:"type"`
	Limit  int    `json:"limit"`
	Window string `json:"window,omitempty" doc:"weekly, monthly, annually; missing: ever"`
}

// ExplainedCommand is an order that concerns the profile.
type ExplainedCommand struct {
	Offset  uint64         `json:"offset"`
	At      string         `json:"at"`
	Lifted  bool           `json:"lifted,omitempty"`
	Command *event.Command `json:"command"`
	Words   string         `json:"words"`
}

// ExplainedLink is a membership.
type ExplainedLink struct {
	ProfileID string `json:"profileId"`
	Offset    uint64 `json:"offset"`
	Timestamp string `json:"timestamp"`
}

// ExplainedRules are the rules of one configuration, as far as they are spoken
// of.
type ExplainedRules struct {
	Snapshot uint64          `json:"snapshot"`
	Held     uint64          `json:"held,omitempty" doc:"The snapshot whose rules held in its place, since a rebuild"`
	Types    []ExplainedRule `json:"types"`
}

// ExplainedRule is the rule of one type.
type ExplainedRule struct {
	Collection string `json:"collection"`
	ExplainedLimit
	Rank int `json:"rank" doc:"Its place by priority among these"`
}

// Graph is what a picture is drawn from.
type Graph struct {
	Nodes []Node `json:"nodes"`
	Edges []Edge `json:"edges"`
}

// Node is a profile or an identifier.
type Node struct {
	ID    string `json:"id"`
	Kind  string `json:"kind" enum:"profile,identifier"`
	Label string `json:"label"`
	State string `json:"state" enum:"living,merged,attached,removed,other" doc:"Of a profile: living, merged or other (spoken of only); of an identifier: attached, removed or other"`
	At    string `json:"at,omitempty" doc:"When it was created or attached"`
}

// Edge is what ties two nodes, or keeps them apart.
type Edge struct {
	From      string `json:"from"`
	To        string `json:"to"`
	Kind      string `json:"kind" enum:"attached,merged,refused,separated,removed,member"`
	Label     string `json:"label"`
	At        string `json:"at,omitempty"`
	Offset    uint64 `json:"offset"`
	MessageID string `json:"messageId,omitempty"`
}

// CollectionOf returns the collection that people mean by a type of
// identifier: accounts for one that the space's rules, or the standard types,
// have in accounts alone, else users. nil has the default rules.
func CollectionOf(space *workspace.Space, name string) string {
	rs, err := compile(space)
	if err == nil && rs.of(event.Users, name) == nil && (rs.of(event.Accounts, name) != nil || standardCollection(name) == event.Accounts) {
		return event.Accounts
	}
	return event.Users
}

// Explain answers a question. A profile that was never given is
// fault.NotFound; an identifier that is nobody's is explained as that.
func (x *Explainer) Explain(ctx context.Context, q Question) (*Explanation, error) {
	rs, err := compile(q.Space)
	if err != nil {
		return nil, err
	}
	a := newExplaining(ctx, x, q, rs)
	a.out.Collection = q.ID.Collection
	profile, err := event.ParseProfileID(q.ID.Value)
	if q.ID.Type != "" || err != nil {
		if q.ID.Type == "" {
			return nil, fault.Field("id", "%q is neither an identifier, as user_id:u1, nor a profile's id, use_…", q.ID.Value)
		}
		id := rs.normal(q.ID)
		asked := event.ExternalIDOf(id)
		a.asked, a.out.Asked = id, &asked
		profile = event.ProfileID{}
	} else if q.With != nil {
		return nil, fault.Field("with", "two identifiers are compared: name one of the profile's in place of its id")
	}
	if err := a.load(profile); err != nil {
		return nil, err
	}
	if err := a.tell(); err != nil {
		return nil, err
	}
	if q.With != nil {
		if err := a.compare(rs.normal(*q.With)); err != nil {
			return nil, err
		}
	}
	a.finish()
	return &a.out, nil
}
