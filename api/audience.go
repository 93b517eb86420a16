package api

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strings"

	"kith/fault"
	"kith/workspace"
)

const tagAudiences = "Audiences"

func (a *API) audienceRoutes() {
	const all = "/spaces/{spaceId}/audiences"
	const one = all + "/{id}"
	handle(a, http.MethodGet, all, "listAudiences", tagAudiences, a.listAudiences)
	handle(a, http.MethodPost, all, "createAudience", tagAudiences, a.createAudience,
		about("The key is the snake_case of the name; it never changes."))
	handle(a, http.MethodGet, one, "getAudience", tagAudiences, a.getAudience)
	handle(a, http.MethodPatch, one, "updateAudienceForSpace", tagAudiences, a.updateAudience)
	handle(a, http.MethodDelete, one, "removeAudienceFromSpace", tagAudiences, a.removeAudience,
		about("Refused while the query of another audience names it."))
	handle(a, http.MethodGet, one+"/members", "listAudienceMembers", tagAudiences, a.listMembers, about("Kith's own."))
	handle(a, http.MethodGet, one+"/size", "getAudienceSize", tagAudiences, a.getSize, about("Kith's own."))
}

// audienceUsers is the only type of audience there is so far.
const audienceUsers = "USERS"

type audienceDefinition struct {
	Query        string  `json:"query" doc:"Segment's query language"`
	Type         *string `json:"type,omitempty" nullable:"true" doc:"USERS"`
	TargetEntity *string `json:"targetEntity,omitempty" nullable:"true" doc:"profile"`
}

type audienceOptions struct {
	IncludeHistoricalData *bool    `json:"includeHistoricalData,omitempty" doc:"false starts the audience empty; true when missing"`
	FilterByExternalIDs   []string `json:"filterByExternalIds,omitempty" doc:"Only profiles with an identifier of one of these types"`
	BackfillEventDataDays *float64 `json:"backfillEventDataDays,omitempty" minimum:"0" maximum:"36500"`
}

func (o *audienceOptions) options() workspace.AudienceOptions {
	out := workspace.AudienceOptions{IncludeHistoricalData: o.IncludeHistoricalData, FilterByExternalIDs: o.FilterByExternalIDs}
	if o.BackfillEventDataDays != nil {
		out.BackfillEventDataDays = ptr(int(math.Ceil(*o.BackfillEventDataDays)))
	}
	return out
}

type cadence struct {
	Type string `json:"type"`
}

type sizeBody struct {
	Count uint64 `json:"count"`
	Type  string `json:"type"`
}

type audienceBody struct {
	ID             string             `json:"id"`
	SpaceID        string             `json:"spaceId"`
	Name           string             `json:"name"`
	Description    string             `json:"description"`
	Key            string             `json:"key"`
	Enabled        bool               `json:"enabled"`
	Definition     audienceDefinition `json:"definition"`
	Status         string             `json:"status,omitempty"`
	CreatedBy      string             `json:"createdBy"`
	UpdatedBy      string             `json:"updatedBy"`
	CreatedAt      string             `json:"createdAt"`
	UpdatedAt      string             `json:"updatedAt"`
	AudienceType   string             `json:"audienceType"`
	ComputeCadence cadence            `json:"computeCadence"`
	Size           *sizeBody          `json:"size,omitempty"`
	Since          string             `json:"since,omitempty" doc:"Kith's own: the instant since when the events are counted that the query asks for; those before it had been trimmed. Missing when all are there."`
	Options        audienceOptions    `json:"options"`
}

func (a *API) showAudience(ctx context.Context, snap *workspace.Snapshot, x *workspace.Audience) (audienceBody, error) {
	sp := snap.Space(x.SpaceID)
	if sp == nil {
		return audienceBody{}, notFound("space", x.SpaceID)
	}
	state, err := a.cfg.Audiences.Status(ctx, sp.Number, x)
	if err != nil {
		return audienceBody{}, err
	}
	body := audienceBody{
		ID: x.ID, SpaceID: x.SpaceID, Name: x.Name, Description: x.Description, Key: x.Key, Enabled: x.Enabled,
		Definition: audienceDefinition{Query: x.Query, Type: ptr(audienceUsers), TargetEntity: ptr("profile")},
		Status:     state.State, CreatedAt: when(x.CreatedAt), UpdatedAt: when(x.UpdatedAt), AudienceType: audienceUsers,
		ComputeCadence: cadence{"REALTIME"}, Size: &sizeBody{Count: state.Size, Type: audienceUsers}, Since: when(state.Since),
		Options: audienceOptions{IncludeHistoricalData: ptr(x.Options.IncludeHistoricalData == nil || *x.Options.IncludeHistoricalData), FilterByExternalIDs: x.Options.FilterByExternalIDs},
	}
	if n := x.Options.BackfillEventDataDays; n != nil {
		body.Options.BackfillEventDataDays = ptr(float64(*n))
	}
	return body, nil
}

