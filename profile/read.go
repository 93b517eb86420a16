package profile

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"kith/archive"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/workspace"
)

// History reads events of the past; *archive.Archive does.
type History interface {
	// History calls fn with the events of a family of profiles in the order
	// of their time until fn returns false.
	History(ctx context.Context, space, epoch uint32, family []event.ProfileID, w archive.Window, fn func(archive.Entry) (bool, error)) error
}

// The classes of what is computed, as Segment names them.
const (
	ClassAudience      = "audience"
	ClassComputedTrait = "computed_trait"
)

// Computed is something computed of a profile, read as if it were a trait.
type Computed struct {
	Name      string // an audience's key
	Class     string // ClassAudience or ClassComputedTrait
	Value     string // JSON: true or false for an audience
	SourceID  string // may be empty
	UpdatedAt int64  // since when the value is this one, in milliseconds
}

// Computations tells what is computed of profiles.
type Computations interface {
	// Computed returns all that is computed of a profile, a survivor, in any
	// order, as of the moment that r shows. The list is the caller's.
	Computed(ctx context.Context, r kv.Reader, space *workspace.Space, epoch uint32, profile event.ProfileID) ([]Computed, error)
}

// Reader answers the Profile API: five reads in Segment's shapes (sheet
// unify_engage_privacy §1.8), and Kith's own search and batch. Its errors are fault.Invalid for what cannot be
// asked and fault.NotFound for an unknown profile. It is safe for concurrent
// use.
type Reader struct {
	db           kv.DB
	history      History
	computations Computations
}

// NewReader returns a reader; computations may be nil where nothing is
// computed.
func NewReader(db kv.DB, history History, computations Computations) *Reader {
	return &Reader{db: db, history: history, computations: computations}
}

// Target is the profile that a read is about.
type Target struct {
	Space *workspace.Space
	Epoch uint32 // the space's live one
	// Path is the space as the caller named it, id or slug; it comes back in
	// the cursor's url.
	Path       string
	Collection string // "users" or "accounts"
	// ID is an identifier as "type:value", or a profile's id ("use_…"), also
	// one that was merged away.
	ID string
	// Only, when it is not empty, is all that the caller may read: a profile
	// named like ID. Then ID must be the same text, or the id of the profile
	// that this is now; anything else is fault.Denied, whether it is somebody
	// or not.
	Only string
}

// Limits of a page (sheet unify_engage_privacy §4: ten unless asked, up to
// 200).
const (
	DefaultLimit  = 10
	MaxLimit      = 200
	MaxLinksLimit = 20
)

// Cursor is where a listing goes on.
type Cursor struct {
	URL     string `json:"url"`
	HasMore bool   `json:"has_more"`
	Next    string `json:"next"`
	Limit   int    `json:"limit"`
}

// TraitsQuery asks for traits.
type TraitsQuery struct {
	Class   string   // ClassAudience, ClassComputedTrait, or empty for all traits
	Include []string // names; empty: all
	Limit   int      // zero: DefaultLimit
	Verbose bool
	Next    string // the Cursor.Next of the page before
}

// TraitsPage is the answer: each value is the trait's, or with Verbose a
// VerboseTrait.
type TraitsPage struct {
	Traits map[string]json.RawMessage `json:"traits"`
	Cursor Cursor                     `json:"cursor"`
}

// VerboseTrait is a trait with where it comes from.
type VerboseTrait struct {
	Value     json.RawMessage `json:"value"`
	SourceID  string          `json:"source_id"`
	UpdatedAt string          `json:"updated_at"`
}

// IdentifiersQuery asks for external ids.
type IdentifiersQuery struct {
	Include []string // types; empty: all
	Limit   int      // zero: DefaultLimit
	Next    string   // the Cursor.Next of the page before
}

// IdentifiersPage is the answer.
type IdentifiersPage struct {
	Data   []ExternalID `json:"data"`
	Cursor Cursor       `json:"cursor"`
}

// ExternalID is an identifier of a profile.
type ExternalID struct {
	SourceID       string `json:"source_id"`
	Collection     string `json:"collection"`
	ID             string `json:"id"`
	Type           string `json:"type"`
	CreatedAt      string `json:"created_at"`
	Encoding       string `json:"encoding"` // always "none"
	FirstMessageID string `json:"first_message_id"`
}

// EventsQuery asks for events: track calls, and page and screen calls as the
// events they are shown as, unless Types says otherwise.
type EventsQuery struct {
	// Types are kinds of call: track, page, screen, identify, group, alias.
	// Empty: Segment's answer, in which all are of the type track. Kith's own,
	// as the next two.
	Types      []string
	Sources    []string        // ids of sources; empty: all
	Properties []PropertyMatch // which must all match
	Start      string          // ISO 8601, a date or an instant: events at it or after
	End        string          // likewise: events before it
	Include    []string        // event names; empty: all
	Exclude    []string        // event names; calls without one are left alone
	Limit      int             // zero: DefaultLimit
	Sort       string          // "asc" or "desc" (the default)
	Next       string          // the Cursor.Next of the page before
}

// PropertyMatch is a property, as a path with dots, and the value it should
// have: the text of a string, or a number or a boolean as it was sent. Of
// identify and group calls it is a trait.
type PropertyMatch struct{ Path, Value string }

// EventsPage is the answer.
type EventsPage struct {
	Data   []Event `json:"data"`
	Cursor Cursor  `json:"cursor"`
}

