package cli

import (
	"fmt"
	"runtime"
)

// versionCommand prints the version.
type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(r *run) error {
	if r.json {
		return r.encode(map[string]string{"version": r.Version, "go": runtime.Version()})
	}
	_, err := fmt.Fprintf(r.Stdout, "kith %s (%s)\n", r.Version, runtime.Version())
	return err
}
