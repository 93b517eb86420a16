package inspect

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

// Monthly tracked users are counted as Segment does (its documentation, "MTUs,
// Throughput and Billing"): the userIds of a month, and the anonymousIds of the
// month that came with none of them. A month is one of UTC; an id counts once in
// it, whatever the sources. Blocked calls do not count.

// idKind says what an id is. The numbers are stored.
type idKind byte

const (
	userKind      idKind = 1
	anonymousKind idKind = 2
)

// identityKey names an id in a month.
type identityKey struct {
	month uint32
	kind  idKind
	hash  [16]byte
}

// days are the days of the month since which an id is known and since which it
// is identified: came together with a userId. Zero: never.
type days struct{ first, identified uint8 }

func earlier(a, b uint8) uint8 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func (d days) with(o days) days {
	return days{earlier(d.first, o.first), earlier(d.identified, o.identified)}
}

// identity is what is stored of an id: since when in the workspace, and since
// when at each source.
type identity struct {
	all     days
	sources []atSource
}

type atSource struct {
	number uint32
	days
}

func (d *identity) add(source uint32, n days) {
	d.all = d.all.with(n)
	for i := range d.sources {
		if d.sources[i].number == source {
			d.sources[i].days = d.sources[i].days.with(n)
			return
		}
	}
	d.sources = append(d.sources, atSource{source, n})
}

func (d *identity) at(source uint32) days {
	for _, s := range d.sources {
		if s.number == source {
			return s.days
		}
	}
	return days{}
}

func (d *identity) encode() kv.Value {
	v := kv.Value{identityFormat, d.all.first, d.all.identified}.Uvarint(uint64(len(d.sources)))
	for _, s := range d.sources {
		v = v.Uvarint(uint64(s.number)).Byte(s.first).Byte(s.identified)
	}
	return v
}

func decodeIdentity(value []byte) (d identity, err error) {
	if value == nil {
		return d, nil
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == identityFormat
	d.all = days{f.Byte(), f.Byte()}
	for range f.Count(len(f.Rest())) {
		d.sources = append(d.sources, atSource{uint32(f.Uvarint()), days{f.Byte(), f.Byte()}})
	}
	if !known || !f.OK() {
		return identity{}, errDamaged("id of a month")
	}
	return d, nil
}

func identityStem() kv.Key { return kv.WorkspaceKey(room).Byte(identities) }

func (k identityKey) key() kv.Key {
	return identityStem().Uint32(k.month).Byte(byte(k.kind)).Fixed(k.hash[:])
}

// populationKey names a day of a source; number zero is the workspace.
type populationKey struct {
	month  uint32
	number uint32
	day    uint8
}

func populationStem(month uint32) kv.Key {
	return kv.WorkspaceKey(room).Byte(populations).Uint32(month)
}

func (k populationKey) key() kv.Key {
	return populationStem(k.month).Uint32(k.number).Byte(k.day)
}

// population is how many ids came on a day for the first time in the month.
// A later look at an earlier day moves ids, so a number may become smaller.
type population struct{ users, anonymous, identified int64 }

func (p population) encode() kv.Value {
	return kv.Value{populationFormat}.Varint(p.users).Varint(p.anonymous).Varint(p.identified)
}

func decodePopulation(value []byte) (p population, err error) {
	if value == nil {
		return p, nil
	}
	f := kv.FieldsOf(value)
	known := f.Byte() == populationFormat
	p = population{f.Varint(), f.Varint(), f.Varint()}
	if !known || !f.OK() {
		return population{}, errDamaged("number of users")
	}
	return p, nil
}

// maxKnown is how many pairs of ids a generation of users.known holds: 40 bytes
// each, two generations.
const maxKnown = 1 << 17

// users are the ids that came since the last commit, and those that came lately
// and need not be looked at again.
type users struct {
	fresh map[identityKey]*identity

	seeds  [2]maphash.Seed
	known  map[[2]uint64]struct{} // by a hash of space, month, source and ids
	before map[[2]uint64]struct{}
	buf    []byte

	// Of the month and day that the last call was in, in milliseconds.
	dayBegins, dayEnds int64
	month              uint32
	day                uint8
}

func newUsers() *users {
	return &users{fresh: map[identityKey]*identity{}, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, known: map[[2]uint64]struct{}{}}
}

func (u *users) size() int { return len(u.fresh) }

func (u *users) committed() { clear(u.fresh) }

// saw takes the ids of a call that passed.
func (u *users) saw(space, source uint32, r *pipeline.Judged) {
	user, anonymous := idsOf(&r.Head)
	if user == "" && anonymous == "" {
		return
	}
	u.turn(r.Head.At)
	b := binary.LittleEndian.AppendUint32(u.buf[:0], space)
	b = binary.LittleEndian.AppendUint32(b, source)
	b = binary.LittleEndian.AppendUint32(b, u.month)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(user)))
	u.buf = append(append(b, user...), anonymous...)
	h := [2]uint64{maphash.Bytes(u.seeds[0], u.buf), maphash.Bytes(u.seeds[1], u.buf)}
	if _, ok := u.known[h]; ok {
		return
	}
	if len(u.known) >= maxKnown {
		u.before, u.known = u.known, make(map[[2]uint64]struct{}, maxKnown)
	}
	u.known[h] = struct{}{}
	if _, ok := u.before[h]; ok {
		return
	}
	if user != "" {
		u.add(userKind, user, source, days{first: u.day})
	}
	if anonymous != "" {
		d := days{first: u.day}
		if user != "" {
			d.identified = u.day
		}
		u.add(anonymousKind, anonymous, source, d)
	}
}