// Event is an event in a profile's history.
type Event struct {
	ExternalIDs []EventID         `json:"external_ids"`
	Context     json.RawMessage   `json:"context"`
	Type        string            `json:"type"` // "track", or with EventsQuery.Types what it is
	MessageID   string            `json:"message_id"`
	SourceID    string            `json:"source_id"`
	Timestamp   string            `json:"timestamp"`
	Properties  json.RawMessage   `json:"properties"`
	Event       string            `json:"event"`
	Related     map[string]string `json:"related"` // collection to profile id
	// Only with EventsQuery.Types: what calls of the other types hold.
	Name       string          `json:"name,omitempty"`     // page and screen
	Traits     json.RawMessage `json:"traits,omitempty"`   // identify and group
	GroupID    string          `json:"group_id,omitempty"` // group
	PreviousID string          `json:"previous_id,omitempty"`
	// Trimmed says that the event is older than the space's retention: context,
	// properties and traits are gone.
	Trimmed bool `json:"trimmed,omitempty"`
}

// EventID is an identifier that an event was resolved by.
type EventID struct {
	Collection string `json:"collection"`
	Type       string `json:"type"`
	ID         string `json:"id"`
	Encoding   string `json:"encoding"` // always "none"
}

// MetadataPage is the answer to a read of metadata.
type MetadataPage struct {
	Metadata Metadata `json:"metadata"`
}

// Metadata is a profile's first and last events.
type Metadata struct {
	CreatedAt      string  `json:"created_at"`
	UpdatedAt      string  `json:"updated_at"`
	ExpiresAt      *string `json:"expires_at"` // always null
	FirstMessageID string  `json:"first_message_id"`
	FirstSourceID  string  `json:"first_source_id"`
	LastMessageID  string  `json:"last_message_id"`
	LastSourceID   string  `json:"last_source_id"`
}

// LinksQuery asks for the accounts of a user or the users of an account.
type LinksQuery struct {
	Limit int    // zero: DefaultLimit; at most MaxLinksLimit
	Next  string // the Cursor.Next of the page before
}

// LinksPage is the answer.
type LinksPage struct {
	Data   []LinkedProfile `json:"data"`
	Cursor Cursor          `json:"cursor"`
}

// LinkedProfile is a profile at the other end of a link.
type LinkedProfile struct {
	ToCollection string       `json:"to_collection"`
	ExternalIDs  []ExternalID `json:"external_ids"`
}

// locate finds the profile that a target names.
func locate(r kv.Reader, t Target) (identity.Reader, *identity.Profile, error) {
	graph, id, err := locateID(r, t)
	if err != nil {
		return graph, nil, err
	}
	p, err := graph.Profile(id)
	return graph, p, err
}

// locateID finds the id of the profile that a target names, without reading of
// what the profile consists.
func locateID(r kv.Reader, t Target) (identity.Reader, event.ProfileID, error) {
	graph := identity.NewReader(r, t.Space.Number, t.Epoch)
	if err := checkCollection(t.Collection); err != nil {
		return graph, event.ProfileID{}, err
	}
	if t.Only != "" && t.ID != t.Only {
		if err := within(graph, t); err != nil {
			return graph, event.ProfileID{}, err
		}
	}
	id, err := find(graph, t.Space, t.Collection, t.ID)
	return graph, id, err
}

// within checks that a target whose ID is not literally Only is the same
// profile.
func within(graph identity.Reader, t Target) error {
	denied := fault.New(fault.Denied, "the token is not for this profile")
	id, err := event.ParseProfileID(t.ID)
	if err != nil {
		return denied
	}
	allowed, err := find(graph, t.Space, t.Collection, t.Only)
	if fault.Is(err, fault.NotFound) {
		return denied
	}
	if err != nil {
		return err
	}
	if id, err = graph.Resolve(id); err != nil {
		return err
	}
	if id != allowed {
		return denied
	}
	return nil
}

// find returns the profile that text names in a collection, by the id that it
// is part of now.
func find(graph identity.Reader, space *workspace.Space, collection, text string) (event.ProfileID, error) {
	var id event.ProfileID
	var err error
	name, value, named := strings.Cut(text, ":") // no profile's id has a colon
	if named && name != "" && value != "" {
		if id, err = graph.Ask(space, collection, name, value); err != nil {
			return id, err
		}
	} else if id, err = event.ParseProfileID(text); err != nil {
		return id, fault.Field("id", `%q names no profile: want type:value, as in user_id:u1, or use_…`, text)
	}
	of := ""
	if !id.IsZero() {
		if id, of, err = graph.Survivor(id); err != nil {
			return id, err
		}
	}
	if of != collection {
		return id, fault.New(fault.NotFound, "Profile was not found.")
	}
	return id, nil
}

// checkCollection refuses what is no collection, in Segment's words where it
// has some.
func checkCollection(name string) error {
	if name == event.Users || name == event.Accounts {
		return nil
	}
	var bad []string
	for _, c := range name {
		if sign := string(c); !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", c) && !slices.Contains(bad, sign) {
			bad = append(bad, sign)
		}
	}
	if len(bad) > 0 {
		return fault.Field("collection", "The parameter `collection` has invalid character(s) `%s`", strings.Join(bad, ""))
	}
	return fault.Field("collection", "%q is not a collection: want users or accounts", name)
}

// limitOf returns how many a page may have.
func limitOf(asked, most int) (int, error) {
	if asked == 0 {
		return DefaultLimit, nil
	}
	if asked < 1 || asked > most {
		return 0, fault.Field("limit", "%d is no limit: want 1 to %d", asked, most)
	}
	return asked, nil
}

// cursor returns the end of a page; next is empty at the end of the listing.
func cursor(t Target, p event.ProfileID, read string, limit int, next string) Cursor {
	return Cursor{
		URL:     "/v1/spaces/" + url.PathEscape(t.Path) + "/collections/" + t.Collection + "/profiles/" + p.String() + "/" + read,
		HasMore: next != "", Next: next, Limit: limit,
	}
}
