package api

import (
	"context"
	"math"
	"net/http"

	"kith/rebuild"
)

const tagRebuilds = "Rebuilds"

// Rebuilds works out again what is derived of a space; rebuild.Manager has its
// methods.
type Rebuilds interface {
	// Start starts a rebuild; one at a time: fault.Conflict.
	Start(ctx context.Context, space uint32, q rebuild.Request) (*rebuild.Status, error)
	// Get returns how one stands, or fault.NotFound.
	Get(ctx context.Context, space, epoch uint32) (*rebuild.Status, error)
	// List returns how all stand, the oldest first.
	List(ctx context.Context, space uint32) ([]*rebuild.Status, error)
	// Pause stops one until Resume.
	Pause(ctx context.Context, space, epoch uint32) error
	// Resume lets one go on that is paused or has failed.
	Resume(ctx context.Context, space, epoch uint32) error
	// Swap lets one that waits take the place of the live state.
	Swap(ctx context.Context, space, epoch uint32) error
	// Cancel gives one up and removes it.
	Cancel(ctx context.Context, space, epoch uint32) error
	// SwapBack makes the state live again that was replaced last.
	SwapBack(ctx context.Context, space uint32, note string) (*rebuild.Status, error)
}

// Rebuilding is one state that was derived of a space, or is being derived.
type Rebuilding struct {
	ID        uint32 `json:"id" doc:"The number of the state: its epoch"`
	State     string `json:"state" enum:"running,paused,waiting,failed,live,kept,dropped" doc:"waiting: it has caught up, and waits for the word to swap; live: everybody reads it; kept: it was live, and can be swapped back to; dropped: it is gone"`
	Error     string `json:"error,omitempty" doc:"Why it failed"`
	Rules     string `json:"rules" enum:"recorded,current" doc:"recorded: each event by the identity rules of its time; current: the rules that were in force when it was started, from the first event on"`
	Snapshot  uint64 `json:"snapshot,omitempty" doc:"Where rules is current: the number of the configuration they are of"`
	Note      string `json:"note,omitempty"`
	Version   string `json:"version,omitempty" doc:"The version of kith that made it"`
	CreatedAt string `json:"createdAt,omitempty"`

	Done        uint64  `json:"done" doc:"Records replayed"`
	Total       uint64  `json:"total" doc:"Records there are now"`
	PerSecond   float64 `json:"perSecond,omitempty" doc:"Records a second at present"`
	SecondsLeft float64 `json:"secondsLeft,omitempty" doc:"How long the rest takes at that rate"`

	SwappedAt  string          `json:"swappedAt,omitempty" doc:"Since when everybody reads it, or read it"`
	PauseMs    float64         `json:"pauseMs,omitempty" doc:"For how long nothing was processed then, in milliseconds; events were taken all the while"`
	Reconciled *Reconciliation `json:"reconciliation,omitempty" doc:"How far the comparison is with what destinations were told"`
	ReplacedAt string          `json:"replacedAt,omitempty"`
	KeptUntil  string          `json:"keptUntil,omitempty"`
	DroppedAt  string          `json:"droppedAt,omitempty"`
}

// Reconciliation is the job that tells destinations what a rebuild has changed.
type Reconciliation struct {
	State  string `json:"state" enum:"running,paused,canceled,failed,finished"`
	Looked uint64 `json:"looked" doc:"Profiles and identifiers looked at"`
	Error  string `json:"error,omitempty"`
}

