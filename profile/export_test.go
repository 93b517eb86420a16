package profile

import "context"

// Settle does all the work there is for an Indexer, step profiles at a time.
func (x *Indexer) Settle(ctx context.Context, step int) error {
	x.step = step
	for {
		busy, err := x.work(ctx)
		if err != nil || !busy {
			return err
		}
	}
}

// Step does one piece of work.
func (x *Indexer) Step(ctx context.Context, step int) error {
	x.step = step
	_, err := x.work(ctx)
	return err
}
