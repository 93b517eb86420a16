package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"

	"kith/clock"
	"kith/destination"
)

// sink is the remote side of all destinations. It answers as the seed says.
type sink struct {
	seed uint64
	dice *dice
	mood atomic.Int32 // how often, in a hundred, a try fails

	mu       sync.Mutex
	sequence int
	got      map[string][]receipt // by the name of the destination, in order
}

// receipt is one item that came in.
type receipt struct {
	messageID  string
	from, till int // when it came and was answered, in the order of all
	at         int64
	status     destination.Status
	resent     bool
}

func newSink(d *dice, seed uint64) *sink {
	return &sink{seed: seed, dice: d, got: map[string][]receipt{}}
}

// connector returns the kind of destination that leads here.
func (s *sink) connector() destination.Connector {
	return destination.Connector{
		Spec: destination.Spec{
			ID: "fake", Slug: "fake", Name: "Fake", Description: "The remote side of the simulation", Integrations: []string{"Fake"},
			Settings: []destination.Field{
				{Name: "name", Label: "Name", Help: "which one it is", Type: destination.String, Required: true},
				{Name: "size", Label: "Size", Help: "of batches", Type: destination.Integer, Min: 0, Max: 100},
				{Name: "whole", Label: "Whole", Help: "batches are", Type: destination.Boolean},
			},
			Actions: []destination.Action{{ID: "send", Slug: "send", Name: "Send", Description: "Sends", DefaultTrigger: `type = "track"`}},
			Limits:  destination.Limits{Concurrency: 3, Timeout: 5 * time.Millisecond},
		},
		Open: func(settings json.RawMessage, env destination.Env) (destination.Destination, error) {
			o := gjson.ParseBytes(settings)
			return &outlet{
				sink: s, clock: env.Clock, name: o.Get("name").String(),
				batching: destination.Batching{Size: max(1, int(o.Get("size").Int())), Bytes: 1 << 20, Whole: o.Get("whole").Bool()},
			}, nil
		},
	}
}

// outlet is one open destination.
type outlet struct {
	sink     *sink
	clock    clock.Clock
	name     string
	batching destination.Batching
	closed   atomic.Bool
}

// Batching returns what the settings say.
func (o *outlet) Batching() destination.Batching { return o.batching }

// Close closes it.
func (o *outlet) Close() error {
	if o.closed.Swap(true) {
		return fmt.Errorf("closed twice")
	}
	return nil
}

// Send answers as the seed says: what is refused for good is decided by the
// item, all else by the mood.
func (o *outlet) Send(ctx context.Context, batch []destination.Item) []destination.Outcome {
	s := o.sink
	from := s.tick()
	out := make([]destination.Outcome, len(batch))
	hang := false
	if s.dice.n(100) < int(s.mood.Load()) {
		switch s.dice.n(5) {
		case 0:
			hang = true
			<-ctx.Done()
			fill(out, destination.Outcome{Reason: "no answer in time"})
		case 1:
			fill(out, destination.Outcome{Reason: "come again", After: time.Duration(1+s.dice.n(90)) * time.Minute})
		case 2:
			fill(out, destination.Outcome{Reason: "busy"})
		default:
			for i := range out {
				out[i] = destination.Outcome{Status: destination.Delivered}
				if s.dice.of(2) && !o.batching.Whole {
					out[i] = destination.Outcome{Reason: "busy with this one"}
				}
			}
		}
	} else {
		fill(out, destination.Outcome{Status: destination.Delivered})
	}
	for i, item := range batch {
		if !hang && out[i].Status == destination.Delivered && s.refuses(item) {
			out[i] = destination.Outcome{Status: destination.Permanent, Reason: "refused"}
			if o.batching.Whole {
				fill(out, out[i])
				break
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	till := s.next()
	for i, item := range batch {
		s.got[o.name] = append(s.got[o.name], receipt{
			messageID: gjson.GetBytes(item.Body, "messageId").String(), from: from, till: till,
			at: o.clock.Now().UnixMilli(), status: out[i].Status, resent: item.Resent,
		})
	}
	return out
}

// refuses says whether an item is never taken, but from a person who sends it
// again.
func (s *sink) refuses(item destination.Item) bool {
	sum := fnv.New64a()
	fmt.Fprint(sum, s.seed, gjson.GetBytes(item.Body, "messageId").String())
	return !item.Resent && sum.Sum64()%20 == 0
}

func fill(out []destination.Outcome, o destination.Outcome) {
	for i := range out {
		out[i] = o
	}
}

func (s *sink) tick() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next()
}

func (s *sink) next() int {
	s.sequence++
	return s.sequence
}

// receipts returns what a destination has received.
func (s *sink) receipts(name string) []receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]receipt(nil), s.got[name]...)
}

// String returns a receipt in a few words.
func (r receipt) String() string {
	return fmt.Sprintf("%s %s at %s (%d–%d)", r.messageID, r.status, time.UnixMilli(r.at).UTC().Format("01-02 15:04:05.000"), r.from, r.till)
}
