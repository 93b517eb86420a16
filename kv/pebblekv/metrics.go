package pebblekv

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Metrics returns the store's metrics, for who shows them: how much is on the
// disk, what compactions write and have yet to write, how often writes had to
// wait for them, and how long an fsync takes.
func (db *DB) Metrics() prometheus.Collector { return collector{db} }

// collector reads the store's figures when somebody asks.
type collector struct{ db *DB }

// Describe implements prometheus.Collector; the descriptions come with the
// numbers.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector. A store that is closed has no
// metrics.
func (c collector) Collect(out chan<- prometheus.Metric) {
	db := c.db
	if err := db.guard.Enter(context.Background()); err != nil {
		return
	}
	m := db.pebble.Metrics()
	db.guard.Leave()
	s := statsOf(m)
	tell := func(name, help string, kind prometheus.ValueType, value float64) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("kith_store_"+name, help, nil, nil), kind, value)
	}
	tell("disk_bytes", "What the files of the store take.", prometheus.GaugeValue, float64(s.Disk))
	tell("memory_bytes", "What the store's cache and pending writes take.", prometheus.GaugeValue, float64(s.Memory))
	tell("read_amplification", "How many sorted runs a look may have to pass.", prometheus.GaugeValue, float64(s.ReadAmp))
	tell("compaction_debt_bytes", "An estimate of what compactions have yet to write.", prometheus.GaugeValue, float64(s.Debt))
	tell("written_bytes_total", "What has gone to the disk: write-ahead log, flushes, compactions.", prometheus.CounterValue, float64(s.Written))
	tell("compactions_total", "Compactions that have ended.", prometheus.CounterValue, float64(m.Compact.Count))
	tell("flushes_total", "Flushes of what was gathered in memory.", prometheus.CounterValue, float64(m.Flush.Count))
	tell("write_stalls_total", "How often writes had to wait for compactions or flushes.", prometheus.CounterValue, float64(db.stalls.Load()))
	if h := histogram(m); h != nil {
		out <- h
	}
}

// histogram returns how long fsyncs of the write-ahead log took. Pebble's own
// histogram has no name.
func histogram(m *pebble.Metrics) prometheus.Metric {
	if m.LogWriter.FsyncLatency == nil {
		return nil
	}
	var read dto.Metric
	if err := m.LogWriter.FsyncLatency.Write(&read); err != nil {
		return nil
	}
	const second = 1e9 // Pebble counts nanoseconds
	buckets := map[float64]uint64{}
	for _, b := range read.GetHistogram().GetBucket() {
		buckets[b.GetUpperBound()/second] = b.GetCumulativeCount()
	}
	desc := prometheus.NewDesc("kith_store_fsync_seconds", "How long it took to make the write-ahead log durable.", nil, nil)
	return prometheus.MustNewConstHistogram(desc, read.GetHistogram().GetSampleCount(), read.GetHistogram().GetSampleSum()/second, buckets)
}
