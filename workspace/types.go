package workspace

import (
	"cmp"
	"encoding/json"
	"time"
)

// Snapshot is the whole configuration at one moment. It is never changed once
// it has a number; lists are sorted by ID.
type Snapshot struct {
	Number        uint64         `json:"number"` // 1 for the first; each change adds one
	At            time.Time      `json:"at"`
	ID            string         `json:"id"` // the workspace's id
	Name          string         `json:"name"`
	Slug          string         `json:"slug"`
	Spaces        []Space        `json:"spaces"`
	Sources       []Source       `json:"sources"`
	Destinations  []Destination  `json:"destinations"`
	TrackingPlans []TrackingPlan `json:"trackingPlans"`
	Audiences     []Audience     `json:"audiences"`

	index *index // built by Seal; see lookup.go
}

// Space is the unit of all that holds people. Its number is in every key of
// its state; numbers are never used again.
type Space struct {
	ID          string           `json:"id"` // "spa_…"
	Number      uint32           `json:"number"`
	Slug        string           `json:"slug"` // "default" exists from the first start; never changes
	Name        string           `json:"name"`
	Identifiers []IdentifierRule `json:"identifiers,omitempty"` // empty: DefaultIdentifiers
	// IdentityGuard is from which size on a profile is reported.
	IdentityGuard IdentityGuard `json:"identityGuard,omitzero"`
	// Suspicious is from which figures on a profile or an identifier is listed
	// as suspicious.
	Suspicious Suspicious `json:"suspicious,omitzero"`
	// Retention is how long the bodies of events are kept: 90d, 12w, 36h or
	// forever; see ParseRetention. Empty means as the server says.
	Retention string `json:"retention,omitempty"`
	// SearchTraits are the traits that profiles can be searched by; see
	// SearchedTraits. Nil means the default ones, an empty list none.
	SearchTraits []string `json:"searchTraits,omitzero"`
	// Filters keep events from the space's profiles; see EventFilter.
	Filters   []EventFilter `json:"filters,omitempty"`
	CreatedAt time.Time     `json:"createdAt"`
}

// EventFilter keeps events out of identity (sheet unify_engage_privacy §1.13):
// an event that matches any enabled filter of its source's space belongs to no
// profile, and changes none. It still goes to destinations.
type EventFilter struct {
	ID          string    `json:"id"` // "flt_…"
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Enabled     bool      `json:"enabled"`
	If          string    `json:"if"` // a condition of package fql; "all" matches every event
	CreatedAt   time.Time `json:"createdAt"`
	UpdatedAt   time.Time `json:"updatedAt"`
}

// IdentityGuard says from which size on a profile is reported: as a change when
// it passes that size, and again whenever it has doubled. Zero means the
// defaults: 1,000 identifiers and 100 merges.
type IdentityGuard struct {
	Identifiers int `json:"identifiers,omitempty"`
	Merges      int `json:"merges,omitempty"`
}

// Suspicious says from which figures on profiles and identifiers are listed as
// suspicious, where nobody asks for others. Zero means the default; none is
// below LeastSuspicious.
type Suspicious struct {
	Identifiers int `json:"identifiers,omitempty"` // on one profile
	Merges      int `json:"merges,omitempty"`      // into one profile within 24 hours
	Shared      int `json:"shared,omitempty"`      // profiles whose events could not use an identifier
	Refused     int `json:"refused,omitempty"`     // different identifiers that the events of a profile could not use
}

// DefaultSuspicious are the figures of a space that names none.
func DefaultSuspicious() Suspicious {
	return Suspicious{Identifiers: 30, Merges: 10, Shared: 10, Refused: 10}
}

// LeastSuspicious are the figures from which on there is a note of it at all.
func LeastSuspicious() Suspicious {
	return Suspicious{Identifiers: 8, Merges: 4, Shared: 3, Refused: 3}
}

// Thresholds returns the figures with the default ones in the place of zeros.
func (s Suspicious) Thresholds() Suspicious {
	d := DefaultSuspicious()
	return Suspicious{
		Identifiers: cmp.Or(s.Identifiers, d.Identifiers), Merges: cmp.Or(s.Merges, d.Merges),
		Shared: cmp.Or(s.Shared, d.Shared), Refused: cmp.Or(s.Refused, d.Refused),
	}
}

