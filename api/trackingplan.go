package api

import (
	"context"
	"net/http"
	"slices"

	"kith/fault"
	"kith/workspace"
)

const tagPlans = "Tracking Plans"

func (a *API) trackingPlanRoutes() {
	const one = "/tracking-plans/{trackingPlanId}"
	handle(a, http.MethodGet, "/tracking-plans", "listTrackingPlans", tagPlans, a.listPlans)
	handle(a, http.MethodPost, "/tracking-plans", "createTrackingPlan", tagPlans, a.createPlan)
	handle(a, http.MethodGet, one, "getTrackingPlan", tagPlans, a.getPlan)
	handle(a, http.MethodPatch, one, "updateTrackingPlan", tagPlans, a.updatePlan)
	handle(a, http.MethodDelete, one, "deleteTrackingPlan", tagPlans, a.deletePlan, about("Its sources are held to no plan from then on."))
	handle(a, http.MethodGet, one+"/rules", "listRulesFromTrackingPlan", tagPlans, a.listRules)
	handle(a, http.MethodPatch, one+"/rules", "updateRulesInTrackingPlan", tagPlans, a.updateRules, maxBytes(maxBodyRule),
		about("Adds rules and changes those of the same type, key and version; at most 200 at a time."))
	handle(a, http.MethodPut, one+"/rules", "replaceRulesInTrackingPlan", tagPlans, a.replaceRules, maxBytes(maxBodyRule))
	handle(a, http.MethodDelete, one+"/rules", "removeRulesFromTrackingPlan", tagPlans, a.removeRules,
		about("The rules are named by query: rules[0][type]=TRACK&rules[0][key]=Order Completed&rules[0][version]=1."))
	handle(a, http.MethodGet, one+"/sources", "listSourcesFromTrackingPlan", tagPlans, a.listPlanSources)
	handle(a, http.MethodPost, one+"/sources", "addSourceToTrackingPlan", tagPlans, a.addPlanSource)
	handle(a, http.MethodDelete, one+"/sources", "removeSourceFromTrackingPlan", tagPlans, a.removePlanSource)
}

type planBody struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Slug        string `json:"slug"`
	Description string `json:"description"`
	Type        string `json:"type"`
	CreatedAt   string `json:"createdAt"`
	UpdatedAt   string `json:"updatedAt"`
}

func showPlan(p *workspace.TrackingPlan) planBody {
	return planBody{
		ID: p.ID, Name: p.Name, Slug: p.Slug, Description: p.Description, Type: p.Type,
		CreatedAt: when(p.CreatedAt), UpdatedAt: when(p.UpdatedAt),
	}
}

type planAnswer struct {
	TrackingPlan planBody `json:"trackingPlan"`
}

type plansAnswer struct {
	TrackingPlans []planBody `json:"trackingPlans"`
	Pagination    pageInfo   `json:"pagination"`
}

// PlanPath names a tracking plan in a path.
type PlanPath struct {
	TrackingPlanID string `path:"trackingPlanId"`
}

func (p *PlanPath) find(snap *workspace.Snapshot) (*workspace.TrackingPlan, error) {
	for i := range snap.TrackingPlans {
		if snap.TrackingPlans[i].ID == p.TrackingPlanID {
			return &snap.TrackingPlans[i], nil
		}
	}
	return nil, notFound("tracking plan", p.TrackingPlanID)
}

// changePlan changes one plan and returns it as it is then. rename turns a
// field of the plan into one of the request.
func (a *API) changePlan(ctx context.Context, p *PlanPath, rename func(field string) string, fn func(*workspace.Draft, *workspace.TrackingPlan) error) (*workspace.TrackingPlan, error) {
	path := ""
	snap, err := a.updateNamed(ctx, func() string { return path }, func(d *workspace.Draft) error {
		plan := d.TrackingPlan(p.TrackingPlanID)
		if plan == nil {
			return notFound("tracking plan", p.TrackingPlanID)
		}
		path = "trackingPlans." + plan.Slug
		return fn(d, plan)
	})
	if err != nil {
		if rename != nil {
			err = within(err, rename)
		}
		return nil, err
	}
	return p.find(snap)
}

type listPlansInput struct {
	Paging
	Type string `query:"type" enum:"LIVE,PROPERTY_LIBRARY,RULE_LIBRARY,ENGAGE,TEMPLATE" doc:"Only plans of this type"`
}

func (a *API) listPlans(_ context.Context, in *listPlansInput) (plansAnswer, error) {
	var list []workspace.TrackingPlan
	for _, p := range a.cfg.Workspace.Current().TrackingPlans {
		if in.Type == "" || p.Type == in.Type {
			list = append(list, p)
		}
	}
	page, info, err := paged(list, func(p *workspace.TrackingPlan) string { return p.ID }, &in.Paging)
	return plansAnswer{each(page, showPlan), info}, err
}

