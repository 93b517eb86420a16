package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kith/commitlog"
	"kith/event"
	"kith/fault"
	"kith/kv"
	"kith/kv/memkv"
	"kith/kv/pebblekv"
	"kith/workspace"
)

// notes is a start-up text that a test may read while the server runs.
type notes struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

// onDisk is a configuration on the embedded store in a folder.
func onDisk(dir string) Config {
	return Config{
		Data: dir, Listen: "127.0.0.1:0", Random: rand.Reader, Logger: slog.New(slog.DiscardHandler), Notes: &notes{}, Version: "test",
		Store: func(dir string, l *slog.Logger) (kv.DB, error) {
			return pebblekv.Open(dir, pebblekv.Options{Logger: l})
		},
	}
}

// inMemory is a configuration that keeps nothing.
func inMemory() Config {
	cfg := onDisk("")
	cfg.AdminToken = "test-token"
	cfg.Store = func(string, *slog.Logger) (kv.DB, error) { return memkv.New(), nil }
	return cfg
}

// running starts a server; stop ends it in an orderly way.
func running(t testing.TB, cfg Config) (s *Server, base string, stop func()) {
	t.Helper()
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	addr, err := s.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return s, "http://" + addr.String(), stop
}

// source declares a source and returns its write key.
func source(t *testing.T, s *Server, slug string) string {
	t.Helper()
	key := ""
	_, err := s.workspace.Update(t.Context(), func(d *workspace.Draft) error {
		key = d.NewWriteKey()
		d.Sources = append(d.Sources, workspace.Source{
			ID: d.NewSourceID(), Slug: slug, Name: slug, MetadataID: "test", Enabled: true, WriteKeys: []string{key},
			SpaceID: d.Space(workspace.DefaultSpace).ID, CreatedAt: d.At,
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// send posts a call and wants 200.
func send(t *testing.T, base, key, call, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", base+"/v1/"+call, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.SetBasicAuth(key, "")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != 200 {
		t.Fatalf("%s: %s %s", call, response.Status, text)
	}
}

// get reads a JSON answer.
func get(t *testing.T, url string, out any) int {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

// seen returns how many of a stage the server has counted, once it is at least
// n; the loop runs beside us.
func seen(t *testing.T, s *Server, stage string, n uint64) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		var sum uint64
		for _, c := range s.feed.Counts() {
			if string(c.Stage) == stage {
				sum += c.N
			}
		}
		if sum >= n {
			return sum
		}
		if ctx.Err() != nil {
			t.Fatalf("only %d were %s, want %d", sum, stage, n)
		}
		for _, sp := range s.allSpaces() {
			if end := sp.raw.End(); sp.loop() != nil && end > 0 {
				_ = sp.loop().Passed(ctx, end-1)
			}
		}
	}
}

func TestOneEventThrough(t *testing.T) {
	s, base, _ := running(t, onDisk(t.TempDir()))
	key := source(t, s, "web")
	send(t, base, key, "track", `{"messageId":"m1","userId":"u1","event":"Hello"}`)
	send(t, base, key, "track", `{"messageId":"m1","userId":"u1","event":"Hello"}`)
	send(t, base, key, "track", `{"messageId":"m2","event":"Nobody's"}`)
	seen(t, s, "accepted", 2)
	seen(t, s, "admitted", 1)
	seen(t, s, "duplicate", 1)
	seen(t, s, "rejected", 1)
	src := s.workspace.Current().Sources[0].ID
	page, _, err := s.rejections.List(t.Context(), src, "", 0)
	if err != nil || len(page) != 1 || page[0].Code != "no_user_anon_id" || page[0].Message == "" {
		t.Errorf("rejected: %+v, %v", page, err)
	}
}

// TestRestartGoesOn stops a server while its loop does not run, so that what
// was acknowledged is still to do, and starts it again.
func TestRestartGoesOn(t *testing.T) {
	dir := t.TempDir()
	front := onDisk(dir)
	front.Roles = []Role{Collect, API}
	s, base, stop := running(t, front)
	key := source(t, s, "web")
	for i := range 10 {
		send(t, base, key, "track", fmt.Sprintf(`{"messageId":"m%d","userId":"u1","event":"Hello"}`, i))
	}
	var ready struct {
		Status  string            `json:"status"`
		Backlog map[string]uint64 `json:"backlog"`
	}
	if code := get(t, base+"/readyz", &ready); code != 200 || ready.Backlog["default"] < 10 {
		t.Errorf("readyz of a server without loops: %d %+v", code, ready)
	}
	stop()

	s, base, stop = running(t, onDisk(dir))
	seen(t, s, "admitted", 10)
	if code := get(t, base+"/readyz", &ready); code != 200 || ready.Status != "ready" || ready.Backlog["default"] != 0 {
		t.Errorf("readyz %d %+v", code, ready)
	}
	stop()

	s, _, stop = running(t, onDisk(dir))
	if n := s.space(1).loop().Position().Next; n != s.space(1).raw.End() {
		t.Errorf("the loop stands at %d of %d after an orderly stop", n, s.space(1).raw.End())
	}
	stop()
	if err := s.db.View(t.Context(), func(kv.Reader) error { return nil }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the store is still open: %v", err)
	}
}

// configs returns the snapshots that the config records of a space name.
func configs(t *testing.T, s *Server, number uint32) (named []uint64) {
	t.Helper()
	log, err := s.Raw(number)
	if err != nil {
		t.Fatal(err)
	}
	for at := commitlog.Offset(0); at < log.End(); {
		blocks, err := log.Read(t.Context(), at, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			records, err := event.DecodeBlock(b.Data)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if r.Kind == event.KindConfig {
					n, err := event.ConfigNumber(r.Body)
					if err != nil {
						t.Fatal(err)
					}
					named = append(named, n)
				}
			}
			at = b.End()
		}
	}
	return named
}

func TestEverySpaceIsToldOfEverySnapshotOnce(t *testing.T) {
	dir := t.TempDir()
	s, base, stop := running(t, onDisk(dir))
	if got := configs(t, s, 1); !slices.Equal(got, []uint64{1}) {
		t.Errorf("at the first start the space is told of %v", got)
	}
	_, err := s.workspace.Update(t.Context(), func(d *workspace.Draft) error {
		d.AddSpace("second", "Second")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	source(t, s, "web")
	if got := configs(t, s, 2); !slices.Equal(got, []uint64{2, 3}) {
		t.Errorf("the new space is told of %v", got)
	}
	var ready struct {
		Backlog map[string]uint64 `json:"backlog"`
	}
	get(t, base+"/readyz", &ready)
	if _, ok := ready.Backlog["second"]; !ok {
		t.Errorf("the new space is not served: %v", ready)
	}
	// A snapshot that was written by a process which died before announcing it.
	err = s.db.Update(t.Context(), fence, kv.Durable, func(tx kv.Tx) error {
		return tx.Set(toldKey(1), encodeNumber(2))
	})
	if err != nil {
		t.Fatal(err)
	}
	stop()
	s, _, _ = running(t, onDisk(dir))
	if got := configs(t, s, 1); !slices.Equal(got, []uint64{1, 2, 3, 3}) {
		t.Errorf("after the restart the space is told of %v", got)
	}
}

func TestDataDirectory(t *testing.T) {
	open := func(dir string) error {
		s, err := New(t.Context(), onDisk(dir))
		if err == nil {
			err = s.Close()
		}
		return err
	}
	t.Run("is made, with everything in it named", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "b")
		s, _, stop := running(t, onDisk(dir))
		known := []string{fileFormat, fileStore, fileAdminToken, fileSecretKey}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !slices.Contains(known, e.Name()) {
				t.Errorf("%s is in no list: name it in files.go and docs/keys.md", e.Name())
			}
		}
		info, err := os.Stat(filepath.Join(dir, fileAdminToken))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("admin token: %v %v", info.Mode(), err)
		}
		token := s.AdminToken()
		text := s.cfg.Notes.(*notes).String()
		if !strings.Contains(text, filepath.Join(dir, fileAdminToken)) || strings.Contains(text, token) {
			t.Errorf("the start-up text says %q", text)
		}
		sealed, err := s.secrets.Seal("s3cret")
		if err != nil {
			t.Fatal(err)
		}
		stop()
		s, _, _ = running(t, onDisk(dir))
		if s.AdminToken() != token {
			t.Error("the token has changed")
		}
		if _, err := s.secrets.Unseal(sealed); err != nil {
			t.Errorf("a secret of before cannot be read: %v", err)
		}
	})
	t.Run("of a newer version is refused", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileFormat), []byte("7\nneeds kith 3.2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(dir); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "needs kith 3.2 or newer") {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, fileStore)); !os.IsNotExist(err) {
			t.Error("it was touched all the same")
		}
	})
	t.Run("of an older version is taken over", func(t *testing.T) {
		dir := t.TempDir()
		format := filepath.Join(dir, fileFormat)
		if err := os.WriteFile(format, []byte("1\nneeds kith 0.1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(dir); err != nil {
			t.Fatal(err)
		}
		// A kith that reads format 1 alone must not open it again: it knows
		// neither its verdicts nor where its messageIds are.
		if text, err := os.ReadFile(format); err != nil || string(text) != "2\nneeds kith 0.2\n" {
			t.Errorf("the format is %q, %v", text, err)
		}
	})
	t.Run("with other things in it is refused", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "thesis.doc"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(dir); !fault.Is(err, fault.Invalid) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("damaged is refused", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileFormat), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(dir); !fault.Is(err, fault.Invalid) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("in use is refused", func(t *testing.T) {
		dir := t.TempDir()
		running(t, onDisk(dir))
		if err := open(dir); !fault.Is(err, fault.Conflict) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("is not needed", func(t *testing.T) {
		s, base, _ := running(t, inMemory())
		if s.AdminToken() != "test-token" {
			t.Errorf("the admin token is %q", s.AdminToken())
		}
		var alive map[string]string
		if code := get(t, base+"/healthz", &alive); code != 200 || alive["version"] != "test" {
			t.Errorf("healthz %d %v", code, alive)
		}
		var nothing struct {
			Errors []struct{ Type, Message string }
		}
		if code := get(t, base+"/v1/tracks", &nothing); code != 404 || len(nothing.Errors) != 1 || nothing.Errors[0].Type != "not-found" || !strings.Contains(nothing.Errors[0].Message, "/v1/track ") {
			t.Errorf("a wrong path: %d %v", code, nothing)
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	for _, test := range []struct {
		change func(*Config)
		field  string
	}{
		{func(c *Config) { c.Listen = "nowhere" }, "listen"},
		{func(c *Config) { c.Roles = []Role{"cook"} }, "roles"},
		{func(c *Config) { c.Listen, c.TestClock = "0.0.0.0:0", time.Unix(0, 0) }, "test-clock"},
		{func(c *Config) { c.Listen, c.TestClock = ":0", time.Unix(0, 0) }, "test-clock"},
		{func(c *Config) {
			c.Data, c.TLS, c.PublicURL = "unused", TLS{Dev: true, Redirect: "127.0.0.1:0"}, "http://kith.example.com"
		}, "public-url"},
	} {
		cfg := inMemory()
		test.change(&cfg)
		_, err := New(t.Context(), cfg)
		if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(err.Error(), test.field+":") {
			t.Errorf("%s: got %v", test.field, err)
		}
	}
	cfg := inMemory()
	cfg.Listen, cfg.TestClock = "[::1]:0", time.Unix(0, 0)
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestAddressInUseIsSaid(t *testing.T) {
	_, base, _ := running(t, inMemory())
	cfg := inMemory()
	cfg.Listen = strings.TrimPrefix(base, "http://")
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("got %v", err)
	}
}

func TestMetrics(t *testing.T) {
	s, base, _ := running(t, inMemory())
	key := source(t, s, "web")
	send(t, base, key, "track", `{"userId":"u1","event":"Hello"}`)
	seen(t, s, "admitted", 1)
	response, err := http.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`kith_backlog_records{space="default"} 0`, "go_goroutines", `stage="admitted"} 1`, "kith_collect_accepted_events_total 1"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// stuckDB is a store in which every write of a loop fails.
type stuckDB struct{ kv.DB }

func (d stuckDB) Update(ctx context.Context, f kv.Fence, dur kv.Durability, fn func(kv.Tx) error) error {
	if strings.HasPrefix(string(f), "loop/") {
		return fs.ErrInvalid
	}
	return d.DB.Update(ctx, f, dur, fn)
}

func TestBrokenStoreEndsTheServer(t *testing.T) {
	cfg := inMemory()
	cfg.Store = func(string, *slog.Logger) (kv.DB, error) { return stuckDB{memkv.New()}, nil }
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "space default") {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on as if nothing had happened")
	}
}
