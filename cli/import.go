package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"kith/api"
	"kith/client"
	"kith/fault"
	"kith/importer"
)

// importCommand makes profiles of files.
type importCommand struct {
	Profiles importProfilesCommand `cmd:"" help:"Make profiles of the rows of a CSV file."`
	List     importListCommand     `cmd:"" help:"Show the imports of a space."`
	Resume   importResumeCommand   `cmd:"" help:"Follow an import to its end; a paused one goes on."`
	Pause    importPauseCommand    `cmd:"" help:"Stop an import until it is resumed."`
	Cancel   importCancelCommand   `cmd:"" help:"Stop an import for good. The rows that were sent stay."`
	Errors   importErrorsCommand   `cmd:"" help:"Print the rows that were not sent, and why, as CSV."`
}

// importSpace is which space the imports are of.
type importSpace struct {
	remote
	Space string `default:"default" placeholder:"SLUG" help:"The space, default by default."`
}

type importProfilesCommand struct {
	importSpace
	File       string `arg:"" help:"The file: CSV with a header, of any size. - is standard input."`
	Source     string `placeholder:"SLUG" help:"The source that the rows come from. By default the space has one for imports."`
	DryRun     bool   `help:"Check everything and send nothing; show what would be sent."`
	Collection string `placeholder:"NAME" help:"users or accounts; users by default. The rows of accounts need a group_id."`
	Delimiter  string `placeholder:"SIGN" help:"What is between two columns: a character, or comma, semicolon, tab, pipe. Found out by default."`
	Encoding   string `placeholder:"NAME" help:"How the file is written: utf-8, utf-16, windows-1252 (latin-1). UTF-8 and UTF-16 are found out."`
	Mapping    string `placeholder:"JSON" help:"What columns are, by their names: '{\"Mail\":{\"as\":\"identifier\",\"name\":\"email\"},\"Plan\":{\"type\":\"string\"}}'. @FILE reads it from a file."`
	Empty      string `placeholder:"WHAT" help:"What an empty cell does to a trait: skip (nothing, the default) or null (removes it)."`
	Types      string `placeholder:"HOW" help:"How cells are read: auto (numbers, true and false where nothing is lost, the default) or string."`
	Anonymous  bool   `help:"Give rows without an identifier an anonymous_id. By default they are not sent."`
	Report     string `placeholder:"FILE" help:"Write the rows that were not sent to FILE, if there are any."`
	NoWait     bool   `help:"Do not wait for the end: print the import's id."`
}

// Help is the longer text of --help.
func (c *importProfilesCommand) Help() string {
	return `Columns whose names are identifiers of the space (user_id, anonymous_id, email, group_id, and the types of its rules; userId and "User ID" are read alike) identify the rows. All others are traits. Each row becomes an identify call of the source, and is treated as one from anywhere: limits, tracking plan, identity rules.

The import runs in the server and goes on when this command, or the server, is stopped: kith import resume ID follows it again. Rows that are wrong are left out and reported; mend them in the report and import that.

The exit code is 0 when every row was sent, 1 when some were not or the import did not end well.`
}

// Run uploads the file and follows its import.
func (c *importProfilesCommand) Run(r *run) error {
	mapping := c.Mapping
	if name, ok := strings.CutPrefix(mapping, "@"); ok {
		text, err := os.ReadFile(name)
		if err != nil {
			return wrong("--mapping: %w", err)
		}
		mapping = string(text)
	}
	if _, err := importer.ParseMapping(mapping); err != nil {
		return asUsage(err)
	}
	q := url.Values{}
	for name, value := range map[string]string{
		"source": c.Source, "collection": c.Collection, "delimiter": c.Delimiter, "encoding": c.Encoding, "mapping": compact(mapping), "empty": c.Empty, "types": c.Types,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if c.DryRun {
		q.Set("dryRun", "true")
	}
	if c.Anonymous {
		q.Set("anonymousId", "generate")
	}
	file, size := r.Stdin, int64(0)
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return wrong("%w", err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil {
			size = info.Size()
		}
		q.Set("name", filepath.Base(c.File))
		file = f
	}
	server, err := c.client()
	if err != nil {
		return err
	}
	line := r.progressLine()
	var begun struct {
		Import api.Import `json:"import"`
	}
	err = server.Upload(r.ctx, client.ImportPath(c.Space, "")+"?"+q.Encode(), "text/csv", &sending{from: file, size: size, line: line}, &begun)
	line.clear()
	if err != nil {
		return c.explainFile(err)
	}
	for _, note := range begun.Import.Notes {
		fmt.Fprintf(r.Stderr, "note: %s\n", note)
	}
	if c.NoWait {
		if r.json {
			return r.encode(begun.Import)
		}
		fmt.Fprintln(r.Stdout, begun.Import.ID)
		return nil
	}
	return followImport(r, server, c.Space, begun.Import.ID, c.Report)
}

// compact writes JSON without what nobody needs in a URL.
func compact(text string) string {
	if text == "" {
		return ""
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return text
	}
	short, err := json.Marshal(v)
	if err != nil {
		return text
	}
	return string(short)
}

// explainFile adds the flags to an error of the server.
func (c *importProfilesCommand) explainFile(err error) error {
	var f *fault.Error
	if errors.As(err, &f) && f.Kind == fault.Invalid {
		return fmt.Errorf("%s was not taken: %w", c.File, err)
	}
	return c.explain(err)
}

// sending tells how much of a file has been sent.
type sending struct {
	from io.Reader
	size int64
	read int64
	line *progressLine
}

// Read reads on.
func (s *sending) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	s.read += int64(n)
	text := "sending the file: " + megabytes(s.read)
	if s.size > 0 {
		text += " of " + megabytes(s.size)
	}
	s.line.show(text)
	return n, err
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/(1<<20)) }

