package identity

import (
	"fmt"

	"kith/pipeline"
	"kith/workspace"
)

// The guard of a space that sets none: what Segment's profiles hold at most
// (sheet unify_engage_privacy §1.3).
const (
	guardedIdentifiers = 1000
	guardedMerges      = 100
)

func guardOf(space *workspace.Space) workspace.IdentityGuard {
	g := workspace.IdentityGuard{}
	if space != nil {
		g = space.IdentityGuard
	}
	if g.Identifiers == 0 {
		g.Identifiers = guardedIdentifiers
	}
	if g.Merges == 0 {
		g.Merges = guardedMerges
	}
	return g
}

// growth is a profile that a record made larger, and its size before.
type growth struct {
	node        *node
	identifiers int
	merged      int
}

// warn says that a profile has grown beyond the space's guard: the first time,
// and each time it has doubled since.
func (p *pass) warn(r *pipeline.Record, g growth) {
	guard := p.rules.guard
	tell := func(subject string, before, now, limit int) {
		if passed(before, now, limit) {
			p.emit(r, g.node.id, pipeline.Change{
				Kind: pipeline.ProfileSuspicious, Subject: subject, Detail: fmt.Sprintf("the profile has %d, more than %d", now, limit),
			})
		}
	}
	tell("identifiers", g.identifiers, g.node.ids.len(), guard.Identifiers)
	tell("merges", g.merged, g.node.merged.len(), guard.Merges)
}

// passed reports whether a number has grown beyond a limit, or beyond the
// limit doubled any number of times.
func passed(before, now, limit int) bool {
	for ; limit < now; limit *= 2 {
		if before <= limit {
			return true
		}
	}
	return false
}
