package computation

import "kith/kv"

// Busy reports whether the Builder of a space has something to do: computing
// versions of audiences, counting early, announcing them, or letting go of the members of
// deleted ones.
func (d Reader) Busy(r kv.Reader, space, epoch uint32) (bool, error) {
	g, err := d.engine.graph(r, place{space, epoch})
	if err != nil {
		return false, err
	}
	at, err := readCursor(r, keys{space, epoch})
	if err != nil {
		return false, err
	}
	return at.Task != "" || len(g.registry.in(leaving)) > 0 || g.registry.uncounted(), nil
}
