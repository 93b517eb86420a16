package server

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"kith/collect"
	"kith/destination"
	"kith/fault"
	"kith/kv"
	"kith/proxy"
	"kith/rebuild"
	"kith/workspace"
)

// Role is a part of the work that a server does.
type Role string

// The roles.
const (
	Collect  Role = "collect"  // the Tracking API
	Pipeline Role = "pipeline" // the loops of the spaces
	Delivery Role = "delivery" // sending to destinations
	API      Role = "api"      // the control API and the Profile API
)

// Roles returns all roles, in the order of an event's walk.
func Roles() []Role { return []Role{Collect, Pipeline, Delivery, API} }

// Defaults of a Config.
const (
	DefaultData   = "./kith-data"
	DefaultListen = "127.0.0.1:8080"
	// DefaultDedupWindow is how long a messageId is remembered.
	DefaultDedupWindow = 30 * 24 * time.Hour
)

// Config is what a server is made of.
type Config struct {
	// Data is the data directory; it is created. Empty keeps nothing on disk,
	// which Store must then be fit for.
	Data   string
	Listen string // host:port; port 0 takes a free one. Empty means DefaultListen
	Roles  []Role // empty means all
	// PublicURL is how others reach the server: https://events.example.com, no
	// path. The settings of SDKs and the audience of OAuth assertions are made
	// from it. Empty means the first ACME domain, otherwise what Listen says.
	PublicURL string
	TLS       TLS
	// TrustedProxies are peers whose X-Forwarded-For names the client.
	TrustedProxies proxy.Trusted
	// Limits bound what the Tracking API takes; zero fields have collect's
	// defaults.
	Limits collect.Limits
	// DedupWindow is how long a messageId is remembered, by the records' own
	// instants. Zero means DefaultDedupWindow; below zero, nothing is
	// remembered and a duplicate counts twice.
	DedupWindow time.Duration
	// EraseGather is how long the work of an erasure waits for more, which are
	// done in the same pass, and EraseDeadline within what time it is complete.
	// Zero means erasure.DefaultGather and erasure.DefaultDeadline.
	EraseGather   time.Duration
	EraseDeadline time.Duration
	// LedgerRetention is how long delivery keeps what became of each event at
	// each destination. Zero means 30 days.
	LedgerRetention time.Duration
	// InsightsRetention is how long what identity did and refused can be
	// searched; it is counted for longer. Zero means 30 days.
	InsightsRetention time.Duration
	// Retention is how long a space that says nothing keeps the bodies of its
	// events. Zero means for ever; otherwise workspace.MinRetention at least.
	Retention time.Duration
	// EpochRetention is how long the state that a rebuild has replaced is kept,
	// for swapping back. Zero means rebuild.DefaultRetention.
	EpochRetention time.Duration
	// RebuildShare is how much of the time a rebuild works, in percent, from 1 to
	// 100; whatever it is, the live loop goes first. Zero means 100.
	RebuildShare int
	// RevisionEvents is how many events are worked out again at most beside
	// what comes in, when an un-merge or a block changes what they made. Zero
	// means revision.DefaultMaxEvents; beyond it a rebuild does it.
	RevisionEvents int
	// TestClock, unless zero, makes the clock stand at that instant until
	// POST /api/test-clock moves it. Only with a loopback Listen.
	TestClock time.Time
	// EgressAllow are networks that destinations may be reached in beside the
	// public ones.
	EgressAllow     []netip.Prefix
	ImportDisk      int64  // bytes that the files of imports may have on disk; zero means 20 GiB
	StrictWriteKeys bool   // answer 401 to an unknown write key
	NoSampleValues  bool   // keep no values of properties in the schema of sources
	AdminToken      string // empty: read from, or made in, the data directory; required without one
	Version         string // of the binary, for people

	// Store opens the embedded store in a folder.
	Store func(dir string, logger *slog.Logger) (kv.DB, error)
	// Destinations are the kinds of destination there are.
	Destinations []destination.Connector

	Random io.Reader    // crypto/rand.Reader outside of tests
	Logger *slog.Logger // what goes on
	// Notes takes the start-up text: where the server listens, where the admin
	// token is, what to do next.
	Notes io.Writer
}

// complete fills in the defaults and checks the rest.
func (c *Config) complete() error {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if len(c.Roles) == 0 {
		c.Roles = Roles()
	}
	for _, r := range c.Roles {
		if !slices.Contains(Roles(), r) {
			return fault.Field("roles", "%q is no role: want some of %s", r, roleList())
		}
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fault.Field("listen", "%q is not an address: want host:port, such as %s", c.Listen, DefaultListen)
	}
	if !c.TestClock.IsZero() && !loopback(host) {
		return fault.Field("test-clock", "a clock that others could move is not for the network: use it with a --listen address of this machine, such as %s", DefaultListen)
	}
	if err := c.completePublic(); err != nil {
		return err
	}
	if c.EpochRetention == 0 {
		c.EpochRetention = rebuild.DefaultRetention
	}
	if c.RebuildShare == 0 {
		c.RebuildShare = 100
	}
	if c.RebuildShare < 1 || c.RebuildShare > 100 {
		return fault.Field("rebuild-share", "%d is no percentage: want 1 to 100", c.RebuildShare)
	}
	if c.Retention != 0 && (c.Retention < workspace.MinRetention || c.Retention > workspace.MaxRetention) {
		return fault.Field("retention", "events cannot be kept for %s: want 1d to 36500d, or forever", c.Retention)
	}
	if c.DedupWindow == 0 {
		c.DedupWindow = DefaultDedupWindow
	}
	if c.Store == nil || c.Random == nil || c.Logger == nil || c.Notes == nil {
		return fmt.Errorf("server: Store, Random, Logger and Notes are required")
	}
	return nil
}

func (c *Config) has(r Role) bool { return slices.Contains(c.Roles, r) }

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func roleList() string {
	var names []string
	for _, r := range Roles() {
		names = append(names, string(r))
	}
	return strings.Join(names, ", ")
}
