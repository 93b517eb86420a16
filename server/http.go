package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"kith/fault"
)

// httpServer puts every API behind one listener.
func (s *Server) httpServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"status": "alive", "version": s.cfg.Version})
	})
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{}))
	if s.cfg.has(API) {
		s.newAPI().Register(mux)
	}
	if s.cfg.has(Collect) || s.cfg.has(API) {
		s.oauth.Register(mux)
	}
	if s.manual != nil {
		mux.HandleFunc("POST /api/test-clock", s.serveTestClock)
	}
	if s.collector != nil {
		s.collector.Register(mux)
		s.cdn.Register(mux)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fault.New(fault.NotFound, "there is no %s %s; events go to /v1/track and the like, GET /api/openapi.json lists the rest", r.Method, r.URL.Path))
	})
	return &http.Server{
		Handler:           loud(timely(mux, bodyGrace, bodyRate, fetchTime), s.cfg.Logger),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
}

// readyz answers 200 once the APIs answer. It does not wait for the backlog,
// whose size it tells: records that the loops have not reached, and outputs that
// the destinations have not.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	status, code := "ready", http.StatusOK
	if !s.ready.Load() {
		status, code = "not ready", http.StatusServiceUnavailable
	}
	backlog := map[string]uint64{}
	for _, sp := range s.allSpaces() {
		n, err := s.backlog(r.Context(), sp)
		if err != nil {
			status, code = "the store does not answer", http.StatusServiceUnavailable
			s.cfg.Logger.Warn("the backlog cannot be read", "space", sp.slug, "error", err)
		}
		backlog[sp.slug] = n
	}
	deliveries := map[string]uint64{}
	snap := s.workspace.Current()
	for _, d := range s.delivery.Stats() {
		if dest := snap.Destination(d.Destination); dest != nil {
			deliveries[dest.Slug] = d.Backlog + uint64(d.Pending) + d.Counts.Waiting
		}
	}
	answer(w, code, map[string]any{"status": status, "roles": s.cfg.Roles, "backlog": backlog, "deliveries": deliveries})
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // a reader that has gone away is its own business
}

// registerMetrics registers what the server itself knows.
func (s *Server) registerMetrics() {
	if store, ok := s.db.(interface{ Metrics() prometheus.Collector }); ok {
		s.metrics.MustRegister(store.Metrics())
	}
	s.metrics.MustRegister(gauges{s}, infos{s}, insightLag{s}, s.filtered, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}

// gauges are numbers that are read when somebody asks.
type gauges struct{ s *Server }

// Describe implements prometheus.Collector; the descriptions come with the
// numbers.
func (g gauges) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (g gauges) Collect(out chan<- prometheus.Metric) {
	seen := prometheus.NewDesc("kith_seen_total", "What was seen at each stage since the start.", []string{"stage", "source", "destination"}, nil)
	for _, c := range g.s.feed.Counts() {
		out <- prometheus.MustNewConstMetric(seen, prometheus.CounterValue, float64(c.N), string(c.Stage), c.Source, c.Destination)
	}
	lost := prometheus.NewDesc("kith_rejections_lost_total", "Rejected messages that were not kept because too many came.", nil, nil)
	out <- prometheus.MustNewConstMetric(lost, prometheus.CounterValue, float64(g.s.rejections.Lost()))
	gauge := func(name, help string, value float64, label, of string) {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, []string{label}, nil), prometheus.GaugeValue, value, of)
	}
	o := g.s.oauth.Stats()
	for outcome, n := range map[string]uint64{"issued": o.Issued, "refused": o.Refused, "limited": o.Limited} {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("kith_oauth_token_requests_total", "Requests for an access token.", []string{"outcome"}, nil),
			prometheus.CounterValue, float64(n), outcome)
	}
	if g.s.certs != nil {
		for _, c := range g.s.certs.Shown() {
			gauge("kith_tls_certificate_expires_seconds", "When a certificate in use ends, in seconds since 1970.", float64(c.NotAfter.Unix()), "name", c.Name)
		}
	}
	for _, sp := range g.s.allSpaces() {
		if n, err := g.s.backlog(context.Background(), sp); err == nil {
			gauge("kith_backlog_records", "Records of the raw log that wait for the loop.", float64(n), "space", sp.slug)
		}
		if sp.loop() == nil {
			continue
		}
		dedup := sp.loop().Dedup()
		gauge("kith_dedup_filter_bytes", "Memory of the filters of dedup.", float64(dedup.FilterBytes), "space", sp.slug)
		gauge("kith_dedup_bare_buckets", "Stretches of time without a filter, for which every messageId is looked up in the store.", float64(dedup.Bare), "space", sp.slug)
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("kith_dedup_reads_total", "Looks for messageIds into the store since the start.", []string{"space"}, nil),
			prometheus.CounterValue, float64(dedup.Asked), sp.slug)
	}
	for _, d := range g.s.delivery.Stats() {
		gauge("kith_delivery_backlog_outputs", "Outputs that a destination has not read yet.", float64(d.Backlog), "destination", d.Destination)
		gauge("kith_delivery_waiting_events", "Events that wait for a retry, or behind one of their profile.", float64(d.Counts.Waiting), "destination", d.Destination)
		gauge("kith_delivery_dead_letters", "Dead letters that were not sent again since.", float64(d.Counts.Dead), "destination", d.Destination)
	}
}

// greet writes the start-up text.
func (s *Server) greet(addr *net.TCPAddr) {
	at := "http://" + addr.String()
	if s.certs != nil {
		at = "https://" + addr.String()
	}
	data := s.cfg.Data
	if data == "" {
		data = "memory only"
	}
	token := "the one you gave"
	if s.tokenFile != "" {
		token = "in " + s.tokenFile
	}
	fmt.Fprintf(s.cfg.Notes, "kith %s listens on %s (data: %s)\nadmin token: %s\n", s.cfg.Version, at, data, token)
	s.greetTLS()
	if s.cfg.has(API) {
		next := "watch events with: kith tail"
		if len(s.workspace.Current().Sources) == 0 {
			next = "declare your first source with: kith apply -f workspace.yaml (or POST " + at + "/api/sources)"
		}
		fmt.Fprintf(s.cfg.Notes, "next: %s\n", next)
	}
	if s.manual != nil {
		fmt.Fprintf(s.cfg.Notes, "THE CLOCK STANDS at %s: it moves with POST %s/api/test-clock {\"advance\":\"60d\"} only\n",
			s.manual.Now().Format(time.RFC3339), at)
	}
}
