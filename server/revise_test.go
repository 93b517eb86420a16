package server

import (
	"strings"
	"testing"

	"kith/client"
	"kith/fault"
)

// undone is what tests read of the answer to an order.
type undone struct {
	Ordered bool
	Message string
	Command struct {
		Offset        uint64
		State, By     string
		ProfilesAfter int
		LiftedBy      *uint64
	}
	Profiles []struct {
		ID          string
		Identifiers []struct{ Type, ID string }
		Events      int
	}
}

// TestUndoOverTheAPI: a merge is tried out, undone in each way there is, and
// brought back, over the control API.
func TestUndoOverTheAPI(t *testing.T) {
	s, base, _ := running(t, inMemory())
	key := source(t, s, "web")
	c, err := client.New(base, "test-token", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []map[string]any{
		{"event": "Bought", "userId": "ann"}, {"event": "Bought", "anonymousId": "lobby"}, {"event": "Login", "userId": "ann", "anonymousId": "lobby"},
	} {
		if err := c.Send(t.Context(), key, "track", body); err != nil {
			t.Fatal(err)
		}
	}
	order := func(path string, body map[string]any) (out undone) {
		t.Helper()
		if err := c.Call(t.Context(), "POST", "/spaces/default/identity/"+path, body, &out); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return out
	}
	refused := func(kind fault.Kind, text, path string, body map[string]any) {
		t.Helper()
		err := c.Call(t.Context(), "POST", "/spaces/default/identity/"+path, body, nil)
		if !fault.Is(err, kind) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s %v was answered with %v", path, body, err)
		}
	}
	lobby := []map[string]string{{"type": "anonymous_id", "id": "lobby"}}
	if err := s.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	tried := order("separate?dryRun=true", map[string]any{"profile": "user_id:ann", "identifiers": lobby})
	if tried.Ordered || len(tried.Profiles) != 2 {
		t.Errorf("trying says %+v", tried)
	}
	var listed struct{ Commands []struct{ State string } }
	if err := c.Call(t.Context(), "GET", "/spaces/default/identity/commands", nil, &listed); err != nil || len(listed.Commands) != 0 {
		t.Errorf("after trying there are %+v, %v", listed, err)
	}
	split := order("separate?wait=true", map[string]any{"profile": "user_id:ann", "identifiers": lobby, "note": "a tablet"})
	if split.Command.State != "done" || len(split.Profiles) != 2 || split.Profiles[0].Events+split.Profiles[1].Events != 3 {
		t.Errorf("splitting says %+v", split)
	}
	lifted := order("lift?wait=true", map[string]any{"offset": split.Command.Offset})
	if lifted.Command.State != "done" || len(lifted.Profiles) != 1 || lifted.Profiles[0].Events != 3 {
		t.Errorf("lifting says %+v", lifted)
	}
	refused(fault.Conflict, "lifted already", "lift", map[string]any{"offset": split.Command.Offset})
	refused(fault.NotFound, "no separate or block", "lift", map[string]any{"offset": 4711})
	var merged string
	for _, p := range split.Profiles {
		if p.ID != lifted.Profiles[0].ID {
			merged = p.ID
		}
	}
	unmerged := order("separate?wait=true", map[string]any{"merge": merged})
	if unmerged.Command.State != "done" || len(unmerged.Profiles) != 2 {
		t.Errorf("reversing the merge says %+v", unmerged)
	}
	refused(fault.Invalid, "was not merged", "separate", map[string]any{"merge": merged})
	blocked := order("block?wait=true", map[string]any{"type": "anonymous_id", "id": "lobby"})
	if blocked.Command.State != "done" || blocked.Command.By != "admin" || len(blocked.Profiles) != 0 {
		t.Errorf("blocking says %+v", blocked)
	}
	refused(fault.Invalid, "one of the three", "separate", map[string]any{})
	refused(fault.Invalid, "has no email", "separate", map[string]any{"profile": "user_id:ann", "identifiers": []map[string]string{{"type": "email", "id": "x"}}})
	refused(fault.Invalid, "nothing to split", "separate", map[string]any{"profile": "user_id:ann", "identifiers": []map[string]string{{"type": "user_id", "id": "ann"}}})
	refused(fault.NotFound, "no profile has", "separate", map[string]any{"profile": "user_id:bob", "identifiers": lobby})
	refused(fault.NotFound, "no profile use_", "separate", map[string]any{"merge": "use_0000000000000000000001"})
	if err := c.Call(t.Context(), "GET", "/spaces/default/identity/commands", nil, &listed); err != nil || len(listed.Commands) != 4 {
		t.Errorf("there are %+v, %v", listed, err)
	}
	for _, x := range listed.Commands {
		if x.State != "done" {
			t.Errorf("a command is %s", x.State)
		}
	}
}
