package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// scenario is one thing to measure.
type scenario struct {
	name string
	run  func(*bench, context.Context) error
}

var scenarios = []scenario{
	{"disk", (*bench).disk},
	{"collect", (*bench).collect},
	{"tails", (*bench).tails},
	{"row", (*bench).row},
	{"throughput", (*bench).throughput},
	{"latency", (*bench).latency},
	{"reads", (*bench).reads},
	{"wait", (*bench).wait},
	{"idle", (*bench).idle},
	{"dedup", (*bench).dedup},
	{"hot", (*bench).hot},
	{"rebuild", (*bench).rebuild},
}

// onDemand are run only when they are named: they take long, and keep what they
// make.
var onDemand = []scenario{{"scale", (*bench).scale}}

// bench is a run of some scenarios.
type bench struct {
	binary string
	dir    string // each scenario makes a folder of its own in it
	span   time.Duration
	people int
	keys   int // of the scenario dedup
	batch  int // the only shape of load that collect measures; zero: all
	// cpuProfile is where the first case of row writes its profile.
	cpuProfile string
	// Of the scenario scale: the folder that it keeps, and the size.
	scaleDir       string
	scaleEvents    int
	scaleAudiences int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	binary := flag.String("kith", "bin/kith", "the binary to measure")
	only := flag.String("run", "", "scenarios to run, comma-separated: disk, collect, tails, row, throughput, latency, reads, wait, idle, dedup, hot, rebuild; default all of them; and scale")
	span := flag.Duration("for", 10*time.Second, "how long each load lasts")
	people := flag.Int("people", 100_000, "how many people the events are about")
	batch := flag.Int("batch", 0, "measure collect with requests of this many events only: 1 or 100; default both")
	keys := flag.Int("keys", 2_000_000, "how many messageIds the scenario dedup remembers; 100 million take 7 GB of disk and half an hour")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the loop, in the scenario row, to this file, and one of the replay beside it")
	keep := flag.String("dir", "", "the folder of the scenario scale; what is there goes on where it stopped")
	events := flag.Int("events", 10_000_000, "how many events the scenario scale makes")
	audiences := flag.Int("audiences", 20, "how many audiences the scenario scale has")
	bare := flag.Bool("bare", false, "be the bare server that collect is compared with; used by itself")
	answer := flag.Int("answer", 0, "with -bare: how many bytes it answers a read with; used by itself")
	flag.Parse()
	if *bare {
		return serveBare(*answer)
	}
	dir, err := os.MkdirTemp("", "kith-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is in the temporary folder
	b := &bench{binary: *binary, dir: dir, span: *span, people: *people, keys: *keys, batch: *batch, cpuProfile: *profile,
		scaleDir: *keep, scaleEvents: *events, scaleAudiences: *audiences}
	if _, err := os.Stat(b.binary); err != nil {
		return fmt.Errorf("%w: run make build first", err)
	}
	wanted := strings.Split(*only, ",")
	for _, s := range append(slices.Clone(scenarios), onDemand...) {
		if named := slices.Contains(wanted, s.name); !named && (*only != "" || slices.ContainsFunc(onDemand, func(o scenario) bool { return o.name == s.name })) {
			continue
		}
		if err := s.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}
