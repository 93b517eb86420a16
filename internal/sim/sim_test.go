package sim

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	flagSeeds = flag.Int("sim.seeds", fromEnv("KITH_SIM_SEEDS", 200), "how many seeds TestSim runs")
	flagSeed  = flag.Int("sim.seed", fromEnv("KITH_SIM_SEED", 0), "the one seed that TestSim runs; zero runs many")
	flagFirst = flag.Int("sim.first", 1, "the first of the seeds")
)

func fromEnv(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// workers is how many seeds run beside each other: some wait while others work.
const workers = 8

// TestSim runs the histories of many seeds. It stops at the first that fails.
func TestSim(t *testing.T) {
	if *flagSeed != 0 {
		seen := runSeed(t, uint64(*flagSeed))
		t.Logf("%+v", seen)
		return
	}
	var (
		all    tally
		mu     sync.Mutex
		next   atomic.Int64
		failed atomic.Bool
		wg     sync.WaitGroup
		began  = time.Now()
	)
	for range workers {
		wg.Go(func() {
			for !failed.Load() {
				n := int(next.Add(1))
				if n > *flagSeeds {
					return
				}
				seed := *flagFirst + n - 1
				ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
					seen := runSeed(t, uint64(seed))
					mu.Lock()
					defer mu.Unlock()
					all.add(seen)
				})
				if !ok {
					failed.Store(true)
					t.Errorf("seed %d failed; run it again with: go test ./internal/sim -run 'TestSim$' -sim.seed %d -v", seed, seed)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds in %s: %+v", *flagSeeds, time.Since(began).Round(time.Millisecond), all)
	if *flagSeeds >= 100 && !failed.Load() {
		all.wild(t)
	}
}

// tally counts what happened in histories.
type tally struct {
	Acknowledged, Duplicates, People, Merges, Members, Announced, Sequences, Received, Dead, Retried, Faults, Crashes, Restarts, Orders, Splits, Rebuilds, Trims, Short, Checked int
}

func (c *tally) add(o tally) {
	c.Acknowledged += o.Acknowledged
	c.Duplicates += o.Duplicates
	c.People += o.People
	c.Merges += o.Merges
	c.Members += o.Members
	c.Announced += o.Announced
	c.Sequences += o.Sequences
	c.Received += o.Received
	c.Dead += o.Dead
	c.Retried += o.Retried
	c.Faults += o.Faults
	c.Crashes += o.Crashes
	c.Restarts += o.Restarts
	c.Orders += o.Orders
	c.Splits += o.Splits
	c.Rebuilds += o.Rebuilds
	c.Trims += o.Trims
	c.Short += o.Short
	c.Checked += o.Checked
}

// wild fails the test when its histories went nowhere difficult.
func (c *tally) wild(t *testing.T) {
	for _, x := range []struct {
		n    int
		what string
	}{
		{c.Acknowledged, "events acknowledged"}, {c.Duplicates, "duplicates"}, {c.Merges, "merges"}, {c.Members, "members"},
		{c.Announced, "announcements"}, {c.Sequences, "sequences of announcements compared"}, {c.Dead, "dead letters"},
		{c.Retried, "retries"}, {c.Faults, "failures of the store"}, {c.Crashes, "crashes"}, {c.Restarts, "restarts"},
		{c.Orders, "commands"}, {c.Splits, "profiles split"},
		{c.Rebuilds, "rebuilds"}, {c.Trims, "times that events were forgotten"},
	} {
		if x.n < 20 {
			t.Errorf("the histories were too tame: %d %s", x.n, x.what)
		}
	}
}
