package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const token = "bench-admin-token"

// readyWithin is how long a server may take to open its store, which may be
// large.
const readyWithin = 3 * time.Minute

// kith is a running server on a data directory of its own.
type kith struct {
	base string
	dir  string
	cmd  *exec.Cmd
	log  *os.File
}

// start runs the binary with these further flags and waits until it is ready.
func start(ctx context.Context, binary, dir string, flags ...string) (*kith, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	k := &kith{base: "http://" + addr, dir: dir}
	if k.log, err = os.Create(filepath.Join(dir, "server.log")); err != nil {
		return nil, err
	}
	args := append([]string{"serve", "--data", filepath.Join(dir, "data"), "--listen", addr, "--egress-allow", "127.0.0.0/8"}, flags...)
	k.cmd = exec.CommandContext(ctx, binary, args...)
	k.cmd.Env = append(os.Environ(), "KITH_ADMIN_TOKEN="+token)
	k.cmd.Stdout, k.cmd.Stderr = k.log, k.log
	k.cmd.Cancel = func() error { return k.cmd.Process.Signal(syscall.SIGTERM) }
	k.cmd.WaitDelay = 20 * time.Second
	if err := k.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(readyWithin); ; {
		resp, err := http.Get(k.base + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return k, nil
			}
		}
		if time.Now().After(deadline) {
			k.stop()
			out, _ := os.ReadFile(k.log.Name())
			return nil, fmt.Errorf("the server did not become ready:\n%s", out)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (k *kith) stop() {
	k.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	k.cmd.Wait()                          //nolint:errcheck // its exit code says nothing here
	k.log.Close()
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// post calls the control API and decodes data of the answer into out.
func (k *kith) post(path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, k.base+"/api"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("POST %s: %s: %s", path, resp.Status, answer)
	}
	var envelope struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return err
	}
	return json.Unmarshal(envelope.Data, out)
}

type resource struct {
	ID        string   `json:"id"`
	WriteKeys []string `json:"writeKeys"`
}

// source makes a source and returns its id and write key.
func (k *kith) source() (id, key string, err error) {
	var out struct{ Source resource }
	err = k.post("/sources", map[string]any{"slug": "web", "enabled": true, "metadataId": "javascript"}, &out)
	if err == nil && len(out.Source.WriteKeys) == 0 {
		err = fmt.Errorf("the source has no write key")
	}
	if err != nil {
		return "", "", err
	}
	return out.Source.ID, out.Source.WriteKeys[0], nil
}

// webhook makes a batching webhook destination for a source.
func (k *kith) webhook(source, url string, size, ageMs int) (id string, err error) {
	var out struct{ Destination resource }
	err = k.post("/destinations", map[string]any{
		"sourceId": source, "metadataId": "webhook", "name": "Sink", "enabled": true,
		"settings": map[string]any{"url": url, "batch": map[string]any{"size": size, "maxAgeMs": ageMs}},
	}, &out)
	return out.Destination.ID, err
}

// audience makes an audience and connects it to a destination, if one is named.
func (k *kith) audience(name, query, destination string) error {
	var out struct{ Audience resource }
	err := k.post("/spaces/default/audiences", map[string]any{
		"name": name, "enabled": true, "audienceType": "USERS", "definition": map[string]any{"query": query},
	}, &out)
	if err != nil || destination == "" {
		return err
	}
	var connected json.RawMessage
	return k.post("/spaces/default/audiences/"+out.Audience.ID+"/destination-connections",
		map[string]any{"destination": map[string]any{"id": destination, "type": "destination"}}, &connected)
}

// usage is what a process has used so far.
type usage struct {
	cpu     time.Duration
	rss     int64 // bytes
	written int64 // bytes that went to the disk
}

func (k *kith) usage() (usage, error) {
	var u usage
	pid := k.cmd.Process.Pid
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const ticks = 100 // USER_HZ on Linux
	for _, i := range []int{11, 12} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(n) * time.Second / ticks
	}
	pages, err := strconv.ParseInt(fields[21], 10, 64)
	if err != nil {
		return u, err
	}
	u.rss = pages * int64(os.Getpagesize())
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(io)) {
		if n, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			u.written, err = strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		}
	}
	return u, err
}

// size returns how large the data directory is.
func (k *kith) size() (n int64, err error) {
	err = filepath.WalkDir(filepath.Join(k.dir, "data"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil // the store has removed it meanwhile
		}
		n += info.Size()
		return nil
	})
	return n, err
}

// backlog returns how many records the loop has yet to pass.
func (k *kith) backlog() (int64, error) {
	resp, err := http.Get(k.base + "/readyz")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var ready struct {
		Backlog map[string]int64 `json:"backlog"` // by space
	}
	if err := json.NewDecoder(resp.Body).Decode(&ready); err != nil {
		return 0, err
	}
	var n int64
	for _, b := range ready.Backlog {
		n += b
	}
	return n, nil
}

// cpuTime returns how many seconds of processor time the server has used.
func (k *kith) cpuTime(ctx context.Context) (float64, error) {
	m, err := k.metrics(ctx)
	return m["process_cpu_seconds_total"], err
}

// metrics returns the server's metrics, by series.
func (k *kith) metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.base+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			continue
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err == nil {
			all[line[:at]] = v
		}
	}
	return all, nil
}

// send sends the body of a batch, again while it is refused.
func (k *kith) send(ctx context.Context, client *http.Client, key, body string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.base+"/v1/batch", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.SetBasicAuth(key, "")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		switch {
		case err != nil:
			return err
		case resp.StatusCode == http.StatusOK:
			return nil
		case resp.StatusCode != http.StatusTooManyRequests:
			return fmt.Errorf("the server answered %s", resp.Status)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
