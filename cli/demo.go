package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"kith/auth"
	"kith/demo"
	"kith/egress"
)

// demoCommand runs the demo.
type demoCommand struct {
	// KITH_DATA is the folder of a server that people rely on.
	Data   string        `env:"KITH_DEMO_DATA" placeholder:"DIR" help:"Data directory. By default a new folder among the temporary ones."`
	Listen string        `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address that serves everything. 127.0.0.1:8080 by default."`
	Seed   uint64        `default:"1" help:"What the guests are made from: the same seed, the same guests."`
	Rate   int           `default:"50" help:"Calls a second, 1 to 5,000."`
	For    time.Duration `placeholder:"TIME" help:"How long, such as 30s. By default until it is stopped."`
	SDK    string        `name:"sdk" placeholder:"DIR" help:"The folder demo/node with its packages (npm ci), to send the website's calls through the official Node SDK. Without it they go as plain HTTP."`
}

// Run starts a server on the embedded store and lets guests in.
func (c *demoCommand) Run(r *run) (err error) {
	if c.Rate < 1 || c.Rate > 5000 {
		return wrong("--rate: %d is not between 1 and 5,000", c.Rate)
	}
	if c.Data == "" {
		if c.Data, err = os.MkdirTemp("", "kith-demo-"); err != nil {
			return err
		}
	}
	cfg := r.Base
	cfg.Data, cfg.Listen, cfg.Version, cfg.Notes = c.Data, c.Listen, r.Version, discard{}
	cfg.Logger = r.logger(slog.LevelWarn)
	if cfg.EgressAllow, err = egress.ParseAllow("127.0.0.0/8"); err != nil {
		return err
	}
	var figures demo.Figures
	where := demo.Where{
		Data: c.Data, Kith: r.Name, Seed: c.Seed, Token: fmt.Sprintf("$(cat %s)", filepath.Join(c.Data, auth.Name)),
	}
	err = running(r.ctx, cfg, func(base string) error {
		where.URL = base
		fmt.Fprintf(r.Stderr, "kith %s listens on %s for the demo (data: %s)\n", r.Version, base, c.Data)
		server, err := (&remote{Server: base, Data: c.Data}).client()
		if err != nil {
			return err
		}
		figures, err = demo.Run(r.ctx, demo.Config{
			Client: server, Clock: r.Clock, Seed: c.Seed, Rate: c.Rate, For: c.For, SDK: c.SDK,
			Apply: applier(server), Out: r.Stdout, Terminal: r.Terminal && !r.json, Log: cfg.Logger, Where: where,
		})
		return err
	})
	if err != nil && !errors.Is(err, r.ctx.Err()) {
		return err
	}
	_, err = fmt.Fprint(r.Stdout, where.Goodbye(figures))
	return err
}
