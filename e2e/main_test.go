package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// binary is the program under test: bin/kith's twin, built by TestMain, or the
// one that KITH_BINARY names.
var binary string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	if binary = os.Getenv("KITH_BINARY"); binary != "" {
		if _, err := os.Stat(binary); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: KITH_BINARY:", err)
			return 1
		}
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "kith-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "kith")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	build := exec.Command("go", "build", "-o", binary, "kith/cmd/kith")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: build kith:", err)
		return 1
	}
	return m.Run()
}

// lackNode says what is missing of Node and the packages it needs.
func lackNode() error {
	if _, err := exec.LookPath("node"); err != nil {
		return errors.New("Node (node is not in the PATH)")
	}
	for _, p := range []string{"node/node_modules/@segment/analytics-node", "node/node_modules/@segment/public-api-sdk-typescript",
		"../demo/node/node_modules/@segment/analytics-node"} {
		if _, err := os.Stat(filepath.FromSlash(p)); err != nil {
			return fmt.Errorf("the packages of e2e/node and demo/node (run npm ci there): %w", err)
		}
	}
	return nil
}
