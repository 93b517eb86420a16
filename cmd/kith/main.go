package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"kith/cli"
	"kith/clock"
	"kith/server"
	"kith/standard"
)

// version is set by the linker.
var version = "development"

// garbagePercent is how much may be allocated before memory is cleaned up, in
// percent of what is in use. Go's own 100 costs a busy server with little in
// use, which is most, some 3 % of its processor time more; GOGC overrides it.
const garbagePercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := cli.Program{
		Version:   version,
		Name:      os.Args[0],
		Stdin:     os.Stdin,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		Base:      server.Config{Store: standard.Store, Destinations: standard.Destinations(), Random: rand.Reader},
		Memory:    server.Config{Store: standard.Memory, Destinations: standard.Destinations(), Random: rand.Reader},
		LookupEnv: os.LookupEnv,
		Clock:     clock.System{},
		Terminal:  terminal(os.Stdout),
		Progress:  terminal(os.Stderr),
	}.Run(ctx, os.Args[1:])
	os.Exit(code)
}

// terminal reports whether a file is one.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
