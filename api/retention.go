package api

import (
	"context"
	"net/http"
	"time"

	"kith/retention"
	"kith/workspace"
)

const tagRetention = "Retention"

// Retention lets the bodies of events go by their age.
type Retention interface {
	// Status tells how the retention of a space stands.
	Status(ctx context.Context, space uint32) (*retention.Status, error)
	// Now looks at once how far the horizon may move, and begins to move it;
	// fault.Conflict where events are kept for ever.
	Now(ctx context.Context, space uint32) error
}

// Retained is the retention of a space as the API shows it.
type Retained struct {
	Setting string `json:"setting" doc:"What the space says: 90d, 12w, 36h or forever; empty: as the server says"`
	Keeps   string `json:"keeps" doc:"What holds: a number of days or hours, or forever"`
	// State says what is under way.
	State string `json:"state" enum:"off,idle,advancing,trimming,failed" doc:"advancing: what the old events made is being kept for good; trimming: they are being taken out of the files"`
	Error string `json:"error,omitempty"`
	Done  uint64 `json:"done,omitempty" doc:"While advancing: records replayed"`
	Total uint64 `json:"total,omitempty"`
	Waits string `json:"waits,omitempty" doc:"What the last step waits for"`

	Horizon   uint64 `json:"horizon" doc:"The offset of the first event that is whole; zero: nothing was ever trimmed"`
	Since     string `json:"since,omitempty" doc:"The instant since when all events are whole"`
	MovedAt   string `json:"movedAt,omitempty"`
	Trimmed   uint64 `json:"trimmed" doc:"Records whose bodies were taken out"`
	Bytes     int64  `json:"bytes" doc:"By how much the log of events has become smaller, as it is packed"`
	FilesDone bool   `json:"filesClean" doc:"No file holds a body from before the horizon"`

	LastRun *RetentionRun `json:"lastRun,omitempty"`
	NextRun string        `json:"nextRun,omitempty"`
}

// RetentionRun is one look at how far the horizon may move.
type RetentionRun struct {
	At     string          `json:"at"`
	Before string          `json:"before" doc:"Events from this instant on are kept"`
	Holds  []RetentionHold `json:"holds,omitempty" doc:"Who still needs older events"`
}

// RetentionHold is somebody who still needs old events.
type RetentionHold struct {
	DestinationID string `json:"destinationId,omitempty"`
	Destination   string `json:"destination,omitempty" doc:"Its slug"`
	Why           string `json:"why"`
	Since         string `json:"since" doc:"The instant of the oldest"`
}

type retentionAnswer struct {
	Retention *Retained `json:"retention"`
}

type setRetentionInput struct {
	SpacePath
	Body struct {
		Setting string `json:"setting" doc:"90d, 12w, 36h or forever; empty: as the server says"`
	}
}

func (a *API) retentionRoutes() {
	handle(a, http.MethodGet, "/spaces/{spaceId}/retention", "getRetention", tagRetention, a.getRetention,
		about("Kith's own: how long a space keeps the bodies of its events, and how far they are trimmed."))
	handle(a, http.MethodPut, "/spaces/{spaceId}/retention", "setRetention", tagRetention, a.setRetention,
		about("Kith's own: says how long a space keeps the bodies of its events. It takes effect at the next daily look. What is trimmed does not come back."))
	handle(a, http.MethodPost, "/spaces/{spaceId}/retention/run", "runRetention", tagRetention, a.runRetention,
		about("Kith's own: looks at once how far the bodies of events may go, and begins with it."))
}

func (a *API) getRetention(ctx context.Context, in *SpacePath) (*retentionAnswer, error) {
	snap := a.cfg.Workspace.Current()
	sp, err := in.find(snap)
	if err != nil {
		return nil, err
	}
	s, err := a.cfg.Retention.Status(ctx, sp.Number)
	if err != nil {
		return nil, err
	}
	return &retentionAnswer{retained(snap, sp, s)}, nil
}

func (a *API) setRetention(ctx context.Context, in *setRetentionInput) (*retentionAnswer, error) {
	sp, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	if _, err := a.update(ctx, "spaces."+sp.Slug, func(d *workspace.Draft) error {
		d.Space(sp.ID).Retention = in.Body.Setting
		return nil
	}); err != nil {
		return nil, err
	}
	return a.getRetention(ctx, &in.SpacePath)
}

func (a *API) runRetention(ctx context.Context, in *SpacePath) (*retentionAnswer, error) {
	sp, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	if err := a.cfg.Retention.Now(ctx, sp.Number); err != nil {
		return nil, err
	}
	return a.getRetention(ctx, in)
}

// retained shows a status.
func retained(snap *workspace.Snapshot, sp *workspace.Space, s *retention.Status) *Retained {
	out := &Retained{
		Setting: sp.Retention, Keeps: workspace.FormatRetention(s.Keeps), State: "idle", Error: s.Error,
		Horizon: uint64(s.Horizon.Offset), Trimmed: s.Trimmed.Records, Bytes: s.Trimmed.Bytes,
		FilesDone: s.Trimmed.Next >= s.Horizon.Offset && s.Trimmed.Clean(),
	}
	switch {
	case s.Advance.Running:
		out.State, out.Done, out.Total, out.Waits = "advancing", s.Advance.Done, s.Advance.Total, s.Advance.Waits
	case s.Advance.Error != "":
		out.State, out.Error = "failed", s.Advance.Error
	case s.Error != "":
		out.State = "failed"
	case !s.Done():
		out.State = "trimming"
	case s.Keeps == 0:
		out.State = "off"
	}
	if !s.Horizon.IsZero() {
		out.Since, out.MovedAt = when(time.UnixMilli(s.Horizon.At).UTC()), when(time.UnixMilli(s.Horizon.Moved).UTC())
	}
	if s.Last != nil {
		out.LastRun = &RetentionRun{At: when(s.Last.At), Before: when(s.Last.Before)}
		for _, h := range s.Last.Holds {
			shown := RetentionHold{DestinationID: h.Destination, Why: h.Why, Since: when(h.Since)}
			if d := snap.Destination(h.Destination); d != nil {
				shown.Destination = d.Slug
			}
			out.LastRun.Holds = append(out.LastRun.Holds, shown)
		}
	}
	if !s.Next.IsZero() {
		out.NextRun = when(s.Next)
	}
	return out
}
