package e2e

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kith/client"
)

// The tests of data_*_test.go send public data sets through the binary and
// compare what Kith says with what counting by hand says. The data is not part
// of the project: KITH_DATASETS names the folder it lies in.

// How events are packed into requests.
const (
	dataAtOnce = 200
	dataBytes  = 512 << 10
)

// dataset calls fn with every row of a gzipped CSV file of the data folder, by
// column. Without KITH_DATASETS the test is skipped; with it, the file must be
// there.
func dataset(t *testing.T, fn func(row map[string]string) error, path ...string) {
	t.Helper()
	folder := os.Getenv("KITH_DATASETS")
	if folder == "" {
		t.Skipf("KITH_DATASETS is not set: it names the folder with the public data set %s", filepath.Join(path...))
	}
	file, err := os.Open(filepath.Join(append([]string{folder}, path...)...))
	if err != nil {
		t.Fatalf("KITH_DATASETS is set, and should hold the data set: %v", err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(bufio.NewReaderSize(file, 1<<20))
	if err != nil {
		t.Fatalf("%s: %v", file.Name(), err)
	}
	rows := csv.NewReader(unpacked)
	rows.ReuseRecord = true
	head, err := rows.Read()
	if err != nil {
		t.Fatalf("%s: %v", file.Name(), err)
	}
	columns := append([]string(nil), head...)
	row := make(map[string]string, len(columns))
	for line := 2; ; line++ {
		cells, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			for i, cell := range cells {
				row[columns[i]] = cell
			}
			err = fn(row)
		}
		if err != nil {
			t.Fatalf("%s: line %d: %v", file.Name(), line, err)
		}
	}
}

// call is one call of the Tracking API, as far as the data needs it.
type call struct {
	Type        string         `json:"type"`
	Event       string         `json:"event,omitempty"`
	MessageID   string         `json:"messageId"`
	UserID      string         `json:"userId,omitempty"`
	AnonymousID string         `json:"anonymousId,omitempty"`
	Timestamp   string         `json:"timestamp"`
	Properties  map[string]any `json:"properties,omitempty"`
	Traits      map[string]any `json:"traits,omitempty"`
}

// thousandths is an exact number with three decimals.
type thousandths int64

// parseThousandths reads a decimal number as it stands in a file.
func parseThousandths(text string) (thousandths, error) {
	whole, part, _ := strings.Cut(text, ".")
	if len(part) > 3 {
		return 0, fmt.Errorf("%q has more than three decimals", text)
	}
	n, err := strconv.ParseInt(whole+part+strings.Repeat("0", 3-len(part)), 10, 64)
	return thousandths(n), err
}

// String writes the number with all its decimals.
func (n thousandths) String() string {
	sign := ""
	if n < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%03d", sign, n/1000, n%1000)
}

// MarshalJSON writes the number exactly.
func (n thousandths) MarshalJSON() ([]byte, error) { return []byte(n.String()), nil }

// dataHouse is a server, the client that talks to it, and its log.
type dataHouse struct {
	t       *testing.T
	dir     string
	process *process
	client  *client.Client
}

// openHouse starts a server with data of its own. It stops with the test.
func openHouse(t *testing.T, args ...string) *dataHouse {
	t.Helper()
	h := &dataHouse{t: t, dir: t.TempDir()}
	args = append([]string{"--data", "data", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"}, args...)
	var err error
	if h.process, err = start(t.Context(), h.dir, args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.process.stop(); err != nil {
			t.Error(err)
		}
	})
	if h.client, err = client.New(h.process.base, adminToken, nil); err != nil {
		t.Fatal(err)
	}
	return h
}

// apply makes the workspace what the file says, with kith apply.
func (h *dataHouse) apply(file string) {
	h.t.Helper()
	cmd := exec.Command(binary, "apply", "-f", "-", "--server", h.process.base)
	cmd.Env, cmd.Stdin = append(os.Environ(), "KITH_ADMIN_TOKEN="+adminToken), strings.NewReader(file)
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("kith apply: %v\n%s", err, out)
	}
}

// send sends the calls in their order, packed into batches.
func (h *dataHouse) send(ctx context.Context, writeKey string, calls []*call) error {
	var batch []json.RawMessage
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := h.client.SendBatch(ctx, writeKey, batch)
		batch, size = batch[:0], 0
		return err
	}
	for _, c := range calls {
		body, err := json.Marshal(c)
		if err != nil {
			return err
		}
		if len(batch) == dataAtOnce || size+len(body) > dataBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		batch, size = append(batch, body), size+len(body)
	}
	return flush()
}

// metrics returns /metrics, by series.
func (h *dataHouse) metrics(ctx context.Context) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.process.base+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	all := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		series, value, ok := cutLast(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil {
			all[series] = n
		}
	}
	return all, lines.Err()
}

func cutLast(text, sep string) (before, after string, found bool) {
	i := strings.LastIndex(text, sep)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(sep):], true
}

// seen returns how many events passed a stage, from any source.
func (h *dataHouse) seen(ctx context.Context, stage string) (total int, err error) {
	all, err := h.metrics(ctx)
	for series, n := range all {
		if strings.HasPrefix(series, "kith_seen_total{") && strings.Contains(series, `stage="`+stage+`"`) {
			total += int(n)
		}
	}
	return total, err
}

// audiences returns the audiences of the default space, by key.
func (h *dataHouse) audiences(ctx context.Context) (map[string]client.Audience, error) {
	list, err := h.client.Audiences(ctx, "default")
	all := make(map[string]client.Audience, len(list))
	for i := range list {
		all[list[i].Key] = list[i]
	}
	return all, err
}

// compareSizes holds the sizes of audiences to those counted by hand.
func (h *dataHouse) compareSizes(ctx context.Context, when string, want map[string]int) error {
	all, err := h.audiences(ctx)
	if err != nil {
		return err
	}
	var wrong []error
	for key, n := range want {
		switch a, ok := all[key]; {
		case !ok:
			wrong = append(wrong, fmt.Errorf("%s: there is no audience %s", when, key))
		case a.Size.Count != uint64(n):
			wrong = append(wrong, fmt.Errorf("%s: %s (%s, %s) has %d members, counted by hand %d", when, key, a.Definition.Query, a.Status, a.Size.Count, n))
		}
	}
	return errors.Join(wrong...)
}

// advance moves the test clock. All that is due by then has been done, and has
// been delivered, when it returns.
func (h *dataHouse) advance(ctx context.Context, by time.Duration) error {
	return h.client.Call(ctx, "POST", "/test-clock", map[string]string{"advance": by.String()}, nil)
}

// instant writes a time as events have it.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// parseInstant reads the time of an event.
func parseInstant(text string) (time.Time, error) { return time.Parse(time.RFC3339, text) }
