// Command bench measures Kith against the limits of the machine it runs on.
//
// It starts the real binary on a fresh data directory, sends it events over
// loopback from the same machine, and prints each figure beside the limit
// taken in the same run: a bare HTTP server that reads the same bodies, and
// fsync'd appends of the same bytes to a file. Nothing here is a test: figures
// are for people, ratios travel between machines.
//
//	make bench                 all scenarios
//	go run ./bench -kith bin/kith -run collect -for 10s
package main
