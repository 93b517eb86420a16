package archive

import (
	"errors"
	"maps"
	"slices"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

var errRun = errors.New("archive: a stored run is damaged or of an unknown format")

// Record writes what became of a batch's records; it is the loop's Recorder. Of
// a replay it writes only whose they are. The records are neighbours in the raw log, in its order.
func (a *Archive) Record(b *pipeline.Batch, records []*pipeline.Record) error {
	if len(records) == 0 {
		return nil
	}
	first := records[0].Offset
	if b.Live { // a replay has them from there
		if err := b.Tx.Set(runKey(verdictStem(b.Space), first), encodeVerdicts(b.Resolved, records)); err != nil {
			return err
		}
		if err := noteLandmarks(b, records); err != nil {
			return err
		}
	}
	if err := b.Tx.Set(runKey(profileStem(b.Space, b.Epoch), first), encodeProfiles(records)); err != nil {
		return err
	}
	for _, r := range records {
		if err := Index(b, r); err != nil {
			return err
		}
	}
	return nil
}

// verdictRun is what intake decided on neighbouring records: odd holds those
// on which there is anything to say but a plain admission.
type verdictRun struct {
	first commitlog.Offset
	count int
	odd   map[int]oddity

	linked   bool // resolved and spans are known
	resolved commitlog.Offset
	spans    []byte
}

type oddity struct {
	verdict pipeline.Verdict
	raised  int64 // by how much the row's instant is later than the one stamped
}

// plain reports whether there is nothing to say.
func (o oddity) plain() bool {
	return o.verdict.Code == pipeline.Admitted && o.verdict.Body == nil && o.verdict.Reason == "" && o.raised == 0
}

func (r *verdictRun) covers(o commitlog.Offset) bool {
	return r != nil && o >= r.first && o < r.first+commitlog.Offset(r.count)
}

// encodeVerdicts writes: the number of records, the place of their first output
// in the resolved log, the spans of outputs, and what is odd.
func encodeVerdicts(resolved commitlog.Offset, records []*pipeline.Record) kv.Value {
	v := kv.Value{verdictFormat}.Uvarint(uint64(len(records))).Uvarint(uint64(resolved)).Bytes(encodeSpans(records))
	for i, r := range records {
		raised := r.At - r.Stamped
		if (oddity{r.Verdict, raised}).plain() {
			continue
		}
		v = v.Uvarint(uint64(i)).Varint(raised).Byte(byte(r.Verdict.Code)).String(r.Verdict.Reason).Uvarint(uint64(r.Verdict.Of)).Bytes(r.Verdict.Body)
	}
	return v
}

// encode writes a run that was read and changed.
func (r *verdictRun) encode() kv.Value {
	v := kv.Value{verdictAlone}.Uvarint(uint64(r.count))
	if r.linked {
		v = kv.Value{verdictFormat}.Uvarint(uint64(r.count)).Uvarint(uint64(r.resolved)).Bytes(r.spans)
	}
	for _, i := range slices.Sorted(maps.Keys(r.odd)) {
		odd := r.odd[i]
		if odd.plain() {
			continue
		}
		v = v.Uvarint(uint64(i)).Varint(odd.raised).Byte(byte(odd.verdict.Code)).String(odd.verdict.Reason).Uvarint(uint64(odd.verdict.Of)).Bytes(odd.verdict.Body)
	}
	return v
}

func decodeVerdicts(first commitlog.Offset, value []byte) (*verdictRun, error) {
	f := kv.FieldsOf(value)
	format := f.Byte()
	if format != verdictFormat && format != verdictAlone {
		return nil, errRun
	}
	run := &verdictRun{first: first, count: f.Count(1 << 24), odd: map[int]oddity{}}
	if format == verdictFormat {
		run.linked, run.resolved, run.spans = true, commitlog.Offset(f.Uvarint()), f.Bytes()
	}
	for len(f.Rest()) > 0 {
		i := f.Count(run.count)
		run.odd[i] = oddity{raised: f.Varint(), verdict: pipeline.Verdict{
			Code: pipeline.VerdictCode(f.Byte()), Reason: f.String(), Of: commitlog.Offset(f.Uvarint()), Body: nilIfEmpty(f.Bytes()),
		}}
	}
	if !f.OK() {
		return nil, errRun
	}
	return run, nil
}

// encodeSpans writes how many outputs each record has, equal neighbours
// together: how many records there are alike, then twice the number of
// outputs of each, plus one where others come before them, of which the number
// follows. Those others are of timers that fired before the record.
func encodeSpans(records []*pipeline.Record) (v kv.Value) {
	type step struct{ before, count int }
	var last step
	alike, end := uint64(0), 0
	flush := func() {
		if alike == 0 {
			return
		}
		v = v.Uvarint(alike)
		if last.before == 0 {
			v = v.Uvarint(uint64(last.count) << 1)
		} else {
			v = v.Uvarint(uint64(last.count)<<1 | 1).Uvarint(uint64(last.before))
		}
	}
	for _, r := range records {
		s := step{r.Outputs.First - end, r.Outputs.Count}
		if alike > 0 && s != last {
			flush()
			alike = 0
		}
		last, end = s, r.Outputs.First+r.Outputs.Count
		alike++
	}
	flush()
	return v
}

// outputs returns where the outputs of a record of the run are in the resolved
// log.
func (r *verdictRun) outputs(at commitlog.Offset) (first commitlog.Offset, n int, err error) {
	f := kv.FieldsOf(r.spans)
	left := uint64(at - r.first) // records before it
	first = r.resolved
	for f.OK() && len(f.Rest()) > 0 {
		alike, count := f.Uvarint(), f.Uvarint()
		before := uint64(0)
		if count&1 == 1 {
			before = f.Uvarint()
		}
		count >>= 1
		if left < alike {
			return first + commitlog.Offset(left*(before+count)+before), int(count), nil
		}
		left -= alike
		first += commitlog.Offset(alike * (before + count))
	}
	return 0, 0, errRun
}

// profileRun is whose neighbouring records are.
type profileRun struct {
	first    commitlog.Offset
	profiles []event.ProfileID // one for each record
	accounts []event.ProfileID
}

func (r *profileRun) covers(o commitlog.Offset) bool {
	return r != nil && o >= r.first && o < r.first+commitlog.Offset(len(r.profiles))
}

// encodeProfiles writes each profile of the run once and then a number for
// each record: zero for nobody.
func encodeProfiles(records []*pipeline.Record) kv.Value {
	run := profileRun{profiles: make([]event.ProfileID, len(records)), accounts: make([]event.ProfileID, len(records))}
	for i, r := range records {
		run.profiles[i], run.accounts[i] = r.Profile, r.Account
	}
	return run.encode()
}

func (r *profileRun) encode() kv.Value {
	at := map[event.ProfileID]uint64{{}: 0}
	var list []event.ProfileID
	number := func(p event.ProfileID) uint64 {
		n, ok := at[p]
		if !ok {
			list = append(list, p)
			n = uint64(len(list))
			at[p] = n
		}
		return n
	}
	var body kv.Value
	for i := range r.profiles {
		body = body.Uvarint(number(r.profiles[i])).Uvarint(number(r.accounts[i]))
	}
	v := kv.Value{profileFormat}.Uvarint(uint64(len(r.profiles))).Uvarint(uint64(len(list)))
	for _, p := range list {
		v = v.Fixed(p[:])
	}
	return v.Fixed(body)
}

func decodeProfiles(first commitlog.Offset, value []byte) (*profileRun, error) {
	f := kv.FieldsOf(value)
	if f.Byte() != profileFormat {
		return nil, errRun
	}
	n := f.Count(len(value) / 2) // a record takes two bytes or more
	list := make([]event.ProfileID, 1, 1+len(value)/16)
	for range f.Count(len(value)) {
		var p event.ProfileID
		copy(p[:], f.Fixed(len(p)))
		list = append(list, p)
	}
	run := &profileRun{first: first, profiles: make([]event.ProfileID, n), accounts: make([]event.ProfileID, n)}
	for i := range n {
		run.profiles[i] = list[f.Count(len(list)-1)]
		run.accounts[i] = list[f.Count(len(list)-1)]
	}
	if !f.OK() {
		return nil, errRun
	}
	return run, nil
}

func nilIfEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
