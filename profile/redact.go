package profile

import (
	"bytes"
	"slices"

	"kith/archive/redact"
	"kith/commitlog"
	"kith/event"
	"kith/kv"
)

// Carriers returns profiles of an epoch in whose traits a value of a set may
// stand: of those after a profile, up to limit that are looked at. next is where
// to go on, zero at the end.
func Carriers(r kv.Reader, space, epoch uint32, set *redact.Set, after event.ProfileID, limit int) (list []event.ProfileID, next event.ProfileID, err error) {
	k := keys{space, epoch}
	stem := k.allPages()
	pages := kv.Prefix(stem)
	if !after.IsZero() {
		pages.From = kv.PrefixEnd(k.pages(after))
	}
	looked := 0
	var last event.ProfileID
	for pair, err := range r.Scan(pages) {
		if err != nil {
			return nil, next, err
		}
		var p event.ProfileID
		parts := kv.PartsAfter(pair.Key, stem)
		copy(p[:], parts.Fixed(len(p)))
		if !parts.OK() {
			return nil, next, errStored
		}
		if p != last {
			if looked++; looked > limit {
				return list, last, nil
			}
			last = p
		}
		if set.In(pair.Value) && !slices.Contains(list[max(0, len(list)-1):], p) {
			list = append(list, p)
		}
	}
	return list, next, nil
}

// Redact takes the values of a set out of the traits of a profile in an epoch
// that records before an offset have set, and out of the search index, as they
// are taken out of events that are still there: a trait that is one is removed, within a longer text it is replaced.
// Values of own stay. It reports whether anything has changed, and is called
// within a transaction of whoever writes the epoch.
func Redact(tx kv.Tx, space, epoch uint32, profile event.ProfileID, before commitlog.Offset, set *redact.Set, own []string) (changed bool, err error) {
	k := keys{space, epoch}
	b, err := open(tx, k, profile)
	if err != nil {
		return false, err
	}
	if b.index, err = readIndex(tx, k); err != nil {
		return false, err
	}
	all, err := b.all()
	if err != nil {
		return false, err
	}
	for _, t := range slices.Clone(all) {
		if t.Offset >= before {
			continue
		}
		value := []byte(t.Value)
		clean := set.JSON(value, nil, own)
		named := set.Text(t.Name) != t.Name && !slices.Contains(own, t.Name)
		if bytes.Equal(clean, value) && !named {
			continue
		}
		p, at, found, err := b.find(t.Name)
		if err != nil {
			return false, err
		}
		if !found {
			return false, errStored
		}
		b.indexed(t.Name, t.Value)
		is := &p.traits[at]
		b.bytes -= is.size()
		if is.Value = string(clean); is.Value == "null" {
			is.Value = "" // as an event that says null removes it
		}
		if b.bytes += is.size(); named {
			b.bytes -= is.size()
			p.traits = slices.Delete(p.traits, at, at+1)
		}
		p.dirty, b.resized, changed = true, true, true
	}
	if !changed {
		return false, nil
	}
	if err := b.writeIndex(tx); err != nil {
		return false, err
	}
	return true, b.write(tx)
}
