package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// adminToken is the administrator's token of every server here.
const adminToken = "e2e-admin-token"

// patience is how long anything that should happen soon is waited for.
const patience = 60 * time.Second

// process is a running kith serve.
type process struct {
	cmd  *exec.Cmd
	base string // its URL
	log  *output
	done chan struct{} // closed once it has ended
	err  error         // how it ended; read after done
}

// output keeps what a process writes, and tells when it has written a line.
type output struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote chan struct{}
}

// Write keeps p.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.wrote <- struct{}{}:
	default:
	}
	return o.b.Write(p)
}

// String returns all that was written.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

var listensOn = regexp.MustCompile(`listens on (https?://[0-9.:]+)`)

// start runs "kith serve" with the arguments and returns once it is ready.
func start(ctx context.Context, dir string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(binary, append([]string{"serve"}, args...)...), log: &output{wrote: make(chan struct{}, 1)}, done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p.log, p.log
	p.cmd.Env = append(os.Environ(), "KITH_ADMIN_TOKEN="+adminToken)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.await(ctx); err != nil {
		p.kill()
		return nil, fmt.Errorf("kith serve %s: %w\n%s", strings.Join(args, " "), err, p.log)
	}
	return p, nil
}

// await waits for the address in the start-up text and for /readyz.
func (p *process) await(ctx context.Context) error {
	for p.base == "" {
		if m := listensOn.FindStringSubmatch(p.log.String()); m != nil {
			p.base = m[1]
			break
		}
		select {
		case <-p.log.wrote:
		case <-p.done:
			return fmt.Errorf("it ended: %w", p.err)
		case <-ctx.Done():
			return fmt.Errorf("it has not said where it listens: %w", ctx.Err())
		}
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // which certificate it shows, other tests ask
	defer transport.CloseIdleConnections()
	return until(ctx, func() error {
		response, err := (&http.Client{Transport: transport}).Get(p.base + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz answers %d", response.StatusCode)
		}
		return nil
	})
}

// until calls fn until it returns nil or the context ends, which gives fn's
// last error.
func until(ctx context.Context, fn func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fn()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// kill ends the process as power loss would, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.done
}

// stop ends the process in an orderly way and returns how that went.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.kill()
		return fmt.Errorf("it did not stop within %s of SIGTERM\n%s", patience, p.log)
	}
	if p.err != nil {
		return fmt.Errorf("it ended with %w\n%s", p.err, p.log)
	}
	return nil
}

func TestServeStartsAndStops(t *testing.T) {
	p, err := start(t.Context(), t.TempDir(), "--data", "data", "--listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
}

// TestSecondServerOnOneDirectory: a directory is one server's, and whoever
// starts a second one is told so. The first goes on.
func TestSecondServerOnOneDirectory(t *testing.T) {
	dir := t.TempDir()
	p, err := start(t.Context(), dir, "--data", "data", "--listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	other, err := start(t.Context(), dir, "--data", "data", "--listen", "127.0.0.1:0")
	if err == nil {
		other.kill()
		t.Fatal("a second server runs on the directory")
	}
	if !strings.Contains(err.Error(), "another kith is running on this directory") {
		t.Errorf("it says %v", err)
	}
	response, err := http.Get(p.base + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the first answers %d then", response.StatusCode)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}
