package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"time"

	"kith/auth"
	"kith/clock"
	"kith/commitlog"
	"kith/destination"
	"kith/event"
	"kith/inspect"
	"kith/profile"
	"kith/trackingplan"
	"kith/workspace"
)

// Config is what the API is made of. All of it is required.
type Config struct {
	Version    string
	Workspace  Workspace
	Reviser    Reviser
	Tokens     Tokens
	Clients    Clients
	OAuth      OAuth
	Connectors Connectors
	Audiences  Audiences
	Profiles   Profiles
	Commands   Commands
	Waiter     Waiter
	// Epoch returns a space's live epoch.
	Epoch       func(ctx context.Context, space uint32) (uint32, error)
	Rejections  Rejections
	Quarantine  Quarantine
	Objects     Objects
	Bodies      Bodies
	Past        Past
	DeadLetters DeadLetters
	Tracer      Tracer
	Explainer   Explainer
	Ledger      Ledger
	Feed        Feed
	Seen        Seen
	Debugger    Debugger
	Snippets    Snippets
	Imports     Imports
	Rebuilds    Rebuilds
	Retention   Retention
	Erasures    Erasures
	Trials      Trials
	Clock       clock.Clock
	// Random makes request ids; crypto/rand.Reader outside of tests.
	Random io.Reader
	Logger *slog.Logger
}

// Workspace is the configuration, with the methods Current, Update and Try of
// workspace.Store.
type Workspace interface {
	Current() *workspace.Snapshot
	Update(ctx context.Context, fn func(*workspace.Draft) error) (*workspace.Snapshot, error)
	Try(ctx context.Context, fn func(*workspace.Draft) error) (base, next *workspace.Snapshot, err error)
}

// Tokens says who may call; auth.Keeper has its methods Admin, MayRead, Create,
// List and Revoke.
type Tokens interface {
	Admin(r *http.Request) error
	MayRead(r *http.Request, space uint32) (auth.Caller, error)
	Create(ctx context.Context, space uint32, name string, mayDelete bool) (t auth.ProfileToken, token string, err error)
	List(ctx context.Context, space uint32) ([]auth.ProfileToken, error)
	Revoke(ctx context.Context, space uint32, id string) error
}

// Snippets writes what a web page needs; cdn.CDN has its method SnippetFor.
type Snippets interface {
	SnippetFor(r *http.Request, writeKey string) (html, base string, err error)
}

// Connectors are the kinds of destination, with the methods Specs and Find of
// destination.Registry.
type Connectors interface {
	Specs() []destination.Spec
	Find(idOrSlug string) (*destination.Connector, error)
}

// Audiences tells how audiences stand.
type Audiences interface {
	// Status returns where an audience stands.
	Status(ctx context.Context, space uint32, a *workspace.Audience) (AudienceStatus, error)
	// Members lists who is in an audience, by profile id, at most limit (1 to
	// 1,000) behind the cursor, which is empty at the beginning; next is empty
	// at the end.
	Members(ctx context.Context, space uint32, audience, cursor string, limit int) (list []Member, next string, err error)
}

// AudienceStatus is where an audience stands.
type AudienceStatus struct {
	// State is Segment's word: "Live", "Backfilling", "Disabled", "Error".
	State string
	Size  uint64 // profiles in it now
	// Since is the instant since when the events are counted that it asks for;
	// zero when all of them are.
	Since time.Time
}

// Member is a profile in an audience.
type Member struct {
	Profile event.ProfileID
	Since   time.Time // when it entered; zero when that is not known
}

// Clients are the tokens of apps that ask for profiles themselves;
// auth.ClientTokens has the methods Issue, Check, Revoke, RevokeAll and Origin.
type Clients interface {
	Issue(ctx context.Context, space uint32, by auth.Caller, req auth.ClientRequest) (*auth.ClientGrant, string, error)
	Check(ctx context.Context, token string, space uint32) (*auth.ClientGrant, error)
	Revoke(ctx context.Context, space uint32, id string) error
	RevokeAll(ctx context.Context, space uint32) error
	Origin(ctx context.Context, space uint32, origin string) (bool, error)
}

