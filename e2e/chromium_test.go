package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// chromium is a real browser, driven through browser/drive.mjs.
type chromium struct {
	version string
	said    *output // on stderr

	mu      sync.Mutex
	in      io.WriteCloser
	last    int
	waiting map[int]chan answered
}

// answered is an answer of the driver.
type answered struct {
	ID    int             `json:"id"`
	Value json.RawMessage `json:"value"`
	Error string          `json:"error"`
}

// findChromium returns the machine's Chromium, or the program that
// KITH_CHROMIUM names.
func findChromium() (string, error) {
	if name := os.Getenv("KITH_CHROMIUM"); name != "" {
		return exec.LookPath(name)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("Chromium (chromium is not in the PATH, and KITH_CHROMIUM names none)")
}

// lackBrowser says what is missing for driving a browser.
func lackBrowser() error {
	if _, err := findChromium(); err != nil {
		return err
	}
	if _, err := exec.LookPath("node"); err != nil {
		return errors.New("Node (node is not in the PATH)")
	}
	if _, err := os.Stat(filepath.FromSlash("browser/node_modules/playwright-core")); err != nil {
		return fmt.Errorf("the packages of e2e/browser (run npm ci there): %w", err)
	}
	return nil
}

// lackFile says that something is missing which make sets up.
func lackFile(name string) error {
	if _, err := os.Stat(filepath.FromSlash(name)); err != nil {
		return fmt.Errorf("what make build sets up: %w", err)
	}
	return nil
}

// startChromium starts the browser, until the test ends.
func startChromium(t *testing.T) *chromium {
	t.Helper()
	path, err := findChromium()
	if err != nil {
		t.Fatal(err)
	}
	b := &chromium{said: &output{wrote: make(chan struct{}, 1)}, waiting: map[int]chan answered{}}
	cmd := exec.Command("node", filepath.FromSlash("browser/drive.mjs"), path)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir()) // no profile of whoever runs this
	cmd.Stderr = b.said
	if b.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan answered, 1)
	b.waiting[0] = ready
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(out)
	}()
	t.Cleanup(func() {
		_ = b.in.Close() // which ends it
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("the browser ended with %v\n%s", err, b.said)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case a, open := <-ready:
		if !open {
			t.Fatalf("the browser did not start\n%s", b.said)
		}
		b.version = string(a.Value)
	case <-ctx.Done():
		t.Fatalf("the browser does not start\n%s", b.said)
	}
	return b
}

// read hands answers to those who wait for them. At the end of the driver
// nobody waits any longer.
func (b *chromium) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var a answered
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			continue
		}
		b.mu.Lock()
		if to := b.waiting[a.ID]; to != nil {
			to <- a
			delete(b.waiting, a.ID)
		}
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, to := range b.waiting {
		close(to)
		delete(b.waiting, id)
	}
	b.waiting = nil
}

// call gives the driver a command and reads its value into out, unless nil.
func (b *chromium) call(ctx context.Context, command map[string]any, out any) error {
	to := make(chan answered, 1)
	b.mu.Lock()
	if b.waiting == nil {
		b.mu.Unlock()
		return fmt.Errorf("the browser has ended\n%s", b.said)
	}
	b.last++
	command["id"] = b.last
	b.waiting[b.last] = to
	line, err := json.Marshal(command)
	if err == nil {
		_, err = b.in.Write(append(line, '\n'))
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case a, open := <-to:
		switch {
		case !open:
			return fmt.Errorf("the browser has ended\n%s", b.said)
		case a.Error != "":
			return errors.New(a.Error)
		case out == nil:
			return nil
		}
		return json.Unmarshal(a.Value, out)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tab is a page with a browser profile of its own.
type tab struct {
	t       *testing.T
	browser *chromium
	name    string
}

// open opens a tab until the test ends.
func (b *chromium) open(t *testing.T) *tab {
	t.Helper()
	p := &tab{t, b, t.Name()}
	p.do(map[string]any{"op": "open"}, nil)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = b.call(ctx, map[string]any{"op": "close", "page": p.name}, nil) // at the end of the browser it is gone
	})
	return p
}

func (p *tab) do(command map[string]any, out any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	command["page"] = p.name
	if err := p.browser.call(ctx, command, out); err != nil {
		var said []string
		if p.browser.call(ctx, map[string]any{"op": "console", "page": p.name}, &said) == nil {
			err = fmt.Errorf("%w\nconsole: %q", err, said)
		}
		p.t.Fatalf("%v: %v", command["op"], err)
	}
}

// visit goes to a page and waits until it is loaded.
func (p *tab) visit(url string) {
	p.t.Helper()
	p.do(map[string]any{"op": "visit", "url": url}, nil)
}

// run runs the body of an async function in the page and reads what it returns
// into out, unless nil.
func (p *tab) run(code string, out any) {
	p.t.Helper()
	p.do(map[string]any{"op": "run", "code": code}, out)
}

// offline takes the network away, or gives it back.
func (p *tab) offline(offline bool) {
	p.t.Helper()
	p.do(map[string]any{"op": "offline", "offline": offline}, nil)
}

// shut closes the page. What it has asked for and said is still known.
func (p *tab) shut() {
	p.t.Helper()
	p.do(map[string]any{"op": "shut"}, nil)
}

// asked is a request of a page.
type asked struct{ Method, URL string }

// requests returns all that the pages of the tab have asked for.
func (p *tab) requests() (list []asked) {
	p.t.Helper()
	p.do(map[string]any{"op": "requests"}, &list)
	return list
}

// console returns what the pages of the tab have said to their console.
func (p *tab) console() (list []string) {
	p.t.Helper()
	p.do(map[string]any{"op": "console"}, &list)
	return list
}
