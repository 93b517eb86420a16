package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"kith/api"
	"kith/client"
	"kith/importer"
)

// tellEvery is how often a line is written that cannot be overwritten.
const tellEvery = 10 * time.Second

// followImport shows an import until it has ended, or is paused, and then what
// came of it.
func followImport(r *run, server *client.Client, space, id, report string) error {
	again := "kith import resume " + id + spaceFlag(space)
	one, err := follow(r, following[*api.Import]{
		ask: func() (*api.Import, error) { return theImport(r.ctx, server, space, id) },
		tell: func(one *api.Import) (string, bool) {
			return progressText(one), one.State != string(importer.Paused) && !importer.State(one.State).Ended()
		},
		left: "the import goes on in the server: follow it with " + again + ", stop it with kith import cancel " + id + spaceFlag(space),
		gone: "The import goes on when the server runs again: " + again,
	})
	if err != nil {
		return err
	}
	if one.State == string(importer.Paused) {
		return fmt.Errorf("the import is paused after %s rows; it goes on with: %s", grouped(one.RowsRead), again)
	}
	return conclude(r, server, space, one, report)
}

func theImport(ctx context.Context, server *client.Client, space, id string) (*api.Import, error) {
	var out struct {
		Import api.Import `json:"import"`
	}
	err := server.Call(ctx, "GET", client.ImportPath(space, id), nil, &out)
	return &out.Import, err
}

// progressText says how far an import is.
func progressText(one *api.Import) string {
	if one.State == string(importer.Queued) {
		return "waiting for other imports to end"
	}
	text := fmt.Sprintf("%3d %%  %s rows read, %s sent", percent(one), grouped(one.RowsRead), grouped(one.RowsSent))
	if one.RowsFailed > 0 {
		text += ", " + grouped(one.RowsFailed) + " not sent"
	}
	if one.RowsPerSecond > 0 {
		text += fmt.Sprintf(", %s rows/s", grouped(uint64(one.RowsPerSecond)))
	}
	if one.SecondsLeft != nil {
		text += ", " + (time.Duration(*one.SecondsLeft) * time.Second).String() + " left"
	}
	if one.Waiting != "" {
		text += "; " + one.Waiting
	}
	return text
}

func percent(one *api.Import) int64 {
	if one.Bytes == 0 {
		return 100
	}
	return 100 * one.BytesRead / one.Bytes
}

// conclude shows what came of an import, and says what to do next. It is an
// error unless every row was sent.
func conclude(r *run, server *client.Client, space string, one *api.Import, report string) error {
	if r.json {
		if err := r.encode(one); err != nil {
			return err
		}
	} else if err := printImport(r.Stdout, one); err != nil {
		return err
	}
	switch {
	case one.State == string(importer.Failed):
		return fmt.Errorf("the import failed: %s; %s rows were sent before", one.Error, grouped(one.RowsSent))
	case one.State == string(importer.Canceled):
		return fmt.Errorf("the import was canceled; %s rows were sent before", grouped(one.RowsSent))
	case one.RowsFailed == 0:
		if one.DryRun && !r.json {
			fmt.Fprintln(r.Stderr, "nothing was sent: this was a dry run. Without --dry-run the rows are sent")
		}
		return nil
	}
	next := fmt.Sprintf("see which and why with: kith import errors %s%s > errors.csv", one.ID, spaceFlag(space))
	if report != "" {
		if err := writeReport(r, server, space, one.ID, report); err != nil {
			return err
		}
		next = "they are in " + report
	}
	what, mend := "were not sent", "Mend the rows there and import that file: its first columns are ignored"
	if one.DryRun {
		what = "would not be sent"
	}
	return fmt.Errorf("%s of %s rows %s; %s\n%s", grouped(one.RowsFailed), grouped(one.RowsRead), what, next, mend)
}

func writeReport(r *run, server *client.Client, space, id, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return wrong("--report: %w", err)
	}
	return errors.Join(server.Download(r.ctx, client.ImportPath(space, id)+"/errors.csv", f), f.Close())
}

// printImport writes what came of an import for people.
func printImport(to io.Writer, one *api.Import) error {
	sent := "sent"
	if one.DryRun {
		sent = "would be sent"
	}
	fmt.Fprintf(to, "%s %s: %s read, %s %s, %s not", one.ID, one.State, rowsOf(one.RowsRead), grouped(one.RowsSent), sent, grouped(one.RowsFailed))
	if one.RowsEmpty > 0 {
		fmt.Fprintf(to, ", %s empty", grouped(one.RowsEmpty))
	}
	fmt.Fprintln(to)
	if left := one.RowsFailed - one.ErrorsReported; left > 0 {
		fmt.Fprintf(to, "%s of those that were not sent are not in the report, which is full\n", grouped(left))
	}
	if !one.DryRun {
		return nil
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nCOLUMN\tIS\tNAME\tTYPE")
	for _, c := range one.Columns {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Header, c.As, c.Name, c.Type)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(one.Preview) > 0 {
		fmt.Fprintf(to, "\nThe first calls:\n%s\n", strings.ReplaceAll(strings.Trim(string(one.Preview), "[]"), `},{"type"`, "}\n{\"type\""))
	}
	return nil
}

// rowsOf writes a number of rows.
func rowsOf(n uint64) string {
	if n == 1 {
		return "1 row"
	}
	return grouped(n) + " rows"
}

// grouped writes a number with commas.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// progressLine is a line on stderr that is overwritten where that is a
// terminal, and written now and then where it is not.
type progressLine struct {
	r     *run
	to    io.Writer
	shown int       // characters, on a terminal
	text  string    // the last
	at    time.Time // when
}

func (r *run) progressLine() *progressLine { return &progressLine{r: r, to: r.raw(r.Stderr)} }

// raw returns a stream without what keeps control characters from people.
func (r *run) raw(w io.Writer) io.Writer {
	if p, ok := w.(plain); ok {
		return p.to
	}
	return w
}

func (l *progressLine) show(text string) {
	now := l.r.Clock.Now()
	if !l.r.Progress {
		if l.at.IsZero() {
			l.at = now
		}
		if now.Sub(l.at) >= tellEvery {
			l.at = now
			fmt.Fprintln(l.r.Stderr, text)
		}
		return
	}
	if text == l.text || now.Sub(l.at) < 100*time.Millisecond && l.text != "" {
		return
	}
	fmt.Fprintf(l.to, "\r%s%s", text, strings.Repeat(" ", max(0, l.shown-len(text))))
	l.shown, l.text, l.at = len(text), text, now
}

// clear makes room for other lines.
func (l *progressLine) clear() {
	if l.shown > 0 {
		fmt.Fprintf(l.to, "\r%s\r", strings.Repeat(" ", l.shown))
		l.shown, l.text = 0, ""
	}
}
