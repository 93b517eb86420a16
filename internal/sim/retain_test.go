package sim

import (
	"slices"
	"time"

	"kith/archive"
	"kith/event"
	"kith/kv"
	"kith/pipeline"
	"kith/workspace"
)

// kept is what the simulation keeps of what the server forgets.
type kept struct {
	horizon archive.Horizon
	asked   int64 // the server has promised to forget what came before this instant
	idle    bool  // nothing is being forgotten
	bodies  map[int][]byte
	outputs []pipeline.Output
	trimmed int              // of outputs, which the server has no more
	since   map[string]int64 // "audience/version" → since when its events counted
}

// trims reports whether events are forgotten in this history.
func (h *history) trims() bool { return h.seed%4 == 1 }

// forgotten reports whether an output may be one that the server has forgotten,
// or the dead letter of which it has.
func (h *history) forgotten(at int64) bool {
	return h.trims() && (at < h.kept.horizon.At || at < h.now.Add(-workspace.MinRetention).UnixMilli())
}

// remember reads what the server may forget next, for the model.
func (h *history) remember() {
	if h.trims() {
		left := h.faults.Swap(0)
		h.look()
		h.faults.Store(left)
	}
}

// forgot waits a while until the server has forgotten what it is to forget, or
// stands before something that waits for the clock. It reports false when the
// process has failed meanwhile.
func (h *history) forgot() bool {
	h.kept.idle = true
	for range 300 {
		if !h.trims() || h.spaceID == "" {
			break
		}
		var out struct{ Retention struct{ State string } }
		if !h.api("GET", "/spaces/"+h.spaceID+"/retention", nil, &out) || !h.advance(0) || h.failed() {
			return false
		}
		if h.kept.idle = out.Retention.State != "advancing" && out.Retention.State != "trimming"; h.kept.idle {
			break
		}
	}
	return true
}

// retain has the server keep events for a time only, and forget at once what is
// older. It does so every day by itself, too.
func (h *history) retain() {
	if !h.trims() {
		return
	}
	h.quiet()
	h.remember()
	idle := h.kept.idle // or what goes on already goes where it was to go
	setting := pick(h.dice, []string{"1d", "26h", "30h"})
	at := "/spaces/" + h.spaceID + "/retention"
	h.tell("events are kept for %s", setting)
	if !h.api("PUT", at, map[string]any{"setting": setting}, nil) {
		return
	}
	var out struct {
		Retention struct {
			LastRun *struct{ Before time.Time }
		}
	}
	if !h.api("POST", at+"/run", nil, &out) {
		return
	}
	if run := out.Retention.LastRun; run != nil && idle {
		h.tell("events before %s are to be forgotten", run.Before.UTC().Format("01-02 15:04:05.000"))
		h.kept.asked = max(h.kept.asked, run.Before.UnixMilli())
		h.seen.Trims++
	}
}

// whole gives records the bodies that the server has forgotten, and keeps those
// that it has.
func (h *history) whole(l *look) {
	k := &h.kept
	if k.bodies == nil {
		k.bodies = map[int][]byte{}
	}
	h.view(l.db, func(r kv.Reader) (err error) {
		if k.horizon, err = archive.HorizonOf(r, space); err != nil {
			return err
		}
		t, err := archive.TrimmedOf(r, space)
		if k.trimmed = int(t.Outputs); err == nil && k.trimmed > len(k.outputs) {
			h.t.Fatalf("%d outputs are gone, of which %d were looked at", k.trimmed, len(k.outputs))
		}
		return err
	})
	for i := range l.raw {
		r := &l.raw[i]
		if r.Kind != event.KindEvent {
			continue
		}
		if i >= int(k.horizon.Offset) {
			k.bodies[i] = r.Body
			continue
		}
		body, known := k.bodies[i]
		if !known {
			h.t.Fatalf("record %d was forgotten before it was looked at", i)
		}
		r.Body = body
	}
}

// checkForgotten holds the horizon against what was asked for, and since when
// audiences count against what they said before.
func (h *history) checkForgotten(l *look) {
	k := &h.kept
	if want := l.behind(k.asked) + 1; k.idle && int(k.horizon.Offset) < want {
		h.t.Errorf("the horizon stands at record %d; want %d", k.horizon.Offset, want)
	}
	since := map[string]int64{}
	for i := range l.now.Audiences {
		a := &l.now.Audiences[i]
		if !a.Enabled {
			continue
		}
		is := l.since(h, a)
		was, known := k.since[version(a)]
		if is > k.horizon.At || known && is > was && readsOf(a) == "" {
			h.t.Errorf("audience %s counts since %s; it did since %s, and events are kept since %s", a.Key, time.UnixMilli(is).UTC(),
				time.UnixMilli(was).UTC(), time.UnixMilli(k.horizon.At).UTC())
		}
		since[version(a)] = is
		if is > 0 {
			h.seen.Short++
		}
	}
	k.since = since
}

// since is the instant since when an audience says that it counts.
func (l *look) since(h *history, a *workspace.Audience) (since int64) {
	h.view(l.db, func(r kv.Reader) error {
		since = must(l.engine.Status(r, space, l.epoch, a)).Since
		return nil
	})
	return since
}

// behind returns the offset of the last record before an instant.
func (l *look) behind(instant int64) int {
	at := int64(0)
	for i, r := range l.raw {
		if at = max(at, r.At); at >= instant {
			return i - 1
		}
	}
	return len(l.raw) - 1
}

// unsure reports whether it is not told since when an audience counts: it reads
// another that counts since as late.
func (l *look) unsure(h *history, a *workspace.Audience) bool {
	key := readsOf(a)
	if key == "" {
		return false
	}
	i := slices.IndexFunc(l.now.Audiences, func(x workspace.Audience) bool { return x.Key == key })
	read := &l.now.Audiences[i]
	return l.since(h, a) > 0 && l.since(h, a) == l.since(h, read) || l.unsure(h, read)
}
