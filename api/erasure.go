package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/job"
)

const tagErasures = "Erasures"

// Erasures forgets persons and accounts.
type Erasures interface {
	// Erase makes an erase command part of a space's sequence, and returns its
	// offset once the space's loop has carried it out; now has what remains
	// done without waiting for more erasures.
	Erase(ctx context.Context, space uint32, c *event.Command, now bool) (commitlog.Offset, error)
	// List returns a space's erasures, the oldest first.
	List(ctx context.Context, space uint32) ([]*archive.Erasure, error)
	// Get fails with fault.NotFound.
	Get(ctx context.Context, space uint32, at commitlog.Offset) (*archive.Erasure, error)
	// Work is the job that completes a space's erasures; nil when there is none.
	Work(ctx context.Context, space uint32) (*job.Status, error)
	// Deadline is within what time an erasure is to be complete.
	Deadline() time.Duration
}

// Erased is an erasure as the API shows it. It names nobody.
type Erased struct {
	ID          uint64          `json:"id" doc:"The offset of its command in the space's log"`
	State       string          `json:"state" enum:"masked,working,complete" doc:"masked: what was derived is gone, and nobody can read the events any more; working: the events are being taken out of the files; complete: no file holds anything of them"`
	OrderedAt   string          `json:"orderedAt"`
	CompleteBy  string          `json:"completeBy" doc:"The deadline"`
	Overdue     bool            `json:"overdue" doc:"The deadline has passed"`
	By          string          `json:"by,omitempty"`
	Note        string          `json:"note,omitempty"`
	Persons     int             `json:"persons" doc:"Profiles that were erased; those merged into one count as one"`
	Identifiers int             `json:"identifiers,omitempty" doc:"How many identifiers they had; not kept when it is complete"`
	Done        uint64          `json:"done,omitempty" doc:"While working: records and outputs that were read"`
	Total       uint64          `json:"total,omitempty"`
	Error       string          `json:"error,omitempty" doc:"Why the work has failed; it is tried again"`
	Receipt     *ErasureReceipt `json:"receipt,omitempty"`
}

// ErasureReceipt says what an erasure has done.
type ErasureReceipt struct {
	Hash        string `json:"hash" doc:"Stands for whom the command named, by this server's key: HMAC-SHA256"`
	Together    int    `json:"together" doc:"How many erasures were completed in one pass; the numbers are of all of them"`
	Erased      uint64 `json:"erased" doc:"Events of which only offset, instant and record id are left"`
	Redacted    uint64 `json:"redacted" doc:"Events of others out of which identifiers were taken"`
	Outputs     uint64 `json:"outputs" doc:"Outputs to destinations and watchers that were emptied or redacted"`
	Blocks      uint64 `json:"blocks" doc:"Blocks that were written anew"`
	Uploads     int    `json:"uploads,omitempty" doc:"Imports that were unfinished: their files may name the erased, and go when the import ends, 7 days after it was paused at the latest"`
	Left        string `json:"left,omitempty" doc:"What waits for a rebuild"`
	CompletedAt string `json:"completedAt,omitempty"`
}

func (a *API) erasureRoutes() {
	handle(a, http.MethodGet, "/spaces/{spaceId}/erasures", "listErasuresFromSpace", tagErasures, a.listErasures,
		about("Kith's own: the erasures of a space, the newest first, with their receipts."))
	handle(a, http.MethodPost, "/spaces/{spaceId}/erasures", "createErasure", tagErasures, a.createErasure, created,
		about("Kith's own: forgets persons or accounts. When it answers, what was derived of them is gone and nobody can read their events any more; "+
			"within the deadline they are taken out of all files. It cannot be taken back."))
	handle(a, http.MethodGet, "/spaces/{spaceId}/erasures/{erasureId}", "getErasure", tagErasures, a.getErasure, about("Kith's own."))
}

// ErasurePath is the path of one erasure.
type ErasurePath struct {
	SpacePath
	ID uint64 `path:"erasureId"`
}

type createErasureInput struct {
	SpacePath
	Body struct {
		Profiles    []string    `json:"profiles,omitempty" maxItems:"5000" doc:"Ids of profiles, use_…; one that was merged away names the survivor"`
		Identifiers []OrderedID `json:"identifiers,omitempty" maxItems:"5000"`
		By          string      `json:"by,omitempty" maxLength:"200" doc:"Who orders it; admin when missing"`
		Note        string      `json:"note,omitempty" maxLength:"2000" doc:"Why, for people"`
		Now         bool        `json:"now,omitempty" doc:"Begin with the files at once, without waiting for more erasures"`
	}
}

type erasureAnswer struct {
	Erasure *Erased `json:"erasure"`
}

type erasuresAnswer struct {
	Erasures []*Erased `json:"erasures"`
}

func (a *API) createErasure(ctx context.Context, in *createErasureInput) (*erasureAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	erase := &event.Erase{Profiles: in.Body.Profiles, Identifiers: each(in.Body.Identifiers, func(x *OrderedID) event.ExternalID { return x.external(space) })}
	c := &event.Command{Erase: erase, By: cmp.Or(in.Body.By, "admin"), Note: in.Body.Note}
	at, err := a.cfg.Erasures.Erase(ctx, space.Number, c, in.Body.Now)
	if err != nil {
		return nil, err
	}
	return a.erasure(ctx, space.Number, at)
}

func (a *API) getErasure(ctx context.Context, in *ErasurePath) (*erasureAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	return a.erasure(ctx, space.Number, commitlog.Offset(in.ID))
}

func (a *API) erasure(ctx context.Context, space uint32, at commitlog.Offset) (*erasureAnswer, error) {
	x, err := a.cfg.Erasures.Get(ctx, space, at)
	if err != nil {
		return nil, err
	}
	work, err := a.cfg.Erasures.Work(ctx, space)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	return &erasureAnswer{Erasure: a.erased(x, work)}, nil
}

func (a *API) listErasures(ctx context.Context, in *SpacePath) (*erasuresAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	list, err := a.cfg.Erasures.List(ctx, space.Number)
	if err != nil {
		return nil, err
	}
	work, err := a.cfg.Erasures.Work(ctx, space.Number)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	out := &erasuresAnswer{Erasures: []*Erased{}}
	for i := len(list) - 1; i >= 0; i-- {
		out.Erasures = append(out.Erasures, a.erased(list[i], work))
	}
	return out, nil
}

func (a *API) erased(x *archive.Erasure, work *job.Status) *Erased {
	stamp := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	deadline := time.UnixMilli(x.At).Add(a.cfg.Erasures.Deadline())
	e := &Erased{
		ID: uint64(x.Offset), State: "masked", OrderedAt: stamp(x.At), CompleteBy: stamp(deadline.UnixMilli()), By: x.By, Note: x.Note,
		Persons: x.Persons, Identifiers: len(x.Identifiers),
	}
	if r := x.Receipt; r != nil {
		e.Receipt = &ErasureReceipt{Hash: r.Hash, Together: r.Together, Erased: r.Erased, Redacted: r.Redacted, Outputs: r.Outputs, Blocks: r.Blocks, Left: r.Left, Uploads: r.Uploads}
		if x.Done() {
			e.State, e.Receipt.CompletedAt = "complete", stamp(r.Completed)
			return e
		}
	}
	e.Overdue = a.cfg.Clock.Now().After(deadline)
	if work != nil && (work.State == job.Running || work.State == job.Failed) {
		e.Done, e.Total, e.Error = work.Done, work.Total, work.Error
		if work.State == job.Running {
			e.State = "working"
		}
	}
	return e
}
