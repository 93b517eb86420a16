package demo

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// counters reads what the server has counted since it started.
func (d *demo) counters(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.cfg.Client.Base()+"/metrics", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	seen := seenByStage(response.Body)
	d.tally.change(func(f *Figures) {
		f.Duplicates, f.Blocked, f.Rejected = seen["duplicate"], seen["blocked"], seen["rejected"]
	})
	return nil
}

// seenByStage sums the counter kith_seen_total of a metrics page (Prometheus
// text format) by its label "stage".
func seenByStage(page io.Reader) map[string]int {
	seen := map[string]int{}
	lines := bufio.NewScanner(page)
	for lines.Scan() {
		labels, value, ok := strings.Cut(lines.Text(), "} ")
		_, rest, found := strings.Cut(labels, `stage="`)
		if !ok || !found || !strings.HasPrefix(labels, "kith_seen_total{") {
			continue
		}
		stage, _, _ := strings.Cut(rest, `"`)
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			seen[stage] += int(n)
		}
	}
	return seen
}