type createPlanInput struct {
	Body struct {
		Name        string `json:"name"`
		Description string `json:"description,omitempty"`
		Type        string `json:"type" enum:"LIVE,PROPERTY_LIBRARY,RULE_LIBRARY,ENGAGE,TEMPLATE"`
		Slug        string `json:"slug,omitempty" doc:"Kith's own; made of the name when missing"`
	}
}

func (a *API) createPlan(ctx context.Context, in *createPlanInput) (planAnswer, error) {
	b := &in.Body
	p := PlanPath{}
	path := ""
	snap, err := a.updateNamed(ctx, func() string { return path }, func(d *workspace.Draft) error {
		plan := workspace.TrackingPlan{ID: d.NewTrackingPlanID(), Slug: b.Slug, Name: b.Name, Description: b.Description, Type: b.Type}
		if plan.Slug == "" {
			plan.Slug = workspace.FreeSlug(plan.Name, func(slug string) bool {
				return slices.ContainsFunc(d.TrackingPlans, func(h workspace.TrackingPlan) bool { return h.Slug == slug })
			})
		}
		p.TrackingPlanID, path = plan.ID, "trackingPlans."+plan.Slug
		d.TrackingPlans = append(d.TrackingPlans, plan)
		return nil
	})
	if err != nil {
		return planAnswer{}, err
	}
	plan, err := p.find(snap)
	if err != nil {
		return planAnswer{}, err
	}
	return planAnswer{showPlan(plan)}, nil
}

func (a *API) getPlan(_ context.Context, in *PlanPath) (planAnswer, error) {
	plan, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return planAnswer{}, err
	}
	return planAnswer{showPlan(plan)}, nil
}

type updatePlanInput struct {
	PlanPath
	Body struct {
		Name        *string `json:"name,omitempty"`
		Description *string `json:"description,omitempty"`
	}
}

func (a *API) updatePlan(ctx context.Context, in *updatePlanInput) (status, error) {
	_, err := a.changePlan(ctx, &in.PlanPath, nil, func(_ *workspace.Draft, p *workspace.TrackingPlan) error {
		set(&p.Name, in.Body.Name)
		set(&p.Description, in.Body.Description)
		return nil
	})
	return success(), err
}

func (a *API) deletePlan(ctx context.Context, in *PlanPath) (status, error) {
	_, err := a.update(ctx, "", func(d *workspace.Draft) error {
		if d.TrackingPlan(in.TrackingPlanID) == nil {
			return notFound("tracking plan", in.TrackingPlanID)
		}
		d.RemoveTrackingPlan(in.TrackingPlanID)
		return nil
	})
	return success(), err
}

type listPlanSourcesInput struct {
	PlanPath
	Paging
}

func (a *API) listPlanSources(_ context.Context, in *listPlanSourcesInput) (sourcesAnswer, error) {
	snap := a.cfg.Workspace.Current()
	plan, err := in.find(snap)
	if err != nil {
		return sourcesAnswer{}, err
	}
	var list []workspace.Source
	for _, id := range plan.SourceIDs {
		if s := snap.Source(id); s != nil {
			list = append(list, *s)
		}
	}
	page, info, err := paged(list, func(s *workspace.Source) string { return s.ID }, &in.Paging)
	return sourcesAnswer{each(page, func(s *workspace.Source) sourceBody { return showSource(snap, s) }), info}, err
}

type addPlanSourceInput struct {
	PlanPath
	Body struct {
		SourceID string `json:"sourceId"`
	}
}

func (a *API) addPlanSource(ctx context.Context, in *addPlanSourceInput) (status, error) {
	_, err := a.changePlan(ctx, &in.PlanPath, func(string) string { return "sourceId" }, func(d *workspace.Draft, p *workspace.TrackingPlan) error {
		if d.Source(in.Body.SourceID) == nil {
			return fault.Field("sourceId", "there is no source %q", in.Body.SourceID)
		}
		if !slices.Contains(p.SourceIDs, in.Body.SourceID) {
			p.SourceIDs = append(p.SourceIDs, in.Body.SourceID)
		}
		return nil
	})
	return success(), err
}

type removePlanSourceInput struct {
	PlanPath
	SourceID string `query:"sourceId" required:"true"`
}

func (a *API) removePlanSource(ctx context.Context, in *removePlanSourceInput) (status, error) {
	_, err := a.changePlan(ctx, &in.PlanPath, nil, func(_ *workspace.Draft, p *workspace.TrackingPlan) error {
		i := slices.Index(p.SourceIDs, in.SourceID)
		if i < 0 {
			return notFound("source connected to this plan", in.SourceID)
		}
		p.SourceIDs = slices.Delete(p.SourceIDs, i, i+1)
		return nil
	})
	return success(), err
}
