package query

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"kith/fault"
)

var rewrite = flag.Bool("rewrite", false, "write what is found into the golden files")

// TestGolden reads testdata: cases of a query, every line behind "> ", and
// below it what becomes of it, behind "= ", or the error, behind "! ".
func TestGolden(t *testing.T) {
	outcomes := map[string]func(string) (string, error){
		"testdata/parse.txt": func(text string) (string, error) {
			n, err := Parse(text)
			if err != nil {
				return "", err
			}
			return String(n), nil
		},
		"testdata/check.txt": func(text string) (string, error) {
			p, err := ParseAudience(text)
			if err != nil {
				return "", err
			}
			return describe(p), nil
		},
	}
	for file, outcome := range outcomes {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		for block := range strings.SplitSeq(strings.TrimSpace(string(data)), "\n\n") {
			var query, want, note []string
			for line := range strings.SplitSeq(block, "\n") {
				switch {
				case strings.HasPrefix(line, "> ") || line == ">":
					query = append(query, strings.TrimPrefix(line[1:], " "))
				case strings.HasPrefix(line, "#"):
					note = append(note, line)
				default:
					want = append(want, line)
				}
			}
			text := strings.Join(query, "\n")
			got, err := outcome(text)
			got = "= " + strings.ReplaceAll(got, "\n", "\n= ")
			if err != nil {
				var at *Error
				if !errors.As(err, &at) || !fault.Is(err, fault.Invalid) {
					t.Errorf("%s: the error of %q has no place or kind: %v", file, text, err)
				}
				got = "! " + err.Error()
			}
			if w := strings.Join(want, "\n"); got != w && !*rewrite {
				t.Errorf("%s: %s\n got %s\nwant %s", file, text, got, w)
			}
			for _, line := range note {
				out.WriteString(line + "\n")
			}
			if len(query) > 0 {
				out.WriteString("> " + strings.Join(query, "\n> ") + "\n" + got + "\n\n")
			} else {
				out.WriteString("\n")
			}
		}
		if *rewrite {
			if err := os.WriteFile(file, []byte(strings.TrimSuffix(out.String(), "\n")), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func describe(p *Program) string {
	var b strings.Builder
	b.WriteString(p.String())
	for _, tr := range p.Traits {
		b.WriteString("\ntrait " + strings.Join(tr.Path, " > "))
	}
	for _, a := range p.Aggregates {
		b.WriteString("\ncount " + quote(a.Event))
		if a.Filter != nil {
			b.WriteString(" where " + a.Filter.String())
			if a.Filter.Dynamic() {
				b.WriteString(" (dynamic)")
			}
		}
		if !a.Window.Whole() {
			hour := unitMillis["hour"]
			b.WriteString(" age " + itoa(a.Window.From/hour) + "h to " + itoa(a.Window.To/hour) + "h")
		}
		b.WriteString(" needed " + itoa(a.Needed))
	}
	return b.String()
}
