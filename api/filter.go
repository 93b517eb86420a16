package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"

	"kith/archive"
	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/workspace"
)

const tagFilters = "Space Filters"

// Past reads a space's log backwards; archive.Archive has Back.
type Past interface {
	Back(ctx context.Context, space, epoch uint32, before commitlog.Offset, most int, want func(*event.Head) bool, fn func(*archive.Recent) (bool, error)) (next commitlog.Offset, at int64, err error)
}

func (a *API) filterRoutes() {
	handle(a, http.MethodGet, "/filters", "listFiltersForSpace", tagFilters, a.listFilters)
	handle(a, http.MethodPost, "/filters", "createFilterForSpace", tagFilters, a.createFilter,
		about("An event of the space's sources that matches any enabled filter belongs to no profile and changes none. It still goes to destinations."))
	handle(a, http.MethodGet, "/filters/{id}", "getFilterById", tagFilters, a.getFilter)
	handle(a, http.MethodPatch, "/filters/{id}", "updateFilterById", tagFilters, a.updateFilter,
		about("Unlike in Segment, the condition may be changed too. Events that come later are held to it."))
	handle(a, http.MethodDelete, "/filters/{id}", "deleteFilterById", tagFilters, a.deleteFilter)
	handle(a, http.MethodPost, "/spaces/{spaceId}/filters/preview", "previewFilter", tagFilters, a.previewFilter,
		about("Kith's own: what a condition would match of the newest events of the space, or of one event that is sent along. Nothing is changed."))
}

type filterBody struct {
	ID            string `json:"id"`
	WorkspaceID   string `json:"workspaceId"`
	IntegrationID string `json:"integrationId" doc:"The space's id"`
	Enabled       bool   `json:"enabled"`
	Name          string `json:"name"`
	Description   string `json:"description"`
	If            string `json:"if" doc:"The condition, in the filter query language; \"all\" matches every event"`
	Drop          bool   `json:"drop" doc:"Always true: a filter keeps out what it matches"`
	CreatedAt     string `json:"createdAt"`
	UpdatedAt     string `json:"updatedAt"`
}

func showFilter(snap *workspace.Snapshot, s *workspace.Space, f *workspace.EventFilter) filterBody {
	return filterBody{
		ID: f.ID, WorkspaceID: snap.ID, IntegrationID: s.ID, Enabled: f.Enabled, Name: f.Name, Description: f.Description,
		If: f.If, Drop: true, CreatedAt: when(f.CreatedAt), UpdatedAt: when(f.UpdatedAt),
	}
}

type filterAnswer struct {
	Filter filterBody `json:"filter"`
}

// filterPaging is the paging of this one list: numbers, where all others have
// text. The default and the most are all filters that a space can have.
type filterPaging struct {
	Count  int `json:"count,omitempty" minimum:"1" maximum:"200" doc:"How many; all when missing"`
	Cursor int `json:"cursor,omitempty" minimum:"0" doc:"How many to leave out first"`
}

type filterPageInfo struct {
	Current      int  `json:"current"`
	Next         *int `json:"next,omitempty" doc:"The cursor of the next page; missing on the last"`
	TotalEntries int  `json:"totalEntries"`
}

type filtersAnswer struct {
	Filters    []filterBody   `json:"filters"`
	Pagination filterPageInfo `json:"pagination"`
}

type listFiltersInput struct {
	IntegrationID string       `query:"integrationId" required:"true" doc:"The space's id or slug"`
	Pagination    filterPaging `query:"pagination,deepObject" doc:"Which page"`
	Count         int          `query:"pagination.count" minimum:"0" maximum:"200" doc:"The same as pagination[count]"`
	Cursor        int          `query:"pagination.cursor" minimum:"0" doc:"The same as pagination[cursor]"`
}

func (a *API) listFilters(_ context.Context, in *listFiltersInput) (filtersAnswer, error) {
	snap := a.cfg.Workspace.Current()
	sp, err := filterSpace(snap, in.IntegrationID)
	if err != nil {
		return filtersAnswer{}, err
	}
	list := sp.Filters
	from := min(cmp.Or(in.Pagination.Cursor, in.Cursor), len(list))
	to := min(from+cmp.Or(in.Pagination.Count, in.Count, len(list)), len(list))
	out := filtersAnswer{Pagination: filterPageInfo{Current: from, TotalEntries: len(list)}}
	out.Filters = each(list[from:to], func(f *workspace.EventFilter) filterBody { return showFilter(snap, sp, f) })
	if to < len(list) {
		out.Pagination.Next = &to
	}
	return out, nil
}

func filterSpace(snap *workspace.Snapshot, id string) (*workspace.Space, error) {
	if sp := snap.Space(id); sp != nil {
		return sp, nil
	}
	return nil, fault.Field("integrationId", "there is no space %q", id)
}

// keepsOut refuses a filter that drops nothing.
func keepsOut(drop *bool) error {
	if drop != nil && !*drop {
		return fault.Field("drop", "a filter of a space drops what it matches; to let the events pass set enabled to false")
	}
	return nil
}

