package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// sdk is the child process in which the official Node SDK sends the calls of
// the website.
type sdk struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  *bufio.Writer
	out    bytes.Buffer
	errors bytes.Buffer
}

// errNoSDK means that the SDK cannot be used here; the demo goes on without.
var errNoSDK = errors.New("the official Node SDK is not here")

// startSDK starts the program send.mjs of folder, which sends to base with the
// website's write key.
func startSDK(folder, base, writeKey string) (*sdk, error) {
	if folder == "" {
		return nil, errNoSDK
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, errNoSDK
	}
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "@segment", "analytics-node")); err != nil {
		return nil, errNoSDK
	}
	s := &sdk{cmd: exec.Command(node, "send.mjs", base, writeKey)}
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = folder, &s.out, &s.errors
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the Node SDK: %w", err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the Node SDK: %w", err)
	}
	s.lines = bufio.NewWriter(s.in)
	return s, nil
}

// send hands calls to the SDK, which sends them in its own time.
func (s *sdk) send(calls []Call) error {
	for i := range calls {
		line, err := json.Marshal(calls[i].Message)
		if err != nil {
			return err
		}
		if _, err := s.lines.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("the Node SDK has ended: %w\n%s", err, &s.errors)
		}
	}
	return s.lines.Flush()
}

// close waits until the SDK has sent everything, and returns how many calls it
// could not send.
func (s *sdk) close() (failed int, err error) {
	err = errors.Join(s.lines.Flush(), s.in.Close(), s.cmd.Wait())
	if err != nil {
		return 0, fmt.Errorf("the Node SDK: %w\n%s", err, &s.errors)
	}
	var said struct {
		Failed int `json:"failed"`
	}
	if err := json.Unmarshal(s.out.Bytes(), &said); err != nil {
		return 0, fmt.Errorf("the Node SDK said %q: %w", s.out.String(), err)
	}
	return said.Failed, nil
}
