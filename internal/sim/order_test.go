package sim

import (
	"context"
	"net/http"

	"kith/event"
	"kith/fault"
)

// account is an identifier that some account may have.
func (h *history) account() event.ExternalID {
	id := event.ExternalID{Collection: event.Accounts, Type: "group_id", ID: pick(h.dice, groups)}
	if h.dice.of(3) {
		id.Type, id.ID = "crm", pick(h.dice, crms)
	}
	return id
}

// anybody is an identifier that somebody may have.
func (h *history) anybody() event.ExternalID {
	id := event.ExternalID{Collection: event.Users}
	switch h.dice.n(4) {
	case 0:
		id.Type, id.ID = "user_id", pick(h.dice, users)
	case 1:
		id.Type, id.ID = "email", pick(h.dice, emails)
	case 2:
		id.Type, id.ID = "card", pick(h.dice, cards)
	default:
		id.Type, id.ID = "anonymous_id", pick(h.dice, devices)
	}
	return id
}

// order gives a command, while events keep coming.
func (h *history) order() {
	var c event.Command
	switch n := h.dice.n(16); {
	case n < 4:
		user := event.ExternalID{Collection: event.Users, Type: "user_id", ID: pick(h.dice, users)}
		c.Separate = &event.Separate{Left: []event.ExternalID{user}, Right: []event.ExternalID{h.anybody(), h.anybody()}}
		if h.dice.of(2) {
			c.Separate.Right = append(c.Separate.Right, h.anybody())
		}
	case n < 5:
		c.Separate = &event.Separate{Left: []event.ExternalID{h.account()}, Right: []event.ExternalID{h.account()}}
	case n < 7:
		id := h.anybody()
		if h.dice.of(4) {
			id = h.account()
		}
		c.Block = &id
	case n < 9 && len(h.standing) > 0:
		c.Lift = &event.Lift{Offset: pick(h.dice, h.standing)}
	case n < 11:
		c.DeleteIdentifier = &event.DeleteIdentifier{Identifier: h.anybody()}
	case n < 12:
		c.DeleteIdentifier = &event.DeleteIdentifier{Identifier: h.account()}
	default:
		c.Leave = &event.Leave{
			User:    event.ExternalID{Collection: event.Users, Type: "user_id", ID: pick(h.dice, users)},
			Account: h.account(),
		}
	}
	if c.Check() != nil {
		return // the same identifier on both sides
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.patience())
	defer cancel()
	at, err := h.server.Order(ctx, space, &c)
	h.tell("ordered: %s %+v %v", c.Name(), string(must(c.Encode())), err)
	if err != nil {
		if !fault.Is(err, fault.Unavailable) {
			h.t.Fatal(err)
		}
		h.fired.Add(1)
		return
	}
	if c.Separate != nil || c.Block != nil {
		h.standing = append(h.standing, uint64(at.Offset))
	}
	h.seen.Orders++
}

// rebuild begins to work out again everything that is derived, while events keep
// coming, by the rules as they were or by today's.
func (h *history) rebuild() {
	rules := "recorded"
	if h.seed%2 == 0 && h.dice.of(2) {
		rules = "current"
	}
	within := h.patience()
	code, answer := call(h.server.Handler(), within, "POST", "/api/spaces/"+h.spaceID+"/rebuilds", adminToken, `{"rules":"`+rules+`"}`)
	h.tell("rebuild by the rules %s: %d", rules, code)
	switch {
	case code/100 == 2:
		h.seen.Rebuilds++
		h.ruled = h.ruled || rules == "current"
	case code == http.StatusConflict: // one is under way
	case within == impatience && code >= 500:
		h.fired.Add(1)
	default:
		h.t.Fatalf("a rebuild was refused: %d %s", code, answer)
	}
}