// IdentifierRule is how identity treats one type of identifier in a space
// (sheet unify_engage_privacy §1.1–1.2).
type IdentifierRule struct {
	Type       string `json:"type"`                 // lower case, "user_id"
	Collection string `json:"collection,omitempty"` // "users" (default) or "accounts"
	// Limit is the most values of the type on one profile, within Window.
	// Zero means the default: 1 for user_id, 5 for all others.
	Limit int `json:"limit,omitempty"`
	// Window is "ever" (default), "weekly", "monthly" or "annually": 7, 30 or
	// 365 days, sliding.
	Window string `json:"window,omitempty"`
	// Priority ranks types, 1 being the highest. Zero means the default order:
	// user_id, email, then the others by name.
	Priority int `json:"priority,omitempty"`
	// Keys are trait or property names under which a custom identifier is
	// looked for, in camelCase and snake_case, in traits, context.traits and
	// properties.
	Keys []string `json:"keys,omitempty"`
	// Blocked values are never used as identifiers: exact ones, and regular
	// expressions (RE2) that are searched for in the value.
	Blocked         []string `json:"blocked,omitempty"`
	BlockedPatterns []string `json:"blockedPatterns,omitempty"`
	// Normalize says in which form values are compared: NormalizeEmail,
	// NormalizePhone, NormalizeMAC, or NormalizeNone, as sent. Empty means as
	// sent, but for the type mac, for which it means NormalizeMAC.
	Normalize string `json:"normalize,omitempty"`
	// EmailProvider also folds the spellings that a mail provider delivers to
	// one mailbox: dots at gmail.com, and what follows a plus at some. For
	// NormalizeEmail.
	EmailProvider bool `json:"emailProvider,omitempty"`
	// Region is where phone numbers without a country code are from, as two
	// letters, "DE". Empty: such numbers identify nobody. For NormalizePhone.
	Region string `json:"region,omitempty"`
	// NetworkKey is the trait or property under which the network's name is
	// that a randomised MAC address belongs to, beside the places where it is
	// looked for anyway. For NormalizeMAC.
	NetworkKey string `json:"networkKey,omitempty"`
	// ValidFor is how long an identifier counts from the event that attached
	// it: "ever" (default), "weekly", "monthly" or "annually", as Window. After
	// that an event with it belongs to whom the event's other identifiers say,
	// and the identifier goes there. For NormalizeMAC it is for randomised
	// addresses alone.
	ValidFor string `json:"validFor,omitempty"`
}

// The values of IdentifierRule.Normalize.
const (
	NormalizeNone  = "none"
	NormalizeEmail = "email" // without spaces around it, in lower case
	NormalizePhone = "phone" // E.164: +4930123456
	NormalizeMAC   = "mac"   // aa:bb:cc:dd:ee:ff, and the network's name before a randomised one
)

// Source is where events come from.
type Source struct {
	ID         string          `json:"id"`
	Slug       string          `json:"slug"`
	Name       string          `json:"name"`
	MetadataID string          `json:"metadataId"` // Segment's catalogue id, or any slug
	Enabled    bool            `json:"enabled"`
	WriteKeys  []string        `json:"writeKeys"`
	SpaceID    string          `json:"spaceId"` // the space it feeds
	Settings   json.RawMessage `json:"settings,omitempty"`
	Labels     []Label         `json:"labels,omitempty"`
	Schema     SchemaSettings  `json:"schema"` // what a connected tracking plan does
	Tracking   Tracking        `json:"tracking,omitzero"`
	CreatedAt  time.Time       `json:"createdAt"`
}

// Tracking is how the Tracking API and the settings CDN treat a source. The
// zero value is what Segment does by default.
type Tracking struct {
	// FilterBots refuses events whose user agent is that of a known bot.
	FilterBots bool `json:"filterBots,omitempty"`
	// RequireToken refuses events that come without an OAuth access token with
	// the scope tracking_api:write (sheet connections_protocols §1.8).
	RequireToken bool `json:"requireToken,omitempty"`
	// HTTPConfig is published to the SDKs as the httpConfig of their settings:
	// rateLimitConfig and backoffConfig (sheet connections_protocols §1.6).
	// Empty: none is published.
	HTTPConfig json.RawMessage `json:"httpConfig,omitempty"`
}

// Label marks a resource, as in the Public API.
type Label struct {
	Key         string `json:"key"`
	Value       string `json:"value"`
	Description string `json:"description,omitempty"`
}

// SchemaSettings say what happens to a source's events that do not fit its
// tracking plan (Public API, /sources/{id}/settings; sheet
// connections_protocols §5.3).
type SchemaSettings struct {
	Track    TrackSettings  `json:"track"`
	Identify TraitsSettings `json:"identify"`
	Group    TraitsSettings `json:"group"`
}

// The actions for events with violations. The empty string means ALLOW.
const (
	Allow          = "ALLOW" // let it pass, flagged with its violations
	Block          = "BLOCK" // into quarantine
	OmitProperties = "OMIT_PROPERTIES"
	OmitTraits     = "OMIT_TRAITS"
)

// TrackSettings are a source's settings for track calls, and for page and
// screen calls, which are held to them as events.
type TrackSettings struct {
	AllowUnplannedEvents          bool   `json:"allowUnplannedEvents"`
	AllowUnplannedEventProperties bool   `json:"allowUnplannedEventProperties"`
	AllowEventOnViolations        bool   `json:"allowEventOnViolations"`
	AllowPropertiesOnViolations   bool   `json:"allowPropertiesOnViolations"`
	CommonEventOnViolations       string `json:"commonEventOnViolations"`
}

