package cli

import (
	"context"
	"errors"

	"kith/client"
	"kith/server"
)

// running runs a server while fn works with it, and returns what either says.
// The server ends after fn, also when ctx ends: fn may still have something to
// hand in.
func running(ctx context.Context, cfg server.Config, fn func(base string) error) error {
	s, err := server.New(ctx, cfg)
	if err != nil {
		return asUsage(err)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	waiting, give := context.WithCancel(ctx)
	defer give()
	ended := make(chan error, 1)
	go func() {
		ended <- s.Run(serving)
		give() // a server that cannot run ends the wait for it
	}()
	err = func() error {
		addr, err := s.Addr(waiting)
		if err != nil {
			return err
		}
		return fn("http://" + addr.String())
	}()
	stop()
	if broken := <-ended; broken != nil {
		err = broken // what fn met is its consequence
	}
	return errors.Join(err, s.Close())
}

// applier applies workspace files to a server.
func applier(server *client.Client) func(context.Context, []byte, map[string]string) error {
	return func(ctx context.Context, file []byte, variables map[string]string) error {
		_, err := server.Apply(ctx, file, variables, false, false)
		return err
	}
}
