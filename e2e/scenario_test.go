package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/tidwall/gjson"

	"kith/client"
	"kith/script"
)

// TestScenarios runs testdata/*.txtar. Beside testscript's own, a scenario has
// these commands:
//
//	serve [flag…]         kith serve on a free port, with its data in ./data;
//	                      sets KITH_URL and KITH_ADMIN_TOKEN. A second serve,
//	                      after crash or stop, goes on with the same data.
//	crash                 kill -9
//	stop                  SIGTERM; the server must end with status 0
//	sink                  starts a webhook; sets SINK to its URL
//	received SLUG N [path=value …]
//	                      waits until what was posted to $SINK/SLUG holds exactly
//	                      N such events, counting a messageId once
//	ordered SLUG PATH=VALUE PATH
//	                      what was posted to $SINK/SLUG with that value at the
//	                      first path came in the order of the numbers at the second
//	answers SLUG STATUS   $SINK/SLUG answers with this status from here on
//	field FILE PATH VALUE a JSON file has that value at a gjson path; FILE may be
//	                      stdout
//	deadletters SLUG N    waits until the destination has N dead letters
//	traces N              traces every message that the debuggers show, N or more:
//	                      each has an outcome in every stage and at every destination
//	resend SLUG N         sends the destination's dead letters again, N of them
//
// and the condition [node]. KITH_NODE and KITH_DEMO_NODE are the folders of the
// Node programs.
func TestScenarios(t *testing.T) {
	t.Parallel()
	update := os.Getenv("KITH_UPDATE") != ""
	node, err := filepath.Abs("node")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       update,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"), "KITH_NODE="+node,
				"KITH_DEMO_NODE="+filepath.Join(filepath.Dir(filepath.Dir(node)), "demo", "node"))
			s := &scenario{dir: env.WorkDir}
			env.Values[scenarioKey{}] = s
			env.Defer(s.end)
			return nil
		},
		Condition: func(condition string) (bool, error) {
			if condition != "node" {
				return false, fmt.Errorf("unknown condition %q", condition)
			}
			lack := lackNode()
			if lack != nil && os.Getenv("KITH_TEST_NEED") == "all" {
				return false, lack
			}
			return lack == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": command((*scenario).serve), "crash": command((*scenario).crash), "stop": command((*scenario).stop),
			"sink": command((*scenario).startSink), "received": command((*scenario).received), "ordered": command((*scenario).ordered),
			"field":  command((*scenario).field),
			"traces": command((*scenario).traces),
			"api":    command((*scenario).api), "send": command((*scenario).send),
			"answers": command((*scenario).answers), "deadletters": command((*scenario).deadLetters), "resend": command((*scenario).resend),
		},
	})
}

type scenarioKey struct{}

// scenario is what the commands of one file share.
type scenario struct {
	dir    string
	server *process
	sink   *script.Receiver
	http   *httptest.Server
}

// command makes a testscript command of a method. None of them can be negated.
func command(fn func(*scenario, *testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command cannot be negated")
		}
		s, _ := ts.Value(scenarioKey{}).(*scenario)
		ts.Check(fn(s, ts, args))
	}
}

