package destination

import (
	"encoding/json"
	"time"
)

// Spec describes a kind of destination as data: forms, documentation, checks
// and the command line are made from it.
type Spec struct {
	ID          string `json:"id"`   // Segment's catalogue id; the slug for Kith's own
	Slug        string `json:"slug"` // "webhook"
	Name        string `json:"name"`
	Description string `json:"description"`
	// Integrations are the names under which an event's integrations object
	// may address it (sheet connections_protocols §2.7); case matters.
	Integrations []string `json:"integrations"`
	Settings     []Field  `json:"settings"`
	Actions      []Action `json:"actions"` // the first takes what comes without a subscription
	Limits       Limits   `json:"limits"`
}

// Action is one thing a destination can do with an event.
type Action struct {
	ID             string  `json:"id"`
	Slug           string  `json:"slug"`
	Name           string  `json:"name"`
	Description    string  `json:"description"`
	DefaultTrigger string  `json:"defaultTrigger"` // what a new subscription starts from
	Settings       []Field `json:"settings,omitempty"`
}

// Limits bound what is asked of the remote side.
type Limits struct {
	Concurrency int           `json:"concurrency"` // most requests under way at once, at least 1
	Timeout     time.Duration `json:"timeout"`     // how long one Send may take
}

// Field is one setting.
type Field struct {
	Name     string          `json:"name"`
	Label    string          `json:"label"`
	Help     string          `json:"help"`
	Type     Type            `json:"type"`
	Required bool            `json:"required,omitempty"`
	Secret   bool            `json:"secret,omitempty"` // sealed at rest, never shown; String and Texts, at the top
	Default  json.RawMessage `json:"default,omitempty"`
	// Min and Max bound an Integer, when Max is not zero, and the length in
	// bytes of a text.
	Min int64 `json:"min,omitempty"`
	Max int64 `json:"max,omitempty"`
	// Fields are the members of an Object.
	Fields []Field `json:"fields,omitempty"`
}

// Type is the kind of value that a setting has.
type Type string

// The types.
const (
	String  Type = "string"
	URL     Type = "url" // an http or https URL that egress lets out to
	Integer Type = "integer"
	Boolean Type = "boolean"
	Texts   Type = "texts"  // an object whose values are strings
	Object  Type = "object" // an object with Fields
)

// maxText bounds a text that has no Max of its own.
const maxText = 4 << 10

// maxTexts bounds the entries of a Texts.
const maxTexts = 50

// Secrets returns the names of the secret settings.
func (s *Spec) Secrets() []string {
	var names []string
	for _, f := range s.Settings {
		if f.Secret {
			names = append(names, f.Name)
		}
	}
	return names
}

// Action returns the action with that id or slug, or nil.
func (s *Spec) Action(idOrSlug string) *Action {
	for i := range s.Actions {
		if s.Actions[i].ID == idOrSlug || s.Actions[i].Slug == idOrSlug {
			return &s.Actions[i]
		}
	}
	return nil
}
