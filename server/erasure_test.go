package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"kith/archive"
	"kith/client"
	"kith/commitlog"
	"kith/destination"
	"kith/destination/webhook"
	"kith/event"
	"kith/fault"
	"kith/identity"
	"kith/kv"
	"kith/kv/pebblekv"
	"kith/pipeline"
)

// town is a server with some thousand people, of whom every thousandth is to be
// forgotten.
type town struct {
	t       *testing.T
	s       *Server
	base    string
	stop    func()
	dir     string
	cfg     Config
	sink    *sink
	people  int
	secrets []string           // identifiers of those to be forgotten
	named   []event.ExternalID // what names them
	gone    []event.ProfileID
	others  []string // users who carry an address of the erased
}

func email(i int) string { return fmt.Sprintf("person%06d@example.com", i) }
func user(i int) string  { return fmt.Sprintf("guest-%06d", i) }
func anon(i, n int) string {
	return fmt.Sprintf("dev%06d.%d", i, n)
}

// forgotten reports whether a person is to be erased.
func forgotten(i int) bool { return i%1000 == 7 }

func newTown(t *testing.T, people int, change ...func(*Config)) *town {
	w := &town{t: t, dir: t.TempDir(), sink: &sink{}, people: people}
	hook := httptest.NewServer(w.sink)
	t.Cleanup(hook.Close)
	w.cfg = onDisk(w.dir)
	w.cfg.AdminToken = "erasure-token-0123456789"
	w.cfg.Destinations = []destination.Connector{webhook.Connector()}
	w.cfg.EgressAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, fn := range change {
		fn(&w.cfg)
	}
	w.start()
	c, err := client.New(w.base, w.cfg.AdminToken, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), []byte(line), map[string]string{"SINK": hook.URL}, false, false); err != nil {
		t.Fatal(err)
	}
	w.live()
	return w
}

func (w *town) start() {
	w.t.Helper()
	w.s, w.base, w.stop = running(w.t, w.cfg)
}

// live sends what all the people do.
func (w *town) live() {
	w.t.Helper()
	var batch []string
	call := func(format string, args ...any) {
		batch = append(batch, fmt.Sprintf(format, args...))
		if len(batch) == 200 {
			send(w.t, w.base, "line-write-key", "batch", `{"batch":[`+strings.Join(batch, ",")+`]}`)
			batch = nil
		}
	}
	for i := range w.people {
		call(`{"type":"track","event":"Page Seen","anonymousId":%q,"properties":{"n":%d}}`, anon(i, 1), i)
		call(`{"type":"identify","anonymousId":%q,"userId":%q,"traits":{"email":%q,"plan":"gold"}}`, anon(i, 1), user(i), email(i))
		call(`{"type":"track","event":"Booking Completed","userId":%q,"properties":{"price":%d.5,"mail":%q}}`, user(i), i, email(i))
		if i%3 == 1 || forgotten(i) { // another device, which turns out to be the same person's
			call(`{"type":"track","event":"Page Seen","anonymousId":%q}`, anon(i, 2))
			call(`{"type":"identify","anonymousId":%q,"userId":%q}`, anon(i, 2), user(i))
		}
		if i%500 == 3 {
			call(`{"type":"group","userId":%q,"groupId":"hotel-%d","traits":{"name":"Hotel"}}`, user(i), i%7)
		}
		if forgotten(i) {
			call(`{"type":"group","userId":%q,"groupId":"hotel-2"}`, user(i))
			w.named = append(w.named, event.ExternalID{Type: "email", ID: email(i)})
			w.secrets = append(w.secrets, email(i), user(i), anon(i, 1), anon(i, 2))
			// Somebody else claims the address, which is refused, and people
			// talk about the erased.
			other := user(i + 1)
			w.others = append(w.others, other)
			call(`{"type":"identify","userId":%q,"traits":{"email":%q,"partner":%q}}`, other, email(i), user(i))
			call(`{"type":"track","event":"Referred","userId":%q,"properties":{"friend":%q,"url":"https://example.com/?m=%s&x=1"}}`, user(i+2), email(i), email(i))
		}
	}
	send(w.t, w.base, "line-write-key", "batch", `{"batch":[`+strings.Join(batch, ",")+`]}`)
	w.settle()
}