// TraitsSettings are a source's settings for identify or group calls.
type TraitsSettings struct {
	AllowUnplannedTraits    bool   `json:"allowUnplannedTraits"`
	AllowTraitsOnViolations bool   `json:"allowTraitsOnViolations"`
	CommonEventOnViolations string `json:"commonEventOnViolations"`
}

// Destination is where events and audiences go.
type Destination struct {
	ID         string `json:"id"`
	Slug       string `json:"slug"` // Kith's own; unique
	Name       string `json:"name"`
	MetadataID string `json:"metadataId"` // which connector: "webhook"
	Enabled    bool   `json:"enabled"`
	SourceID   string `json:"sourceId,omitempty"` // the source whose events it gets; may be none
	// Settings are the connector's, checked against its Spec. The values of
	// fields that the Spec calls secret are sealed ("sealed:…").
	Settings      json.RawMessage `json:"settings"`
	Subscriptions []Subscription  `json:"subscriptions,omitempty"`
	CreatedAt     time.Time       `json:"createdAt"`
}

// Subscription sends the events that match its trigger to one action of a
// destination.
type Subscription struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	ActionID   string          `json:"actionId"`
	ActionSlug string          `json:"actionSlug"`
	Enabled    bool            `json:"enabled"`
	Trigger    string          `json:"trigger"` // sheet connections_protocols §3.5
	Settings   json.RawMessage `json:"settings,omitempty"`
}

// TrackingPlan is a set of rules that events are held to.
type TrackingPlan struct {
	ID          string    `json:"id"` // "tp_…"
	Slug        string    `json:"slug"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Type        string    `json:"type"` // LIVE, PROPERTY_LIBRARY, RULE_LIBRARY, ENGAGE, TEMPLATE
	Rules       []Rule    `json:"rules,omitempty"`
	SourceIDs   []string  `json:"sourceIds,omitempty"` // a source is held to at most one plan
	CreatedAt   time.Time `json:"createdAt"`
	UpdatedAt   time.Time `json:"updatedAt"`
}

// Rule is the JSON Schema (draft-07) of one event, or of all.
type Rule struct {
	Type       string          `json:"type"` // TRACK, IDENTIFY, GROUP, PAGE, SCREEN, COMMON
	Key        string          `json:"key,omitempty"`
	Version    int             `json:"version"`
	JSONSchema json.RawMessage `json:"jsonSchema"`
	CreatedAt  time.Time       `json:"createdAt"`
	UpdatedAt  time.Time       `json:"updatedAt"`
}

// Audience is a standing query over profiles.
type Audience struct {
	ID          string          `json:"id"` // "aud_…"
	SpaceID     string          `json:"spaceId"`
	Name        string          `json:"name"`
	Key         string          `json:"key"` // snake_case of the first name; never changes
	Description string          `json:"description,omitempty"`
	Enabled     bool            `json:"enabled"`
	Query       string          `json:"query"` // Segment's query language; Public API: definition.query
	Options     AudienceOptions `json:"options"`
	// Version counts the changes that ask for a new computation (query,
	// options, enabled again).
	Version     int                  `json:"version"`
	Connections []AudienceConnection `json:"connections,omitempty"`
	CreatedAt   time.Time            `json:"createdAt"`
	UpdatedAt   time.Time            `json:"updatedAt"`
}

// AudienceOptions are an audience's options, as in the Public API.
type AudienceOptions struct {
	// IncludeHistoricalData false starts the audience empty. Nil means true.
	IncludeHistoricalData *bool `json:"includeHistoricalData,omitempty"`
	// FilterByExternalIDs admits only profiles with at least one identifier of
	// these types. Empty means user_id, email, android.idfa and ios.idfa.
	FilterByExternalIDs   []string `json:"filterByExternalIds,omitempty"`
	BackfillEventDataDays *int     `json:"backfillEventDataDays,omitempty"`
}

// AudienceConnection connects an audience to a destination. Without
// activations, entry and exit go out as identify and as track.
type AudienceConnection struct {
	ID                 string          `json:"id"`
	DestinationID      string          `json:"destinationId"`
	ConnectionSettings json.RawMessage `json:"connectionSettings,omitempty"`
	Activations        []Activation    `json:"activations,omitempty"`
}

// The types of activation.
const (
	AudienceEntered           = "Audience Entered"
	AudienceExited            = "Audience Exited"
	AudienceMembershipChanged = "Audience Membership Changed"
)

// Activation chooses what goes out of an audience to a destination:
// AudienceEntered and AudienceExited as track calls, AudienceMembershipChanged
// as an identify call.
type Activation struct {
	ID      string `json:"id"`
	Name    string `json:"activationName"`
	Type    string `json:"activationType"`
	Enabled bool   `json:"enabled"`
	// Traits are profile traits sent along, by trait name, with the name each
	// is sent under (Public API: personalization.profile.properties, .mapping).
	Traits  map[string]string `json:"traits,omitempty"`
	Trigger string            `json:"trigger,omitempty"`
}
