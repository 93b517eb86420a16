package sim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// history is what happens in one seed.
type history struct {
	*house
	seed uint64
	seen tally

	spaceID  string
	sources  []source
	outlets  []*outletInfo
	made     []madeAudience
	messages int
	named    int      // event filters so far
	standing []uint64 // commands that may be lifted
	kept     kept
	ruled    bool // a rebuild has put later rules in force from the start

	mu   sync.Mutex // guards sent, and all of it below
	sent map[string]*sentEvent
	pool []string // bodies sent, to be sent again

	traffic sync.WaitGroup // requests under way beside the history
	story   []string
	told    time.Time
}

// source is where events come in.
type source struct{ id, key string }

// outletInfo is a destination and where it began in the resolved log: not
// before first and not behind last.
type outletInfo struct {
	id, name, source string
	triggers         []int
	first, last      uint64
	enabled          bool
}

type madeAudience struct {
	id, key string
	reads   string
	enabled bool
	// steady says that neither the audience nor its destination has changed
	// since before the first event.
	steady bool
	gone   bool
	to     []string // ids of destinations
	types  []string // of identifiers; nil for the default ones
}

// sentEvent is an event that went in.
type sentEvent struct {
	bodies []string // every text that was sent under its message id
	tries  int
	acks   int
}

func runSeed(t *testing.T, seed uint64) (seen tally) {
	h := &history{house: newHouse(t, seed), seed: seed, told: time.Now(), sent: map[string]*sentEvent{}}
	defer func() {
		h.traffic.Wait()
		if h.server != nil {
			h.crash()
		}
		if t.Failed() {
			t.Logf("the story of seed %d:\n%s", seed, strings.Join(h.story, "\n"))
		} else if testing.Verbose() && *flagSeed != 0 {
			t.Logf("%+v\n%s", h.seen, strings.Join(h.story, "\n"))
		}
	}()
	h.up()
	h.build()
	for range 20 + h.dice.n(35) {
		h.step()
	}
	h.rest()
	h.seen.Faults = int(h.failures.Load())
	return h.seen
}

func (h *history) tell(format string, args ...any) {
	took := ""
	if d := time.Since(h.told); d > time.Second {
		took = fmt.Sprintf("(the last took %s) ", d.Round(time.Millisecond))
	}
	h.told = time.Now()
	h.story = append(h.story, h.now.Format("01-02 15:04:05 ")+took+fmt.Sprintf(format, args...))
}

// build makes the workspace that the history begins with.
func (h *history) build() {
	var spaces struct{ Spaces []struct{ ID string } }
	h.api("GET", "/spaces", nil, &spaces)
	h.spaceID = spaces.Spaces[0].ID
	for i := range 1 + h.dice.n(2) {
		var out struct {
			Source struct {
				ID        string
				WriteKeys []string
			}
		}
		h.api("POST", "/sources", map[string]any{"slug": fmt.Sprintf("s%d", i), "metadataId": "sim"}, &out)
		h.sources = append(h.sources, source{out.Source.ID, out.Source.WriteKeys[0]})
	}
	for range 1 + h.dice.n(2) {
		h.addDestination()
	}
	for range 2 + h.dice.n(3) {
		h.addAudience(true)
	}
	h.advance(0)
}