// idsOf returns the userId and the anonymousId of a call, which are the first of
// its identifiers (event.StandardIdentifiers). Ids of more than 500 bytes are
// none.
func idsOf(h *event.Head) (user, anonymous string) {
	ids := h.IDs
	if len(ids) > 0 && ids[0].Type == "user_id" && ids[0].Collection == event.Users {
		user, ids = ids[0].Value, ids[1:]
	}
	if len(ids) > 0 && ids[0].Type == "anonymous_id" && ids[0].Collection == event.Users {
		anonymous = ids[0].Value
	}
	return user, anonymous
}

// turn sets the month and the day of an instant in milliseconds.
func (u *users) turn(at int64) {
	if at >= u.dayBegins && at < u.dayEnds {
		return
	}
	t := time.UnixMilli(at).UTC()
	begins := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	u.dayBegins, u.dayEnds = begins.UnixMilli(), begins.AddDate(0, 0, 1).UnixMilli()
	u.month, u.day = monthOf(t), uint8(t.Day())
}

func (u *users) add(kind idKind, id string, source uint32, d days) {
	sum := sha256.Sum256([]byte(id))
	k := identityKey{month: u.month, kind: kind, hash: [16]byte(sum[:16])}
	if u.fresh[k] == nil {
		u.fresh[k] = &identity{}
	}
	u.fresh[k].add(source, d)
}

// settle adds the ids to the stored ones, and returns what is to be written.
func (u *users) settle(ctx context.Context, db kv.DB) (pairs []kv.Pair, err error) {
	if len(u.fresh) == 0 {
		return nil, nil
	}
	ids := slices.SortedFunc(maps.Keys(u.fresh), func(a, b identityKey) int {
		return cmp.Or(cmp.Compare(a.month, b.month), cmp.Compare(a.kind, b.kind), bytes.Compare(a.hash[:], b.hash[:]))
	})
	keys := make([][]byte, len(ids)) // in order
	for i, k := range ids {
		keys[i] = k.key()
	}
	err = db.View(ctx, func(r kv.Reader) error {
		pairs = nil
		stored, err := r.GetMany(keys)
		if err != nil {
			return err
		}
		moves := map[populationKey]population{}
		for i, value := range stored {
			before, err := decodeIdentity(value)
			if err != nil {
				return err
			}
			after := identity{all: before.all, sources: append([]atSource(nil), before.sources...)}
			changed := false
			for _, s := range u.fresh[ids[i]].sources {
				was, all := after.at(s.number), after.all
				after.add(s.number, s.days)
				changed = note(moves, ids[i], s.number, was, after.at(s.number)) || changed
				changed = note(moves, ids[i], 0, all, after.all) || changed
			}
			if changed {
				pairs = append(pairs, kv.Pair{Key: keys[i], Value: after.encode()})
			}
		}
		for k, p := range moves {
			value, err := r.Get(k.key())
			if err != nil {
				return err
			}
			before, err := decodePopulation(value)
			if err != nil {
				return err
			}
			sum := population{before.users + p.users, before.anonymous + p.anonymous, before.identified + p.identified}
			pairs = append(pairs, kv.Pair{Key: k.key(), Value: sum.encode()})
		}
		return nil
	})
	return pairs, err
}

