package server

import (
	"context"
	"strconv"

	"kith/api"
	"kith/audience"
	"kith/auth"
	"kith/delivery"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/object"
	"kith/pipeline"
	"kith/profile"
	"kith/trackingplan"
	"kith/workspace"
)

// newAPI puts the control API and the Profile API in front of the rooms.
func (s *Server) newAPI() *api.API {
	return api.New(api.Config{
		Reviser: reviser{s.reviser, s},
		Version: s.cfg.Version, Workspace: s.workspace, Tokens: s.keeper, Clients: auth.NewClientTokens(s.oauth), OAuth: s.oauth, Connectors: s.connectors,
		Audiences: audiences{s.desk()}, Profiles: profile.NewReader(s.db, s.archive, computed{s}), Commands: commands{s}, Waiter: waiter{s}, Epoch: s.epoch,
		Rejections: s.rejections, Quarantine: trackingplan.NewReader(s.db), Objects: object.NewReader(s.db), Bodies: s.archive, Past: s.archive,
		Rebuilds:    s.rebuilds,
		Retention:   retain{s},
		Erasures:    erasing{s.erasures, s},
		Trials:      s.rebuilds,
		DeadLetters: deadLetters{s.delivery}, Tracer: s.tracer(), Explainer: s.explainer(), Ledger: s.delivery, Feed: s.feed, Seen: s.counted(), Debugger: s.debugger(), Snippets: s.cdn, Imports: s.imports, Clock: s.clock, Random: s.random, Logger: s.cfg.Logger,
	})
}

// desk answers questions about audiences.
func (s *Server) desk() *audience.Desk {
	return audience.NewDesk(s.db, s.row.computation.Reader(), func(number uint32) uint32 {
		if sp := s.space(number); sp != nil {
			return sp.epoch()
		}
		return firstEpoch // of a space that is being opened
	})
}

// epoch returns the live epoch of a space.
func (s *Server) epoch(_ context.Context, number uint32) (uint32, error) {
	sp := s.space(number)
	if sp == nil {
		return 0, fault.New(fault.NotFound, "there is no space %d", number)
	}
	return sp.epoch(), nil
}

// computed tells the Profile API of a profile's audiences.
type computed struct{ s *Server }

// Computed returns a profile's memberships; see profile.Computations.
func (c computed) Computed(_ context.Context, r kv.Reader, space *workspace.Space, epoch uint32, id event.ProfileID) ([]profile.Computed, error) {
	all, err := c.s.row.computation.Reader().Memberships(r, space.Number, epoch, id)
	if err != nil {
		return nil, err
	}
	list := make([]profile.Computed, 0, len(all))
	for _, m := range all {
		list = append(list, profile.Computed{
			Name: m.Audience.Key, Class: profile.ClassAudience, Value: strconv.FormatBool(m.Member), UpdatedAt: m.Since,
		})
	}
	return list, nil
}

// audiences tells the control API how audiences stand.
type audiences struct{ desk *audience.Desk }

// Status returns where an audience stands; see api.Audiences.
func (x audiences) Status(ctx context.Context, space uint32, a *workspace.Audience) (api.AudienceStatus, error) {
	s, err := x.desk.Status(ctx, space, a)
	return api.AudienceStatus{State: s.State, Size: s.Size, Since: s.Since}, err
}

// Members lists who is in an audience; see api.Audiences.
func (x audiences) Members(ctx context.Context, space uint32, id, cursor string, limit int) (list []api.Member, next string, err error) {
	found, next, err := x.desk.Members(ctx, space, id, cursor, limit)
	for _, m := range found {
		list = append(list, api.Member{Profile: m.Profile, Since: m.Since})
	}
	return list, next, err
}

// deadLetters shows the control API what could not be delivered.
type deadLetters struct{ from *delivery.Delivery }

// DeadLetters lists a destination's dead letters; see api.DeadLetters.
func (d deadLetters) DeadLetters(ctx context.Context, destination, cursor string, limit int) (list []api.DeadLetter, next string, err error) {
	all, err := d.from.DeadLetters(ctx, destination, cursor, limit, false)
	if err != nil {
		return nil, "", err
	}
	for i := range all {
		l := &all[i]
		out := api.DeadLetter{
			ID: l.ID, At: l.At, Subscription: l.Subscription, Profile: l.Profile, Reason: l.Reason, Attempts: l.Attempts,
			Resent: !l.ResentAt.IsZero(),
		}
		body, err := d.from.Body(ctx, l)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, "", err
		}
		out.Body = body
		if e, err := event.ParseTrusted(body); err == nil {
			out.MessageID, out.Type, out.Event = e.MessageID, e.Type.String(), e.Label()
		} else if o := resolvedOf(l.Output); o != nil {
			out.MessageID, out.Type, out.Event = o.MessageID, o.Type.String(), event.Label(o.Type, o.Name)
		}
		list = append(list, out)
	}
	if len(all) == limit {
		next = all[limit-1].ID
	}
	return list, next, nil
}

func resolvedOf(o *pipeline.Output) *pipeline.Resolved {
	if o == nil {
		return nil
	}
	return o.Event
}

// Retry sends dead letters again; see api.DeadLetters.
func (d deadLetters) Retry(ctx context.Context, destination string, ids []string) (n int, err error) {
	if len(ids) == 0 {
		return d.from.ResendAll(ctx, destination)
	}
	n, _, err = d.from.Resend(ctx, destination, ids)
	return n, err
}
