package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"kith/activation"
	"kith/archive"
	"kith/auth"
	"kith/clock"
	"kith/collect"
	"kith/collect/cdn"
	"kith/commitlog"
	"kith/delivery"
	"kith/destination"
	"kith/egress"
	"kith/erasure"
	"kith/importer"
	"kith/inspect"
	"kith/job"
	"kith/kv"
	"kith/rebuild"
	"kith/retention"
	"kith/revision"
	"kith/secret"
	"kith/trackingplan"
	"kith/workspace"
)

// How long each step of an orderly stop may take.
const (
	stopRequests = 10 * time.Second // requests that are being answered
	stopLoops    = 5 * time.Second  // the backlog of the loops; what is left waits for the next start
	stopDelivery = 5 * time.Second  // what is on its way to destinations
)

// Server is a Kith server.
type Server struct {
	cfg    Config
	clock  clock.Clock
	manual *clock.Manual // the test clock, or nil
	dir    *dataDir      // nil when nothing is kept on disk
	random io.Reader

	token     string // of the administrator
	tokenFile string // where it is kept; empty when it was given
	secrets   *secret.Box
	keeper    *auth.Keeper
	oauth     *auth.OAuth

	db         kv.DB
	workspace  *workspace.Store
	connectors *destination.Registry
	egress     *egress.Guard
	archive    *archive.Archive
	feed       *inspect.Feed
	rejections *inspect.Rejections
	filtered   *prometheus.CounterVec
	observer   *inspect.Observer // nil without the pipeline role
	insights   *inspect.Insights // likewise
	row        *row
	reviser    *revision.Reviser
	syncs      *activation.Syncs
	rebuilds   *rebuild.Manager
	jobs       *job.Jobs
	erasures   *erasure.Erasures
	retention  *retention.Retention
	imports    *importer.Importer
	delivery   *delivery.Delivery
	collector  *collect.Collector // nil without the collect role
	cdn        *cdn.CDN
	metrics    *prometheus.Registry
	http       *http.Server
	certs      certificates // nil without TLS
	authority  string       // the file of the local authority; empty without one
	redirects  *http.Server // nil unless plain HTTP is answered beside TLS

	advancing sync.Mutex // one move of the test clock at a time

	failed chan error
	ready  atomic.Bool
	addr   atomic.Pointer[net.TCPAddr]
	opened chan struct{} // closed once the server listens

	mu     sync.RWMutex
	spaces map[uint32]*space
	loops  *crew // nil while no loop runs
	beside *crew // what hands work to the loops; likewise
}