// step does the next thing that happens.
func (h *history) step() {
	if h.failed() && h.dice.of(3) {
		h.tell("the process has failed")
		h.mend()
	}
	switch n := h.dice.n(50); {
	case n < 12:
		h.send()
	case n < 18:
		h.burst()
	case n < 25:
		h.settleFirst()
		by := time.Duration(h.dice.n(20))*time.Hour + time.Duration(h.dice.n(5000))*time.Millisecond
		if h.dice.of(4) {
			by = time.Duration(h.dice.n(120)) * time.Minute
		}
		h.remember()
		h.tell("the clock moves by %s", by)
		h.advance(by)
	case n < 30:
		h.configure()
	case n < 32:
		mood := pick(h.dice, []int32{0, 0, 20, 50, 100})
		h.tell("destinations fail %d times in a hundred", mood)
		h.sink.mood.Store(mood)
	case n < 34:
		h.tell("crash")
		h.seen.Crashes++
		h.crash()
		h.up()
	case n < 35:
		h.tell("restart")
		h.seen.Restarts++
		h.restart()
	case n < 38:
		n := 1 + h.dice.n(3)
		h.tell("the store will fail %d times", n)
		h.breaks(n, 40)
	case n < 39:
		h.resend()
	case n < 47:
		if h.seed%2 == 0 { // half of the histories have no commands, so that all that is announced can be compared
			h.order()
		} else {
			h.retain()
		}
	case n < 49:
		h.rebuild()
		if h.dice.of(2) {
			h.retain()
		}
	default:
		h.check("half way")
	}
}

// settleFirst makes sure that the clock is moved on a process that is well:
// while one stands still because of the store, time would stand still too.
func (h *history) settleFirst() {
	if h.fired.Load() > 0 {
		h.mend()
	}
}

// rest lets everything come to rest and looks at all of it.
func (h *history) rest() {
	h.check("at the end")
	h.tell("all destinations are well again")
	h.sink.mood.Store(0)
	for i := range h.outlets {
		if !h.outlets[i].enabled {
			h.enable(h.outlets[i], true)
		}
	}
	h.advance(30 * time.Minute)
	h.check("when all is well")
	h.advance(6 * time.Hour)
	if h.trims() { // what comes of so long a time can be looked at
		h.api("PUT", "/spaces/"+h.spaceID+"/retention", map[string]any{"setting": "forever"}, nil)
	}
	h.advance(40 * 24 * time.Hour)
	h.check(atTheEnd)
}

// quiet waits for the traffic and for a server that has done all there is to do.
func (h *history) quiet() {
	h.t.Helper()
	h.traffic.Wait()
	for {
		h.mend()
		h.faults.Store(0)
		if h.advance(0) && !h.failed() && h.forgot() {
			return
		}
	}
}

var (
	users   = []string{"u1", "u2", "u3", "u4"}
	devices = []string{"a1", "a2", "a3", "a4", "a5"}
	emails  = []string{"e1@example.com", "e2@example.com", "e3@example.com"}
	cards   = []string{"c1", "c2", "c3"}
	groups  = []string{"g1", "g2", "g3"}
	crms    = []string{"r1", "r2", "r3"}
)