type audienceAnswer struct {
	Audience audienceBody `json:"audience"`
}

func (a *API) answerAudience(ctx context.Context, snap *workspace.Snapshot, x *workspace.Audience) (audienceAnswer, error) {
	body, err := a.showAudience(ctx, snap, x)
	return audienceAnswer{body}, err
}

type audiencesAnswer struct {
	Audiences  []audienceBody `json:"audiences"`
	Pagination pageInfo       `json:"pagination"`
}

type listAudiencesInput struct {
	SpacePath
	Paging
}

func (a *API) listAudiences(ctx context.Context, in *listAudiencesInput) (audiencesAnswer, error) {
	snap := a.cfg.Workspace.Current()
	sp, err := in.find(snap)
	if err != nil {
		return audiencesAnswer{}, err
	}
	var list []workspace.Audience
	for _, x := range snap.Audiences {
		if x.SpaceID == sp.ID {
			list = append(list, x)
		}
	}
	page, info, err := paged(list, func(x *workspace.Audience) string { return x.ID }, &in.Paging)
	if err != nil {
		return audiencesAnswer{}, err
	}
	out := audiencesAnswer{Audiences: []audienceBody{}, Pagination: info}
	for i := range page {
		body, err := a.showAudience(ctx, snap, &page[i])
		if err != nil {
			return audiencesAnswer{}, err
		}
		out.Audiences = append(out.Audiences, body)
	}
	return out, nil
}

type createAudienceInput struct {
	SpacePath
	Body struct {
		Name         string             `json:"name"`
		Enabled      *bool              `json:"enabled,omitempty" doc:"true when missing"`
		Description  *string            `json:"description,omitempty" nullable:"true"`
		Definition   audienceDefinition `json:"definition"`
		AudienceType string             `json:"audienceType,omitempty" doc:"USERS, the default"`
		Options      *audienceOptions   `json:"options,omitempty"`
	}
}

// usersOnly refuses what is not computed yet, rather than to compute something
// else.
func usersOnly(kind string, definition *audienceDefinition) error {
	if kind != "" && kind != audienceUsers {
		return fault.Field("audienceType", "%q audiences are not computed yet; want USERS", kind)
	}
	if definition == nil {
		return nil
	}
	if t := definition.Type; t != nil && !strings.EqualFold(*t, audienceUsers) {
		return fault.Field("definition.type", "%q audiences are not computed yet; want USERS", *t)
	}
	if e := definition.TargetEntity; e != nil && *e != "profile" {
		return fault.Field("definition.targetEntity", "audiences of entities are not computed yet; want profile")
	}
	return nil
}

func (a *API) createAudience(ctx context.Context, in *createAudienceInput) (audienceAnswer, error) {
	b := &in.Body
	if err := usersOnly(b.AudienceType, &b.Definition); err != nil {
		return audienceAnswer{}, err
	}
	sp, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return audienceAnswer{}, err
	}
	var id string
	key := workspace.AudienceKey(b.Name)
	snap, err := a.update(ctx, "audiences."+sp.Slug+"."+key, func(d *workspace.Draft) error {
		x := workspace.Audience{
			ID: d.NewAudienceID(), SpaceID: sp.ID, Name: b.Name, Key: key, Enabled: b.Enabled == nil || *b.Enabled, Query: b.Definition.Query,
		}
		set(&x.Description, b.Description)
		if b.Options != nil {
			x.Options = b.Options.options()
		}
		id = x.ID
		d.Audiences = append(d.Audiences, x)
		return nil
	})
	if err != nil {
		return audienceAnswer{}, within(err, func(field string) string {
			if field == "key" { // the request has none; its name gave it
				return "name"
			}
			return field
		})
	}
	return a.answerAudience(ctx, snap, snap.Audience(id))
}

// AudiencePath names an audience in a path.
type AudiencePath struct {
	SpacePath
	ID string `path:"id"`
}

func (p *AudiencePath) find(snap *workspace.Snapshot) (*workspace.Space, *workspace.Audience, error) {
	sp, err := p.SpacePath.find(snap)
	if err != nil {
		return nil, nil, err
	}
	x := snap.Audience(p.ID)
	if x == nil || x.SpaceID != sp.ID {
		return nil, nil, notFound("audience", p.ID)
	}
	return sp, x, nil
}

