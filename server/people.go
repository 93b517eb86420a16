package server

import (
	"context"
	"strconv"
	"time"

	"kith/api"
	"kith/computation"
	"kith/delivery"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
	"kith/trackingplan"
	"kith/workspace"
)

// newAPI puts the control API and the Profile API in front of the rooms.
func (s *Server) newAPI() (*api.API, error) {
	return api.New(api.Config{
		Version: s.cfg.Version, Workspace: s.workspace, Tokens: s.keeper, Connectors: s.connectors,
		Audiences: audiences{s}, Profiles: profile.NewReader(s.db, s.archive, computed{s}), Epoch: s.epoch,
		Rejections: s.rejections, Quarantine: trackingplan.NewReader(s.db), Bodies: s.archive,
		DeadLetters: deadLetters{s.delivery}, Feed: s.feed, Clock: s.clock, Random: s.random, Logger: s.cfg.Logger,
	})
}

// epoch returns the live epoch of a space.
func (s *Server) epoch(_ context.Context, number uint32) (uint32, error) {
	sp := s.space(number)
	if sp == nil {
		return 0, fault.New(fault.NotFound, "there is no space %d", number)
	}
	return sp.epoch, nil
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
type audiences struct{ s *Server }

// Status returns where an audience stands; see api.Audiences.
func (x audiences) Status(ctx context.Context, space uint32, a *workspace.Audience) (out api.AudienceStatus, err error) {
	epoch, err := x.s.epoch(ctx, space)
	if err != nil {
		return out, err
	}
	err = x.s.db.View(ctx, func(r kv.Reader) error {
		status, err := x.s.row.computation.Reader().Status(r, space, epoch, a)
		if err != nil {
			return err
		}
		out = api.AudienceStatus{State: string(status.State), Size: uint64(max(0, status.Size))}
		return nil
	})
	return out, err
}

// Members lists who is in an audience; see api.Audiences.
func (x audiences) Members(ctx context.Context, space uint32, audience, cursor string, limit int) (list []api.Member, next string, err error) {
	epoch, err := x.s.epoch(ctx, space)
	if err != nil {
		return nil, "", err
	}
	var after event.ProfileID
	if cursor != "" {
		if after, err = event.ParseProfileID(cursor); err != nil {
			return nil, "", fault.Field("cursor", "%q is not a cursor that this list has given", cursor)
		}
	}
	err = x.s.db.View(ctx, func(r kv.Reader) error {
		list, next = nil, ""
		reader := x.s.row.computation.Reader()
		ids, err := reader.Members(r, space, epoch, audience, after, limit)
		if err != nil {
			return err
		}
		for _, id := range ids {
			since, err := memberSince(r, reader, space, epoch, id, audience)
			if err != nil {
				return err
			}
			list = append(list, api.Member{Profile: id, Since: since})
		}
		if len(ids) == limit {
			next = ids[limit-1].String()
		}
		return nil
	})
	return list, next, err
}

func memberSince(r kv.Reader, reader computation.Reader, space, epoch uint32, id event.ProfileID, audience string) (time.Time, error) {
	all, err := reader.Memberships(r, space, epoch, id)
	if err != nil {
		return time.Time{}, err
	}
	for _, m := range all {
		if m.Audience.ID == audience && m.Member {
			return time.UnixMilli(m.Since).UTC(), nil
		}
	}
	return time.Time{}, nil
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
	for {
		sent, more, err := d.from.Resend(ctx, destination, ids)
		n += sent
		if err != nil || !more || len(ids) > 0 {
			return n, err
		}
	}
}
