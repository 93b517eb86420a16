package e2e

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"kith/api"
	"kith/client"
)

// How the import of TestImportCrash is made.
const (
	importRows    = 60_000
	importBad     = 997 // every so many rows one is wrong
	importCrashes = 3
)

// TestImportCrash kills the server with kill -9 in the middle of an import,
// again and again. In the end every row is there exactly once: a counted
// audience has exactly the people of the file, each has the traits of its row,
// and the report has exactly the rows that are wrong.
func TestImportCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := &crashHouse{t: t, dir: dir, listen: freeAddress(t)}
	h.start()
	defer func() { h.process.kill() }()
	workspace := filepath.Join(dir, "workspace.yaml")
	if err := os.WriteFile(workspace, []byte("audiences:\n  - {key: imported, name: Imported, definition: {query: \"trait('stays') >= 0\"}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := h.kith("apply", "-f", workspace); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := filepath.Join(dir, "guests.csv")
	if err := os.WriteFile(file, importFile(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := h.kith("import", "profiles", file, "--mapping", `{"stays":{"type":"number"}}`, "--no-wait")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	id := strings.TrimSpace(string(out))
	c := h.client()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	for crash := range importCrashes {
		// Somewhere in the middle, each time further on.
		want := uint64(importRows * (crash + 1) / (importCrashes + 2))
		var at uint64
		if err := until(ctx, func() error {
			one, err := getImport(ctx, c, id)
			if err != nil {
				return err
			}
			if at = one.RowsRead; at < want {
				return fmt.Errorf("%d rows read, want %d before crash %d: %+v", at, want, crash+1, one)
			}
			return nil
		}); err != nil {
			t.Fatalf("%v\n%s", err, h.process.log)
		}
		h.process.kill()
		t.Logf("crash %d when %d rows were read", crash+1, at)
		if at == importRows {
			t.Error("the import had read everything before the crash")
		}
		h.start()
	}

	// kith import resume follows it to its end, and fails because of the rows
	// that were not sent.
	report := filepath.Join(dir, "errors.csv")
	out, err = h.kith("import", "resume", id, "--report", report)
	bad := importRows / importBad
	if err == nil || !strings.Contains(string(out), fmt.Sprintf("%d of 60,000 rows were not sent; they are in %s", bad, report)) {
		t.Fatalf("%v\n%s", err, out)
	}
	one, err := getImport(ctx, c, id)
	if err != nil || one.State != "finished" || one.RowsRead != importRows || one.RowsSent != importRows-uint64(bad) || one.RowsFailed != uint64(bad) || one.ErrorsReported != uint64(bad) {
		t.Fatalf("%+v, %v", one, err)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(lines) != bad+1 {
		t.Fatalf("%d lines in the report, want %d: %v", len(lines), bad+1, err)
	}
	for i, line := range lines[1:] {
		if want := strconv.Itoa((i + 1) * importBad); line[0] != want || line[2] != "stays" || line[3] != "many" {
			t.Errorf("line %d of the report is %q, want row %s", i+1, line, want)
		}
	}

	if err := until(ctx, func() error {
		audiences, err := c.Audiences(ctx, "default")
		if err != nil {
			return err
		}
		if n := audiences[0].Size.Count; int(n) != importRows-bad {
			return fmt.Errorf("%d profiles, want %d", n, importRows-bad)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for row := 1; row <= importRows; row += 131 {
		traits, _, err := c.Traits(ctx, client.Profile{Space: "default", ID: fmt.Sprintf("user_id:g%d", row)}, client.Page{Limit: 100})
		if row%importBad == 0 {
			if err == nil {
				t.Errorf("row %d is wrong and has a profile: %s", row, traits)
			}
			continue
		}
		if err != nil || string(traits["stays"]) != strconv.Itoa(row%50) || string(traits["email"]) != fmt.Sprintf(`"g%d@example.com"`, row) || string(traits["note"]) != fmt.Sprintf(`"%s"`, importNote(row)) {
			t.Fatalf("row %d has the traits %s, %v", row, traits, err)
		}
	}
	// Nothing counted twice: what was sent again after a crash was dropped.
	if err := until(ctx, func() error {
		var schema struct {
			Events []struct {
				Type    string
				Allowed uint64
			}
		}
		if err := c.Call(ctx, "GET", "/sources/"+one.SourceID+"/schema", nil, &schema); err != nil {
			return err
		}
		if len(schema.Events) != 1 || schema.Events[0].Type != "IDENTIFY" || schema.Events[0].Allowed != one.RowsSent {
			return fmt.Errorf("the source counts %+v, want %d identify calls", schema.Events, one.RowsSent)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "data", "imports", id)); err != nil || len(entries) != 1 || entries[0].Name() != "errors.csv" {
		t.Errorf("the folder of the import has %v, %v", entries, err)
	}
	if err := h.process.stop(); err != nil {
		t.Error(err)
	}
}

// importFile is the file: rows with line breaks in quotes among others, and some
// that are wrong.
func importFile() []byte {
	var b bytes.Buffer
	b.WriteString("user_id;email;stays;note\r\n")
	for row := 1; row <= importRows; row++ {
		stays := strconv.Itoa(row % 50)
		if row%importBad == 0 {
			stays = "many"
		}
		fmt.Fprintf(&b, "g%d;g%d@example.com;%s;\"%s\"\r\n", row, row, stays, strings.ReplaceAll(importNote(row), `\n`, "\r\n"))
	}
	return b.Bytes()
}

// importNote is a trait of a row as it stands in JSON.
func importNote(row int) string {
	if row%10 == 0 {
		return fmt.Sprintf(`guest %d;\nlikes the sea`, row)
	}
	return fmt.Sprintf("guest %d", row)
}

func getImport(ctx context.Context, c *client.Client, id string) (*api.Import, error) {
	var out struct {
		Import api.Import `json:"import"`
	}
	err := c.Call(ctx, "GET", client.ImportPath("default", id), nil, &out)
	return &out.Import, err
}

// kith runs a command against the house.
func (h *crashHouse) kith(args ...string) ([]byte, error) {
	cmd := exec.CommandContext(h.t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), "KITH_ADMIN_TOKEN="+adminToken, "KITH_URL=http://"+h.listen)
	return cmd.CombinedOutput()
}