func (w *town) settle() {
	w.t.Helper()
	raw := w.s.space(1).raw
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := w.s.Passed(ctx, 1, raw.End()-1); err != nil {
		w.t.Fatal(err)
	}
}

func (w *town) view(fn func(kv.Reader) error) {
	w.t.Helper()
	if err := w.s.db.View(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// who returns whose a user id is.
func (w *town) who(id string) (p event.ProfileID) {
	w.t.Helper()
	w.view(func(r kv.Reader) (err error) {
		p, err = identity.NewReader(r, 1, w.s.space(1).epoch()).Lookup(event.Users, "user_id", id)
		return err
	})
	return p
}

// erase orders the erasure and waits until it has passed.
func (w *town) erase() commitlog.Offset {
	w.t.Helper()
	for i := range w.people {
		if forgotten(i) {
			p := w.who(user(i))
			if p.IsZero() || w.who(user(i)) != p {
				w.t.Fatalf("person %d is nobody", i)
			}
			w.gone = append(w.gone, p)
		}
	}
	ordered, err := w.s.Order(w.t.Context(), 1, &event.Command{Erase: &event.Erase{Identifiers: w.named}, By: "test", Note: "asked by " + w.secrets[0]})
	if err != nil {
		w.t.Fatal(err)
	}
	w.settle()
	return ordered.Offset
}

// hidden looks whether any reader of the past shows something of the erased.
func (w *town) hidden(when string) {
	w.t.Helper()
	ctx := w.t.Context()
	shows := func(what string, at commitlog.Offset, text any) {
		w.t.Helper()
		b := fmt.Appendf(nil, "%+v", text)
		if raw, ok := text.([]byte); ok {
			b = raw
		}
		for _, secret := range w.secrets {
			if bytes.Contains(b, []byte(secret)) {
				w.t.Errorf("%s: %s shows %s at %d: %.300s", when, what, secret, at, b)
			}
		}
	}
	end := w.s.space(1).raw.End() - 1 // the command itself is reduced last
	erased := 0
	for at := commitlog.Offset(0); at < end; at++ {
		e, err := w.s.archive.Passed(ctx, 1, w.s.space(1).epoch(), at)
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Head.Kind == event.KindErased {
			erased++
			if len(e.Body) > 0 || len(e.Head.IDs) > 0 || e.Head.MessageID != "" || e.Head.ID == (event.RecordID{}) {
				w.t.Errorf("%s: of the erased record %d is left: %+v", when, at, e)
			}
		}
		shows("an event", at, e.Body)
		if at%50 == 0 || e.Head.Kind == event.KindErased {
			raw, err := w.s.archive.Raw(ctx, 1, at)
			if err != nil {
				w.t.Fatal(err)
			}
			shows("a raw record", at, raw.Body)
			shows("a raw record", at, raw.Head)
		}
	}
	want := 0
	for i := range w.people {
		if forgotten(i) {
			want += 6
		}
	}
	if erased != want {
		w.t.Errorf("%s: %d events are erased, want %d", when, erased, want)
	}
	err := w.s.archive.Scan(ctx, 1, w.s.space(1).epoch(), 0, end, nil, func(e archive.Entry) error {
		shows("a scan", e.Offset, e.Body)
		if slices.Contains(w.gone, e.Profile) {
			w.t.Errorf("%s: a scan gives event %d of somebody erased", when, e.Offset)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for next := commitlog.Offset(0); next < end; {
		was := next
		if next, err = w.s.archive.Follow(ctx, 1, next, 1<<20, func(j *pipeline.Judged) error {
			if j.Offset < end {
				shows("the past", j.Offset, j.Processed())
				shows("the past", j.Offset, j.Head)
			}
			return nil
		}); err != nil || next == was {
			w.t.Fatalf("follow stands at %d: %v", next, err)
		}
	}
	log, err := w.s.resolved(1)
	if err != nil {
		w.t.Fatal(err)
	}
	for at := commitlog.Offset(0); at < log.End(); {
		blocks, err := log.Read(ctx, at, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, b := range blocks {
			outputs, err := pipeline.DecodeOutputs(b.Data)
			if err != nil {
				w.t.Fatal(err)
			}
			for i, o := range outputs {
				for _, part := range []any{o.Event, o.Change, o.Message} {
					text, _ := json.Marshal(part)
					shows("an output", b.First+commitlog.Offset(i), text)
				}
				if o.Message != nil {
					shows("a message", b.First+commitlog.Offset(i), o.Message.Body)
				}
			}
			at = b.End()
		}
	}
	w.view(func(r kv.Reader) error {
		reader := identity.NewReader(r, 1, w.s.space(1).epoch())
		for _, p := range w.gone {
			if _, err := reader.Profile(p); !fault.Is(err, fault.NotFound) {
				w.t.Errorf("%s: profile %s is there: %v", when, p, err)
			}
		}
		return nil
	})
}

// complete has the erasure completed.
func (w *town) complete(at commitlog.Offset) *archive.Erasure {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	w.s.erasures.Now(1)
	x, err := w.s.erasures.Wait(ctx, 1, at)
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

// TestErasureLeavesNoByte forgets one in a thousand people, some of them merged
// and some of whose addresses others carry, and looks through all files: as they
// are, and unpacked.
func TestErasureLeavesNoByte(t *testing.T) {
	w := newTown(t, 3000)
	w.stop()
	if found := w.inFiles(); len(found) != len(w.secrets) {
		t.Fatalf("%d of %d identifiers are found before: the test proves nothing", len(found), len(w.secrets))
	}
	w.start()
	at := w.erase()
	w.hidden("at once")
	x := w.complete(at)
	w.hidden("after the work")
	if r := x.Receipt; r == nil || r.Erased != 18 || r.Redacted != 6 || r.Hash == "" || r.Blocks == 0 || x.Persons != 3 || x.Identifiers != nil {
		t.Errorf("the receipt says %+v of %+v", x.Receipt, x)
	}
	w.stop()
	if found := w.inFiles(); len(found) > 0 {
		t.Errorf("found after the erasure: %v", found)
	}
}

// inFiles returns the identifiers of the erased that are somewhere in the data
// directory, with where.
func (w *town) inFiles() map[string]string {
	w.t.Helper()
	found := map[string]string{}
	look := func(where string, data []byte) {
		for _, secret := range w.secrets {
			if found[secret] == "" && bytes.Contains(data, []byte(secret)) {
				found[secret] = where
			}
		}
	}
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		look("file "+filepath.Base(path), data)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	db, err := pebblekv.Open(filepath.Join(w.dir, fileStore), pebblekv.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	unpack, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.IgnoreChecksum(true))
	if err != nil {
		w.t.Fatal(err)
	}
	defer unpack.Close()
	magic := []byte{0x28, 0xb5, 0x2f, 0xfd}
	err = db.View(w.t.Context(), func(r kv.Reader) error {
		for pair, err := range r.Scan(kv.Range{}) {
			if err != nil {
				return err
			}
			where := fmt.Sprintf("key %q", pair.Key)
			look(where, pair.Key)
			look(where, pair.Value)
			for rest := pair.Value; ; {
				i := bytes.Index(rest, magic)
				if i < 0 {
					break
				}
				plain, _ := unpack.DecodeAll(rest[i:], nil) // what stands before an error counts
				look(where+" unpacked", plain)
				rest = rest[i+4:]
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}
