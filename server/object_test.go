package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"kith/event"
)

// TestObjects sends objects to a server, lists them, and finds them again after
// a restart. They are nobody's: no profile and no output comes of them.
func TestObjects(t *testing.T) {
	dir := t.TempDir()
	s, base, stop := running(t, onDisk(dir))
	key := source(t, s, "web")
	at := "/api/sources/" + s.workspace.Current().Sources[0].ID + "/objects"
	before := s.space(1).resolved.End()
	for i := range 3 {
		send(t, base, key, "set", fmt.Sprintf(`{"collection":"rooms","objects":[{"id":"r1","properties":{"visits":%d}},{"id":"n%d","properties":{"price":12.50}}]}`, i, i))
	}
	last := s.space(1).raw.End() - 1
	look := func() {
		t.Helper()
		if err := s.space(1).loop().Passed(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		var all struct {
			Data struct {
				Collections []struct {
					Name    string
					Objects int
				}
				Objects []struct {
					ID         string
					Properties json.RawMessage
				}
			}
		}
		asked(t, s, base+at, &all)
		if c := all.Data.Collections; len(c) != 1 || c[0].Name != "rooms" || c[0].Objects != 4 {
			t.Errorf("collections %+v", c)
		}
		asked(t, s, base+at+"/rooms", &all)
		if o := all.Data.Objects; len(o) != 4 || o[3].ID != "r1" || string(o[3].Properties) != `{"visits":2}` || string(o[0].Properties) != `{"price":12.50}` {
			t.Errorf("objects %s", o)
		}
		if end := s.space(1).resolved.End(); end != before {
			t.Errorf("%d outputs came of objects", end-before)
		}
		e, err := s.archive.Event(t.Context(), 1, last)
		if err != nil || e.Head.Kind != event.KindObject || e.Head.Name != "rooms" {
			t.Errorf("the archive has %+v, %v", e, err)
		}
	}
	look()
	if n := seen(t, s, "admitted", 6); n != 6 || seen(t, s, "accepted", 6) != 6 {
		t.Errorf("%d were counted as admitted", n)
	}
	stop()

	s, base, _ = running(t, onDisk(dir))
	look()
}

// asked reads an answer of the control API.
func asked(t *testing.T, s *Server, url string, out any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.AdminToken())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == 200 {
		err = json.Unmarshal(body, out)
	}
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%s %s: %v", response.Status, body, err)
	}
}
