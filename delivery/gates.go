package delivery

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/tidwall/gjson"

	"kith/destination"
	"kith/fql"
	"kith/pipeline"
	"kith/workspace"
)

// Gate is a reason for which an output is kept back from a destination. The
// gates are asked at every attempt, in the order source, gone, integrations,
// client, trigger. The numbers are stored.
//
// That a destination is enabled is asked before all of them; it keeps nothing
// back for good: a disabled destination stands still.
type Gate uint8

// The gates.
const (
	// GateSource: the event is of a source that the destination is not
	// connected to.
	GateSource Gate = iota
	// GateGone: the event is no longer kept.
	GateGone
	// GateIntegrations: the event's integrations object refuses the
	// destination (sheet connections_protocols §2.7).
	GateIntegrations
	// GateTrigger: there are subscriptions, and none that is enabled matches.
	GateTrigger
	// GateClient: the device has sent the event to the destination itself
	// (its _metadata.bundled; sheet connections_protocols §1.1).
	GateClient
	// GateCount is how many there are.
	GateCount
)

var gateNames = [GateCount]string{"source", "gone", "integrations", "trigger", "client"}

// gateCodes are Segment's discard reasons, where it has one (delivery overview,
// "Filtered at Destination").
var gateCodes = [GateCount]string{"SOURCE_NOT_CONNECTED", "EVENT_NO_LONGER_KEPT", "FILTERED_BY_INTEGRATIONS_OBJECT", "NO_MATCHING_MAPPING", "MESSAGE_SENT_CLIENT_SIDE"}

// Code returns the gate as a discard reason: "NO_MATCHING_MAPPING".
func (g Gate) Code() string {
	if g < GateCount {
		return gateCodes[g]
	}
	return "UNKNOWN"
}

// String returns the gate's name.
func (g Gate) String() string {
	if g < GateCount {
		return gateNames[g]
	}
	return "unknown"
}

// rules are what the gates of one destination ask for.
type rules struct {
	id            string
	source        string
	names         []string // in the integrations object
	action        string   // for what comes without a subscription
	subscribed    bool     // there are subscriptions
	subscriptions []subscription
}

type subscription struct {
	id       string
	action   string
	settings json.RawMessage
	trigger  *fql.Trigger
}

// newRules compiles a destination's gates. A trigger that cannot be read,
// perhaps saved by another version, matches nothing; its subscription's id is
// in broken.
func newRules(d *workspace.Destination, spec *destination.Spec) (r *rules, broken []string) {
	r = &rules{id: d.ID, source: d.SourceID, names: spec.Integrations, action: spec.Actions[0].Slug, subscribed: len(d.Subscriptions) > 0}
	for _, s := range d.Subscriptions {
		if !s.Enabled {
			continue
		}
		t, err := fql.ParseTrigger(s.Trigger)
		action := spec.Action(s.ActionID)
		if action == nil {
			action = spec.Action(s.ActionSlug)
		}
		if err != nil || action == nil {
			broken = append(broken, s.ID)
			continue
		}
		r.subscriptions = append(r.subscriptions, subscription{id: s.ID, action: action.Slug, settings: s.Settings, trigger: t})
	}
	return r, broken
}

// concerns reports whether an output can be for the destination at all: an
// event, or a message that is addressed to it. Everything else is not counted.
func (r *rules) concerns(o *pipeline.Output) bool {
	return o.Event != nil || o.Message != nil && o.Message.Destination == r.id
}

// judge returns the subscriptions for which the destination gets an output,
// one empty id where there are none; a message asks no subscription, since it
// is addressed. Without any, gate says what keeps it back.
func (r *rules) judge(o *pipeline.Output, body []byte, to []string) (subscriptions []string, gate Gate) {
	if o.Message != nil {
		return append(to, ""), 0
	}
	if o.Event.Source != r.source {
		return nil, GateSource
	}
	if !integrates(body, r.names) {
		return nil, GateIntegrations
	}
	if sentByDevice(body, r.id, r.names) {
		return nil, GateClient
	}
	if !r.subscribed {
		return append(to, ""), 0
	}
	for i := range r.subscriptions {
		if r.subscriptions[i].trigger.Match(body) {
			to = append(to, r.subscriptions[i].id)
		}
	}
	return to, GateTrigger
}

// integrates asks an event's integrations object: a name of the destination
// decides, with anything but false, before All does.
func integrates(body []byte, names []string) bool {
	object := gjson.GetBytes(body, "integrations")
	if !object.IsObject() {
		return true
	}
	all, named, allowed := true, false, true
	object.ForEach(func(key, v gjson.Result) bool {
		if key.Str == "All" {
			all = v.Type != gjson.False
		}
		for _, name := range names {
			if key.Str == name {
				named, allowed = true, v.Type != gjson.False
			}
		}
		return true
	})
	if named {
		return allowed
	}
	return all
}

// sentByDevice asks an event's _metadata, which a browser's SDK adds: bundled
// names the integrations that it has sent the event to by itself. Where one
// name stands for several destinations, bundledIds says which of them.
func sentByDevice(body []byte, id string, names []string) bool {
	if !bytes.Contains(body, []byte(`_metadata"`)) { // most events; a search for the rarer letter first is a quick one
		return false
	}
	metadata := gjson.GetBytes(body, "_metadata")
	ids := metadata.Get("bundledIds").Array()
	for _, one := range ids {
		if one.Str == id {
			return true
		}
	}
	if len(ids) > 0 {
		return false
	}
	for _, one := range metadata.Get("bundled").Array() {
		if slices.Contains(names, one.Str) {
			return true
		}
	}
	return false
}

// item returns what is sent for a subscription.
func (r *rules) item(subscription string, body []byte) destination.Item {
	for i := range r.subscriptions {
		if s := &r.subscriptions[i]; s.id == subscription {
			return destination.Item{Action: s.action, Settings: s.settings, Body: body}
		}
	}
	return destination.Item{Action: r.action, Body: body}
}