// note moves an id in the numbers of a source, or of the workspace, from the
// days on which it was thought to come to those on which it came. It reports
// whether they differ.
func note(moves map[populationKey]population, id identityKey, number uint32, was, is days) bool {
	if was == is {
		return false
	}
	step := func(day uint8, fn func(*population)) {
		if day == 0 {
			return
		}
		k := populationKey{id.month, number, day}
		p := moves[k]
		fn(&p)
		moves[k] = p
	}
	if id.kind == userKind {
		step(was.first, func(p *population) { p.users-- })
		step(is.first, func(p *population) { p.users++ })
		return true
	}
	step(was.first, func(p *population) { p.anonymous-- })
	step(is.first, func(p *population) { p.anonymous++ })
	step(was.identified, func(p *population) { p.identified-- })
	step(is.identified, func(p *population) { p.identified++ })
	return true
}

// MTU is the users of a month up to the end of a day.
type MTU struct {
	Source string // the source's id; empty for the workspace
	Day    time.Time
	// Users are the different userIds, Anonymous the different anonymousIds,
	// Identified those of them that came with a userId.
	Users, Anonymous, Identified uint64
}

// NeverIdentified returns how many anonymousIds came with no userId.
func (m MTU) NeverIdentified() uint64 { return m.Anonymous - m.Identified }

// Total returns the monthly tracked users: userIds, and anonymousIds that came
// with none.
func (m MTU) Total() uint64 { return m.Users + m.NeverIdentified() }

// MTU returns how the users of the month that at lies in grew, one entry for
// each day from the first to the one at lies in, for the workspace or, with
// perSource, for each source that had any, by source and day.
func (m *Meter) MTU(ctx context.Context, at time.Time, perSource bool) (list []MTU, err error) {
	at = at.UTC()
	month := monthOf(at)
	err = m.db.View(ctx, func(r kv.Reader) error {
		list = nil
		byNumber, err := sourcesByNumber(r)
		if err != nil {
			return err
		}
		found := map[uint32]*[32]population{}
		if !perSource {
			found[0] = &[32]population{}
		}
		stem := populationStem(month)
		for pair, err := range r.Scan(kv.Prefix(stem)) {
			if err != nil {
				return err
			}
			parts := kv.PartsAfter(pair.Key, stem)
			number, day := parts.Uint32(), parts.Byte()
			if !parts.OK() || day > 31 {
				return errDamaged("number of users")
			}
			if (number != 0) != perSource {
				continue
			}
			if found[number] == nil {
				found[number] = &[32]population{}
			}
			if found[number][day], err = decodePopulation(pair.Value); err != nil {
				return err
			}
		}
		for number, daily := range found {
			sum := MTU{Source: byNumber[number]}
			for day := 1; day <= at.Day(); day++ {
				sum.Day = time.Date(at.Year(), at.Month(), day, 0, 0, 0, 0, time.UTC)
				sum.Users += uint64(daily[day].users)
				sum.Anonymous += uint64(daily[day].anonymous)
				sum.Identified += uint64(daily[day].identified)
				list = append(list, sum)
			}
		}
		return nil
	})
	slices.SortFunc(list, func(a, b MTU) int { return cmp.Or(cmp.Compare(a.Source, b.Source), a.Day.Compare(b.Day)) })
	return list, err
}
