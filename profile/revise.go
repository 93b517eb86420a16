package profile

import "kith/kv"

// Freeze has the stage keep the search index that it finds, whatever the
// configurations that pass list: for a stage that works out profiles again. It
// is called before the stage is used.
func (s *Profiles) Freeze() { s.frozen = true }

// CopyIndex copies to an epoch of another store what is indexed, without the
// index itself.
func CopyIndex(from kv.Reader, to kv.Tx, space, epoch uint32) error {
	key := keys{space, epoch}.index()
	value, err := from.Get(key)
	if err != nil || value == nil {
		return err
	}
	return to.Set(key, value)
}
