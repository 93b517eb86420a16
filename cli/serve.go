package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/alecthomas/kong"

	"kith/collect"
	"kith/egress"
	"kith/fault"
	"kith/server"
	"kith/workspace"
)

// serveCommand runs a server.
type serveCommand struct {
	Data       string     `default:"./kith-data" placeholder:"DIR" help:"Data directory, ./kith-data by default; it is created."`
	Listen     string     `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address that serves everything: Tracking, Profile and control API. 127.0.0.1:8080 by default."`
	PublicURL  string     `name:"public-url" placeholder:"URL" help:"How others reach this server: https://events.example.com. SDKs are told it in their settings."`
	Roles      []string   `placeholder:"ROLE,…" help:"Which parts run: collect, pipeline, delivery, api. All by default."`
	TestClock  string     `placeholder:"TIME" help:"Let the clock stand at TIME (2026-01-31T12:00:00Z) until POST /api/test-clock moves it. Only on a loopback address."`
	AdminToken string     `env:"KITH_ADMIN_TOKEN" placeholder:"TOKEN" help:"The administrator's token; better given as KITH_ADMIN_TOKEN. By default it is made at the first start and kept in DIR/admin-token."`
	LogLevel   slog.Level `default:"info" help:"debug, info, warn or error."`

	ImportDisk size `placeholder:"SIZE" help:"Disk space that the files of imports may have, 20GB by default. Above, uploads are refused."`

	NoSampleValues bool `help:"Keep no sample values of properties and traits in the schema of sources."`

	EgressAllow    string `group:"network" placeholder:"CIDR,…" help:"Networks that destinations may be reached in beside the public internet: 127.0.0.0/8."`
	TrustedProxies string `group:"network" placeholder:"CIDR,…" help:"Proxies in front of this server whose X-Forwarded-For names the client. None by default."`

	TLSCert         string   `name:"tls-cert" group:"tls" placeholder:"FILE" help:"Speak https with this certificate and its chain (PEM). The file is read again when it changes."`
	TLSKey          string   `name:"tls-key" group:"tls" placeholder:"FILE" help:"The key of --tls-cert (PEM)."`
	TLSDev          bool     `name:"tls-dev" group:"tls" help:"Speak https with a certificate for this machine, of a local authority that is made once and kept in DIR. For development."`
	ACMEDomain      []string `name:"acme-domain" group:"tls" placeholder:"NAME,…" help:"Speak https with a certificate for NAME that is got, and renewed, by itself (ACME; Let's Encrypt). Port 443 must lead to --listen, or port 80 to --http-redirect."`
	ACMEAcceptTerms bool     `name:"acme-accept-terms" group:"tls" help:"You agree to the terms of that certificate authority; --acme-domain needs it."`
	ACMEEmail       string   `name:"acme-email" group:"tls" placeholder:"ADDRESS" help:"Where the certificate authority may write to."`
	ACMEDirectory   string   `name:"acme-directory" group:"tls" placeholder:"URL" help:"The ACME directory of another certificate authority."`
	ACMECA          string   `name:"acme-ca" group:"tls" placeholder:"FILE" help:"Root certificates (PEM) for reaching --acme-directory, when the system does not know its own."`
	HTTPRedirect    string   `name:"http-redirect" group:"tls" placeholder:"ADDR" help:"Answer plain http at this address, such as :80, with a redirect to https, and ACME's challenges."`

	Retention         string   `default:"forever" placeholder:"TIME" help:"How long the bodies of events are kept in spaces that say nothing else: 90d, 12w or forever, the default."`
	EpochRetention    duration `default:"7d" placeholder:"TIME" help:"How long the state is kept that a rebuild has replaced, for swapping back: 7d by default."`
	RebuildShare      int      `default:"100" placeholder:"PERCENT" help:"How much of the time a rebuild works, 100 percent by default. What comes in goes first in any case."`
	InsightsRetention duration `default:"30d" placeholder:"TIME" help:"How long it can be searched what identity did and refused: 30d by default. The counts stay longer."`

	EraseGather     duration `group:"erasure" default:"1h" placeholder:"TIME" help:"How long an erasure waits for others before the files are gone through for all of them: 1h by default."`
	EraseDeadline   duration `group:"erasure" default:"7d" placeholder:"TIME" help:"Within what time nothing of erased persons is left in any file: 7d by default."`
	LedgerRetention duration `group:"delivery" default:"30d" placeholder:"TIME" help:"How long it is kept what became of each event at each destination: 30d by default. The counts stay."`

	StrictWriteKeys  bool     `group:"collect" help:"Answer 401 to unknown write keys instead of 200."`
	DedupWindow      duration `group:"collect" default:"30d" placeholder:"TIME" help:"How long a messageId is remembered, so that it counts once: 30d by default, 0 for not at all."`
	RevisionEvents   int      `default:"100000" placeholder:"N" help:"How many events an un-merge or a block works out again beside what comes in: 100,000 by default. Beyond it the space must be rebuilt."`
	MaxEventBytes    size     `group:"collect" placeholder:"SIZE" help:"One event as sent, 32KB by default, at most 4MB. A larger one is refused by itself."`
	MaxBodyBytes     size     `group:"collect" placeholder:"SIZE" help:"One request, packed and unpacked, 1MB by default. A larger one is answered with 400."`
	MaxBatchEvents   int      `group:"collect" placeholder:"N" help:"Events of one batch, 2,500 by default."`
	MaxMessageID     int      `name:"max-message-id" group:"collect" placeholder:"N" help:"Characters of a messageId, 100 by default, at most 1,000."`
	MaxQueueBytes    size     `group:"collect" placeholder:"SIZE" help:"Events of a space that wait for the disk, 64MB by default. Above, 429."`
	MaxInflightBytes size     `group:"collect" placeholder:"SIZE" help:"All requests that are being worked on, 256MB by default. Above, 429."`
}

