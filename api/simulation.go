package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"kith/fault"
	"kith/identity"
	"kith/rebuild"
	"kith/workspace"
)

const tagSimulations = "Identity simulations"

// Trials tries identity rules on the past; rebuild.Manager has its methods.
type Trials interface {
	// Try starts a trial; one at a time: fault.Conflict.
	Try(ctx context.Context, space uint32, t rebuild.Trial) (*rebuild.TrialStatus, error)
	// Trial returns how one stands, or fault.NotFound.
	Trial(ctx context.Context, space, epoch uint32) (*rebuild.TrialStatus, error)
	// Trials returns how all stand, the oldest first.
	Trials(ctx context.Context, space uint32) ([]*rebuild.TrialStatus, error)
	// CancelTrial gives one up, or removes its report.
	CancelTrial(ctx context.Context, space, epoch uint32) error
}

// SimulationReport is what other identity rules would have made.
type SimulationReport struct {
	identity.Comparison
	Records   uint64               `json:"records" doc:"Records that were replayed"`
	Horizon   string               `json:"horizon,omitempty" doc:"Events from before this instant have been trimmed: what they made is taken as it is, and the rules are tried from then on"`
	Prevented []identity.Prevented `json:"prevented" doc:"What the rules that were tried would have refused since, by reason and type"`
}

// Simulation is a trial of identity rules.
type Simulation struct {
	ID          uint32            `json:"id"`
	State       string            `json:"state" enum:"running,finished,failed,canceled"`
	Error       string            `json:"error,omitempty"`
	Since       string            `json:"since,omitempty" doc:"From when on the rules are tried; missing: from the first event on"`
	Note        string            `json:"note,omitempty"`
	CreatedAt   string            `json:"createdAt"`
	Done        uint64            `json:"done" doc:"Records replayed"`
	Total       uint64            `json:"total"`
	PerSecond   float64           `json:"perSecond,omitempty"`
	SecondsLeft float64           `json:"secondsLeft,omitempty"`
	Report      *SimulationReport `json:"report,omitempty" doc:"Kept for 3 days"`
}

func (a *API) simulationRoutes() {
	handle(a, http.MethodGet, "/spaces/{spaceId}/identity/simulations", "listIdentitySimulationsFromSpace", tagSimulations, a.listSimulations, about("Kith's own: the oldest first, without their reports."))
	handle(a, http.MethodPost, "/spaces/{spaceId}/identity/simulations", "createIdentitySimulation", tagSimulations, a.createSimulation, created,
		about("Kith's own: replays the identifiers of all events under other identity rules, beside the live state, and says what would be otherwise. Nothing changes."))
	handle(a, http.MethodGet, "/spaces/{spaceId}/identity/simulations/{simulationId}", "getIdentitySimulation", tagSimulations, a.getSimulation, about("Kith's own."))
	handle(a, http.MethodPost, "/spaces/{spaceId}/identity/simulations/{simulationId}/cancel", "cancelIdentitySimulation", tagSimulations, a.cancelSimulation,
		about("Kith's own: gives it up, or removes its report."))
}

// SimulationPath is the path of one simulation.
type SimulationPath struct {
	SpacePath
	ID uint32 `path:"simulationId"`
}

type simulationAnswer struct {
	Simulation *Simulation `json:"simulation"`
}

type simulationsAnswer struct {
	Simulations []*Simulation `json:"simulations"`
}

type createSimulationInput struct {
	SpacePath
	Body struct {
		Rules string `json:"rules" doc:"The identifiers of a space as a workspace file has them, in YAML"`
		Since string `json:"since,omitempty" doc:"How far back the rules are tried, 30d, or an instant, 2026-01-31T00:00:00Z; from the first event on when missing"`
		Note  string `json:"note,omitempty"`
	}
}

func (a *API) createSimulation(ctx context.Context, in *createSimulationInput) (*simulationAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	since, err := a.sinceOf(in.Body.Since)
	if err != nil {
		return nil, err
	}
	tried, err := a.withRules(ctx, space, in.Body.Rules)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(tried)
	if err != nil {
		return nil, fmt.Errorf("rules of a simulation: %w", err)
	}
	return answerSimulation(a.cfg.Trials.Try(ctx, space.Number, rebuild.Trial{Space: text, Since: since, Note: in.Body.Note}))
}