type importResumeCommand struct {
	importSpace
	ID     string `arg:"" placeholder:"imp_…" help:"The import's id."`
	Report string `placeholder:"FILE" help:"Write the rows that were not sent to FILE, if there are any."`
}

// Run resumes an import, unless it has ended, and follows it.
func (c *importResumeCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	err = server.Call(r.ctx, "POST", client.ImportPath(c.Space, c.ID)+"/resume", nil, nil)
	if err != nil && !fault.Is(err, fault.Conflict) { // it has ended, and is shown
		return c.explain(err)
	}
	return followImport(r, server, c.Space, c.ID, c.Report)
}

type importPauseCommand struct {
	importSpace
	ID string `arg:"" placeholder:"imp_…" help:"The import's id."`
}

// Run pauses an import.
func (c *importPauseCommand) Run(r *run) error {
	one, err := c.change(r, c.ID, "pause")
	if err != nil || r.json {
		return err
	}
	fmt.Fprintf(r.Stderr, "paused after %s rows; it goes on with: kith import resume %s%s\n", grouped(one.RowsRead), c.ID, spaceFlag(c.Space))
	return nil
}

type importCancelCommand struct {
	importSpace
	ID string `arg:"" placeholder:"imp_…" help:"The import's id."`
}

// Run cancels an import.
func (c *importCancelCommand) Run(r *run) error {
	one, err := c.change(r, c.ID, "cancel")
	if err != nil || r.json {
		return err
	}
	fmt.Fprintf(r.Stderr, "canceled; %s rows were sent before\n", grouped(one.RowsSent))
	return nil
}

// change asks for a change of an import's state.
func (c *importSpace) change(r *run, id, verb string) (*api.Import, error) {
	server, err := c.client()
	if err != nil {
		return nil, err
	}
	var out struct {
		Import api.Import `json:"import"`
	}
	if err := server.Call(r.ctx, "POST", client.ImportPath(c.Space, id)+"/"+verb, nil, &out); err != nil {
		return nil, c.explain(err)
	}
	if r.json {
		return &out.Import, r.encode(out.Import)
	}
	return &out.Import, nil
}

type importErrorsCommand struct {
	importSpace
	ID string `arg:"" placeholder:"imp_…" help:"The import's id."`
}

// Run prints the report of an import.
func (c *importErrorsCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	to := r.Stdout
	if !r.Terminal {
		to = r.raw(to) // a file gets every byte
	}
	return c.explain(server.Download(r.ctx, client.ImportPath(c.Space, c.ID)+"/errors.csv", to))
}

type importListCommand struct {
	importSpace
	Limit int `default:"20" help:"How many, the newest first."`
}

// Run lists the imports of a space.
func (c *importListCommand) Run(r *run) error {
	server, err := c.client()
	if err != nil {
		return err
	}
	var out struct {
		Imports []api.Import `json:"imports"`
	}
	if err := server.Call(r.ctx, "GET", client.ImportPath(c.Space, "")+fmt.Sprintf("?pagination.count=%d", c.Limit), nil, &out); err != nil {
		return c.explain(err)
	}
	if r.json {
		return r.encode(out.Imports)
	}
	if len(out.Imports) == 0 {
		fmt.Fprintf(r.Stderr, "there are no imports in the space %s; begin one with: kith import profiles FILE%s\n", c.Space, spaceFlag(c.Space))
		return nil
	}
	w := tabwriter.NewWriter(r.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMPORT\tSTATE\tREAD\tSENT\tNOT SENT\tBEGUN\tFILE")
	for i := range out.Imports {
		one := &out.Imports[i]
		state := one.State
		if one.DryRun {
			state += " (dry run)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", one.ID, state, grouped(one.RowsRead), grouped(one.RowsSent), grouped(one.RowsFailed), one.CreatedAt, one.Name)
	}
	return w.Flush()
}

// spaceFlag names a space in a command that is suggested.
func spaceFlag(space string) string {
	if space == "default" {
		return ""
	}
	return " --space " + space
}
