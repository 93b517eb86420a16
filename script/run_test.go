package script

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"kith/clock"
	"kith/fault"
)

// world is a Target that keeps a person for every userId, whose traits are what
// identify says, and delivers every event to the destination "crm" once the
// clock has been asked for.
type world struct {
	now       time.Time
	waiting   []json.RawMessage
	people    map[string]*Profile
	delivered []json.RawMessage
	reasons   []string
	accounts  map[string][]string // by the user's id
	orders    []string
	applied   string
}

func newWorld() *world {
	return &world{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), people: map[string]*Profile{}, accounts: map[string][]string{}}
}

func (w *world) Apply(_ context.Context, text []byte) error { w.applied = string(text); return nil }

func (w *world) Send(_ context.Context, source, call string, body json.RawMessage) error {
	if source != "web" {
		return fault.New(fault.NotFound, "there is no source %q", source)
	}
	if call == "track" && gjson.GetBytes(body, "userId").String() == "" {
		w.reasons = append(w.reasons, "no_user_anon_id: an event needs a user")
		return nil
	}
	w.waiting = append(w.waiting, body)
	return nil
}

func (w *world) Advance(_ context.Context, by time.Duration) (time.Time, error) {
	for _, body := range w.waiting {
		e := gjson.ParseBytes(body)
		id := "user_id:" + e.Get("userId").String()
		if w.people[id] == nil {
			w.people[id] = &Profile{Identifiers: []string{id}, Traits: map[string]json.RawMessage{}}
		}
		e.Get("traits").ForEach(func(k, v gjson.Result) bool {
			w.people[id].Traits[k.String()] = json.RawMessage(v.Raw)
			return true
		})
		if a := e.Get("anonymousId"); a.Exists() {
			w.people[id].Identifiers = append(w.people[id].Identifiers, "anonymous_id:"+a.String())
			w.people["anonymous_id:"+a.String()] = w.people[id]
		}
		if g := e.Get("groupId"); g.Exists() {
			w.accounts[id] = append(w.accounts[id], "group_id:"+g.String())
		}
		w.delivered = append(w.delivered, body)
	}
	w.waiting = nil
	w.now = w.now.Add(by)
	return w.now, nil
}

// Order erases persons, and ends memberships; it keeps all else in mind.
func (w *world) Order(_ context.Context, space string, o *Order) error {
	w.orders = append(w.orders, space+": "+o.String())
	switch {
	case len(w.waiting) > 0:
		return errors.New("events are still on their way")
	case o.Verb == "erase" && w.people[o.IDs[0]] == nil:
		return fault.New(fault.NotFound, "nobody has %s", o.IDs[0])
	case o.Verb == "erase":
		for _, id := range w.people[o.IDs[0]].Identifiers {
			delete(w.people, id)
		}
	case o.Verb == "leave":
		w.accounts[o.IDs[0]] = slices.DeleteFunc(w.accounts[o.IDs[0]], func(id string) bool { return id == o.IDs[1] })
	}
	return nil
}

func (w *world) Linked(_ context.Context, _, id string) ([]string, error) { return w.accounts[id], nil }

func (w *world) Answer(context.Context, string, int) error { return nil }

func (w *world) Profile(_ context.Context, space, id string) (*Profile, error) {
	if space != DefaultSpace {
		return nil, nil
	}
	return w.people[id], nil
}

func (w *world) Events(_ context.Context, _, id, name string) (list []json.RawMessage, err error) {
	for _, e := range w.delivered {
		if "user_id:"+gjson.GetBytes(e, "userId").String() == id && gjson.GetBytes(e, "event").String() == name {
			list = append(list, e)
		}
	}
	return list, nil
}

func (w *world) Delivered(_ context.Context, destination string) ([]json.RawMessage, error) {
	if destination != "crm" {
		return nil, errors.New("no such destination")
	}
	return w.delivered, nil
}

func (w *world) Blocked(context.Context, string) ([]string, error)  { return nil, nil }
func (w *world) Rejected(context.Context, string) ([]string, error) { return w.reasons, nil }

const play = `workspace hotel.yaml
source web
event identify userId=u1 anonymousId=a1 vip=true spent=640.0 address={"city":"Bergen","tags":[1,2]}
event track "Stay" userId=u1 timestamp=-1d nights=3
event track "Stay" userId=u2 nights=4
event group userId=u2 groupId=g1
event track "Stay" nights=4
`

