// Package sim runs the whole server on a store in memory while things go
// wrong, and compares what it has made of it with the naive model of
// sim/model.
//
// One seed is one history: a workspace, people who send events through the
// Tracking API, changes of the configuration, a clock that moves, commands,
// rebuilds, a retention after which events are forgotten, destinations that fail
// and hang, a store whose calls fail or whose answers get lost,
// crashes that lose the newest lazy commits, and restarts. TestSim runs many
// seeds and names the one that fails:
//
//	go test ./internal/sim                          # as the gate runs it
//	go test ./internal/sim -sim.seeds 5000          # more of them
//	go test ./internal/sim -sim.seed 42 -v          # one, telling what it does
//
// A seed gives the choices, not the interleaving of goroutines: what fails
// once in a while is found by running its seed again with -count.
//
// What the model does not tell (it knows nothing of deliveries) is checked by
// rules: nothing acknowledged is missing, nothing is announced twice, and every
// output is at its destination, a dead letter, or waiting.
package sim
