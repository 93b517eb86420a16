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

// Computing reports whether it is yet to be found who is in an audience, or to
// be told of all whom its first computation found: none of its versions is live
// and has announced its members, and one is on its way.
func (d Reader) Computing(r kv.Reader, space, epoch uint32, audience string) (bool, error) {
	g, err := d.engine.graph(r, place{space, epoch})
	if err != nil {
		return false, err
	}
	coming := false
	for _, b := range g.registry.Builds {
		if b.Audience.ID != audience {
			continue
		}
		if b.State == live && !b.Announcing {
			return false, nil
		}
		coming = coming || b.Announcing || b.State == waiting || b.State == joining || b.State == settling
	}
	return coming, nil
}
