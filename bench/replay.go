package main

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"

	"kith/activation"
	"kith/archive"
	"kith/commitlog"
	"kith/computation"
	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/pipeline"
	"kith/profile"
)

// replayEpoch is the epoch that the row is replayed into.
const replayEpoch = 1

// replay leads all that the row has passed through another row, into an epoch
// of its own, as a rebuild does.
func (w *rowWorld) replay(ctx context.Context, history *archive.Archive, path string) (took, cpu time.Duration, err error) {
	var layout pipeline.Layout
	logger := slog.New(slog.DiscardHandler)
	who := identity.New(&layout)
	people := profile.New(&layout, who.Slot())
	engine := computation.New(&layout, who.Slot(), people.Slot())
	stages := []pipeline.Stage{who, people, engine, activation.New(who.Slot(), people.Slot(), engine.Slot(), func(uint32) {})}
	past := &rowPast{Past: history.Past(rowSpace, func(context.Context, commitlog.Offset) error { return pipeline.ErrPastEnds }), open: make(chan struct{})}
	loop, err := pipeline.NewLoop(ctx, pipeline.Config{
		DB: w.db, Snapshots: w, Stages: stages, Recorder: history, Space: rowSpace, Epoch: replayEpoch, Logger: logger, Past: past,
	})
	if err != nil {
		return 0, 0, err
	}
	builder := computation.NewBuilder(computation.BuilderConfig{
		DB: w.db, Loop: loop, History: history, Engine: engine, Space: rowSpace, Epoch: replayEpoch, Logger: logger,
		Profiles: func(r kv.Reader, space, epoch uint32, after event.ProfileID, limit int) ([]event.ProfileID, error) {
			return identity.NewReader(r, space, epoch).People(after, limit)
		},
	})
	beside, cancel := context.WithCancel(ctx)
	built := make(chan error, 1)
	go func() { built <- builder.Run(beside) }()
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(ctx) }()
	err = w.waitLive(ctx, engine.Reader(), replayEpoch)
	cancel()
	stop, failed := profileTo(path)
	if err = errors.Join(err, failed, <-built); err != nil {
		return 0, 0, err
	}
	began, used := time.Now(), processTime()
	close(past.open)
	err = <-ended
	took, cpu = time.Since(began), processTime()-used
	return took, cpu, errors.Join(err, stop())
}

// rowPast keeps what is behind the config record back until it is opened.
type rowPast struct {
	pipeline.Past
	open chan struct{}
}

func (p *rowPast) Follow(ctx context.Context, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (commitlog.Offset, error) {
	if from > 0 {
		<-p.open
	} else {
		maxBytes = 1
	}
	return p.Past.Follow(ctx, from, maxBytes, fn)
}

// processTime is how much processor time this process has used.
func processTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
