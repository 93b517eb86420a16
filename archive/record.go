package archive

import (
	"errors"

	"kith/commitlog"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
)

var errRun = errors.New("archive: a stored run is damaged or of an unknown format")

// Record writes what became of a batch's records; it is the loop's Recorder.
// The records are neighbours in the raw log, in its order.
func (a *Archive) Record(b *pipeline.Batch, records []*pipeline.Record) error {
	if len(records) == 0 {
		return nil
	}
	first := records[0].Offset
	if err := b.Tx.Set(runKey(verdictStem(b.Space), first), encodeVerdicts(records)); err != nil {
		return err
	}
	if err := b.Tx.Set(runKey(profileStem(b.Space, b.Epoch), first), encodeProfiles(records)); err != nil {
		return err
	}
	for _, r := range records {
		if r.Event == nil || r.Verdict.Code != pipeline.Admitted {
			continue
		}
		value := kv.Value{historyFormat, byte(r.Type)}
		for _, p := range []event.ProfileID{r.Profile, r.Account} {
			if p.IsZero() {
				continue
			}
			key := historyStem(b.Space, b.Epoch, p).Int64(r.Time).Uint64(uint64(r.Offset))
			if err := b.Tx.Set(key, value); err != nil {
				return err
			}
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
}

type oddity struct {
	verdict pipeline.Verdict
	raised  int64 // by how much the row's instant is later than the one stamped
}

func (r *verdictRun) covers(o commitlog.Offset) bool {
	return r != nil && o >= r.first && o < r.first+commitlog.Offset(r.count)
}

func encodeVerdicts(records []*pipeline.Record) kv.Value {
	v := kv.Value{verdictFormat}.Uvarint(uint64(len(records)))
	for i, r := range records {
		raised := r.At - r.Stamped
		if r.Verdict.Code == pipeline.Admitted && r.Verdict.Body == nil && r.Verdict.Reason == "" && raised == 0 {
			continue
		}
		v = v.Uvarint(uint64(i)).Varint(raised).Byte(byte(r.Verdict.Code)).String(r.Verdict.Reason).Uvarint(uint64(r.Verdict.Of)).Bytes(r.Verdict.Body)
	}
	return v
}

func decodeVerdicts(first commitlog.Offset, value []byte) (*verdictRun, error) {
	f := kv.FieldsOf(value)
	if f.Byte() != verdictFormat {
		return nil, errRun
	}
	run := &verdictRun{first: first, count: f.Count(1 << 24), odd: map[int]oddity{}}
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
	for _, r := range records {
		body = body.Uvarint(number(r.Profile)).Uvarint(number(r.Account))
	}
	v := kv.Value{profileFormat}.Uvarint(uint64(len(records))).Uvarint(uint64(len(list)))
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
