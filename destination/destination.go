package destination

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"kith/clock"
)

// Destination sends events to one remote side with one set of settings. Its
// methods may be called from many goroutines at once; Close is called once,
// after the last Send has returned.
type Destination interface {
	// Send sends a batch and returns one outcome for each item, in the order
	// of the items. It tries once: whoever calls it decides about another try
	// from the outcomes, so Send neither retries nor waits to be let in.
	//
	// Delivery is at least once. The same item may be sent again, alone or
	// with others, also when the remote side had taken it and the answer was
	// lost; the event's messageId is what the remote side can tell it by.
	// Never are two calls under way that hold events of one profile.
	//
	// The items of a batch have the same Action, Settings and Resent. A batch
	// has at least one item and at most as many as Batching allows, or one if
	// the Destination has no Batcher.
	//
	// When ctx is done Send returns soon, with Retry for every item whose
	// outcome it does not know. It panics for no input, keeps no item after it
	// has returned, and changes no Body.
	Send(ctx context.Context, batch []Item) []Outcome
	// Close frees what Open has taken. It does not close what Env holds.
	Close() error
}

// Item is one event for one action.
type Item struct {
	Action   string          // the action's slug
	Settings json.RawMessage // the subscription's settings; nil when there is no subscription
	Body     []byte          // the event's JSON object, in Segment's shape
	// Resent says that a person has sent this dead letter again.
	Resent bool
}

// Status sorts outcomes. The zero value is Retry: what is not known to have
// arrived is sent again.
type Status uint8

// The statuses.
const (
	Retry     Status = iota // not taken this time; trying again may help
	Delivered               // the remote side has taken it
	Permanent               // the remote side will never take it as it is
)

var statusNames = [...]string{"retry", "delivered", "permanent"}

// String returns the status in one word.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "unknown"
}

// Outcome is what became of an item.
type Outcome struct {
	Status Status
	// Reason says why it was not delivered, for people. It holds no secret
	// setting; it may hold what the remote side said of the event.
	Reason string
	// Code is the kind of failure, in a few letters that are the same every
	// time, for counting: the status that the remote side answered ("503"), or
	// one of the Code constants. Empty means CodeInternal.
	Code string
	// After is how long the remote side asks to wait, with Retry; zero leaves
	// it to the caller.
	After time.Duration
	// Regardless says, with Permanent, that the remote side refuses whatever
	// the events are: wrong credentials, a wrong address. Otherwise a batch
	// that is refused as a whole is sent again in smaller ones, to find the
	// event that it is refused for.
	Regardless bool
}

// Codes of failures without an answer, as Segment names them (delivery
// overview, "Failed Delivery").
const (
	CodeInternal        = "INTERNAL"
	CodeTimedOut        = "ETIMEDOUT"        // no answer in time
	CodeRefused         = "EREFUSED"         // nobody listens at the address
	CodeReset           = "ECONNRESET"       // the connection broke
	CodeNotFound        = "ENOTFOUND"        // the host's name leads nowhere
	CodeInvalidSettings = "INVALID_SETTINGS" // no request can be made of the settings, or it may not go there
)

// All returns the same outcome for each of n items.
func All(n int, o Outcome) []Outcome {
	out := make([]Outcome, n)
	for i := range out {
		out[i] = o
	}
	return out
}

// Env is what a connector may use of the world.
type Env struct {
	// HTTP reaches public addresses only, bounds redirects and responses
	// (package egress), and is safe for concurrent use.
	HTTP   *http.Client
	Clock  clock.Clock
	Logger *slog.Logger // never nil; settings and bodies do not belong in it
}

// Batcher is an optional capability of a Destination: taking many events at
// once.
type Batcher interface {
	Batching() Batching
}

// Batching says how events are gathered for Send. It does not change while the
// Destination is open.
type Batching struct {
	Size   int           // most items of a batch, at least 1
	Bytes  int           // most bytes of their bodies together; a larger event goes alone
	MaxAge time.Duration // how long the first may wait for the others
	// Whole says that a batch is taken or refused as a whole: the outcomes of
	// its items are always equal. Only then may a batch hold several events of
	// one profile, in their order.
	Whole bool
}

// BatchingOf returns how events are gathered for d.
func BatchingOf(d Destination) Batching {
	if b, ok := d.(Batcher); ok {
		return b.Batching()
	}
	return Batching{Size: 1}
}