func (a *API) getAudience(ctx context.Context, in *AudiencePath) (audienceAnswer, error) {
	snap := a.cfg.Workspace.Current()
	_, x, err := in.find(snap)
	if err != nil {
		return audienceAnswer{}, err
	}
	return a.answerAudience(ctx, snap, x)
}

// changeAudience changes one audience; fn returns the path, within it, of what
// the request is about.
func (a *API) changeAudience(ctx context.Context, p *AudiencePath, fn func(*workspace.Draft, *workspace.Audience) (string, error)) (*workspace.Snapshot, error) {
	sp, x, err := p.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	path := "audiences." + sp.Slug + "." + x.Key
	at := path
	return a.updateNamed(ctx, func() string { return at }, func(d *workspace.Draft) error {
		x := d.Audience(p.ID)
		if x == nil {
			return notFound("audience", p.ID)
		}
		part, err := fn(d, x)
		at = strings.TrimSuffix(path+"."+part, ".")
		return err
	})
}

type updateAudienceInput struct {
	AudiencePath
	Body struct {
		Enabled     *bool               `json:"enabled,omitempty"`
		Name        *string             `json:"name,omitempty"`
		Description *string             `json:"description,omitempty"`
		Definition  *audienceDefinition `json:"definition,omitempty"`
		Options     *audienceOptions    `json:"options,omitempty" doc:"All of them"`
	}
}

func (a *API) updateAudience(ctx context.Context, in *updateAudienceInput) (audienceAnswer, error) {
	b := &in.Body
	if err := usersOnly("", b.Definition); err != nil {
		return audienceAnswer{}, err
	}
	snap, err := a.changeAudience(ctx, &in.AudiencePath, func(_ *workspace.Draft, x *workspace.Audience) (string, error) {
		set(&x.Name, b.Name)
		set(&x.Enabled, b.Enabled)
		set(&x.Description, b.Description)
		if b.Definition != nil {
			x.Query = b.Definition.Query
		}
		if b.Options != nil {
			x.Options = b.Options.options()
		}
		return "", nil
	})
	if err != nil {
		return audienceAnswer{}, err
	}
	return a.answerAudience(ctx, snap, snap.Audience(in.ID))
}

func (a *API) removeAudience(ctx context.Context, in *AudiencePath) (status, error) {
	if _, _, err := in.find(a.cfg.Workspace.Current()); err != nil {
		return status{}, err
	}
	_, err := a.update(ctx, "", func(d *workspace.Draft) error {
		if d.Audience(in.ID) == nil {
			return notFound("audience", in.ID)
		}
		d.RemoveAudience(in.ID)
		return nil
	})
	return success(), err
}

type sizeAnswer struct {
	Size sizeBody `json:"size"`
}

func (a *API) getSize(ctx context.Context, in *AudiencePath) (sizeAnswer, error) {
	sp, x, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return sizeAnswer{}, err
	}
	state, err := a.cfg.Audiences.Status(ctx, sp.Number, x)
	return sizeAnswer{sizeBody{Count: state.Size, Type: audienceUsers}}, err
}

type memberBody struct {
	ID    string `json:"id" doc:"The profile, as use_…"`
	Since string `json:"since,omitempty"`
}

type membersAnswer struct {
	Members    []memberBody `json:"members"`
	Pagination pageInfo     `json:"pagination"`
}

type listMembersInput struct {
	AudiencePath
	Paging
}

func (a *API) listMembers(ctx context.Context, in *listMembersInput) (membersAnswer, error) {
	sp, x, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return membersAnswer{}, err
	}
	count, cursor, err := in.wantPassed(maxCount)
	if err != nil {
		return membersAnswer{}, err
	}
	list, next, err := a.cfg.Audiences.Members(ctx, sp.Number, x.ID, cursor, count)
	if err != nil {
		return membersAnswer{}, err
	}
	return membersAnswer{
		Members:    each(list, func(m *Member) memberBody { return memberBody{ID: m.Profile.String(), Since: when(m.Since)} }),
		Pagination: passed(cursor, next),
	}, nil
}

// connectionTo returns the place of an audience's connection to a destination,
// by either's id.
func connectionTo(x *workspace.Audience, id string) int {
	return slices.IndexFunc(x.Connections, func(c workspace.AudienceConnection) bool { return c.DestinationID == id || c.ID == id })
}
