package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"kith/workspace"
)

// applyCommand applies a workspace file.
type applyCommand struct {
	remote
	File   string `short:"f" required:"" placeholder:"FILE" help:"The file; - is standard input."`
	DryRun bool   `help:"Only say what would change."`
	Prune  bool   `help:"Remove what is missing from a list that the file has."`
}

// Run applies the file and prints what that changes.
func (c *applyCommand) Run(r *run) error {
	text, err := readFile(r, c.File)
	if err != nil {
		return err
	}
	name := c.File
	if name == "-" {
		name = "standard input"
	}
	file, err := workspace.ParseFile(text)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	variables, err := environment(file.Variables(), r.LookupEnv)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	applied, err := server.Apply(r.ctx, text, variables, c.Prune, c.DryRun)
	if err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(applied)
	}
	if applied.Diff == "" {
		fmt.Fprintln(r.Stderr, "nothing differs")
		return nil
	}
	if _, err := io.WriteString(r.Stdout, applied.Diff); err != nil {
		return err
	}
	if c.DryRun {
		fmt.Fprintln(r.Stderr, "nothing was changed: this was a dry run")
	} else {
		fmt.Fprintf(r.Stderr, "applied; configuration %d is in force\n", applied.Snapshot)
	}
	return nil
}

// environment gives the values of the variables that a file names.
func environment(names []string, lookup func(string) (string, bool)) (map[string]string, error) {
	values := map[string]string{}
	var missing []string
	for _, name := range names {
		value, ok := lookup(name)
		if !ok {
			missing = append(missing, name)
		}
		values[name] = value
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("the file names ${%s}, which the environment does not have", strings.Join(missing, "}, ${"))
	}
	return values, nil
}

// readFile reads a file, or standard input.
func readFile(r *run, name string) ([]byte, error) {
	if name != "-" {
		return os.ReadFile(name)
	}
	text, err := io.ReadAll(io.LimitReader(r.Stdin, workspace.MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return text, nil
}

// exportCommand writes the workspace as a file.
type exportCommand struct {
	remote
}

// Run prints the file.
func (c *exportCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	file, err := server.Export(r.ctx)
	if err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(map[string]string{"file": string(file)})
	}
	_, err = r.Stdout.Write(file)
	return err
}
