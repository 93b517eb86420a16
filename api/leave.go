package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"kith/event"
	"kith/fault"
)

// leaveWait is how long an answer waits for the membership to have ended.
const leaveWait = 10 * time.Second

func (a *API) leaveRoutes() {
	handle(a, http.MethodPost, "/spaces/{spaceId}/identity/leave", "leaveAccount", tagIdentity, a.leave,
		about("Kith's own: ends the membership of a user in an account, from here on, under whichever of their identifiers a group call began it. "+
			"A later group call begins it anew. Segment has no such call."))
}

type leaveInput struct {
	SpacePath
	Body struct {
		User    OrderedID `json:"user" doc:"An identifier of the user"`
		Account OrderedID `json:"account" doc:"An identifier of the account, as group_id"`
		OrderReason
	}
}

// left is the answer to an order to leave.
type left struct {
	Offset uint64 `json:"offset" doc:"Of the order in the space's log"`
	Done   bool   `json:"done" doc:"false when it was not carried out within 10 seconds: it will be"`
}

func (a *API) leave(ctx context.Context, in *leaveInput) (*left, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	c := &event.Command{
		By: cmp.Or(in.Body.By, "admin"), Note: in.Body.Note,
		Leave: &event.Leave{User: in.Body.User.external(space), Account: in.Body.Account.external(space)},
	}
	if c.Leave.Account.Collection != event.Accounts {
		return nil, fault.Field("account", "%s is a type of users: name the account by one of accounts, as group_id", c.Leave.Account.Type)
	}
	at, err := a.cfg.Reviser.Order(ctx, space.Number, c)
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, leaveWait)
	defer cancel()
	err = a.cfg.Reviser.Passed(waiting, space.Number, at)
	if err != nil && waiting.Err() == nil {
		return nil, err
	}
	return &left{Offset: uint64(at), Done: err == nil}, nil
}
