package computation

import (
	"bytes"
	"maps"
	"slices"

	"kith/event"
	"kith/kv"
	"kith/pipeline"
	"kith/timer"
)

// Held is what computation keeps of one profile in an epoch, under its own id.
type Held struct {
	// Keys are those of its cells, its page and its places in the indexes of
	// members.
	Keys [][]byte
	// Builds are the builds of which it is a member: their sizes count it.
	Builds []uint32
	// Armed is when its timer fires, or timer.Never.
	Armed int64
}

// HeldOf returns what is kept of one profile. What was merged into it has keys
// of its own.
func HeldOf(r kv.Reader, space, epoch uint32, profile event.ProfileID) (held Held, err error) {
	k := keys{space, epoch}
	for pair, err := range r.Scan(kv.Prefix(k.shelves(profile))) {
		if err != nil {
			return held, err
		}
		held.Keys = append(held.Keys, bytes.Clone(pair.Key))
	}
	value, err := r.Get(k.page(profile))
	if err != nil {
		return held, err
	}
	page, err := decodePage(value)
	if err != nil {
		return held, err
	}
	if value != nil {
		held.Keys = append(held.Keys, k.page(profile))
	}
	held.Armed = page.armed
	for i := range page.entries {
		if e := &page.entries[i]; e.member {
			held.Keys = append(held.Keys, k.member(e.build, profile))
			held.Builds = append(held.Builds, e.build)
		}
	}
	return held, nil
}

// Forget removes all that computation keeps of profiles in a batch's epoch: of
// a person, all of the family must be named. It is called within a transaction
// of the loop, before the row looks at any of them.
func Forget(b *pipeline.Batch, profiles ...event.ProfileID) error {
	gone := map[uint32]int64{}
	for _, p := range profiles {
		held, err := HeldOf(b.Tx, b.Space, b.Epoch, p)
		if err != nil {
			return err
		}
		for _, key := range held.Keys {
			if err := b.Tx.Delete(key); err != nil {
				return err
			}
		}
		for _, n := range held.Builds {
			gone[n]--
		}
		if held.Armed == timer.Never {
			continue
		}
		if err := b.Timers.Disarm(timer.Due{At: held.Armed, Owner: Room, Subject: p[:]}); err != nil {
			return err
		}
	}
	return Resize(b, gone)
}

// Resize changes the sizes of builds by as much as each is said to have grown.
// It is for those who add or remove members by their keys.
func Resize(b *pipeline.Batch, grown map[uint32]int64) error {
	k := keys{b.Space, b.Epoch}
	for _, n := range slices.Sorted(maps.Keys(grown)) {
		if grown[n] == 0 {
			continue
		}
		before, err := size(b.Tx, k, n)
		if err != nil {
			return err
		}
		if err := b.Tx.Set(k.size(n), kv.Value{sizeFormat}.Varint(before+grown[n])); err != nil {
			return err
		}
	}
	return nil
}
