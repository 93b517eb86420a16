package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"kith/client"
	"kith/script"
)

// How the load of TestCrash is made.
const (
	crashWriters   = 6  // that send at the same time
	crashAtOnce    = 20 // users of each writer that are about at the same time
	crashCalls     = 9  // of each user, about: few, so that an audience shows one too many
	crashBatch     = 20 // calls at most in one request
	acksPerCrash   = 250
	defaultCrashes = 3 // KITH_CRASHES asks for more; make crash for ten
)

// crashAudiences are the audiences of TestCrash: by key how many Stays a user
// needs, and how many of them long ones.
var crashAudiences = map[string]struct{ stays, long int }{
	"stays_1": {1, 0}, "stays_2": {2, 0}, "stays_3": {3, 0}, "stays_4": {4, 0}, "stays_5": {5, 0}, "stays_6": {6, 0}, "stays_7": {7, 0}, "stays_8": {8, 0}, "stays_9": {9, 0}, "stays_11": {11, 0}, "stays_13": {13, 0}, "long_3": {2, 3},
}

// inBothForms is the audience that the destination state is told of, by identify
// and track calls.
const inBothForms = "stays_5"

// TestCrash kills the server with kill -9 under load, again and again, and then
// settles accounts: every acknowledged message is at the sink, in the order of
// its person; no counter is doubled or lost; every audience has the members that
// counting by hand gives; every entry was announced once.
func TestCrash(t *testing.T) {
	crashes := defaultCrashes
	if n, err := strconv.Atoi(os.Getenv("KITH_CRASHES")); err == nil {
		crashes = n
	}
	if testing.Short() {
		crashes = 1
	}
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("KITH_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("KITH_SEED=%d", seed)

	h := newCrashHouse(t, seed, 0)
	random := rand.New(rand.NewPCG(seed, 1000))
	for i := range crashes {
		// Every second time the sink refuses what it gets until the crash is over.
		if i%2 == 1 {
			h.sink.Answer("all", http.StatusServiceUnavailable)
			h.sink.Answer("told", http.StatusServiceUnavailable)
		}
		h.acknowledged(h.acks.Load() + int64(acksPerCrash/2+random.IntN(acksPerCrash)))
		h.process.kill()
		h.sink.Answer("all", http.StatusOK)
		h.sink.Answer("told", http.StatusOK)
		h.start()
	}
	h.end()
	sent := 0
	for _, w := range h.writers {
		sent += len(w.order)
	}
	t.Logf("%d crashes, %d requests and %d messages acknowledged", crashes, h.acks.Load(), sent)
	h.compare(firstEpoch)
}

// crashHouse is a server that is killed, on one address and data directory, the
// sink of its destinations, and the writers that send to it.
type crashHouse struct {
	t       *testing.T
	dir     string
	listen  string
	process *process
	sink    *script.Receiver
	writers []*writer
	acks    atomic.Int64 // requests acknowledged
	stop    func()       // has the writers send no further requests, and waits for them
}

// newCrashHouse starts a server under load; every writer rests so long between
// two requests.
func newCrashHouse(t *testing.T, seed uint64, rest time.Duration) *crashHouse {
	t.Helper()
	h := &crashHouse{t: t, dir: t.TempDir(), listen: freeAddress(t), sink: &script.Receiver{}}
	web := httptest.NewServer(h.sink)
	t.Cleanup(web.Close)
	h.start()
	t.Cleanup(func() { h.process.kill() })
	h.apply(web.URL)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range crashWriters {
		w := newWriter(i, rand.New(rand.NewPCG(seed, uint64(i))), h.client())
		h.writers = append(h.writers, w)
		wg.Go(func() { w.run(ctx, rest, &h.acks) })
	}
	h.stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(h.stop)
	return h
}

// acknowledged waits until so many requests have been.
func (h *crashHouse) acknowledged(want int64) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	err := until(ctx, func() error {
		if n := h.acks.Load(); n < want {
			return fmt.Errorf("%d requests acknowledged, want %d before the next crash", n, want)
		}
		return nil
	})
	if err != nil {
		h.t.Fatalf("%v\n%s", err, h.process.log)
	}
}

