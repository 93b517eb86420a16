package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"kith/clock"
	"kith/identity"
	"kith/inspect"
	"kith/kv"
)

// openInsights makes what follows the resolved logs behind the loops, where
// loops run.
func (s *Server) openInsights() {
	if !s.cfg.has(Pipeline) {
		return
	}
	s.insights = inspect.NewInsights(inspect.InsightsConfig{
		DB: s.db, Resolved: s.resolved, Spaces: s.spaceNumbers, Clock: s.clock, Pace: clock.System{}, Retention: s.cfg.InsightsRetention,
		Untyped: []string{identity.TooManyTypes, identity.ValueTooLong, identity.NotWhole, identity.TooManyOnEvent}, Logger: s.cfg.Logger,
	})
}

// Suspects lists who may be no one person.
func (x explainer) Suspects(ctx context.Context, space, epoch uint32, why identity.Suspicion, threshold, limit int) (list []identity.Suspect, complete bool, err error) {
	err = x.db.View(ctx, func(r kv.Reader) (err error) {
		list, complete, err = identity.NewReader(r, space, epoch).Suspects(why, threshold, limit)
		return err
	})
	return list, complete, err
}

// explainer says what identity did and why; see api.Explainer.
type explainer struct {
	*identity.Explainer
	db       kv.DB
	read     *inspect.InsightReader
	insights *inspect.Insights // nil where no loops run
}

func (s *Server) explainer() explainer {
	return explainer{identity.NewExplainer(s.db, s.archive, s.workspace), s.db, inspect.NewInsightReader(s.db, s.resolved), s.insights}
}

// Insights searches, after waiting a moment for what has just come in.
func (x explainer) Insights(ctx context.Context, q inspect.InsightQuery) (inspect.InsightPage, error) {
	x.settle(ctx)
	return x.read.Search(ctx, q)
}

// InsightCounts counts, likewise.
func (x explainer) InsightCounts(ctx context.Context, q inspect.InsightCountQuery) ([]inspect.InsightCount, error) {
	x.settle(ctx)
	return x.read.Counts(ctx, q)
}

func (x explainer) settle(ctx context.Context) {
	if x.insights != nil {
		x.insights.Settle(ctx)
	}
}

// insightLag is how far insights are behind.
type insightLag struct{ s *Server }

// Describe implements prometheus.Collector; the descriptions come with the
// numbers.
func (insightLag) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (l insightLag) Collect(out chan<- prometheus.Metric) {
	if l.s.insights == nil {
		return
	}
	desc := prometheus.NewDesc("kith_insights_lag_outputs", "Outputs of the loop that are not in insights yet.", []string{"space"}, nil)
	l.s.collectLag(out, desc, l.s.insights.Lag)
}

// collectLag tells how far something behind the loops is in every space.
func (s *Server) collectLag(out chan<- prometheus.Metric, desc *prometheus.Desc, lag func(context.Context, uint32) (uint64, error)) {
	for _, sp := range s.allSpaces() {
		if n, err := lag(context.Background(), sp.number); err == nil {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), sp.slug)
		}
	}
}
