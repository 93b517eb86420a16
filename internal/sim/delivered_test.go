package sim

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tidwall/gjson"

	"kith/delivery"
	"kith/destination"
	"kith/event"
	"kith/pipeline"
)

// unit is an output that a destination is to have, once or more often.
type unit struct {
	output   *pipeline.Output
	offset   int
	times    int // subscriptions that match
	receipts []receipt
	// forgotten says that it may have been forgotten before the destination came
	// to it, which was disabled or failed, or that its dead letter may be gone.
	forgotten bool
}

// checkDelivery compares what a destination has had with what it was to have.
func (h *history) checkDelivery(l *look, o *outletInfo) {
	units, order := map[string]*unit{}, []*unit{}
	accepted, filtered, unread := 0, 0, 0 // unread: of those filtered, forgotten
	for i := int(o.first); i < len(l.outputs); i++ {
		out := &l.outputs[i]
		u := &unit{output: out, offset: i, forgotten: h.forgotten(out.At)}
		id := ""
		switch {
		case out.Event != nil:
			id = out.Event.MessageID
			u.times = o.passes(out.Event, l.raw[out.Event.Offset].Body)
		case out.Message != nil && out.Message.Destination == o.id:
			id, u.times = out.Message.MessageID, 1
		default:
			continue
		}
		if u.times == 0 {
			filtered++
			accepted++
			if u.forgotten {
				unread++
			}
			continue
		}
		accepted += u.times
		units[id] = u
		order = append(order, u)
	}
	list := h.sink.receipts(o.name)
	for i := range list {
		r := list[i]
		u := units[r.messageID]
		if u == nil {
			h.t.Errorf("%s received what it was not to have: %v", o.name, r)
			continue
		}
		h.seen.Received++
		if r.status != destination.Delivered {
			h.seen.Retried++
		}
		u.receipts = append(u.receipts, r)
	}
	var letters struct {
		DeadLetters []struct{ ID, MessageID string }
	}
	h.api("GET", "/destinations/"+o.id+"/dead-letters?pagination%5Bcount%5D=100", nil, &letters)
	dead := map[string]int{}
	for _, d := range letters.DeadLetters {
		dead[d.MessageID]++
		h.seen.Dead++
		if units[d.MessageID] == nil && (d.MessageID != "" || !h.trims()) { // of one that is forgotten nothing is told
			h.t.Errorf("%s has the dead letter %s, which it was not to have", o.name, d.MessageID)
		}
	}
	missing, lost := 0, 0
	for id, u := range units {
		delivered := 0
		for _, r := range u.receipts {
			if r.status == destination.Delivered {
				delivered++
			}
		}
		if n := max(0, u.times-delivered-dead[id]); n > 0 && u.forgotten {
			lost += n
		} else {
			missing += n
		}
	}
	for _, s := range h.server.Destinations() {
		if s.Destination != o.id || !o.enabled {
			continue
		}
		c := s.Counts
		gone := int(c.Filtered[delivery.GateGone])
		if gone > lost+unread {
			h.t.Errorf("%s: %d outputs are gone, and at most %d were forgotten", o.name, gone, lost+unread)
		}
		if missing > int(c.Waiting) {
			h.t.Errorf("%s: %d outputs are neither delivered nor dead, and %d wait: %s", o.name, missing, c.Waiting, describe(units, dead))
		}
		if int(c.Accepted()) > accepted || int(c.Accepted()) < accepted-gone-lost || int(c.AllFiltered())-gone > filtered || int(c.AllFiltered())-gone < filtered-min(gone, unread) || int(c.Dead) > len(letters.DeadLetters) && !h.trims() || int(c.Dead+c.Waiting) < len(letters.DeadLetters) || s.Backlog != 0 || s.Pending != 0 {
			h.t.Errorf("%s: accepted %d, want %d; filtered %d, want %d; dead %d, %d letters; delivered %d, waiting %d; %+v", o.name,
				c.Accepted(), accepted, c.AllFiltered(), filtered, c.Dead, len(letters.DeadLetters), c.Delivered, c.Waiting, s)
		}
	}
	h.checkOrder(o, order)
}

func describe(units map[string]*unit, dead map[string]int) (text string) {
	for id, u := range units {
		if len(u.receipts) == 0 && dead[id] == 0 {
			text += fmt.Sprintf("\n  %s at %d %s", id, u.offset, must(json.Marshal(u.output)))
		}
	}
	return text
}

// passes returns for how many subscriptions an event goes to a destination.
func (o *outletInfo) passes(e *pipeline.Resolved, body []byte) int {
	if e.Source != o.source {
		return 0
	}
	if in := gjson.GetBytes(body, "integrations"); in.IsObject() {
		all, fake := in.Get("All"), in.Get("Fake")
		if fake.Exists() && !fake.Bool() || !fake.Exists() && all.Exists() && !all.Bool() {
			return 0
		}
	}
	if len(o.triggers) == 0 {
		return 1
	}
	n := 0
	for _, t := range o.triggers {
		if triggers[t].match(e.Type.String(), e.Name) {
			n++
		}
	}
	return n
}

// maxAge is how long an event is tried.
const maxAge = 4 * 60 * 60 * 1000

// checkOrder holds the first delivery of each output against the order of its
// profile: it comes when those before it are delivered, refused or given up.
func (h *history) checkOrder(o *outletInfo, order []*unit) {
	people := map[event.ProfileID][]*unit{}
	for _, u := range order {
		p := u.output.Profile
		if p.IsZero() || len(u.receipts) == 0 {
			if !p.IsZero() {
				people[p] = append(people[p], u)
			}
			continue
		}
		for _, before := range people[p] {
			if before != u && !before.forgotten && !before.done(u.receipts[0]) {
				h.t.Errorf("%s had the output %d of %s before the output %d:\n%v\n%v", o.name, u.offset, p, before.offset, u.receipts[0], before.receipts)
			}
		}
		people[p] = append(people[p], u)
	}
	for p, list := range people {
		var all []receipt
		for _, u := range list {
			all = append(all, u.receipts...)
		}
		slices.SortFunc(all, func(a, b receipt) int { return a.from - b.from })
		for i := 1; i < len(all); i++ {
			if all[i].from != all[i-1].from && all[i].from < all[i-1].till {
				h.t.Errorf("%s had two events of %s at once: %v %v", o.name, p, all[i-1], all[i])
			}
		}
	}
}

// done reports whether the next output of its profile may have come when it
// came.
func (u *unit) done(next receipt) bool {
	n := 0
	for _, r := range u.receipts {
		if r.from == next.from || r.till < next.from && r.status != destination.Retry {
			n++
		}
		if r.at <= next.at-maxAge {
			return true
		}
	}
	return n >= 1
}