// event makes the body of an event, or takes one that was sent before.
func (h *history) event() string {
	d := h.dice
	if len(h.pool) > 0 && d.of(8) {
		return pick(d, h.pool)
	}
	body := map[string]any{}
	if d.n(100) < 55 {
		body["userId"] = pick(d, users)
	}
	if d.n(100) < 55 || body["userId"] == nil {
		body["anonymousId"] = pick(d, devices)
	}
	context := map[string]any{}
	traits := map[string]any{}
	external := func(collection, name string, values []string) {
		list, _ := context["externalIds"].([]any)
		context["externalIds"] = append(list, map[string]any{"collection": collection, "type": name, "id": pick(d, values), "encoding": "none"})
	}
	if d.of(4) {
		external("users", "card", cards)
	}
	switch d.n(8) {
	case 0, 1:
		body["type"] = "identify"
		if d.of(2) {
			traits["email"] = pick(d, emails)
		}
		if d.of(2) {
			traits["x"] = pick(d, []any{nil, 1, 2, 3.5, "2", "b"})
		}
		if d.of(3) {
			traits["d"] = h.now.Add(time.Duration(d.n(80)-40) * time.Hour).Format(time.RFC3339)
		}
		body["traits"] = traits
	case 2:
		body["type"], body["name"] = "page", "Home"
	case 3:
		body["type"], body["groupId"] = "group", pick(d, groups)
		if d.of(2) {
			external("accounts", "crm", crms)
		}
		body["traits"] = map[string]any{"plan": pick(d, []string{"pro", "free"})}
	default:
		body["type"], body["event"] = "track", pick(d, []string{"A", "A", "B"})
		body["properties"] = map[string]any{"v": d.n(4)}
		if d.of(8) {
			context["traits"] = map[string]any{"email": pick(d, emails)}
		}
	}
	if len(context) > 0 {
		body["context"] = context
	}
	switch d.n(12) {
	case 0:
		body["integrations"] = map[string]any{"All": false}
	case 1:
		body["integrations"] = map[string]any{"All": false, "Fake": true}
	case 2:
		body["integrations"] = map[string]any{"Fake": false}
	case 3:
		if d.of(3) {
			body["integrations"] = map[string]any{"Personas": false}
		}
	}
	switch d.n(10) {
	case 0, 1, 2:
		late := time.Duration(d.n(40))*time.Hour + time.Duration(d.n(1000))*time.Millisecond
		body["timestamp"] = h.now.Add(-late).Format(time.RFC3339Nano)
	case 3:
		body["timestamp"] = h.now.Add(time.Hour).Format(time.RFC3339Nano)
	}
	h.messages++
	body["messageId"] = fmt.Sprintf("m%d", h.messages)
	if d.of(25) && h.messages > 1 {
		body["messageId"] = fmt.Sprintf("m%d", 1+d.n(h.messages-1)) // another event with an id that is taken
	}
	text := string(must(json.Marshal(body)))
	h.pool = append(h.pool, text)
	return text
}

// request is some events on their way to one source.
type request struct {
	key    string
	path   string
	body   string
	events []string
}

func (h *history) request() request {
	r := request{key: pick(h.dice, h.sources).key}
	if h.dice.of(2) {
		text := h.event()
		var e struct{ Type string }
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			panic(err)
		}
		r.path, r.body, r.events = "/v1/"+e.Type, text, []string{text}
		return r
	}
	for range 1 + h.dice.n(6) {
		r.events = append(r.events, h.event())
	}
	r.path, r.body = "/v1/batch", `{"batch":[`+strings.Join(r.events, ",")+`]}`
	return r
}

// post sends a request and takes note of what was acknowledged.
func (h *history) post(to http.Handler, r request, within time.Duration) bool {
	ids := make([]string, len(r.events))
	h.mu.Lock()
	for i, text := range r.events {
		var e struct{ MessageID string }
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			panic(err)
		}
		ids[i] = e.MessageID
		s := h.sent[e.MessageID]
		if s == nil {
			s = &sentEvent{}
			h.sent[e.MessageID] = s
		}
		s.tries++
		s.bodies = append(s.bodies, text)
	}
	h.mu.Unlock()
	code, _ := call(to, within, "POST", r.path, r.key, r.body)
	if code != http.StatusOK {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		h.sent[id].acks++
	}
	return true
}

// send sends a few requests one after another, each again until it is
// acknowledged or once.
func (h *history) send() {
	for range 1 + h.dice.n(4) {
		r := h.request()
		within := h.patience()
		ok := h.post(h.server.Handler(), r, within)
		h.tell("%s %s: %v", r.path, r.body, ok)
		if !ok && within == patience {
			h.t.Errorf("%s %s was not taken", r.path, r.body)
		}
	}
}

// burst sends requests beside what happens next.
func (h *history) burst() {
	to := h.server.Handler()
	for range 1 + h.dice.n(3) {
		var list []request
		for range 1 + h.dice.n(4) {
			r := h.request()
			h.tell("meanwhile %s %s", r.path, r.body)
			list = append(list, r)
		}
		h.traffic.Go(func() {
			for _, r := range list {
				h.post(to, r, time.Second)
			}
		})
	}
}
