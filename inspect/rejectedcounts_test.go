package inspect

import (
	"fmt"
	"testing"
	"time"

	"kith/clock"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
)

func counted(t *testing.T, db kv.DB, q VolumeQuery) []string {
	t.Helper()
	list, err := NewMeter(db).Counts(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range list {
		out = append(out, fmt.Sprintf("%s %s %s %s %s %d", v.Start.Format("02T15:04"), v.Source, v.Stage, v.Reason, v.Type, v.Count))
	}
	return out
}

func TestRejectionsAreCountedForGood(t *testing.T) {
	db := memkv.New()
	r, stop := running(t, db, clock.NewManual(start))
	for range 3 {
		r.Reject(Rejection{Source: "web", At: start, Code: "id_required", Type: "group"})
	}
	r.Reject(Rejection{Source: "web", At: start, Code: "empty_batch", Count: 5})
	stop()
	r, stop = running(t, db, clock.NewManual(start))
	r.Reject(Rejection{Source: "web", At: start.Add(90 * time.Second), Code: "id_required", Type: "group"})
	r.Reject(Rejection{Source: "app", At: start.Add(25 * time.Hour), Code: "id_required", Type: "group"})
	stop()
	all := VolumeQuery{From: start, To: start.Add(48 * time.Hour)}
	for grain, want := range map[Grain]string{
		Minute: "[01T00:00 web rejected empty_batch  5 01T00:00 web rejected id_required group 3 01T00:01 web rejected id_required group 1 02T01:00 app rejected id_required group 1]",
		Hour:   "[01T00:00 web rejected empty_batch  5 01T00:00 web rejected id_required group 4 02T01:00 app rejected id_required group 1]",
		Day:    "[01T00:00 web rejected empty_batch  5 01T00:00 web rejected id_required group 4 02T00:00 app rejected id_required group 1]",
	} {
		all.Grain = grain
		if got := fmt.Sprint(counted(t, db, all)); got != want {
			t.Errorf("%s: %s\nwant %s", grain, got, want)
		}
	}
	first := VolumeQuery{From: start.Add(time.Minute), To: start.Add(time.Hour), Grain: Minute, Sources: []string{"web"}}
	if got := fmt.Sprint(counted(t, db, first)); got != "[01T00:01 web rejected id_required group 1]" {
		t.Errorf("from the second minute: %s", got)
	}
	for _, bad := range []VolumeQuery{{From: start, To: start, Grain: Day}, {From: start, To: start.Add(1), Grain: "WEEK"}} {
		if _, err := NewMeter(db).Counts(t.Context(), bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v gives %v", bad, err)
		}
	}
}

// TestTypesThatAreNoneAreCountedTogether: the type of a refused message is what
// somebody has sent, and each that is counted by itself is kept for 400 days.
func TestTypesThatAreNoneAreCountedTogether(t *testing.T) {
	db := memkv.New()
	r, stop := running(t, db, clock.NewManual(start))
	for n := range 20 {
		r.Reject(Rejection{Source: "web", At: start, Code: "unknown_type", Type: fmt.Sprint("made up ", n)})
	}
	r.Reject(Rejection{Source: "web", At: start, Code: "unknown_type", Type: "object"})
	stop()
	want := "[01T00:00 web rejected unknown_type  20 01T00:00 web rejected unknown_type object 1]"
	if got := fmt.Sprint(counted(t, db, VolumeQuery{From: start, To: start.Add(time.Hour), Grain: Hour})); got != want {
		t.Errorf("counted %s, want %s", got, want)
	}
}

func TestRejectionsAreCountedWhenTheyAreLost(t *testing.T) {
	db := memkv.New()
	r, err := OpenRejections(t.Context(), db, clock.NewManual(start), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range queueLength + 50 { // nobody writes
		r.Reject(Rejection{Source: "web", At: start, Code: "c"})
	}
	if err := r.write(r.gather()); err != nil {
		t.Fatal(err)
	}
	q := VolumeQuery{From: start, To: start.Add(time.Hour), Grain: Hour}
	if got := fmt.Sprint(counted(t, db, q)); r.Lost() != 50 || got != fmt.Sprintf("[01T00:00 web rejected c  %d]", queueLength+50) {
		t.Errorf("%d lost, counted %s", r.Lost(), got)
	}
}

func TestOldRejectionCountsGo(t *testing.T) {
	db := memkv.New()
	c := clock.NewManual(start)
	r, stop := running(t, db, c)
	r.Reject(Rejection{Source: "web", At: start, Code: "c"})
	stop()
	c.Set(start.Add(50 * time.Hour))
	r, stop = running(t, db, c)
	list(t, r, "web", "", 1) // it has begun, with a sweep
	stop()
	q := VolumeQuery{From: start, To: start.Add(100 * time.Hour), Grain: Minute}
	if got := counted(t, db, q); len(got) != 0 {
		t.Errorf("minutes are left: %s", got)
	}
	if q.Grain = Hour; len(counted(t, db, q)) != 1 {
		t.Error("the hour is gone")
	}
}

func TestByMessage(t *testing.T) {
	r, stop := running(t, memkv.New(), clock.NewManual(start))
	defer stop()
	r.Reject(Rejection{Source: "web", At: start, MessageID: "m<1>", Message: "first"})
	r.Reject(Rejection{Source: "app", At: start.Add(time.Second), MessageID: "m<1>", Message: "second"})
	r.Reject(Rejection{Source: "app", At: start, MessageID: "other", Body: `{"messageId":"m<1>"}`})
	found, err := r.ByMessage(t.Context(), "m<1>")
	if err != nil || len(found) != 2 || found[0].Message != "second" || found[1].Message != "first" || found[0].ID == "" {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := r.ByMessage(t.Context(), ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("no message gives %v", err)
	}
}
