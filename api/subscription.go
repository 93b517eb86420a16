package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"kith/workspace"
)

type subscriptionBody struct {
	ID            string   `json:"id"`
	Name          string   `json:"name"`
	ActionID      string   `json:"actionId"`
	ActionSlug    string   `json:"actionSlug"`
	DestinationID string   `json:"destinationId"`
	Enabled       bool     `json:"enabled"`
	Settings      document `json:"settings"`
	Trigger       string   `json:"trigger"`
}

func showSubscription(d *workspace.Destination, s *workspace.Subscription) subscriptionBody {
	return subscriptionBody{
		ID: s.ID, Name: s.Name, ActionID: s.ActionID, ActionSlug: s.ActionSlug, DestinationID: d.ID,
		Enabled: s.Enabled, Settings: document(s.Settings), Trigger: s.Trigger,
	}
}

// subscriptionAnswer names the subscription as Segment's creating call does,
// and as its reading and updating calls do.
type createdSubscription struct {
	DestinationSubscription subscriptionBody `json:"destinationSubscription"`
}

type subscriptionAnswer struct {
	Subscription subscriptionBody `json:"subscription"`
}

type subscriptionsAnswer struct {
	Subscriptions []subscriptionBody `json:"subscriptions"`
	Pagination    pageInfo           `json:"pagination"`
}

type listSubscriptionsInput struct {
	DestinationPath
	Paging
}

func (a *API) listSubscriptions(_ context.Context, in *listSubscriptionsInput) (subscriptionsAnswer, error) {
	d, err := a.destination(in.DestinationID)
	if err != nil {
		return subscriptionsAnswer{}, err
	}
	page, info, err := paged(d.Subscriptions, func(s *workspace.Subscription) string { return s.ID }, &in.Paging)
	return subscriptionsAnswer{each(page, func(s *workspace.Subscription) subscriptionBody { return showSubscription(d, s) }), info}, err
}

type createSubscriptionInput struct {
	DestinationPath
	Body struct {
		Name     string   `json:"name"`
		ActionID string   `json:"actionId" doc:"Id or slug of an action of the destination's kind"`
		Trigger  string   `json:"trigger"`
		Enabled  *bool    `json:"enabled,omitempty" doc:"true when missing"`
		Settings document `json:"settings,omitempty"`
	}
}

func (a *API) createSubscription(ctx context.Context, in *createSubscriptionInput) (createdSubscription, error) {
	b := &in.Body
	var id string
	d, err := a.changeSubscriptions(ctx, in.DestinationID, func(d *workspace.Draft, dest *workspace.Destination) (int, error) {
		s := workspace.Subscription{
			ID: d.NewSubscriptionID(), Name: b.Name, ActionID: b.ActionID, Trigger: b.Trigger,
			Enabled: b.Enabled == nil || *b.Enabled, Settings: b.Settings.raw(),
		}
		id = s.ID
		dest.Subscriptions = append(dest.Subscriptions, s)
		return len(dest.Subscriptions) - 1, nil
	})
	if err != nil {
		return createdSubscription{}, err
	}
	return createdSubscription{showSubscription(d, &d.Subscriptions[subscriptionAt(d, id)])}, nil
}

// changeSubscriptions changes a destination's subscriptions; fn says which one
// the request is about.
func (a *API) changeSubscriptions(ctx context.Context, id string, fn func(*workspace.Draft, *workspace.Destination) (int, error)) (*workspace.Destination, error) {
	path := ""
	snap, err := a.updateNamed(ctx, func() string { return path }, func(d *workspace.Draft) error {
		dest := d.Destination(id)
		if dest == nil {
			return notFound("destination", id)
		}
		i, err := fn(d, dest)
		path = fmt.Sprintf("destinations.%s.subscriptions.%d", dest.Slug, i)
		return err
	})
	if err != nil {
		return nil, err
	}
	return snap.Destination(id), nil
}

func subscriptionAt(d *workspace.Destination, id string) int {
	return slices.IndexFunc(d.Subscriptions, func(s workspace.Subscription) bool { return s.ID == id })
}

// SubscriptionPath names a subscription in a path.
type SubscriptionPath struct {
	DestinationPath
	ID string `path:"id"`
}

func (a *API) getSubscription(_ context.Context, in *SubscriptionPath) (subscriptionAnswer, error) {
	d, err := a.destination(in.DestinationID)
	if err != nil {
		return subscriptionAnswer{}, err
	}
	i := subscriptionAt(d, in.ID)
	if i < 0 {
		return subscriptionAnswer{}, notFound("subscription", in.ID)
	}
	return subscriptionAnswer{showSubscription(d, &d.Subscriptions[i])}, nil
}

type subscriptionChange struct {
	Name     *string  `json:"name,omitempty"`
	Trigger  *string  `json:"trigger,omitempty"`
	Enabled  *bool    `json:"enabled,omitempty"`
	Settings document `json:"settings,omitempty" doc:"All of them"`
}

type updateSubscriptionInput struct {
	SubscriptionPath
	Body struct {
		Input subscriptionChange `json:"input"`
	}
}

func (a *API) updateSubscription(ctx context.Context, in *updateSubscriptionInput) (subscriptionAnswer, error) {
	c := &in.Body.Input
	d, err := a.changeSubscriptions(ctx, in.DestinationID, func(_ *workspace.Draft, dest *workspace.Destination) (int, error) {
		i := subscriptionAt(dest, in.ID)
		if i < 0 {
			return i, notFound("subscription", in.ID)
		}
		s := &dest.Subscriptions[i]
		set(&s.Name, c.Name)
		set(&s.Trigger, c.Trigger)
		set(&s.Enabled, c.Enabled)
		if c.Settings != nil {
			s.Settings = c.Settings.raw()
		}
		return i, nil
	})
	if err != nil {
		return subscriptionAnswer{}, within(err, func(field string) string {
			if strings.HasPrefix(field, "destinations.") {
				return field
			}
			return "input." + field
		})
	}
	return subscriptionAnswer{showSubscription(d, &d.Subscriptions[subscriptionAt(d, in.ID)])}, nil
}

func (a *API) removeSubscription(ctx context.Context, in *SubscriptionPath) (status, error) {
	_, err := a.changeSubscriptions(ctx, in.DestinationID, func(_ *workspace.Draft, dest *workspace.Destination) (int, error) {
		i := subscriptionAt(dest, in.ID)
		if i < 0 {
			return i, notFound("subscription", in.ID)
		}
		dest.Subscriptions = slices.Delete(dest.Subscriptions, i, i+1)
		return i, nil
	})
	return success(), err
}