// withRules returns a space as it would be with the rules of a file, checked as
// apply checks them.
func (a *API) withRules(ctx context.Context, space *workspace.Space, rules string) (*workspace.Space, error) {
	text := "spaces:\n  - slug: " + space.Slug + "\n    " + strings.ReplaceAll(strings.TrimSpace(rules), "\n", "\n    ") + "\n"
	for _, line := range strings.Split(rules, "\n") {
		if strings.HasPrefix(line, "spaces:") {
			text = rules // a whole workspace file
		}
	}
	file, err := workspace.ParseFile([]byte(text))
	if err != nil {
		return nil, fault.Field("rules", "want the identifiers of a space as a workspace file has them: %v", err)
	}
	_, next, err := a.cfg.Workspace.Try(ctx, func(d *workspace.Draft) error {
		return file.Apply(d, workspace.ApplyOptions{Variable: func(string) (string, bool) { return "", false }})
	})
	if err != nil {
		return nil, err
	}
	wanted := next.SpaceByNumber(space.Number)
	if wanted == nil || len(wanted.Identifiers) == 0 {
		return nil, fault.Field("rules", "there are no identifiers for the space %s in it", space.Slug)
	}
	// All else that identity goes by stays as it is.
	_, next, err = a.cfg.Workspace.Try(ctx, func(d *workspace.Draft) error {
		s := d.Space(space.Slug)
		if s == nil {
			return fault.New(fault.NotFound, "there is no space %s", space.Slug)
		}
		s.Identifiers = wanted.Identifiers
		return nil
	})
	if err != nil {
		return nil, err
	}
	return next.SpaceByNumber(space.Number), nil
}

// sinceOf reads an instant, or how long ago it was.
func (a *API) sinceOf(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	now := a.cfg.Clock.Now()
	var days uint16
	if n, err := fmt.Sscanf(text, "%dd", &days); err == nil && n == 1 && text == fmt.Sprintf("%dd", days) {
		return now.AddDate(0, 0, -int(days)), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fault.Field("since", "%q: want how far back, such as 30d or 12h, or an instant, such as 2026-01-31T00:00:00Z", text)
}

func (a *API) listSimulations(ctx context.Context, in *SpacePath) (*simulationsAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	all, err := a.cfg.Trials.Trials(ctx, space.Number)
	if err != nil {
		return nil, err
	}
	out := &simulationsAnswer{Simulations: []*Simulation{}}
	for _, s := range all {
		s.Report = nil
		one, err := answerSimulation(s, nil)
		if err != nil {
			return nil, err
		}
		out.Simulations = append(out.Simulations, one.Simulation)
	}
	return out, nil
}

func (a *API) getSimulation(ctx context.Context, in *SimulationPath) (*simulationAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	return answerSimulation(a.cfg.Trials.Trial(ctx, space.Number, in.ID))
}

func (a *API) cancelSimulation(ctx context.Context, in *SimulationPath) (*simulationAnswer, error) {
	space, err := in.find(a.cfg.Workspace.Current())
	if err != nil {
		return nil, err
	}
	if err := a.cfg.Trials.CancelTrial(ctx, space.Number, in.ID); err != nil {
		return nil, err
	}
	return a.getSimulation(ctx, in)
}

func answerSimulation(s *rebuild.TrialStatus, err error) (*simulationAnswer, error) {
	if err != nil {
		return nil, err
	}
	out := &Simulation{
		ID: s.Number, State: string(s.State), Error: s.Error, Note: s.Note, CreatedAt: s.Created.UTC().Format(time.RFC3339Nano),
		Done: s.Done, Total: s.Total, PerSecond: s.Rate, SecondsLeft: s.Left.Seconds(),
	}
	switch s.State {
	case rebuild.Live:
		out.State = "finished"
	case rebuild.Dropped:
		out.State = "canceled"
	}
	if !s.Since.IsZero() {
		out.Since = s.Since.UTC().Format(time.RFC3339)
	}
	if s.Report != nil {
		out.Report = &SimulationReport{}
		if err := json.Unmarshal(s.Report, out.Report); err != nil {
			return nil, fmt.Errorf("report of simulation %d: %w", s.Number, err)
		}
	}
	return &simulationAnswer{Simulation: out}, nil
}