func (a *API) rebuildRoutes() {
	handle(a, http.MethodGet, "/spaces/{spaceId}/rebuilds", "listRebuildsFromSpace", tagRebuilds, a.listRebuilds,
		about("Kith's own: the states that were derived of a space: the live one, one that is being made, those that are kept, and the last that are gone; the oldest first."))
	handle(a, http.MethodPost, "/spaces/{spaceId}/rebuilds", "createRebuild", tagRebuilds, a.createRebuild, created,
		about("Kith's own: works out again all that is derived of a space, from its first event on, beside the live state. "+
			"When it has caught up, it takes the place of the live state; then destinations are told what has changed."))
	handle(a, http.MethodPost, "/spaces/{spaceId}/rebuilds/swap-back", "swapBackRebuild", tagRebuilds, a.swapBack,
		about("Kith's own: makes the state live again that was replaced last, once it has caught up with what has come since."))
	handle(a, http.MethodGet, "/spaces/{spaceId}/rebuilds/{rebuildId}", "getRebuild", tagRebuilds, a.getRebuild, about("Kith's own."))
	for _, verb := range []struct {
		name, about string
		do          func(Rebuilds, context.Context, uint32, uint32) error
	}{
		{"pause", "Stops a rebuild until it is resumed.", Rebuilds.Pause},
		{"resume", "Lets a rebuild go on that is paused or has failed.", Rebuilds.Resume},
		{"swap", "Lets a rebuild that waits for it take the place of the live state.", Rebuilds.Swap},
		{"cancel", "Gives up a rebuild, or a former state before its time, and removes it.", Rebuilds.Cancel},
	} {
		handle(a, http.MethodPost, "/spaces/{spaceId}/rebuilds/{rebuildId}/"+verb.name, verb.name+"Rebuild", tagRebuilds,
			func(ctx context.Context, in *RebuildPath) (*rebuildAnswer, error) {
				space, err := in.find(a.cfg.Workspace.Current())
				if err != nil {
					return nil, err
				}
				if err := verb.do(a.cfg.Rebuilds, ctx, space.Number, in.ID); err != nil {
					return nil, err
				}
				return a.getRebuild(ctx, in)
			}, about("Kith's own. "+verb.about))
	}
}

// RebuildPath is the path of one rebuild.
type RebuildPath struct {
	SpacePath
	ID uint32 `path:"rebuildId"`
}

type rebuildAnswer struct {
	Rebuild *Rebuilding `json:"rebuild"`
}

type rebuildsAnswer struct {
	Rebuilds []*Rebuilding `json:"rebuilds"`
}

type createRebuildInput struct {
	SpacePath
	Body struct {
		Rules string `json:"rules,omitempty" enum:"recorded,current" doc:"By which identity rules; as the live state was made when missing"`
		Note  string `json:"note,omitempty" doc:"Why, for people"`
		Hold  bool   `json:"hold,omitempty" doc:"Wait for the word to swap, so that somebody can look first"`
	}
}

type swapBackInput struct {
	SpacePath
	Body struct {
		Note string `json:"note,omitempty" doc:"Why, for people"`
	}
}

func (a *API) listRebuilds(ctx context.Context, in *SpacePath) (*rebuildsAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	all, err := a.cfg.Rebuilds.List(ctx, space.Number)
	if err != nil {
		return nil, err
	}
	out := &rebuildsAnswer{Rebuilds: []*Rebuilding{}}
	for _, s := range all {
		out.Rebuilds = append(out.Rebuilds, rebuildingOf(s))
	}
	return out, nil
}

func (a *API) createRebuild(ctx context.Context, in *createRebuildInput) (*rebuildAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	return answerRebuild(a.cfg.Rebuilds.Start(ctx, space.Number, rebuild.Request{
		Rules: rebuild.Mode(in.Body.Rules), Note: in.Body.Note, Hold: in.Body.Hold,
	}))
}

func (a *API) swapBack(ctx context.Context, in *swapBackInput) (*rebuildAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	return answerRebuild(a.cfg.Rebuilds.SwapBack(ctx, space.Number, in.Body.Note))
}

func (a *API) getRebuild(ctx context.Context, in *RebuildPath) (*rebuildAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	return answerRebuild(a.cfg.Rebuilds.Get(ctx, space.Number, in.ID))
}

func answerRebuild(s *rebuild.Status, err error) (*rebuildAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &rebuildAnswer{Rebuild: rebuildingOf(s)}, nil
}

func rebuildingOf(s *rebuild.Status) *Rebuilding {
	b := &Rebuilding{
		ID: s.Number, State: string(s.State), Error: s.Error, Rules: string(s.Rules), Snapshot: s.Snapshot, Note: s.Note, Version: s.Engine,
		CreatedAt: when(s.Created), Done: s.Done, Total: s.Total, PerSecond: math.Round(s.Rate), SecondsLeft: math.Ceil(s.Left.Seconds()),
		SwappedAt: when(s.Swapped), PauseMs: float64(s.Pause.Microseconds()) / 1000, ReplacedAt: when(s.Replaced), KeptUntil: when(s.Keep),
		DroppedAt: when(s.Dropped),
	}
	if r := s.Reconcile; r != nil {
		b.Reconciled = &Reconciliation{State: string(r.State), Looked: r.Done, Error: r.Error}
	}
	return b
}