// serveGroups are the groups of the flags, in the order of the help.
func serveGroups() []kong.Group {
	return []kong.Group{
		{Key: "network", Title: "Network:"},
		{Key: "tls", Title: "TLS (https); give one of --tls-cert, --tls-dev, --acme-domain:"},
		{Key: "delivery", Title: "Delivery:"},
		{Key: "erasure", Title: "Erasure; a TIME is such as 30m, 12h or 7d:"},
		{Key: "collect", Title: "Taking events; a SIZE is a number of bytes, or one with KB, MB or GB (1,024 each):"},
	}
}

// Run serves until the process is told to stop.
func (c *serveCommand) Run(r *run) error {
	cfg := r.Base
	if err := c.configure(&cfg); err != nil {
		return err
	}
	cfg.Version, cfg.Logger, cfg.Notes = r.Version, r.logger(c.LogLevel), r.Stderr
	s, err := server.New(r.ctx, cfg)
	if err != nil {
		return asUsage(nameLimit(err))
	}
	return errors.Join(s.Run(r.ctx), s.Close())
}

// configure puts what the flags say into a configuration.
func (c *serveCommand) configure(cfg *server.Config) (err error) {
	cfg.Data, cfg.Listen, cfg.PublicURL = c.Data, c.Listen, c.PublicURL
	cfg.EraseGather, cfg.EraseDeadline = time.Duration(c.EraseGather), time.Duration(c.EraseDeadline)
	cfg.LedgerRetention = time.Duration(c.LedgerRetention)
	if cfg.Retention, err = workspace.ParseRetention(c.Retention); err != nil {
		return usage{fmt.Errorf("--retention: %w", err)}
	}
	cfg.EpochRetention, cfg.RebuildShare = max(time.Duration(c.EpochRetention), time.Millisecond), c.RebuildShare
	cfg.InsightsRetention = time.Duration(c.InsightsRetention)
	cfg.StrictWriteKeys, cfg.AdminToken = c.StrictWriteKeys, c.AdminToken
	cfg.NoSampleValues, cfg.ImportDisk = c.NoSampleValues, int64(c.ImportDisk)
	for _, role := range c.Roles {
		cfg.Roles = append(cfg.Roles, server.Role(role))
	}
	if c.TestClock != "" {
		if cfg.TestClock, err = time.Parse(time.RFC3339, c.TestClock); err != nil {
			return wrong("--test-clock: %q is not a time: want 2026-01-31T12:00:00Z", c.TestClock)
		}
	}
	if cfg.EgressAllow, err = egress.ParseAllow(c.EgressAllow); err != nil {
		return usage{err}
	}
	if cfg.TrustedProxies, err = egress.ParseNetworks("--trusted-proxies", c.TrustedProxies); err != nil {
		return usage{err}
	}
	cfg.TLS = server.TLS{
		Cert: c.TLSCert, Key: c.TLSKey, Dev: c.TLSDev,
		Domains: c.ACMEDomain, ACMEDirectory: c.ACMEDirectory, ACMEEmail: c.ACMEEmail, ACMEAccept: c.ACMEAcceptTerms, ACMERoots: c.ACMECA,
		Redirect: c.HTTPRedirect,
	}
	cfg.Limits = collect.Limits{
		EventBytes: int(c.MaxEventBytes), BodyBytes: int(c.MaxBodyBytes), BatchEvents: c.MaxBatchEvents, MessageIDLen: c.MaxMessageID,
		QueueBytes: int(c.MaxQueueBytes), InflightBytes: int(c.MaxInflightBytes),
	}
	cfg.RevisionEvents = c.RevisionEvents
	if cfg.DedupWindow = time.Duration(c.DedupWindow); cfg.DedupWindow == 0 {
		cfg.DedupWindow = -1 // zero is the default there
	}
	return nil
}

// nameLimit makes an error about a limit one about its flag.
func nameLimit(err error) error {
	var e *fault.Error
	if !errors.As(err, &e) {
		return err
	}
	flags := map[string]string{
		"limits.EventBytes": "max-event-bytes", "limits.BodyBytes": "max-body-bytes", "limits.BatchEvents": "max-batch-events",
		"limits.MessageIDLen": "max-message-id", "limits.QueueBytes": "max-queue-bytes", "limits.InflightBytes": "max-inflight-bytes",
	}
	if flag, ok := flags[e.Field]; ok {
		return fault.Field(flag, "%s", e.Message)
	}
	return err
}
