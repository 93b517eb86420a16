package collect_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"kith/collect"
	"kith/event"
)

// Offline is a batch of one event from a device: how far its clock is ahead,
// how long before it was received the event happened, and the batch's sentAt
// was written.
func TestOfflineTimestamps(t *testing.T) {
	const (
		hour = time.Hour
		day  = 24 * hour
	)
	tests := []struct {
		name                    string
		library                 string
		ahead, happened, stamps time.Duration
		retries                 string
		off                     time.Duration // of the stored timestamp from when the event happened
	}{
		// A clock that is wrong, and nothing that waits: the formula, for everybody.
		{"clock ahead", "analytics-kotlin", hour, 20 * time.Second, 0, "", 0},
		{"clock ahead, swift", "analytics-swift", hour, 20 * time.Second, 0, "", 0},
		{"clock ahead, browser", "analytics.js", hour, 20 * time.Second, 0, "", 0},
		{"clock ahead and tried again", "analytics.js", hour, 20 * time.Second, 0, "3", 0},
		{"clock behind, browser", "analytics.js", -hour, 20 * time.Second, 0, "", 0},
		{"clock behind, node, tried again", "@segment/analytics-node", -hour, 20 * time.Second, 0, "2", 0},
		{"clock a little behind", "analytics-kotlin", -4 * time.Minute, 20 * time.Second, 0, "", 0},
		{"clock of a server behind", "analytics-java", -hour, 20 * time.Second, 0, "", 0},
		{"an unknown sender", "curl", -day, hour, 0, "", 0},

		// A clock that is right, and a file that waits: as sent.
		{"kotlin, a day offline", "analytics-kotlin", 0, day + time.Minute, day, "", 0},
		{"swift, a week offline", "analytics-swift", 0, 7*day + time.Minute, 7 * day, "", 0},
		{"C#, an hour offline", "Analytics-CSharp", 0, hour + time.Minute, hour, "", 0},
		{"swift, tried again after a minute", "analytics-swift", 0, 2 * time.Minute, time.Minute, "1", 0},
		{"java, tried again for three hours", "analytics-java", 0, 3*hour + time.Second, 3 * hour, "12", 0},
		{"a clock a minute ahead, a day offline", "analytics-kotlin", time.Minute, day + time.Minute, day, "4", time.Minute},

		// What restamps tells the truth however long it has waited.
		{"browser, a day offline", "analytics.js", 0, day, 0, "1", 0},
		{"react native, a day offline, clock ahead", "@segment/analytics-react-native", hour, day, 0, "7", 0},
		{"flutter, a day offline, clock behind", "analytics_flutter", -hour, day, 0, "", 0},

		// What nobody can know.
		{"kotlin, three minutes, not said to be tried again", "analytics-kotlin", 0, 4 * time.Minute, 3 * time.Minute, "", 3 * time.Minute},
		{"kotlin, a clock an hour behind", "analytics-kotlin", -hour, 20 * time.Second, 0, "", -hour},
		{"kotlin, a clock an hour ahead, a day offline", "analytics-kotlin", hour, day + time.Minute, day, "", hour},
	}
	f := newFront(t, nil)
	for _, tt := range tests {
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", tt.name, shared), func(t *testing.T) {
				context := fmt.Sprintf(`"context":{"library":{"name":%q}},`, tt.library)
				item, batch := context, ""
				if shared {
					item, batch = "", context
				}
				original := event.FormatTime(now.Add(tt.ahead - tt.happened))
				body := fmt.Sprintf(`{%s"batch":[{%s"type":"track","userId":"u","event":"E","messageId":"m","timestamp":%q}],"sentAt":%q,"writeKey":"key-web"}`,
					batch, item, original, event.FormatTime(now.Add(tt.ahead-tt.stamps)))
				r := request("POST", "/v1/b", body)
				if tt.retries != "" {
					r.Header.Set("X-Retry-Count", tt.retries)
				}
				if w := f.do(r); w.Code != 200 {
					t.Fatalf("answered %d %s", w.Code, w.Body)
				}
				records := f.stored(t)
				if len(records) != 1 {
					t.Fatalf("stored %q", bodies(records))
				}
				e, err := event.Parse(records[0].Body)
				if err != nil {
					t.Fatal(err)
				}
				if off := e.Timestamp.Sub(now.Add(-tt.happened)); off != tt.off || e.Get("originalTimestamp").Str != original {
					t.Errorf("%s, which is off by %v, want %v: %s", e.Timestamp, off, tt.off, records[0].Body)
				}
			})
		}
	}
}

// A time that cannot be read is no reason to lose an event, and none to keep
// silent.
func TestUnreadableTimes(t *testing.T) {
	tests := []struct {
		name, path, body string
		timestamp        string
		fields           []string // of the warnings, with *n when it is not one
	}{
		{"words", "/v1/track", `{"userId":"u","event":"E","messageId":"m","timestamp":"yesterday"}`, stamp, []string{"timestamp m"}},
		{"a number", "/v1/track", `{"userId":"u","event":"E","messageId":"m","timestamp":1767323045678}`, stamp, []string{"timestamp m"}},
		{"before 1970", "/v1/track", `{"userId":"u","event":"E","timestamp":"1969-12-31T23:59:59Z"}`, stamp, []string{"timestamp "}},
		{"the 31st of February", "/v1/track", `{"userId":"u","event":"E","timestamp":"2025-02-31T00:00:00Z"}`, stamp, []string{"timestamp "}},
		{"sentAt", "/v1/track", `{"userId":"u","event":"E","timestamp":"2025-12-31T00:00:00Z","sentAt":"soon"}`, "2025-12-31T00:00:00.000Z", []string{"sentAt "}},
		{"both", "/v1/track", `{"userId":"u","event":"E","timestamp":"x","sentAt":"y"}`, stamp, []string{"timestamp ", "sentAt "}},
		{"sentAt alone", "/v1/track", `{"userId":"u","event":"E","sentAt":"y"}`, stamp, []string{"sentAt "}},
		{"empty and null are not sent", "/v1/track", `{"userId":"u","event":"E","timestamp":"","sentAt":null}`, stamp, nil},
		{"once for a batch", "/v1/batch", `{"sentAt":"?","batch":[` + strings.Repeat(`{"type":"page","userId":"u"},`, 3) + `{"type":"page","userId":"u","messageId":"m","timestamp":"x"}]}`, stamp,
			[]string{"timestamp m", "sentAt *4"}},
		{"not for what is refused anyway", "/v1/track", `{"event":"E","timestamp":"x"}`, "", []string{"refused"}},
	}
	f := newFront(t, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if w := f.do(request("POST", tt.path, tt.body, basic)); w.Code != 200 {
				t.Fatalf("answered %d %s", w.Code, w.Body)
			}
			for _, r := range f.stored(t) {
				if at := event.FormatTime(time.UnixMilli(r.Time)); at != tt.timestamp {
					t.Errorf("stored as of %s, want %s", at, tt.timestamp)
				}
			}
			var fields []string
			for _, x := range f.rejected.take() {
				switch {
				case !x.Warning:
					fields = append(fields, "refused")
				case x.Code != collect.CodeTimeUnreadable || len(x.Sample) == 0:
					t.Errorf("warned of %+v", x)
				case x.Count > 1:
					fields = append(fields, fmt.Sprintf("%s %s*%d", x.Field, x.MessageID, x.Count))
				default:
					fields = append(fields, x.Field+" "+x.MessageID)
				}
			}
			if fmt.Sprint(fields) != fmt.Sprint(tt.fields) {
				t.Errorf("told of %q, want %q", fields, tt.fields)
			}
		})
	}
}
