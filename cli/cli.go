package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/alecthomas/kong"

	"kith/clock"
	"kith/fault"
	"kith/server"
)

// The exit codes.
const (
	Done   = 0
	Failed = 1 // the work could not be done
	Wrong  = 2 // the command was wrong
)

// Program is what the command line is given by main.
type Program struct {
	Version string
	Stdin   io.Reader // files named "-"
	Stdout  io.Writer // results
	Stderr  io.Writer // progress and logs
	// Base is the configuration of a server but for what the flags say: its
	// drivers and connectors.
	Base server.Config
	// Memory is Base on a store in memory.
	Memory server.Config
	// LookupEnv reads the environment of the process.
	LookupEnv func(string) (string, bool)
	// Clock is the machine's.
	Clock clock.Clock
	// Name is how the program was called: "bin/kith".
	Name string
	// Terminal says that Stdout is a terminal.
	Terminal bool
	// Progress says that Stderr is one: a line there may be overwritten.
	Progress bool
}

// commands is the command line as a whole.
type commands struct {
	JSON bool `name:"json" help:"Machine-readable results: one JSON document, or one a line where results stream."`

	Serve     serveCommand     `cmd:"" help:"Run a Kith server."`
	Tail      tailCommand      `cmd:"" help:"Show events as they pass each stage."`
	Trace     traceCommand     `cmd:"" help:"Say what became of a message, stage by stage and destination by destination."`
	Explain   explainCommand   `cmd:"" help:"Say why a profile is what it is, or why two identifiers are one person or not."`
	Insights  insightsCommand  `cmd:"" help:"Show what identity did and refused: violations, events of nobody, merges, mappings."`
	Identity  identityCommand  `cmd:"" help:"Split, unmerge and block, for all time, and take it back; end memberships; try other rules; list who is suspicious."`
	Profile   profileCommand   `cmd:"" help:"Show a profile, find profiles, take identifiers away, make tokens for apps."`
	Audience  audienceCommand  `cmd:"" help:"Show audiences and who is in them."`
	Filter    filterCommand    `cmd:"" help:"Say what an event filter would keep out of profiles."`
	Retention retentionCommand `cmd:"" help:"Let the bodies of events go by their age."`
	Rebuild   rebuildCommand   `cmd:"" help:"Work out again what is derived of a space, beside the live state."`
	Erase     eraseCommand     `cmd:"" help:"Forget persons: what is derived of them at once, their events in all files within a week."`
	Import    importCommand    `cmd:"" help:"Make profiles of the rows of CSV files."`
	Snippet   snippetCommand   `cmd:"" help:"Print what a web page needs to send events."`
	OAuth     oauthCommand     `cmd:"" name:"oauth" help:"Keep the applications that get access tokens."`
	Apply     applyCommand     `cmd:"" help:"Change the workspace into what a file says."`
	Export    exportCommand    `cmd:"" help:"Write the workspace as a file."`
	Test      testCommand      `cmd:"" help:"Run scripts that say what must happen."`
	Demo      demoCommand      `cmd:"" help:"Watch a hotel group: simulated guests, live."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
}

// run is what every command is given.
type run struct {
	Program
	ctx  context.Context
	json bool
}

// encode writes a result as JSON, in one line. Signs such as > stay as they are:
// nobody puts it into a page, and queries are full of them.
func (r *run) encode(result any) error {
	e := json.NewEncoder(r.Stdout)
	e.SetEscapeHTML(false)
	return e.Encode(result)
}

// exit is how kong's wish to end the process travels up to Run.
type exit struct{ code int }

// Run runs the command that args (without the program's name) ask for, until
// it is done or ctx ends, and returns the exit code.
func (p Program) Run(ctx context.Context, args []string) (code int) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exit:
			code = r.code
		default:
			panic(r)
		}
	}()
	var c commands
	help, end := p.Stdout, func(code int) { panic(exit{code}) }
	if len(args) == 0 { // whoever types the name alone wants to know what there is
		args, help, end = []string{"--help"}, p.Stderr, func(int) { panic(exit{Wrong}) }
	}
	parser, err := kong.New(&c,
		kong.Name("kith"),
		kong.Description("Kith is a customer data platform on your own machine, a drop-in for Twilio Segment.\n\n"+
			"Every flag can also be set in the environment, as KITH_ and its name in capitals: --data is KITH_DATA. The flag wins."),
		kong.Writers(help, p.Stderr),
		kong.Exit(end),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, NoExpandSubcommands: true}),
		kong.DefaultEnvars("KITH"),
		kong.Vars{"stages": stageNames()},
		kong.ExplicitGroups(serveGroups()),
	)
	if err != nil {
		fmt.Fprintf(p.Stderr, "kith: %v\n", err)
		return Failed
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(p.Stderr, "kith: %v\nTry \"kith --help\".\n", err)
		return Wrong
	}
	if !c.JSON && chosen.Command() != "demo" { // which draws with control characters
		p.Stdout, p.Stderr = plain{p.Stdout}, plain{p.Stderr}
	}
	err = chosen.Run(&run{Program: p, ctx: ctx, json: c.JSON})
	if err == nil {
		return Done
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(p.Stderr, "kith: %v\n", err)
	var u usage
	if errors.As(err, &u) {
		return Wrong
	}
	return Failed
}

// usage is an error in what was typed.
type usage struct{ error }

// Unwrap returns the cause.
func (u usage) Unwrap() error { return u.error }

func wrong(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

// logger writes what goes on to stderr, at level or above.
func (r *run) logger(level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if r.json {
		return slog.New(slog.NewJSONHandler(r.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(r.Stderr, options))
}

// asUsage makes an error about a setting a usage error.
func asUsage(err error) error {
	var e *fault.Error
	if errors.As(err, &e) && e.Kind == fault.Invalid && e.Field != "" {
		return usage{fmt.Errorf("--%w", err)}
	}
	return err
}