func (s *scenario) serve(ts *testscript.TestScript, args []string) error {
	if s.server != nil {
		return fmt.Errorf("a server is running")
	}
	args = append([]string{"--data", "data", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"}, args...)
	p, err := start(context.Background(), s.dir, args...)
	if err != nil {
		return err
	}
	s.server = p
	ts.Setenv("KITH_URL", p.base)
	ts.Setenv("KITH_ADMIN_TOKEN", adminToken)
	return nil
}

func (s *scenario) crash(ts *testscript.TestScript, _ []string) error {
	s.server.kill()
	s.server = nil
	return nil
}

func (s *scenario) stop(ts *testscript.TestScript, _ []string) error {
	err := s.server.stop()
	s.server = nil
	return err
}

func (s *scenario) startSink(ts *testscript.TestScript, _ []string) error {
	s.sink = &script.Receiver{}
	s.http = httptest.NewServer(s.sink)
	ts.Setenv("SINK", s.http.URL)
	return nil
}

func (s *scenario) received(ts *testscript.TestScript, args []string) error {
	if s.sink == nil || len(args) < 2 {
		return fmt.Errorf("usage, after sink: received SLUG N [path=value …]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return until(ctx, func() error {
		seen := map[string]bool{}
		all := s.sink.Delivered(args[0])
		for _, e := range all {
			if matches(e, args[2:]) {
				seen[gjson.GetBytes(e, "messageId").String()] = true
			}
		}
		if got := fmt.Sprint(len(seen)); got != args[1] {
			return fmt.Errorf("%s has received %s such events among %d, want %s", args[0], got, len(all), args[1])
		}
		return nil
	})
}

func matches(e json.RawMessage, where []string) bool {
	for _, w := range where {
		path, value, _ := strings.Cut(w, "=")
		if got := gjson.GetBytes(e, path); got.Raw != value && got.String() != value {
			return false
		}
	}
	return true
}

func (s *scenario) ordered(ts *testscript.TestScript, args []string) error {
	if s.sink == nil || len(args) != 3 {
		return fmt.Errorf("usage, after sink: ordered SLUG PATH=VALUE PATH")
	}
	last, seen := 0.0, map[string]bool{}
	for _, e := range s.sink.Delivered(args[0]) {
		id := gjson.GetBytes(e, "messageId").String()
		if seen[id] || !matches(e, args[1:2]) {
			continue
		}
		seen[id] = true
		n := gjson.GetBytes(e, args[2]).Num
		if n <= last {
			return fmt.Errorf("%s is %v in an event that came after one with %v", args[2], n, last)
		}
		last = n
	}
	return nil
}

func (s *scenario) answers(ts *testscript.TestScript, args []string) error {
	if s.sink == nil || len(args) != 2 {
		return fmt.Errorf("usage, after sink: answers SLUG STATUS")
	}
	status, err := strconv.Atoi(args[1])
	s.sink.Answer(args[0], status)
	return err
}

// destination returns the API's path of a destination, by its slug.
func (s *scenario) destination(ctx context.Context, slug string) (*client.Client, string, error) {
	c, err := client.New(s.server.base, adminToken, nil)
	if err != nil {
		return nil, "", err
	}
	var list struct {
		Destinations []struct{ ID, Slug string } `json:"destinations"`
	}
	if err := c.Call(ctx, "GET", "/destinations?pagination.count=200", nil, &list); err != nil {
		return nil, "", err
	}
	for _, d := range list.Destinations {
		if d.Slug == slug {
			return c, "/destinations/" + d.ID, nil
		}
	}
	return nil, "", fmt.Errorf("there is no destination %s among %v", slug, list.Destinations)
}

func (s *scenario) deadLetters(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: deadletters SLUG N")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, path, err := s.destination(ctx, args[0])
	if err != nil {
		return err
	}
	return until(ctx, func() error {
		var list struct {
			DeadLetters []struct{ MessageID, Reason string } `json:"deadLetters"`
		}
		if err := c.Call(ctx, "GET", path+"/dead-letters", nil, &list); err != nil {
			return err
		}
		if got := fmt.Sprint(len(list.DeadLetters)); got != args[1] {
			return fmt.Errorf("%s has %s dead letters, want %s: %v", args[0], got, args[1], list.DeadLetters)
		}
		for _, d := range list.DeadLetters {
			if d.MessageID == "" || d.Reason == "" {
				return fmt.Errorf("a dead letter does not say which and why: %+v", d)
			}
		}
		return nil
	})
}

func (s *scenario) resend(ts *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: resend SLUG N")
	}
	c, path, err := s.destination(context.Background(), args[0])
	if err != nil {
		return err
	}
	var out struct{ Retried int }
	if err := c.Call(context.Background(), "POST", path+"/dead-letters/retry", map[string]bool{"all": true}, &out); err != nil {
		return err
	}
	if got := fmt.Sprint(out.Retried); got != args[1] {
		return fmt.Errorf("%s dead letters are on their way again, want %s", got, args[1])
	}
	return nil
}

func (s *scenario) field(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: field FILE PATH VALUE")
	}
	text := ts.ReadFile(args[0])
	if got := gjson.Get(text, args[1]).String(); got != args[2] {
		return fmt.Errorf("%s is %q, want %q, in\n%s", args[1], got, args[2], text)
	}
	return nil
}

// api asks the control API for a path, in which {SLUG} is the id of a source,
// and prints the answer: api PATH.
func (s *scenario) api(ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: api PATH")
	}
	path := args[0]
	if before, rest, ok := strings.Cut(path, "{"); ok {
		slug, after, _ := strings.Cut(rest, "}")
		c, err := client.New(s.server.base, adminToken, nil)
		if err != nil {
			return err
		}
		sources, err := c.Sources(context.Background())
		if err != nil {
			return err
		}
		i := slices.IndexFunc(sources, func(x client.Source) bool { return x.Slug == slug })
		if i < 0 {
			return fmt.Errorf("there is no source %s", slug)
		}
		path = before + sources[i].ID + after
	}
	request, err := http.NewRequest(http.MethodGet, s.server.base+"/api/"+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+adminToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", path, response.Status, text)
	}
	_, err = ts.Stdout().Write(text)
	return err
}

// send sends one call: send WRITEKEY CALL MESSAGE.
func (s *scenario) send(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: send WRITEKEY CALL MESSAGE")
	}
	c, err := client.New(s.server.base, adminToken, nil)
	if err != nil {
		return err
	}
	return c.Send(context.Background(), args[0], args[1], json.RawMessage(args[2]))
}

// end stops what a scenario has left running.
func (s *scenario) end() {
	if s.server != nil {
		s.server.kill()
	}
	if s.http != nil {
		s.http.Close()
	}
}