// end ends the load; what was not acknowledged is sent once more.
func (h *crashHouse) end() {
	h.t.Helper()
	h.stop()
	for _, w := range h.writers {
		if err := w.finish(h.t.Context()); err != nil {
			h.t.Fatal(err)
		}
	}
}

// compare settles accounts, stops the server, and compares what it leaves in an
// epoch with the model.
func (h *crashHouse) compare(epoch uint32) {
	h.t.Helper()
	h.settle(h.sink, h.writers)
	h.account(h.writers)
	if err := h.process.stop(); err != nil {
		h.t.Error(err)
	}
	compareWithModel(h.t, h.data(), epoch)
}

func (h *crashHouse) data() string { return filepath.Join(h.dir, "data") }

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (h *crashHouse) start() {
	h.t.Helper()
	p, err := start(h.t.Context(), h.dir, "--data", "data", "--listen", h.listen, "--egress-allow", "127.0.0.0/8")
	if err != nil {
		h.t.Fatal(err)
	}
	h.process = p
}

func (h *crashHouse) client() *client.Client {
	h.t.Helper()
	c, err := client.New("http://"+h.listen, adminToken, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// apply sets up a source, a sink for everything, and the audiences.
func (h *crashHouse) apply(sink string) {
	h.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "name: Crash\nslug: crash\nsources:\n  - {slug: load, name: Load, writeKeys: [load-key]}\ndestinations:\n")
	fmt.Fprintf(&b, "  - {slug: all, name: All, metadataId: webhook, source: load, settings: {url: %q, batch: {size: 50, maxAgeMs: 100}}}\n", sink+"/all")
	fmt.Fprintf(&b, "  - {slug: told, name: Told, metadataId: webhook, settings: {url: %q}}\n", sink+"/told")
	fmt.Fprintf(&b, "  - {slug: state, name: State, metadataId: webhook, settings: {url: %q}}\naudiences:\n", sink+"/state")
	for key, a := range crashAudiences {
		query := fmt.Sprintf("event('Stay').count() >= %d", a.stays)
		if a.long > 0 {
			query += fmt.Sprintf(" AND event('Stay').where(property('nights') >= 5).count() >= %d", a.long)
		}
		connections := "{destination: told, activations: [{activationName: In, activationType: Audience Entered}]}"
		if key == inBothForms {
			connections += ", {destination: state}"
		}
		fmt.Fprintf(&b, "  - {name: %s, definition: {query: %q}, connections: [%s]}\n", key, query, connections)
	}
	file := filepath.Join(h.dir, "workspace.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(binary, "apply", "-f", file, "--server", "http://"+h.listen)
	cmd.Env = append(os.Environ(), "KITH_ADMIN_TOKEN="+adminToken)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("kith apply: %v\n%s", err, out)
	}
}

// writer sends the calls of its users, one request after the other. A request
// that was not answered is sent again, with the same message ids.
type writer struct {
	number int
	random *rand.Rand
	client *client.Client
	n      int // calls made
	users  []*crashUser
	order  []string          // the message ids that were acknowledged, in order
	sent   map[string]string // by message id the body
	again  []json.RawMessage // the request that has not been answered
}

// crashUser is somebody and what counting by hand says about them.
type crashUser struct {
	id, browser string
	known       bool // has a user id
	stays, long int
	last        int      // the number of the last call that set the trait
	named       []string // the message ids with the user id, in order
}

func newWriter(number int, random *rand.Rand, c *client.Client) *writer {
	return &writer{number: number, random: random, client: c, sent: map[string]string{}}
}

// user returns one of those who are about; every few calls somebody comes and
// somebody goes.
func (w *writer) user() *crashUser {
	for len(w.users) < crashAtOnce+w.n/crashCalls {
		i := len(w.users)
		w.users = append(w.users, &crashUser{id: fmt.Sprintf("u%d-%d", w.number, i), browser: fmt.Sprintf("b%d-%d", w.number, i)})
	}
	return w.users[len(w.users)-1-w.random.IntN(crashAtOnce)]
}

// run sends until the context ends.
func (w *writer) run(ctx context.Context, rest time.Duration, acks *atomic.Int64) {
	for ctx.Err() == nil {
		if w.again == nil {
			for range 1 + w.random.IntN(crashBatch) {
				w.again = append(w.again, w.call())
			}
		}
		if w.send(ctx) == nil {
			acks.Add(1)
		}
		rested := time.NewTimer(rest)
		select {
		case <-rested.C:
		case <-ctx.Done():
		}
	}
}

// finish sends what has not been acknowledged.
func (w *writer) finish(ctx context.Context) error {
	if w.again == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return until(ctx, func() error { return w.send(ctx) })
}

func (w *writer) send(ctx context.Context) error {
	// Once begun, a request is not given up: the test ends, it does not crash.
	if err := w.client.SendBatch(context.WithoutCancel(ctx), "load-key", w.again); err != nil {
		return err
	}
	for _, body := range w.again {
		id := gjson.GetBytes(body, "messageId").String()
		w.order = append(w.order, id)
		w.sent[id] = string(body)
	}
	w.again = nil
	return nil
}

// call makes the next call, and counts it by hand: it will be acknowledged, be
// it after many attempts.
func (w *writer) call() json.RawMessage {
	u := w.user()
	w.n++
	id := fmt.Sprintf("m%d-%d", w.number, w.n)
	call := map[string]any{"messageId": id, "anonymousId": u.browser}
	if u.known {
		call["userId"] = u.id
	}
	switch w.random.IntN(5) {
	case 0:
		call["type"], call["userId"], u.known, u.last = "identify", u.id, true, w.n
		call["traits"] = map[string]any{"last": w.n}
	default:
		nights := 1 + w.random.IntN(9)
		call["type"], call["event"], call["properties"] = "track", "Stay", map[string]any{"nights": nights}
		u.stays++
		if nights >= 5 {
			u.long++
		}
	}
	if u.known {
		u.named = append(u.named, id)
	}
	body, err := json.Marshal(call)
	if err != nil {
		panic(err) // a map of texts and numbers always marshals
	}
	return body
}

// settle waits until everything has arrived and compares it with what was
// counted by hand.
func (h *crashHouse) settle(sink *script.Receiver, writers []*writer) {
	t := h.t
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	first := map[string]int{} // by message id, when it came first
	err := until(ctx, func() error {
		clear(first)
		for i, e := range sink.Delivered("all") {
			id := gjson.GetBytes(e, "messageId").String()
			if _, known := first[id]; !known {
				first[id] = i
			}
		}
		missing := 0
		for _, w := range writers {
			for _, id := range w.order {
				if _, ok := first[id]; !ok {
					missing++
				}
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d acknowledged messages are not at the sink", missing)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, h.process.log)
	}
	sent := map[string]string{}
	for _, w := range writers {
		for id, body := range w.sent {
			sent[id] = body
		}
	}
	delivered := sink.Delivered("all")
	for _, e := range delivered {
		id := gjson.GetBytes(e, "messageId").String()
		body, ok := sent[id]
		if !ok {
			t.Fatalf("the sink has %s, which nobody sent", e)
		}
		for _, path := range []string{"type", "event", "userId", "anonymousId", "properties", "traits"} {
			if got, want := gjson.GetBytes(e, path).Raw, gjson.Get(body, path).Raw; got != want && want != "" {
				t.Fatalf("%s of %s is %s at the sink and was sent as %s", path, id, got, want)
			}
		}
	}
	t.Logf("%d messages at the sink, %d of them once more", len(first), len(delivered)-len(first))
	for _, w := range writers {
		for _, u := range w.users {
			for i := 1; i < len(u.named); i++ {
				if first[u.named[i]] < first[u.named[i-1]] {
					t.Errorf("%s came before %s, which %s sent first", u.named[i], u.named[i-1], u.id)
				}
			}
		}
	}
	// The last announcements may still be on their way.
	var told announcements
	err = until(ctx, func() error {
		told = announced(sink.Delivered("told"))
		got, want := 0, 0
		for _, w := range writers {
			for _, u := range w.users {
				got += told.count(u.id)
				want += len(u.audiences())
			}
		}
		if got < want {
			return fmt.Errorf("%d entries were announced, want %d", got, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	c := h.client()
	people, entries := 0, 0
	for _, w := range writers {
		for _, u := range w.users {
			people++
			entries += told.count(u.id)
			if err := compare(ctx, c, told[u.id], u); err != nil {
				t.Error(err)
			}
		}
	}
	t.Logf("%d people compared, %d entries announced", people, entries)
}

// announcements are, by user and audience, the message ids that told of it.
type announcements map[string]map[string]map[string]bool

func announced(delivered []json.RawMessage) announcements {
	all := announcements{}
	for _, e := range delivered {
		user, key := gjson.GetBytes(e, "userId").String(), gjson.GetBytes(e, "properties.audience_key").String()
		if all[user] == nil {
			all[user] = map[string]map[string]bool{}
		}
		if all[user][key] == nil {
			all[user][key] = map[string]bool{}
		}
		all[user][key][gjson.GetBytes(e, "messageId").String()] = true
	}
	return all
}

// count returns how many entries of a user were announced.
func (a announcements) count(user string) (n int) {
	for _, ids := range a[user] {
		n += len(ids)
	}
	return n
}

// audiences returns the audiences a user is in, counting by hand.
func (u *crashUser) audiences() map[string]bool {
	in := map[string]bool{}
	for key, a := range crashAudiences {
		// Audiences count people with a user id or the like.
		if u.known && u.stays >= a.stays && u.long >= a.long {
			in[key] = true
		}
	}
	return in
}

// compare holds a profile against what was counted by hand.
func compare(ctx context.Context, c *client.Client, told map[string]map[string]bool, u *crashUser) error {
	id := "user_id:" + u.id
	if !u.known {
		if id = "anonymous_id:" + u.browser; u.stays == 0 {
			return nil // came, and did nothing
		}
	}
	var wrong []error
	errorf := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	profile := client.Profile{Space: "default", ID: id}
	traits, _, err := c.Traits(ctx, profile, client.Page{Limit: 100})
	if err != nil {
		return fmt.Errorf("%s: %w", u.id, err)
	}
	if got := string(traits["last"]); u.known && got != strconv.Itoa(u.last) {
		errorf("%s: trait last is %s, want %d", u.id, got, u.last)
	}
	events := 0
	for page := (client.Page{Limit: 100, Include: "Stay"}); ; {
		list, cursor, err := c.Events(ctx, profile, page)
		if err != nil {
			return fmt.Errorf("%s: %w", u.id, err)
		}
		events += len(list)
		if page.Next = cursor.Next; !cursor.HasMore {
			break
		}
	}
	if events != u.stays {
		errorf("%s: the history has %d stays, want %d", u.id, events, u.stays)
	}
	in := u.audiences()
	for key := range crashAudiences {
		if got := string(traits[key]) == "true"; got != in[key] {
			errorf("%s with %d stays, %d of them long: in %s is %v, want %v", u.id, u.stays, u.long, key, got, in[key])
		}
		want := 0
		if in[key] {
			want = 1
		}
		if len(told[key]) != want {
			errorf("%s: entering %s was announced %d times, want %d", u.id, key, len(told[key]), want)
		}
	}
	return errors.Join(wrong...)
}
