package revision

import (
	"context"
	"slices"

	"kith/commitlog"
	"kith/fault"
	"kith/identity"
	"kith/kv"
)

// Command is a standing command with what became of its revision.
type Command struct {
	identity.Standing
	// Lifted is the offset of the command that lifted it; zero while it is in
	// force, since the first record of a space is no command.
	Lifted commitlog.Offset
	State  State
}

// Commands returns the standing commands of a space, in the order in which they
// were ordered.
func (r *Reviser) Commands(ctx context.Context, space uint32) (list []Command, err error) {
	epoch, err := r.live(space)
	if err != nil {
		return nil, err
	}
	err = r.cfg.DB.View(ctx, func(v kv.Reader) error {
		list = nil
		standing, err := identity.NewReader(v, space, epoch).Standing()
		if err != nil {
			return err
		}
		for _, x := range standing {
			state, err := stateOf(v, space, epoch, x.Offset)
			if err != nil {
				return err
			}
			list = append(list, Command{Standing: x, State: *state})
		}
		for i := range list {
			if l := list[i].Command.Lift; l != nil {
				for j := range list {
					if uint64(list[j].Offset) == l.Offset && list[j].Lifted == 0 {
						list[j].Lifted = list[i].Offset
					}
				}
			}
		}
		return nil
	})
	return list, err
}

// stateOf returns how far the revision of a command is; nil for one that is not
// a standing command that the loop has passed.
func stateOf(v kv.Reader, space, epoch uint32, command commitlog.Offset) (*State, error) {
	state, err := read[State](v, stateKey(space, epoch, command), stateFormat)
	if err != nil || state != nil {
		return state, err
	}
	due, err := identity.NewReader(v, space, epoch).Revisions()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(due, func(x identity.Revision) bool { return x.Offset == command }) {
		return &State{Phase: Pending}, nil
	}
	return &State{Phase: Done}, nil // it was in force when the epoch began
}

// Revised waits until the revision of a standing command, which the loop has
// passed, is done or left to a rebuild, and returns what became of it. It fails
// with fault.Unavailable when the context ends first; the state is then how far
// it is.
func (r *Reviser) Revised(ctx context.Context, space uint32, command commitlog.Offset) (State, error) {
	for {
		r.mu.Lock()
		moved := r.moved
		r.mu.Unlock()
		epoch, err := r.live(space)
		if err != nil {
			return State{}, err
		}
		var state *State
		err = r.cfg.DB.View(context.WithoutCancel(ctx), func(v kv.Reader) (err error) {
			state, err = stateOf(v, space, epoch, command)
			return err
		})
		if err != nil {
			return State{}, err
		}
		if state.Phase == Done || state.Phase == NeedsRebuild {
			return *state, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return *state, fault.Wrap(fault.Unavailable, ctx.Err())
		}
	}
}

// Open returns how many revisions of a space are not done yet and will be
// without anybody's help.
func Open(v kv.Reader, space, epoch uint32) (int, error) {
	rests, err := offsets(v, restStem(space, epoch))
	if err != nil {
		return 0, err
	}
	waiting, err := count(v, space, epoch, Pending)
	return len(rests) + waiting, err
}

// count returns how many revisions of an epoch stand at a phase.
func count(v kv.Reader, space, epoch uint32, phase Phase) (n int, err error) {
	due, err := identity.NewReader(v, space, epoch).Revisions()
	if err != nil {
		return 0, err
	}
	for _, x := range due {
		state, err := stateOf(v, space, epoch, x.Offset)
		if err != nil {
			return 0, err
		}
		if state.Phase == phase {
			n++
		}
	}
	return n, nil
}

func (r *Reviser) live(space uint32) (uint32, error) {
	loop, err := r.cfg.Loop(space)
	if err != nil {
		return 0, fault.Wrap(fault.Unavailable, err)
	}
	return loop.Epoch(), nil
}

// Left returns how many revisions of a space are left to a rebuild.
func Left(v kv.Reader, space, epoch uint32) (int, error) {
	return count(v, space, epoch, NeedsRebuild)
}
