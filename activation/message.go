package activation

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"kith/event"
	"kith/fql"
	"kith/workspace"
)

// The names of the track calls that audiences send (sheet unify_engage_privacy
// §2.4).
const (
	enteredEvent = "Audience Entered"
	exitedEvent  = "Audience Exited"
)

// person is what a message says of the profile it is about.
type person struct {
	userID      string // the newest; empty when the profile has none
	anonymousID string // the newest
	email       string // the newest
	trait       func(name string) (value gjson.Result, ok bool, err error)
}

// announcement is one thing to tell: membership of one audience, under one
// identifier, to one destination.
type announcement struct {
	*connection
	space      string // the space's id
	identifier event.Identifier
	member     bool
	at         int64
	cause      string // what made it true: a record, a timer, a job; part of the message's id
	run        string // of the job that found it: a first sync, a correction
	corrects   bool   // it was not the profile that changed, but what is known of it
}

// payload is an event in Segment's shape, as delivery hands it on.
type payload struct {
	Type              string                     `json:"type"`
	MessageID         string                     `json:"messageId"`
	UserID            string                     `json:"userId,omitempty"`
	AnonymousID       string                     `json:"anonymousId,omitempty"`
	Event             string                     `json:"event,omitempty"`
	Properties        map[string]json.RawMessage `json:"properties,omitempty"`
	Traits            map[string]json.RawMessage `json:"traits,omitempty"`
	Context           payloadContext             `json:"context"`
	Integrations      map[string]bool            `json:"integrations"`
	Timestamp         string                     `json:"timestamp"`
	OriginalTimestamp string                     `json:"originalTimestamp"`
	ReceivedAt        string                     `json:"receivedAt"`
}

type payloadContext struct {
	Personas    personas                   `json:"personas"`
	Traits      map[string]json.RawMessage `json:"traits,omitempty"`
	Device      *device                    `json:"device,omitempty"`
	ExternalIDs []externalID               `json:"externalIds,omitempty"`
}

type personas struct {
	ComputationClass string          `json:"computation_class"`
	ComputationID    string          `json:"computation_id"`
	ComputationKey   string          `json:"computation_key"`
	ComputationRunID string          `json:"computation_run_id,omitempty"`
	Namespace        string          `json:"namespace"`
	SpaceID          string          `json:"space_id"`
	AudienceSettings json.RawMessage `json:"audience_settings,omitempty"`
	EventEmitterID   string          `json:"event_emitter_id,omitempty"`
}

type device struct {
	Type              string `json:"type"`
	AdvertisingID     string `json:"advertisingId"`
	AdTrackingEnabled bool   `json:"adTrackingEnabled"`
}

type externalID struct {
	ID         string `json:"id"`
	Type       string `json:"type"`
	Collection string `json:"collection"`
	Encoding   string `json:"encoding"`
}

// message is a payload with its id.
type message struct {
	id   string
	body []byte
}

// messages returns what an announcement sends: without activations the change
// as an identify and as a track call (a correction only as an identify), else
// what the enabled activations ask for, each form once.
func (a *announcement) messages(p *person) ([]message, error) {
	var out []message
	add := func(form string, activation *workspace.Activation) error {
		m, err := a.message(form, activation, p)
		if err == nil && passes(activation, m.body) {
			out = append(out, m)
		}
		return err
	}
	if a.plain {
		if err := add("identify", nil); err != nil {
			return nil, err
		}
		if a.corrects {
			return out, nil
		}
		return out, add("track", nil)
	}
	for i := range a.activations {
		act := &a.activations[i]
		form := ""
		switch {
		case act.Type == workspace.AudienceMembershipChanged:
			form = "identify"
		case act.Type == workspace.AudienceEntered && a.member, act.Type == workspace.AudienceExited && !a.member:
			form = "track"
		default:
			continue
		}
		if err := add(form, act); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// passes says whether what an activation made matches its trigger. One that
// cannot be read, perhaps saved by another version, matches nothing.
func passes(act *workspace.Activation, body []byte) bool {
	if act == nil || act.Trigger == "" {
		return true
	}
	t, err := fql.ParseTrigger(act.Trigger)
	return err == nil && t.Match(body)
}

func (a *announcement) message(form string, act *workspace.Activation, p *person) (message, error) {
	at := event.FormatTime(time.UnixMilli(a.at))
	body := payload{
		Type: form, MessageID: a.messageID(form, act), UserID: p.userID,
		Integrations: map[string]bool{"All": false, a.destination.Name: true},
		Timestamp:    at, OriginalTimestamp: at, ReceivedAt: at,
		Context: payloadContext{Personas: personas{
			ComputationClass: "audience", ComputationID: a.audience.ID, ComputationKey: a.audience.Key,
			ComputationRunID: a.run, Namespace: a.space, SpaceID: a.space, AudienceSettings: a.settings,
		}},
	}
	if act != nil {
		body.Context.Personas.EventEmitterID = act.ID
	}
	email := p.email
	switch t := a.identifier.Type; t {
	case "user_id":
		body.UserID = a.identifier.Value
	case "anonymous_id":
		body.AnonymousID = a.identifier.Value
	case "email":
		email = a.identifier.Value
	case "android.idfa", "ios.idfa":
		body.Context.Device = &device{Type: strings.TrimSuffix(t, ".idfa"), AdvertisingID: a.identifier.Value, AdTrackingEnabled: true}
	default:
		body.Context.ExternalIDs = []externalID{{ID: a.identifier.Value, Type: t, Collection: a.identifier.Collection, Encoding: "none"}}
	}
	if body.UserID == "" && body.AnonymousID == "" {
		body.AnonymousID = p.anonymousID
	}

	values := map[string]json.RawMessage{a.audience.Key: boolean(a.member)}
	if act != nil {
		for name, as := range act.Traits {
			value, ok, err := p.trait(name)
			if err != nil {
				return message{}, err
			}
			if ok {
				values[as] = json.RawMessage(value.Raw)
			}
		}
	}
	var emailTrait map[string]json.RawMessage
	if email != "" {
		quoted, err := json.Marshal(email)
		if err != nil {
			return message{}, fmt.Errorf("email of a message: %w", err)
		}
		emailTrait = map[string]json.RawMessage{"email": quoted}
	}
	if form == "identify" {
		if emailTrait != nil {
			values["email"] = emailTrait["email"]
		}
		body.Traits = values
	} else {
		body.Event = exitedEvent
		if a.member {
			body.Event = enteredEvent
		}
		key, err := json.Marshal(a.audience.Key)
		if err != nil {
			return message{}, fmt.Errorf("key of an audience: %w", err)
		}
		values["audience_key"] = key
		body.Properties = values
		body.Context.Traits = emailTrait
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return message{}, fmt.Errorf("message of audience %s: %w", a.audience.ID, err)
	}
	return message{id: body.MessageID, body: raw}, nil
}

// messageID derives the id of a message from what caused it, so that it is the
// same after a crash: cause, definition and its version, form, identifier.
func (a *announcement) messageID(form string, act *workspace.Activation) string {
	emitter := ""
	if act != nil {
		emitter = act.ID
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d\x00%s\x00%s\x00%s\x00%s\x00%s\x00%t", a.cause, a.run, a.audience.ID,
		a.audience.Version, a.destination.ID, emitter, form, a.identifier.Type, a.identifier.Value, a.member))
	return "personas_" + event.RecordID(sum[:16]).String()
}

func boolean(b bool) json.RawMessage {
	if b {
		return json.RawMessage("true")
	}
	return json.RawMessage("false")
}
