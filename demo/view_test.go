package demo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

var here = Where{URL: "http://127.0.0.1:8080", Data: "/data", Token: "$(cat /data/admin-token)", Kith: "bin/kith", Seed: 7, SDK: true}

func filled() *tally {
	t := &tally{}
	t.change(func(f *Figures) {
		f.Audiences = []AudienceFigures{{Key: "in_the_house", Name: "In the house"}, {Key: "buyers", Name: "Buyers"}}
		f.Deliveries = []DeliveryFigures{{Slug: "crm", Name: "CRM"}}
	})
	return t
}

func TestTheViewShowsWhatHappened(t *testing.T) {
	all := filled()
	for i, second := range [][]Call{run(1, 120), run(2, 300)} {
		all.sent(second)
		all.second(time.Duration(i+1) * time.Second)
	}
	for range 1234 {
		all.changed("profile created", "use_1")
	}
	all.changed("profiles merged", "use_1 use_2")
	for range 3 {
		all.changed("audience entered", "in_the_house")
	}
	all.changed("audience exited", "in_the_house")
	all.changed("audience entered", "unheard_of")
	f := all.figures()
	if f.Sent != 420 || f.Profiles != 1233 || f.Merges != 1 || f.Audiences[0].Members != 2 || f.Audiences[0].Entered != 3 || f.Audiences[0].Left != 1 || f.IDs < 100 {
		t.Fatalf("%+v", f)
	}
	f.Elapsed = 62 * time.Second
	screen := here.Screen(f)
	for _, want := range []string{"1:02", "events/s      300 ▃█", "sent          420", "1,233 profiles out of", "In the house                    2 ████████████      3       1",
		"@segment/analytics-node", "bin/kith tail\n", "bin/kith profile user_id:guest-000001\n", "export KITH_ADMIN_TOKEN=$(cat /data/admin-token)"} {
		if !strings.Contains(screen, want) {
			t.Errorf("the screen lacks %q:\n%s", want, screen)
		}
	}
	line := here.Line(f)
	for _, want := range []string{"1:02  300 events/s  sent 420", "profiles 1233 of", "audiences in_the_house 2 (+3 -1), buyers 0 (+0 -0)", "delivered crm 0\n"} {
		if !strings.Contains(line, want) {
			t.Errorf("the line lacks %q: %s", want, line)
		}
	}
	elsewhere := here
	elsewhere.URL, elsewhere.SDK = "http://127.0.0.1:9999", false
	if screen := elsewhere.Screen(f); !strings.Contains(screen, "bin/kith tail --server http://127.0.0.1:9999\n") || !strings.Contains(screen, "all plain HTTP") {
		t.Errorf("elsewhere:\n%s", screen)
	}
}

func TestTheViewLooksBackSoFar(t *testing.T) {
	all := filled()
	for i := range 3 * window {
		all.sent(run(1, i%7))
		all.second(time.Duration(i) * time.Second)
	}
	if n := len(all.figures().PerSecond); n != window {
		t.Errorf("%d seconds are kept", n)
	}
}

func TestToolsCountWhatTheyReceive(t *testing.T) {
	all := filled()
	tools, err := newTools(all)
	if err != nil {
		t.Fatal(err)
	}
	defer tools.close()
	for body, want := range map[string]int{
		`[{"userId":"u1","event":"Audience Entered","properties":{"audience_key":"buyers"}},{"anonymousId":"a1","event":"Stay"}]`: 200,
		`{"userId":"u2","type":"identify","traits":{"buyers":true},"context":{"personas":{"computation_key":"buyers"}}}`:          200,
		`nonsense`: 400, `[]`: 200,
	} {
		response, err := http.Post(tools.url+"/crm", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %d", body, response.StatusCode)
		}
	}
	f := all.figures()
	if f.Deliveries[0].Events != 3 || f.Deliveries[0].Last != "a1 Stay" && f.Deliveries[0].Last != "u2 identify buyers=true" {
		t.Errorf("%+v", f.Deliveries)
	}
}

func TestSeenByStage(t *testing.T) {
	got := seenByStage(strings.NewReader(`# HELP kith_seen_total x
kith_seen_total{destination="",source="a",stage="duplicate"} 3
kith_seen_total{destination="",source="b",stage="duplicate"} 4
kith_seen_total{destination="",source="b",stage="blocked"} 1e+03
kith_other{stage="duplicate"} 9
`))
	if got["duplicate"] != 7 || got["blocked"] != 1000 || len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func TestTheSDKSendsTheWebsite(t *testing.T) {
	bodies := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := new(strings.Builder)
		if _, err := io.Copy(text, r.Body); err != nil {
			t.Error(err)
		}
		bodies <- r.URL.Path + " " + text.String()
		_, _ = w.Write([]byte(`{"success":true}`))
	}))
	defer server.Close()
	s, err := startSDK("node", server.URL, "demo-website")
	if err != nil {
		needSDK(t, err)
	}
	var web []Call
	for _, c := range run(3, 300) {
		if c.Source == Website {
			web = append(web, c)
		}
	}
	if err := s.send(web[:1]); err != nil {
		t.Fatal(err)
	}
	all := ""
	select {
	case all = <-bodies:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was sent")
	}
	// Ctrl-C in a terminal reaches it too; it sends what it gets nevertheless.
	if err := s.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := s.send(web[1:]); err != nil {
		t.Fatal(err)
	}
	failed, err := s.close()
	if err != nil || failed != 0 {
		t.Fatalf("%d calls failed: %v", failed, err)
	}
	close(bodies)
	for b := range bodies {
		if !strings.HasPrefix(b, "/v1/batch ") || !strings.Contains(b, `"@segment/analytics-node"`) {
			t.Fatalf("the SDK sent %s", b)
		}
		all += b
	}
	for _, c := range web {
		if id, _ := c.Message["messageId"].(string); !strings.Contains(all, `"`+id+`"`) {
			t.Fatalf("%v was not sent", c.Message)
		}
	}
}
