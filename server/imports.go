package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"kith/commitlog"
	"kith/fault"
	"kith/identity"
	"kith/importer"
	"kith/workspace"
)

// newImporter makes the imports of files. Only a server that takes events and
// runs the loops takes files: it has them on its own disk.
func (s *Server) newImporter() *importer.Importer {
	cfg := importer.Config{
		DB: s.db, Workspace: s.workspace, Loop: importLoop{s}, Jobs: func() importer.Jobs { return s.jobs },
		Identifiers: identifiersOf, Clock: s.clock, Random: s.random, Logger: s.cfg.Logger,
		Limits: importer.Limits{DiskBytes: s.cfg.ImportDisk},
	}
	if s.dir != nil {
		cfg.Dir = s.dir.file(fileImports)
	}
	if s.collector != nil && s.cfg.has(Pipeline) {
		cfg.Collector = importCollector{s}
	}
	imports := importer.New(cfg)
	s.metrics.MustRegister(importGauges{imports})
	return imports
}

// importGauges are the numbers of imports, read when somebody asks.
type importGauges struct{ of *importer.Importer }

// Describe implements prometheus.Collector; the descriptions come with the
// numbers.
func (g importGauges) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (g importGauges) Collect(out chan<- prometheus.Metric) {
	stats := g.of.Stats()
	rows := prometheus.NewDesc("kith_import_rows_total", "Rows of imported files since the start.", []string{"outcome"}, nil)
	for outcome, n := range map[string]uint64{"sent": stats.Sent, "failed": stats.Failed, "failed_unreported": stats.LeftOut} {
		out <- prometheus.MustNewConstMetric(rows, prometheus.CounterValue, float64(n), outcome)
	}
	for name, gauge := range map[string]struct {
		help  string
		value float64
	}{
		"kith_imports_running":   {"Imports that run now.", float64(stats.Running)},
		"kith_import_disk_bytes": {"Disk space that the files of imports have.", float64(stats.DiskBytes)},
	} {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, gauge.help, nil, nil), prometheus.GaugeValue, gauge.value)
	}
}

// identifiersOf returns the identity rules that a space declares or, if none,
// the default ones.
func identifiersOf(space *workspace.Space) []workspace.IdentifierRule {
	if len(space.Identifiers) > 0 {
		return space.Identifiers
	}
	return identity.DefaultIdentifiers()
}

// importCollector hands the rows of imports to collect.
type importCollector struct{ s *Server }

// TakeCalls hands calls over; see importer.Collector.
func (c importCollector) TakeCalls(ctx context.Context, source *workspace.Source, calls []string, dryRun bool) ([]importer.Refused, error) {
	refused, err := c.s.collector.TakeCalls(ctx, source, calls, dryRun)
	list := make([]importer.Refused, len(refused))
	for i, x := range refused {
		list[i] = importer.Refused{Index: x.Index, Code: x.Code, Message: x.Message}
	}
	return list, err
}

// importLoop tells imports how far the loop of a space is.
type importLoop struct{ s *Server }

// End returns the end of a space's raw log; see importer.Loop.
func (l importLoop) End(space uint32) (commitlog.Offset, error) {
	sp := l.s.space(space)
	if sp == nil {
		return 0, fault.New(fault.NotFound, "there is no space %d", space)
	}
	return sp.raw.End(), nil
}

// Passed waits for the loop; see importer.Loop.
func (l importLoop) Passed(ctx context.Context, space uint32, at commitlog.Offset) error {
	return l.s.Passed(ctx, space, at)
}
