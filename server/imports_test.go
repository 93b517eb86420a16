package server

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"kith/client"
)

// control asks the control API of a server and returns the status and the
// answer.
func control(t testing.TB, s *Server, base, method, path string, body io.Reader) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, base+"/api"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.AdminToken())
	request.Header.Set("Content-Type", "text/csv")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestImportInMemory imports into a server that keeps nothing: the files are in
// a temporary folder, which goes with it.
func TestImportInMemory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, base, stop := running(t, inMemory())
	code, answer := control(t, s, base, "POST", "/spaces/default/imports?name=a.csv", strings.NewReader("email,plan\nann@example.com,gold\n,silver\n"))
	if code != http.StatusCreated {
		t.Fatal(code, answer)
	}
	id := gjson.Get(answer, "data.import.id").Str
	deadline := time.Now().Add(20 * time.Second)
	for gjson.Get(answer, "data.import.state").Str != "finished" {
		if time.Now().After(deadline) {
			t.Fatal(answer)
		}
		if code, answer = control(t, s, base, "GET", "/spaces/default/imports/"+id, nil); code != http.StatusOK {
			t.Fatal(code, answer)
		}
	}
	if gjson.Get(answer, "data.import.rowsSent").Int() != 1 || gjson.Get(answer, "data.import.rowsFailed").Int() != 1 {
		t.Errorf("answered %s", answer)
	}
	if code, report := control(t, s, base, "GET", "/spaces/default/imports/"+id+"/errors.csv", nil); code != http.StatusOK || !strings.Contains(report, "2,3,,,") {
		t.Errorf("%d %s", code, report)
	}
	if text := metrics(t, base); !strings.Contains(text, `kith_import_rows_total{outcome="sent"} 1`) || !strings.Contains(text, `kith_import_rows_total{outcome="failed"} 1`) {
		t.Errorf("the metrics do not tell of the rows:\n%s", text)
	}
	if code, answer := control(t, s, base, "POST", "/spaces/default/imports/"+id+"/pause", nil); code != http.StatusConflict {
		t.Errorf("%d %s", code, answer)
	}
	c, err := client.New(base, s.AdminToken(), nil)
	if err != nil {
		t.Fatal(err)
	}
	traits, _, err := c.Traits(t.Context(), client.Profile{Space: "default", ID: "email:ann@example.com"}, client.Page{Limit: 10})
	if err != nil || string(traits["plan"]) != `"gold"` {
		t.Errorf("traits %s, %v", traits, err)
	}
	if found, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "kith-imports-*")); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
	stop()
	if found, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "kith-imports-*")); err != nil || len(found) != 0 {
		t.Errorf("left behind: %v, %v", found, err)
	}
}

func metrics(t *testing.T, base string) string {
	t.Helper()
	response, err := http.Get(base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// endless is a file without an end, which counts what was read of it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, "name,plan\n")
	e.read += n
	return n, nil
}

// TestImportRefusedEarly has a header that is wrong: the rest of the file is not
// waited for.
func TestImportRefusedEarly(t *testing.T) {
	s, base, _ := running(t, inMemory())
	file := &endless{}
	code, answer := control(t, s, base, "POST", "/spaces/default/imports", file)
	if code != http.StatusUnprocessableEntity || !strings.Contains(answer, "no column is an identifier") {
		t.Errorf("%d %s", code, answer)
	}
	t.Logf("%d bytes were read", file.read)
	for path, want := range map[string]int{
		"/spaces/nowhere/imports": http.StatusNotFound, "/spaces/default/imports?collection=people": http.StatusUnprocessableEntity,
		"/spaces/default/imports?mapping=no": http.StatusUnprocessableEntity,
	} {
		if code, answer := control(t, s, base, "POST", path, strings.NewReader("user_id\nu1\n")); code != want {
			t.Errorf("%s: %d %s", path, code, answer)
		}
	}
}

// TestImportWithoutRoles asks a server that has not the roles for it.
func TestImportWithoutRoles(t *testing.T) {
	cfg := inMemory()
	cfg.Roles = []Role{API, Pipeline}
	s, base, _ := running(t, cfg)
	if code, answer := control(t, s, base, "POST", "/spaces/default/imports", strings.NewReader("user_id\nu1\n")); code != http.StatusServiceUnavailable || !strings.Contains(answer, "role collect or pipeline") {
		t.Errorf("%d %s", code, answer)
	}
}

// BenchmarkImport imports 200,000 rows of five columns into a server on disk,
// from the first byte of the upload until the last profile can be read.
func BenchmarkImport(b *testing.B) {
	const rows = 200_000
	var file bytes.Buffer
	file.WriteString("user_id,email,first_name,nights,vip\n")
	for i := range rows {
		fmt.Fprintf(&file, "u%d,u%d@example.com,Guest %d,%d,%v\n", i, i, i, i%30, i%7 == 0)
	}
	for range b.N {
		b.StopTimer()
		s, base, stop := running(b, onDisk(b.TempDir()))
		b.StartTimer()
		begun := time.Now()
		code, answer := control(b, s, base, "POST", "/spaces/default/imports", bytes.NewReader(file.Bytes()))
		uploaded := time.Since(begun)
		if code != http.StatusCreated {
			b.Fatal(code, answer)
		}
		id := gjson.Get(answer, "data.import.id").Str
		for gjson.Get(answer, "data.import.state").Str != "finished" {
			if time.Since(begun) > 5*time.Minute {
				b.Fatal(answer)
			}
			tick := time.NewTimer(20 * time.Millisecond)
			<-tick.C
			if code, answer = control(b, s, base, "GET", "/spaces/default/imports/"+id, nil); code != http.StatusOK {
				b.Fatal(code, answer)
			}
		}
		took := time.Since(begun)
		b.StopTimer()
		if sent := gjson.Get(answer, "data.import.rowsSent").Int(); sent != rows {
			b.Fatalf("%d rows sent", sent)
		}
		b.ReportMetric(rows/took.Seconds(), "rows/s")
		b.ReportMetric(float64(file.Len())/took.Seconds()/1e6, "MB/s")
		b.ReportMetric(uploaded.Seconds(), "upload-s")
		stop()
	}
}
