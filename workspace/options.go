package workspace

import (
	"context"
	"encoding/json"
	"io"

	"kith/clock"
)

// Options are what a Store is handed. Clock and Random are required.
type Options struct {
	Clock clock.Clock
	// Random gives ids and write keys; crypto/rand.Reader outside of tests.
	Random io.Reader
	// Secrets seals the secret settings of destinations. It is needed as soon
	// as a connector has a secret setting.
	Secrets Sealer
	// Connectors are the kinds of destination there are.
	Connectors []Connector
	// CheckRule checks a tracking plan's rule: its type, key and schema; nil
	// takes every object as a schema.
	CheckRule func(Rule) error
	// CheckTrigger checks a subscription's or an activation's trigger; nil
	// takes every text.
	CheckTrigger func(trigger string) error
	// CheckFilter checks the condition of an event filter, and returns what it
	// costs at most on one event: see fql.Expr. Nil takes every text.
	CheckFilter func(condition string) (cost int, err error)
	// CheckQuery checks the query of an audience as it stands in next, among
	// the other audiences of its space; nil takes every text. Errors are
	// fault.Invalid and say the position.
	CheckQuery func(next *Snapshot, a *Audience) error
	// Announce is called with a snapshot that has been written, before it
	// becomes current: server appends its config record to every space's raw
	// log, so that what is accepted under the snapshot stands after it. It may
	// be called again for a snapshot for which it failed. Nil: nobody to tell.
	Announce func(ctx context.Context, s *Snapshot) error
}

// Sealer turns secrets into text that may be stored (Seal), and back (Unseal).
// Sealed text begins with SealedPrefix.
type Sealer interface {
	Seal(plain string) (string, error)
	Unseal(sealed string) (string, error)
}

// Connector is what the workspace needs to know of one kind of destination.
type Connector struct {
	ID   string // Segment's catalogue id; the slug for Kith's own
	Slug string // "webhook"
	Name string
	// Actions are what a subscription may send to.
	Actions []Action
	// Secrets are the names of top-level settings whose texts are sealed, those
	// within a list or an object too.
	Secrets []string
	// Check checks a destination's settings, secrets in plain text; nil takes
	// everything. Its errors' fields are paths within the settings, and never
	// hold a secret.
	Check func(settings json.RawMessage) error
	// CheckAction checks a subscription's settings; nil takes everything.
	CheckAction func(action string, settings json.RawMessage) error
}

// Action is one thing a connector can do with an event.
type Action struct {
	ID   string
	Slug string
	Name string
}

// Action returns the action with that id or slug, or nil.
func (c *Connector) Action(idOrSlug string) *Action {
	return find(c.Actions, func(a *Action) bool { return a.ID == idOrSlug || a.Slug == idOrSlug })
}

func (o *Options) connector(idOrSlug string) *Connector {
	return find(o.Connectors, func(c *Connector) bool { return c.ID == idOrSlug || c.Slug == idOrSlug })
}
