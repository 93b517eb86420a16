package identity

import (
	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// ForgetStanding takes identifiers out of the standing commands of an epoch. A
// command that orders nothing any more without them is dropped. It is called
// within a transaction of the loop, before the row looks at any of them.
func ForgetStanding(tx kv.Tx, space, epoch uint32, gone func(event.Identifier) bool) error {
	k := keys{space, epoch}
	list, err := NewReader(tx, space, epoch).Standing()
	if err != nil {
		return err
	}
	var kept []Standing
	changed := false
	for _, s := range list {
		without := s.Command.Without(gone)
		if without != nil {
			kept = append(kept, Standing{Offset: s.Offset, At: s.At, Command: without})
		}
		changed = changed || without == nil || without.Separate != nil &&
			len(without.Separate.Left)+len(without.Separate.Right) != len(s.Command.Separate.Left)+len(s.Command.Separate.Right)
	}
	if !changed {
		return nil
	}
	if err := tx.Delete(k.digest()); err != nil {
		return err
	}
	for _, s := range list {
		if err := tx.Delete(k.standing(s.Offset)); err != nil {
			return err
		}
	}
	for _, s := range kept {
		if err := addStanding(tx, k, s); err != nil {
			return err
		}
	}
	return nil
}

// Due notes that what came before a command is to be worked out again for some
// profiles, as for a standing command: those whose events an erasure has
// redacted. It is called under the fence of the epoch's loop.
func Due(tx kv.Tx, space, epoch uint32, command commitlog.Offset, at int64) error {
	return tx.Set(keys{space, epoch}.revision(command), kv.Value{revisionFormat}.Varint(at))
}
