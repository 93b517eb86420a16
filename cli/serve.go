package cli

import (
	"errors"
	"log/slog"
	"time"

	"kith/egress"
	"kith/server"
)

// serveCommand runs a server.
type serveCommand struct {
	Data            string     `default:"./kith-data" placeholder:"DIR" help:"Data directory, ./kith-data by default; it is created."`
	Listen          string     `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address that serves everything: Tracking, Profile and control API. 127.0.0.1:8080 by default."`
	Roles           []string   `placeholder:"ROLE,…" help:"Which parts run: collect, pipeline, delivery, api. All by default."`
	TestClock       string     `placeholder:"TIME" help:"Let the clock stand at TIME (2026-01-31T12:00:00Z) until POST /api/test-clock moves it. Only on a loopback address."`
	EgressAllow     string     `placeholder:"CIDR,…" help:"Networks that destinations may be reached in beside the public internet: 127.0.0.0/8."`
	StrictWriteKeys bool       `help:"Answer 401 to unknown write keys instead of 200."`
	AdminToken      string     `env:"KITH_ADMIN_TOKEN" placeholder:"TOKEN" help:"The administrator's token; better given as KITH_ADMIN_TOKEN. By default it is made at the first start and kept in DIR/admin-token."`
	LogLevel        slog.Level `default:"info" help:"debug, info, warn or error."`
}

// Run serves until the process is told to stop.
func (c *serveCommand) Run(r *run) error {
	cfg := r.Base
	cfg.Data, cfg.Listen, cfg.StrictWriteKeys, cfg.AdminToken = c.Data, c.Listen, c.StrictWriteKeys, c.AdminToken
	cfg.Version, cfg.Logger, cfg.Notes = r.Version, r.logger(c.LogLevel), r.Stderr
	for _, role := range c.Roles {
		cfg.Roles = append(cfg.Roles, server.Role(role))
	}
	if c.TestClock != "" {
		at, err := time.Parse(time.RFC3339, c.TestClock)
		if err != nil {
			return wrong("--test-clock: %q is not a time: want 2026-01-31T12:00:00Z", c.TestClock)
		}
		cfg.TestClock = at
	}
	allow, err := egress.ParseAllow(c.EgressAllow)
	if err != nil {
		return usage{err}
	}
	cfg.EgressAllow = allow
	s, err := server.New(r.ctx, cfg)
	if err != nil {
		return asUsage(err)
	}
	return errors.Join(s.Run(r.ctx), s.Close())
}