type createFilterInput struct {
	Body struct {
		IntegrationID string `json:"integrationId" doc:"The space's id or slug"`
		Name          string `json:"name"`
		Description   string `json:"description,omitempty"`
		Enabled       *bool  `json:"enabled,omitempty" doc:"true when missing"`
		If            string `json:"if" doc:"The condition, in the filter query language; \"all\" matches every event"`
		Drop          *bool  `json:"drop,omitempty" doc:"true when missing; false is refused"`
	}
}

func (a *API) createFilter(ctx context.Context, in *createFilterInput) (filterAnswer, error) {
	b := &in.Body
	if err := keepsOut(b.Drop); err != nil {
		return filterAnswer{}, err
	}
	if _, err := filterSpace(a.cfg.Workspace.Current(), b.IntegrationID); err != nil {
		return filterAnswer{}, err
	}
	var id string
	return a.changeFilters(ctx, func(d *workspace.Draft) (*workspace.Space, string, error) {
		sp := d.Space(b.IntegrationID)
		id = d.NewFilterID()
		sp.Filters = append(sp.Filters, workspace.EventFilter{
			ID: id, Name: b.Name, Description: b.Description, Enabled: b.Enabled == nil || *b.Enabled, If: b.If,
		})
		return sp, id, nil
	})
}

// changeFilters changes a space's filters; fn says which one the request is
// about.
func (a *API) changeFilters(ctx context.Context, fn func(*workspace.Draft) (*workspace.Space, string, error)) (filterAnswer, error) {
	path, id := "", ""
	snap, err := a.updateNamed(ctx, func() string { return path }, func(d *workspace.Draft) error {
		sp, about, err := fn(d)
		if err != nil {
			return err
		}
		id = about
		i := slices.IndexFunc(sp.Filters, func(f workspace.EventFilter) bool { return f.ID == about })
		path = fmt.Sprintf("spaces.%s.filters.%d", sp.Slug, i)
		return nil
	})
	if err != nil {
		return filterAnswer{}, err
	}
	sp, f := snap.Filter(id)
	if f == nil { // it was removed
		return filterAnswer{}, nil
	}
	return filterAnswer{showFilter(snap, sp, f)}, nil
}

// FilterPath names an event filter in a path.
type FilterPath struct {
	ID string `path:"id"`
}

func (p *FilterPath) find(d *workspace.Draft) (*workspace.Space, *workspace.EventFilter, error) {
	sp, f := d.Filter(p.ID)
	if f == nil {
		return nil, nil, notFound("filter", p.ID)
	}
	return sp, f, nil
}

func (a *API) getFilter(_ context.Context, in *FilterPath) (filterAnswer, error) {
	snap := a.cfg.Workspace.Current()
	sp, f := snap.Filter(in.ID)
	if f == nil {
		return filterAnswer{}, notFound("filter", in.ID)
	}
	return filterAnswer{showFilter(snap, sp, f)}, nil
}

type updateFilterInput struct {
	FilterPath
	Body struct {
		IntegrationID string  `json:"integrationId,omitempty" doc:"The space's id or slug; a filter cannot move to another"`
		Name          *string `json:"name,omitempty"`
		Description   *string `json:"description,omitempty"`
		Enabled       *bool   `json:"enabled,omitempty"`
		If            *string `json:"if,omitempty"`
		Drop          *bool   `json:"drop,omitempty" doc:"false is refused"`
	}
}

func (a *API) updateFilter(ctx context.Context, in *updateFilterInput) (filterAnswer, error) {
	b := &in.Body
	if err := keepsOut(b.Drop); err != nil {
		return filterAnswer{}, err
	}
	return a.changeFilters(ctx, func(d *workspace.Draft) (*workspace.Space, string, error) {
		sp, f, err := in.find(d)
		if err != nil {
			return nil, "", err
		}
		if b.IntegrationID != "" && b.IntegrationID != sp.ID && b.IntegrationID != sp.Slug {
			return nil, "", fault.Field("integrationId", "the filter is of the space %s and cannot move to another; create it there", sp.ID)
		}
		set(&f.Name, b.Name)
		set(&f.Description, b.Description)
		set(&f.Enabled, b.Enabled)
		set(&f.If, b.If)
		return sp, f.ID, nil
	})
}

type deletedFilter struct {
	Deleted bool `json:"deleted"`
}

func (a *API) deleteFilter(ctx context.Context, in *FilterPath) (deletedFilter, error) {
	_, err := a.changeFilters(ctx, func(d *workspace.Draft) (*workspace.Space, string, error) {
		sp, f, err := in.find(d)
		if err != nil {
			return nil, "", err
		}
		id := f.ID
		sp.Filters = slices.DeleteFunc(sp.Filters, func(f workspace.EventFilter) bool { return f.ID == id })
		return sp, id, nil
	})
	return deletedFilter{err == nil}, err
}