func TestRun(t *testing.T) {
	for statement, why := range map[string]string{
		"expect profile user_id:u1":                                                  "",
		"expect profile user_id:u9":                                                  "there is no profile user_id:u9",
		"expect not profile user_id:u9":                                              "",
		"expect not profile user_id:u1":                                              "it does",
		`expect profile user_id:u1 {"spent": 640, "vip": true, "gone": null}`:        "",
		`expect profile user_id:u1 {"address": {"tags": [1, 2], "city": "Bergen"}}`:  "",
		`expect profile user_id:u1 {"address": {"city": "Bergen"}}`:                  `address is {"city":"Bergen","tags":[1,2]}, want {"city": "Bergen"}`,
		"expect trait user_id:u1 address.city=Bergen address.tags.1=2.0":             "",
		"expect trait user_id:u1 spent=641":                                          "spent is 640.0, want 641",
		`expect trait user_id:u1 spent="640"`:                                        `spent is 640.0, want "640"`,
		"expect trait user_id:u1 shoe=46":                                            "it has no trait shoe; want 46",
		"expect identifiers user_id:u1 anonymous_id:a1":                              "",
		"expect identifiers anonymous_id:a1 anonymous_id:a2":                         "the profile has anonymous_id:a1, user_id:u1",
		"expect same profile user_id:u1 anonymous_id:a1":                             "",
		"expect same profile user_id:u1 user_id:u2":                                  "user_id:u1 and user_id:u2 belong to different profiles",
		"expect different profiles user_id:u1 user_id:u2":                            "",
		"expect different profiles user_id:u2 user_id:u1 anonymous_id:a1":            "user_id:u1 and anonymous_id:a1 belong to one profile",
		"expect audience vip user_id:u1 in":                                          "",
		"expect audience vip user_id:u1 out":                                         "it is a member",
		"expect audience vip user_id:u2 out":                                         "",
		"expect audience vip user_id:u2 in":                                          "it is no member",
		"expect events user_id:u1 Stay count 1 where properties.nights=3.0":          "",
		"expect events user_id:u1 Stay where properties.nights=4":                    "user_id:u1 has 0 such events among 1; want at least 1",
		"expect delivered crm count 2 where type=track":                              "",
		"expect delivered crm count 1 where timestamp=2025-12-31T00:00:00.000Z":      "",
		"expect delivered crm count 3 where type=track event=Stay":                   "crm has received 2 such events among 4; want 3",
		"expect not delivered crm where event=Stay properties.nights=9":              "",
		"expect rejected web \"no_user\" count 1":                                    "",
		"expect rejected web \"too big\"":                                            "0 such events are rejected; want at least 1; the reasons there are: no_user_anon_id: an event needs a user",
		"expect blocked web":                                                         "0 such events are in quarantine; want at least 1",
		"space other\nexpect profile user_id:u1":                                     "there is no profile user_id:u1",
		"space other\nspace default\nexpect not trait user_id:u1 vip=false":          "",
		"expect delivered crm count 0 where properties.missing=1":                    "",
		"expect linked user_id:u2 group_id:g1":                                       "",
		"expect linked user_id:u2 group_id:g2":                                       "user_id:u2 is part of group_id:g1",
		"leave user_id:u2 group_id:g1\nexpect linked user_id:u2 group_id:g1":         "user_id:u2 is part of no account",
		"erase user_id:u1\nexpect not profile anonymous_id:a1":                       "",
		"expect delivered crm count 2 where anonymousId=null event=Stay type=track":  "",
		"expect trait user_id:u1 spent=6.4e2":                                        "",
		"expect not trait user_id:u1 spent=1e999999999":                              "",
		"expect profile user_id:u1 {\"address\":{\"city\":\"Bergen\",\"tags\":[2]}}": `address is {"city":"Bergen","tags":[1,2]}, want {"city":"Bergen","tags":[2]}`,
	} {
		s, err := Parse("play.kith", []byte(play+statement+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld()
		got, err := s.Run(t.Context(), w, Options{Open: func(name string) ([]byte, error) { return []byte("text of " + name), nil }})
		if err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		if w.applied != "text of hotel.yaml" {
			t.Fatalf("applied %q", w.applied)
		}
		switch {
		case why == "" && len(got.Failed) > 0:
			t.Errorf("%s\nfailed: %v", statement, got.Failed[0])
		case why == "" && got.Held != 1:
			t.Errorf("%s: held %d", statement, got.Held)
		case why != "" && len(got.Failed) == 0:
			t.Errorf("%s: held, want %q", statement, why)
		case why != "" && !strings.HasSuffix(got.Failed[0].Error(), "\n\t"+why):
			t.Errorf("%s\ngot  %s\nwant %s", statement, got.Failed[0], why)
		case why != "" && !strings.HasPrefix(got.Failed[0].Error(), "play.kith:"):
			t.Errorf("no place: %s", got.Failed[0])
		}
	}
}

func TestAFailedExpectationDoesNotEndTheScript(t *testing.T) {
	s, err := Parse("t.kith", []byte("expect profile user_id:a\nexpect not profile user_id:a\nexpect profile user_id:b\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Run(t.Context(), newWorld(), Options{})
	if err != nil || got.Held != 1 || len(got.Failed) != 2 || got.Failed[1].Line != 3 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAStatementThatFailsEndsTheScript(t *testing.T) {
	for script, want := range map[string]string{
		"\n  send shop track E userId=u\n": `t.kith:2:3: send: there is no source "shop"`,
		"workspace none.yaml\n":            "t.kith:1:1: workspace: open none.yaml: file does not exist",
		"expect delivered mail\n":          "t.kith:1:1: expect: no such destination",
		" erase user_id:u1 user_id:u2\n":   "t.kith:1:2: erase user_id:u1 user_id:u2: nobody has user_id:u1",
	} {
		s, err := Parse("t.kith", []byte(script+"expect profile user_id:a\n"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Run(t.Context(), newWorld(), Options{Open: func(name string) ([]byte, error) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}})
		if err == nil || err.Error() != want || len(got.Failed) != 0 {
			t.Errorf("got %v (%+v), want %s", err, got, want)
		}
	}
}

func TestOrders(t *testing.T) {
	text := `separate user_id:a email:e from anonymous_id:x
separate  user_id:a from  "email:b c"
block email:e # a comment
lift block email:e
lift separate user_id:a from user_id:b
delete identifier email:e
space eu
leave user_id:a group_id:g
rebuild
rebuild  current
`
	s, err := Parse("t.kith", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	if _, err := s.Run(t.Context(), w, Options{}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"default: separate user_id:a email:e from anonymous_id:x", "default: separate user_id:a from email:b c", "default: block email:e",
		"default: lift block email:e", "default: lift separate user_id:a from user_id:b", "default: delete identifier email:e",
		"eu: leave user_id:a group_id:g", "eu: rebuild", "eu: rebuild current",
	}
	if diff := cmp.Diff(want, w.orders); diff != "" {
		t.Error(diff)
	}
	o := &Order{Verb: "separate", IDs: []string{"user_id:a"}, Apart: []string{"email:e", "email:f", "email:e"}}
	if left, right := []string{"email:f", "email:e"}, []string{"user_id:a"}; !o.same("separate", left, right) || !o.same("separate", right, left) ||
		o.same("block", left, right) || o.same("separate", right, left[:1]) {
		t.Error("which orders are the same depends on how they are written")
	}
}

// slow is a world in which a profile shows only at the n-th look.
type slow struct {
	*world
	looks, n int
}

func (s *slow) Profile(ctx context.Context, space, id string) (*Profile, error) {
	if s.looks++; s.looks < s.n {
		return nil, nil
	}
	return &Profile{}, nil
}

func TestPatience(t *testing.T) {
	s, err := Parse("t.kith", []byte("expect profile user_id:a"))
	if err != nil {
		t.Fatal(err)
	}
	w := &slow{world: newWorld(), n: 3}
	if got, err := s.Run(t.Context(), w, Options{Patience: time.Minute, Clock: clock.System{}}); err != nil || got.Held != 1 || w.looks != 3 {
		t.Errorf("%+v, %v after %d looks", got, err, w.looks)
	}
	w = &slow{world: newWorld(), n: 1 << 30}
	if got, err := s.Run(t.Context(), w, Options{Patience: time.Millisecond, Clock: clock.System{}}); err != nil || len(got.Failed) != 1 {
		t.Errorf("%+v, %v after %d looks", got, err, w.looks)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Run(ctx, w, Options{Patience: time.Hour, Clock: clock.System{}}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run: %v", err)
	}
}

func TestReceiver(t *testing.T) {
	r := &Receiver{}
	server := httptest.NewServer(r)
	defer server.Close()
	post := func(path, body string) int {
		t.Helper()
		response, err := http.Post(server.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	if got := post("/crm", `{"n":1}`); got != 200 {
		t.Errorf("an event: %d", got)
	}
	if got := post("/crm", `nonsense`); got != 400 {
		t.Errorf("nonsense: %d", got)
	}
	r.Answer("crm", 503)
	if got := post("/crm", `{"n":2}`); got != 503 {
		t.Errorf("while it fails: %d", got)
	}
	if got := post("/mail", `[{"n":3},{"n":4}]`); got != 200 {
		t.Errorf("another destination: %d", got)
	}
	r.Answer("crm", 204)
	if got := post("/crm", `[{"n":5}]`); got != 204 {
		t.Errorf("when it works again: %d", got)
	}
	if got := r.Delivered("crm"); len(got) != 2 || string(got[0]) != `{"n":1}` || string(got[1]) != `{"n":5}` {
		t.Errorf("delivered %s", got)
	}
	if got := r.Delivered("mail"); len(got) != 2 {
		t.Errorf("delivered %s", got)
	}
}
