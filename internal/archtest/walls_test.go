package archtest

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// walls are all checks, with the file of testdata that breaks each.
var walls = []struct {
	name   string
	check  func(*tree) []string
	broken string // a txtar whose comment lists what must be found, one piece a line
}{
	{"direction", checkDirection, "direction.txtar"},
	{"libraries", checkLibraries, "libraries.txtar"},
	{"names", checkNames, "names.txtar"},
	{"docs", checkDocs, "docs.txtar"},
	{"clock", checkClock, "clock.txtar"},
	{"sleep", checkSleep, "sleep.txtar"},
	{"state", checkState, "state.txtar"},
	{"unfinished", checkUnfinished, "unfinished.txtar"},
	{"output", checkOutput, "output.txtar"},
	{"keys", checkKeys, "keys.txtar"},
	{"files", checkFiles, "files.txtar"},
}

func TestWallsHold(t *testing.T) {
	repository, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(repository.pkgs) < 10 {
		t.Fatalf("only %d packages found: the walls would hold anything", len(repository.pkgs))
	}
	for _, w := range walls {
		t.Run(w.name, func(t *testing.T) {
			for _, c := range w.check(repository) {
				t.Error(c)
			}
		})
	}
}

// TestWallsCanFail runs each check on a tree that breaks it. The comment of the
// archive lists the expected complaints, all of them.
func TestWallsCanFail(t *testing.T) {
	for _, w := range walls {
		t.Run(w.name, func(t *testing.T) {
			archive, err := txtar.ParseFile("testdata/" + w.broken)
			if err != nil {
				t.Fatal(err)
			}
			files, err := txtar.FS(archive)
			if err != nil {
				t.Fatal(err)
			}
			broken, err := load(files)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSpace(string(archive.Comment)), "\n")
			got := w.check(broken)
			for _, piece := range want {
				found := 0
				for _, c := range got {
					if strings.Contains(c, piece) {
						found++
					}
				}
				if found == 0 {
					t.Errorf("no complaint with %q", piece)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d complaints, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
			}
		})
	}
}