// New opens the data directory and builds the server's parts. Nothing runs and
// nobody listens before Run. The caller calls Close.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, clock: clock.System{}, random: &lockedReader{from: cfg.Random}, spaces: map[uint32]*space{},
		feed: inspect.NewFeed(), metrics: prometheus.NewRegistry(), filtered: filteredEvents(), failed: make(chan error, 1), opened: make(chan struct{}),
	}
	if !cfg.TestClock.IsZero() {
		s.manual = clock.NewManual(cfg.TestClock)
		s.clock = s.manual
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open opens everything. What it has opened when it fails, Close closes.
func (s *Server) open(ctx context.Context) error {
	var err error
	if err := s.openData(); err != nil {
		return err
	}
	if err := s.openTLS(); err != nil {
		return err
	}
	s.keeper.KnowClients(s.client)
	if s.oauth, err = auth.OpenOAuth(ctx, auth.OAuthConfig{
		DB: s.db, Clock: s.clock, Random: s.random, Secrets: s.secrets, Logger: s.cfg.Logger, Audiences: s.audiences, Client: s.client,
	}); err != nil {
		return err
	}
	s.archive = archive.New(s.db, s.Raw)
	if s.rejections, err = inspect.OpenRejections(ctx, s.db, s.clock, s.cfg.Logger); err != nil {
		return err
	}
	s.openObserver()
	s.openInsights()
	if s.connectors, err = destination.NewRegistry(s.cfg.Destinations...); err != nil {
		return err
	}
	s.egress = egress.New(s.cfg.EgressAllow, net.DefaultResolver)
	s.openErasures()
	s.openRetention()
	s.row = s.newRow()
	s.rebuilds = rebuild.New(rebuild.Config{
		DB: s.db, House: rebuildHouse{s}, Lab: rebuildHouse{s}, Jobs: func() *job.Jobs { return s.jobs }, Clock: s.clock, Logger: s.cfg.Logger,
		Engine: s.cfg.Version, Retention: s.cfg.EpochRetention, Advanced: s.retention.Advanced,
	})
	if s.workspace, err = workspace.Open(ctx, s.db, workspace.Options{
		Clock: s.clock, Random: s.random, Secrets: s.secrets, Announce: s.announce,
		Connectors: s.connectors.ForWorkspace(s.checkURL), CheckTrigger: checkTrigger, CheckFilter: checkFilter, CheckQuery: s.checkQuery, CheckRule: trackingplan.Check,
	}); err != nil {
		return err
	}
	if err := s.announce(ctx, s.workspace.Current()); err != nil {
		return err
	}
	s.reviser = s.newReviser(s.row.computation.Reader(), func(number uint32) (revision.Loop, error) { return s.loop(number) })
	s.delivery = delivery.New(delivery.Config{
		DB: s.db, Clock: s.clock, Random: s.random, Workspace: s.workspace, Registry: s.connectors, HTTP: s.egress.Client(),
		Unseal: func(settings json.RawMessage) (json.RawMessage, error) {
			return workspace.UnsealSettings(settings, s.secrets)
		},
		Logs: s.resolved, Bodies: s.archive, Logger: s.cfg.Logger, Tap: s.tapDelivery,
		Limits: delivery.Limits{Ledger: s.cfg.LedgerRetention}, Retention: s.keeps,
	})
	if s.cfg.has(Collect) {
		if s.collector, err = collect.New(collect.Config{
			Workspace: s.workspace, Logs: s, Clock: s.clock, Random: s.random, Logger: s.cfg.Logger, Limits: s.cfg.Limits,
			Tokens: s.oauth, StrictWriteKeys: s.cfg.StrictWriteKeys, TrustedProxies: s.cfg.TrustedProxies, Rejections: rejectTap{s}, Accepted: s.tapAccepted, Metrics: s.metrics,
		}); err != nil {
			return err
		}
	}
	s.imports = s.newImporter()
	s.jobs = job.New(s.db, s.clock, s.cfg.Logger, append(append(s.rebuilds.Kinds(), s.syncs.Kinds()...), s.imports.Kind(), s.erasures.JobKind(), s.retention.JobKind())...)
	if err := s.imports.Open(ctx); err != nil {
		return err
	}
	if err := s.openCDN(); err != nil {
		return err
	}
	s.registerMetrics()
	s.http = s.httpServer()
	return nil
}

// openData opens the store, the secrets and the tokens.
func (s *Server) openData() (err error) {
	store := ""
	if s.cfg.Data != "" {
		if s.dir, err = openDataDir(s.cfg.Data); err != nil {
			return err
		}
		store = s.dir.file(fileStore)
	}
	// The store first: it is what keeps a second server out.
	db, err := s.cfg.Store(store, s.cfg.Logger)
	if err != nil {
		return err
	}
	s.db = db
	if s.dir != nil {
		if err := s.dir.raise(); err != nil {
			return err
		}
	}
	if s.dir == nil {
		key := make([]byte, 32)
		if _, err := io.ReadFull(s.random, key); err != nil {
			return err
		}
		s.token = s.cfg.AdminToken
		s.secrets, err = secret.New(key, s.random)
	} else {
		if s.secrets, err = secret.Open(s.dir.path, s.random); err != nil {
			return err
		}
		s.token, s.tokenFile, err = auth.AdminToken(s.dir.path, s.cfg.AdminToken, s.random)
	}
	if err != nil {
		return err
	}
	s.keeper, err = auth.New(s.db, s.clock, s.random, s.token)
	return err
}

// AdminToken returns the token of the administrator.
func (s *Server) AdminToken() string { return s.token }

// Addr waits until the server listens and returns where.
func (s *Server) Addr(ctx context.Context) (*net.TCPAddr, error) {
	select {
	case <-s.opened:
		return s.addr.Load(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Run serves until ctx ends, which is no error, or until something is broken
// that a restart may mend. It runs once.
func (s *Server) Run(ctx context.Context) error {
	listener, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w (name another address with --listen)", err)
	}
	addr, _ := listener.Addr().(*net.TCPAddr)
	s.addr.Store(addr)
	var plain net.Listener
	if s.redirects != nil {
		if plain, err = net.Listen("tcp", s.cfg.TLS.Redirect); err != nil {
			return errors.Join(fmt.Errorf("listen: %w (name another address with --http-redirect)", err), listener.Close())
		}
	}

	background := newCrew(s.failed)
	background.run("rejected messages", s.rejections.Run)
	background.run("files of imports", s.imports.Run)
	if s.observer != nil {
		background.run("schema and usage", s.observer.Run)
		background.run("insights", s.insights.Run)
	}
	s.startLoops()
	back := newCrew(s.failed)
	if s.cfg.has(Delivery) {
		back.run("delivery", s.delivery.Run)
	}
	front := newCrew(s.failed)
	front.run("http", s.serve(listener))
	if plain != nil {
		front.run("http beside https", s.serveRedirects(plain))
	}
	if s.certs != nil {
		background.run("certificates", s.certs.Run)
	}
	s.ready.Store(true)
	close(s.opened)
	s.greet(addr)

	select {
	case <-ctx.Done():
	case err = <-s.failed:
		s.cfg.Logger.Error("stopping", "error", err)
	}
	s.ready.Store(false)
	s.stop(front, back, err == nil)
	background.stop()
	return err
}

// stop stops the parts in the order of an event's walk. Nothing is drained when
// something is broken.
func (s *Server) stop(front, back *crew, drain bool) {
	s.feed.Close() // ends the streams, which would hold the listener open
	requests, cancel := context.WithTimeout(context.Background(), stopRequests)
	defer cancel()
	if err := s.http.Shutdown(requests); err != nil {
		s.cfg.Logger.Warn("requests were cut off", "error", err)
		_ = s.http.Close()
	}
	if s.redirects != nil {
		_ = s.redirects.Close()
	}
	if s.collector != nil {
		if err := s.collector.Close(requests); err != nil {
			s.cfg.Logger.Warn("collect did not end in time", "error", err)
		}
	}
	front.stop()
	s.stopLoops(drain)
	if drain && s.cfg.has(Delivery) {
		ctx, cancel := context.WithTimeout(context.Background(), stopDelivery)
		defer cancel()
		if err := s.delivery.Settled(ctx, s.resolvedEnds()); err != nil {
			s.cfg.Logger.Info("stopping before everything is delivered; the next start goes on with it")
		}
	}
	back.stop()
}

// resolvedEnds returns where the resolved logs end.
func (s *Server) resolvedEnds() map[uint32]commitlog.Offset {
	ends := map[uint32]commitlog.Offset{}
	for _, sp := range s.allSpaces() {
		ends[sp.number] = sp.resolved.End()
	}
	return ends
}

// Close frees what New has opened. It is called after Run has returned, or
// instead of Run.
func (s *Server) Close() error {
	if s.egress != nil {
		s.egress.Close()
	}
	err := s.closeSpaces()
	if s.imports != nil {
		err = errors.Join(err, s.imports.Close())
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	return err
}

// lockedReader lets several goroutines read from one source.
type lockedReader struct {
	mu   sync.Mutex
	from io.Reader
}

// Read reads from the source.
func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.from.Read(p)
}
