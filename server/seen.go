package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"kith/clock"
	"kith/commitlog"
	"kith/inspect"
	"kith/kv"
	"kith/pipeline"
)

// openObserver makes what follows the raw logs behind the loops, where loops
// run.
func (s *Server) openObserver() {
	if !s.cfg.has(Pipeline) {
		return
	}
	s.observer = inspect.NewObserver(inspect.ObserverConfig{
		DB: s.db, Past: s.archive, Spaces: s.spaceNumbers, Passed: s.passed, Clock: s.clock, Pace: clock.System{},
		NoSamples: s.cfg.NoSampleValues, Logger: s.cfg.Logger,
	})
}

// spaceNumbers returns the numbers of the open spaces.
func (s *Server) spaceNumbers() (numbers []uint32) {
	for _, sp := range s.allSpaces() {
		numbers = append(numbers, sp.number)
	}
	return numbers
}

// passed returns the record that the loop of a space passes next.
func (s *Server) passed(number uint32) (commitlog.Offset, error) {
	sp := s.space(number)
	if sp == nil {
		return 0, nil
	}
	if sp.loop() != nil {
		return sp.loop().Position().Next, nil
	}
	var next commitlog.Offset
	err := s.db.View(context.Background(), func(r kv.Reader) error {
		position, err := pipeline.ReadPosition(r, sp.number, sp.epoch())
		next = position.Next
		return err
	})
	return next, err
}

// counted is what the control API reads of what was counted; see api.Seen.
type counted struct {
	*inspect.Schema
	*inspect.Meter
	observer *inspect.Observer // nil where no loops run
}

func (s *Server) counted() counted {
	return counted{inspect.NewSchema(s.db), inspect.NewMeter(s.db), s.observer}
}

// Settle waits a moment for the observer; see inspect.Observer.
func (x counted) Settle(ctx context.Context) {
	if x.observer != nil {
		x.observer.Settle(ctx)
	}
}

// infos are the names behind the ids in other metrics, and how far the observer
// is behind.
type infos struct{ s *Server }

// Describe implements prometheus.Collector; the descriptions come with the
// numbers.
func (infos) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (i infos) Collect(out chan<- prometheus.Metric) {
	snap := i.s.workspace.Current()
	source := prometheus.NewDesc("kith_source_info", "1; the names of a source.", []string{"source", "slug", "name"}, nil)
	for n := range snap.Sources {
		x := &snap.Sources[n]
		out <- prometheus.MustNewConstMetric(source, prometheus.GaugeValue, 1, x.ID, x.Slug, x.Name)
	}
	destination := prometheus.NewDesc("kith_destination_info", "1; the names of a destination.", []string{"destination", "slug", "name", "connector"}, nil)
	for n := range snap.Destinations {
		x := &snap.Destinations[n]
		out <- prometheus.MustNewConstMetric(destination, prometheus.GaugeValue, 1, x.ID, x.Slug, x.Name, x.MetadataID)
	}
	if left, err := inspect.NewSchema(i.s.db).LeftOut(context.Background()); err == nil {
		desc := prometheus.NewDesc("kith_schema_left_out_calls_total", "Calls whose event, or app version, is not told apart since the source has too many.", []string{"source", "what"}, nil)
		for source, n := range left {
			out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n.EventsLeftOut), source, "event")
			out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n.VersionsLeftOut), source, "appVersion")
		}
	}
	if i.s.observer == nil {
		return
	}
	lag := prometheus.NewDesc("kith_inspect_lag_records", "Records that the loop has passed and that are not in schema and usage yet.", []string{"space"}, nil)
	i.s.collectLag(out, lag, i.s.observer.Lag)
}

// debugger looks for what sources have sent lately.
func (s *Server) debugger() *inspect.Debugger { return inspect.NewDebugger(s.archive, s.rejections) }