// Commands orders what changes derived state and is no event.
type Commands interface {
	// Order makes a command part of a space's sequence. It is durable on
	// return, and carried out once the loop has passed its offset.
	Order(ctx context.Context, space uint32, c *event.Command) (commitlog.Offset, error)
	// Passed waits until the loop has passed an offset; it fails with
	// fault.Unavailable when the context ends first.
	Passed(ctx context.Context, space uint32, at commitlog.Offset) error
}

// Waiter lets reads see what was accepted before them.
type Waiter interface {
	// WaitFor waits until the loop of a space has passed the message. It fails
	// with fault.NotFound when no message of that id was accepted, and with
	// fault.Unavailable, saying how far the loop is, when the context ends
	// first.
	WaitFor(ctx context.Context, space uint32, messageID string) error
}

// Profiles answers the Profile API; profile.Reader has Traits, ExternalIDs,
// Events, Metadata, Links, Search, Batch and Own. An unknown profile is
// fault.NotFound.
type Profiles interface {
	Traits(ctx context.Context, t profile.Target, q profile.TraitsQuery) (*profile.TraitsPage, error)
	ExternalIDs(ctx context.Context, t profile.Target, q profile.IdentifiersQuery) (*profile.IdentifiersPage, error)
	Events(ctx context.Context, t profile.Target, q profile.EventsQuery) (*profile.EventsPage, error)
	Metadata(ctx context.Context, t profile.Target) (*profile.MetadataPage, error)
	Links(ctx context.Context, t profile.Target, q profile.LinksQuery) (*profile.LinksPage, error)
	Search(ctx context.Context, t profile.Target, q profile.SearchQuery) (*profile.SearchPage, error)
	Batch(ctx context.Context, t profile.Target, q profile.BatchQuery) (*profile.BatchPage, error)
	Own(ctx context.Context, t profile.Target, named []event.Identifier) (own, found []event.Identifier, err error)
}

// Rejections lists messages that were not accepted; inspect.Rejections.
type Rejections interface {
	List(ctx context.Context, source, cursor string, limit int) (page []inspect.Rejection, next string, err error)
}

// Quarantine lists events that a tracking plan has blocked;
// trackingplan.Reader.
type Quarantine interface {
	Quarantined(ctx context.Context, space uint32, source, cursor string, limit int) (list []trackingplan.Quarantined, next string, err error)
}

// Bodies reads an event of the past; archive.Archive has Body.
type Bodies interface {
	Body(ctx context.Context, space uint32, at commitlog.Offset) ([]byte, error)
}

// DeadLetters are the events that could not be delivered.
type DeadLetters interface {
	// DeadLetters lists a destination's dead letters, the newest first, at most
	// limit (1 to 1,000) behind the cursor, which is empty at the beginning;
	// next is empty at the end.
	DeadLetters(ctx context.Context, destination, cursor string, limit int) (list []DeadLetter, next string, err error)
	// Retry sends dead letters again, those with these ids or, with none, all
	// there are, and returns how many. An unknown id is fault.NotFound.
	Retry(ctx context.Context, destination string, ids []string) (n int, err error)
}

// DeadLetter is an event that could not be delivered.
type DeadLetter struct {
	ID           string
	At           time.Time // when it was given up
	Subscription string    // the subscription's id; empty without one
	Profile      event.ProfileID
	MessageID    string
	Type         string // the call: "track"
	Event        string // the name under which it is counted
	Reason       string
	Attempts     int
	Resent       bool            // a person has sent it again, and it failed again
	Body         json.RawMessage // the event; empty when it is no longer there
}

// Feed is the live feed; inspect.Feed.
type Feed interface {
	Watch(filter inspect.Filter, recent int) (*inspect.Watch, error)
}
