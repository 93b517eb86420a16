package cli

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"kith/client"
	"kith/egress"
	"kith/event"
	"kith/script"
)

// testCommand runs scripts.
type testCommand struct {
	Files  []string `arg:"" name:"file" help:"Scripts; docs/scripts.md describes the language."`
	Server string   `env:"KITH_URL,KITH_SERVER" placeholder:"URL" help:"Run against this server, which was started with --test-clock and --egress-allow 127.0.0.0/8. Without it, each script has a private server in memory."`
	Token  string   `env:"KITH_ADMIN_TOKEN,KITH_TOKEN" placeholder:"TOKEN" help:"The admin token of that server. By default it is read from DIR/admin-token."`
	Data   string   `default:"./kith-data" placeholder:"DIR" help:"The data directory of that server, for its admin token."`
	Start  string   `default:"2026-01-01T00:00:00Z" placeholder:"TIME" help:"Where the clock of a private server stands at first."`
}

// tested is the result of one script, as --json prints it.
type tested struct {
	File   string   `json:"file"`
	OK     bool     `json:"ok"`
	Held   int      `json:"held"`
	Failed []string `json:"failed,omitempty"`
}

// Run runs the scripts one after another.
func (c *testCommand) Run(r *run) error {
	start, err := time.Parse(time.RFC3339, c.Start)
	if err != nil {
		return wrong("--start: %q is not a time: want 2026-01-31T12:00:00Z", c.Start)
	}
	var scripts []*script.Script
	for _, name := range c.Files {
		text, err := os.ReadFile(name)
		if err != nil {
			return usage{err}
		}
		s, err := script.Parse(name, text)
		if err != nil {
			return usage{err}
		}
		scripts = append(scripts, s)
	}
	failed := 0
	for _, s := range scripts {
		result, err := c.one(r, s, start)
		out := tested{File: s.File, Held: result.Held}
		for _, f := range result.Failed {
			out.Failed = append(out.Failed, f.Error())
		}
		if err != nil {
			if r.ctx.Err() != nil {
				return r.ctx.Err()
			}
			out.Failed = append(out.Failed, err.Error())
		}
		out.OK = len(out.Failed) == 0
		if !out.OK {
			failed++
		}
		if err := out.print(r); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d scripts failed", failed, len(scripts))
	}
	return nil
}

func (t *tested) print(r *run) error {
	if r.json {
		return r.encode(t)
	}
	for _, f := range t.Failed {
		fmt.Fprintln(r.Stdout, f)
	}
	word := "ok  "
	if !t.OK {
		word = "FAIL"
	}
	_, err := fmt.Fprintf(r.Stdout, "%s  %s  (%d held, %d failed)\n", word, t.File, t.Held, len(t.Failed))
	return err
}

// one runs one script, with a receiver in place of its webhooks.
func (c *testCommand) one(r *run, s *script.Script, start time.Time) (script.Result, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return script.Result{}, err
	}
	receiver := &script.Receiver{}
	web := &http.Server{Handler: receiver, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = web.Serve(listener) // it ends with Close
	}()
	defer func() {
		_ = web.Close()
		<-ended
	}()
	at := "http://" + listener.Addr().String()

	run := func(target *client.Client) (script.Result, error) {
		return s.Run(r.ctx, script.NewServer(target, receiver, at, r.LookupEnv), script.Options{
			Open: func(name string) ([]byte, error) {
				if !filepath.IsAbs(name) {
					name = filepath.Join(filepath.Dir(s.File), name)
				}
				return os.ReadFile(name)
			},
		})
	}
	if c.Server != "" {
		server := &remote{Server: c.Server, Token: c.Token, Data: c.Data}
		target, err := server.client()
		if err != nil {
			return script.Result{}, err
		}
		// Before anything else: KITH_URL may name a server that people rely
		// on, and a script begins by changing its workspace.
		if _, err := script.NewServer(target, receiver, at, r.LookupEnv).Advance(r.ctx, 0); err != nil {
			return script.Result{}, fmt.Errorf("%s: %w\nNothing was sent to it; without --server and KITH_URL the script has a server of its own", target.Base(), server.explain(err))
		}
		return run(target)
	}
	return c.private(r, start, run)
}

// private starts a server in memory for one script.
func (c *testCommand) private(r *run, start time.Time, fn func(*client.Client) (script.Result, error)) (result script.Result, err error) {
	cfg := r.Memory
	cfg.Listen, cfg.TestClock, cfg.Version = "127.0.0.1:0", start, r.Version
	cfg.Logger, cfg.Notes = r.logger(slog.LevelWarn), discard{}
	if cfg.EgressAllow, err = egress.ParseAllow("127.0.0.0/8"); err != nil {
		return result, err
	}
	token, err := event.NewRecordID(start, cfg.Random)
	if err != nil {
		return result, err
	}
	cfg.AdminToken = token.String()
	err = running(r.ctx, cfg, func(base string) error {
		target, err := client.New(base, cfg.AdminToken, nil)
		if err != nil {
			return err
		}
		result, err = fn(target)
		return err
	})
	return result, err
}

// discard takes a start-up text that nobody needs.
type discard struct{}

// Write takes all.
func (discard) Write(p []byte) (int, error) { return len(p), nil }
