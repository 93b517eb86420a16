package archive

import (
	"context"

	"kith/commitlog"
	"kith/pipeline"
)

// Past is the past of a space from its horizon on, as a replay takes it; see
// pipeline.Past. It never ends: what the live loop passes is part of it.
type Past struct {
	archive *Archive
	space   uint32
	passed  func(ctx context.Context, at commitlog.Offset) error
	heads   bool // bodies before the horizon are not needed
}

// Past returns the past of a space. passed waits until the live loop has passed
// a record; see pipeline.Loop.
func (a *Archive) Past(space uint32, passed func(ctx context.Context, at commitlog.Offset) error) *Past {
	return &Past{archive: a, space: space, passed: passed}
}

// Heads returns the same past for those who need no bodies: it begins at the
// first record, whatever has been trimmed.
func (p *Past) Heads() *Past {
	return &Past{archive: p.archive, space: p.space, passed: p.passed, heads: true}
}

// Follow reads on; see Archive.Follow.
func (p *Past) Follow(ctx context.Context, from commitlog.Offset, maxBytes int, fn func(*pipeline.Judged) error) (commitlog.Offset, error) {
	if p.heads {
		return p.archive.FollowHeads(ctx, p.space, from, maxBytes, fn)
	}
	return p.archive.Follow(ctx, p.space, from, maxBytes, fn)
}

// Wait returns once the live loop has passed the record at the offset.
func (p *Past) Wait(ctx context.Context, at commitlog.Offset) error { return p.passed(ctx, at) }
