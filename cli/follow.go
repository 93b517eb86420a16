package cli

import (
	"fmt"
	"time"

	"kith/fault"
)

// How a job of the server is followed.
const (
	askEvery     = 250 * time.Millisecond
	serverMayRun = time.Minute // that a server which has gone may take to come back
)

// following is how a job that runs in the server is followed.
type following[J any] struct {
	// ask asks the server how the job stands.
	ask func() (J, error)
	// tell says in a line how it stands, and whether it still runs.
	tell func(J) (text string, runs bool)
	// left is what to say when somebody stops following: that the job goes on,
	// and how to follow it again.
	left string
	// gone is what to say when the server does not come back.
	gone string
}

// follow shows how a job stands until it runs no more, and returns how it stands
// then. It waits for a server that starts again.
func follow[J any](r *run, f following[J]) (job J, err error) {
	line := r.progressLine()
	defer line.clear()
	var gone time.Time // since when the server does not answer
	for {
		one, err := f.ask()
		switch {
		case r.ctx.Err() != nil:
			line.clear()
			fmt.Fprintln(r.Stderr, f.left)
			return job, r.ctx.Err()
		case fault.Is(err, fault.Unavailable):
			if gone.IsZero() {
				gone = r.Clock.Now()
			}
			if r.Clock.Now().Sub(gone) > serverMayRun {
				return job, fmt.Errorf("%w\n%s", err, f.gone)
			}
			line.show("the server does not answer; waiting for it")
		case err != nil:
			return job, err
		default:
			gone = time.Time{}
			text, runs := f.tell(one)
			if !runs {
				return one, nil
			}
			line.show(text)
		}
		reached, stop := r.Clock.Until(r.Clock.Now().Add(askEvery))
		select {
		case <-reached:
		case <-r.ctx.Done():
		}
		stop()
	}
}
