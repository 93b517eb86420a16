package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"syscall"

	"kith/cli"
	"kith/server"
	"kith/standard"
)

// version is set by the linker.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := cli.Program{
		Version:   version,
		Stdout:    os.Stdout,
		Stderr:    os.Stderr,
		Base:      server.Config{Store: standard.Store, Destinations: standard.Destinations(), Random: rand.Reader},
		Memory:    server.Config{Store: standard.Memory, Destinations: standard.Destinations(), Random: rand.Reader},
		LookupEnv: os.LookupEnv,
	}.Run(ctx, os.Args[1:])
	os.Exit(code)
}
