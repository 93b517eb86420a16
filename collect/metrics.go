package collect

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the package's numbers.
type metrics struct {
	requests *prometheus.CounterVec // by status
	answered prometheus.Counter     // those of requests with status 200
	rejected *prometheus.CounterVec // by code
	warned   *prometheus.CounterVec // by code
	accepted prometheus.Counter
	bytes    prometheus.Counter
	blocks   prometheus.Counter
	groups   *prometheus.CounterVec // by outcome
}

func newMetrics(to prometheus.Registerer, c *Collector) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kith_collect_requests_total", Help: "Requests to the Tracking API, by status code."}, []string{"status"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kith_collect_rejected_events_total", Help: "Events that were not kept, by discard code."}, []string{"code"}),
		warned: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kith_collect_warned_events_total", Help: "Events that were kept although something of them could not be used, by code."}, []string{"code"}),
		accepted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kith_collect_accepted_events_total", Help: "Events that were made durable."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kith_collect_accepted_bytes_total", Help: "Bytes of the events that were made durable, before compression."}),
		blocks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kith_collect_blocks_total", Help: "Blocks that were appended to raw logs."}),
		groups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kith_collect_appends_total", Help: "Groups of events that were appended together, by outcome."}, []string{"outcome"}),
	}
	m.answered = m.requests.WithLabelValues(strconv.Itoa(http.StatusOK))
	if to == nil {
		return m, nil
	}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kith_collect_inflight_bytes", Help: "Bytes of requests that are being worked on; the limit answers 429."},
		func() float64 { return float64(c.held.Load()) })
	queued := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kith_collect_queued_bytes", Help: "Bytes of events that wait to be durable, of all spaces; the limit of one space answers 429."},
		func() float64 { return float64(c.queued.Load()) })
	for _, x := range []prometheus.Collector{m.requests, m.rejected, m.warned, m.accepted, m.bytes, m.blocks, m.groups, held, queued} {
		if err := to.Register(x); err != nil {
			return nil, err
		}
	}
	return m, nil
}
