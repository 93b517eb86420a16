package e2e

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"golang.org/x/sync/errgroup"

	"kith/script"
)

// What is known of the data set Hotel Booking Demand.
var hotelKnown = map[string]int{
	"bookings": 119_390, "cancelled": 44_224, "resort": 40_060, "city": 79_330, "repeated": 3_810,
	"direct": 14_645, "agents": 97_870, "corporate": 6_677, "gds": 193,
}

// hotelSenders send at the same time.
const hotelSenders = 4

// hotelSubset is how many bookings -short sends.
const hotelSubset = 10_000

// hotelAudience is an audience, and a booking's membership counted by hand.
type hotelAudience struct {
	query string
	in    func(row map[string]string) bool
}

// either wants one booking, completed or cancelled, that meets the condition.
func either(condition string) string {
	return fmt.Sprintf("event('Booking Completed').where(%s).count() >= 1 OR event('Booking Cancelled').where(%s).count() >= 1", condition, condition)
}

func has(column, value string) func(map[string]string) bool {
	return func(row map[string]string) bool { return row[column] == value }
}

var hotelAudiences = map[string]hotelAudience{
	"bookings":  {"event('Booking Completed').count() >= 1 OR event('Booking Cancelled').count() >= 1", func(map[string]string) bool { return true }},
	"cancelled": {"event('Booking Cancelled').count() >= 1", has("is_canceled", "1")},
	"resort":    {either("property('hotel') = 'Resort Hotel'"), has("hotel", "Resort Hotel")},
	"city":      {either("property('hotel') = 'City Hotel'"), has("hotel", "City Hotel")},
	"repeated":  {either("property('repeated_guest') = true"), has("is_repeated_guest", "1")},
	"direct":    {either("property('distribution_channel') = 'Direct'"), has("distribution_channel", "Direct")},
	"agents":    {either("property('distribution_channel') = 'TA/TO'"), has("distribution_channel", "TA/TO")},
	"corporate": {either("property('distribution_channel') = 'Corporate'"), has("distribution_channel", "Corporate")},
	"gds":       {either("property('distribution_channel') = 'GDS'"), has("distribution_channel", "GDS")},
	"direct_lost": {
		"event('Booking Cancelled').where(property('distribution_channel') = 'Direct' AND property('lead_time') > 30).count() >= 1",
		func(row map[string]string) bool {
			var days int
			_, err := fmt.Sscan(row["lead_time"], &days)
			return err == nil && days > 30 && row["is_canceled"] == "1" && row["distribution_channel"] == "Direct"
		},
	},
	"dear": {
		"event('Booking Completed').where(property('adr') >= 199.99).count() >= 1",
		func(row map[string]string) bool {
			rate, err := parseThousandths(row["adr"])
			return err == nil && rate >= 199_990 && row["is_canceled"] == "0"
		},
	},
}

// hotelTold is the audience that is connected to a destination.
const hotelTold = "direct"

// hotelWorkspace writes the audiences, live ones before the load and others
// after it; the first are connected.
func hotelWorkspace(sink, prefix string) string {
	var b strings.Builder
	if prefix == "live" {
		b.WriteString("name: Hotels\nslug: hotels\nsources:\n  - {slug: booking-engine, name: Booking engine, writeKeys: [booking-key]}\ndestinations:\n")
		fmt.Fprintf(&b, "  - {slug: told, name: Told, metadataId: webhook, settings: {url: %q, batch: {size: 500, maxAgeMs: 50}}}\n", sink+"/told")
	}
	b.WriteString("audiences:\n")
	for key, a := range hotelAudiences {
		fmt.Fprintf(&b, "  - name: %s %s\n    definition: {query: %q}\n", prefix, key, a.query)
		if prefix == "live" && key == hotelTold {
			b.WriteString("    connections: [{destination: told, activations: [{activationName: In, activationType: Audience Entered}]}]\n")
		}
	}
	return b.String()
}

// TestHotelBookings sends 119,390 bookings of two hotels through the line, each
// with a guest of its own since the data names none, and compares audiences by
// channel and the like with what is known of the data: first those that were
// there before the load, then the same computed from history after it.
func TestHotelBookings(t *testing.T) {
	var calls []*call
	want, direct := map[string]int{}, map[string]bool{}
	dataset(t, func(row map[string]string) error {
		if testing.Short() && len(calls) == hotelSubset {
			return nil
		}
		c, err := booking(row, len(calls))
		if err != nil {
			return err
		}
		calls = append(calls, c)
		for key, a := range hotelAudiences {
			if a.in(row) {
				want[key]++
			}
		}
		if hotelAudiences[hotelTold].in(row) {
			direct[c.UserID] = true
		}
		return nil
	}, "hotel_bookings", "hotel_bookings.csv.gz")
	for key, n := range hotelKnown {
		if want[key] != n && !testing.Short() {
			t.Errorf("%s: the file has %d, known is %d", key, want[key], n)
		}
	}
	slices.SortStableFunc(calls, func(a, b *call) int { return strings.Compare(a.Timestamp, b.Timestamp) })

	sink := &script.Receiver{}
	web := httptest.NewServer(sink)
	t.Cleanup(web.Close)
	h := openHouse(t)
	h.apply(hotelWorkspace(web.URL, "live"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	if err := h.allLive(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	senders, sending := errgroup.WithContext(ctx)
	for i := range hotelSenders {
		senders.Go(func() error {
			return h.send(sending, "booking-key", calls[len(calls)*i/hotelSenders:len(calls)*(i+1)/hotelSenders])
		})
	}
	if err := senders.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bookings acknowledged after %.1f s", len(calls), time.Since(began).Seconds())
	if err := h.drained(ctx, len(calls)); err != nil {
		t.Fatal(err)
	}
	t.Logf("they had passed the line after %.1f s", time.Since(began).Seconds())
	live, after := map[string]int{}, map[string]int{}
	for key, n := range want {
		live["live_"+key], after["after_"+key] = n, n
	}
	if err := h.compareSizes(ctx, "live", live); err != nil {
		t.Error(err)
	}
	h.checkEntered(ctx, sink, direct)

	began = time.Now()
	h.apply(hotelWorkspace(web.URL, "after"))
	if err := h.allLive(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d audiences were computed from history after %.1f s", len(after), time.Since(began).Seconds())
	if err := h.compareSizes(ctx, "from history", after); err != nil {
		t.Error(err)
	}
	h.compareMembers(ctx, "live_direct", "after_direct")
}

// booking makes a call of a row of the file.
func booking(row map[string]string, number int) (*call, error) {
	at, err := time.Parse(time.DateOnly, row["reservation_status_date"])
	if err != nil {
		return nil, err
	}
	rate, err := parseThousandths(row["adr"])
	if err != nil {
		return nil, err
	}
	var days int
	if _, err := fmt.Sscan(row["lead_time"], &days); err != nil {
		return nil, err
	}
	c := &call{
		Type: "track", Event: "Booking Completed", MessageID: fmt.Sprintf("booking-%d", number), UserID: fmt.Sprintf("guest-%d", number), Timestamp: instant(at),
		Properties: map[string]any{
			"hotel": row["hotel"], "distribution_channel": row["distribution_channel"], "market_segment": row["market_segment"], "country": row["country"],
			"repeated_guest": row["is_repeated_guest"] == "1", "lead_time": days, "adr": rate, "room_type": row["reserved_room_type"], "meal": row["meal"],
		},
	}
	if row["is_canceled"] == "1" {
		c.Event = "Booking Cancelled"
	}
	return c, nil
}

// allLive waits until every audience has been computed.
func (h *dataHouse) allLive(ctx context.Context) error {
	return until(ctx, func() error {
		all, err := h.audiences(ctx)
		if err != nil {
			return err
		}
		for key, a := range all {
			if a.Status != "Live" {
				return fmt.Errorf("%s is %s", key, a.Status)
			}
		}
		return nil
	})
}

// drained waits until the loop has passed so many events.
func (h *dataHouse) drained(ctx context.Context, events int) error {
	return until(ctx, func() error {
		n, err := h.seen(ctx, "admitted")
		if err != nil {
			return err
		}
		if n != events {
			return fmt.Errorf("%d of %d events have passed the loop", n, events)
		}
		return nil
	})
}

// checkEntered waits for what the audience tells and holds it to the guests
// counted by hand: each is told of once.
func (h *dataHouse) checkEntered(ctx context.Context, sink *script.Receiver, guests map[string]bool) {
	h.t.Helper()
	if err := until(ctx, func() error {
		if n := len(sink.Delivered("told")); n < len(guests) {
			return fmt.Errorf("%d entries of %d were announced", n, len(guests))
		}
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	times := map[string]int{}
	for _, e := range sink.Delivered("told") {
		if name := gjson.GetBytes(e, "event").String(); name != "Audience Entered" {
			h.t.Errorf("%s was announced", name)
		}
		times[gjson.GetBytes(e, "userId").String()]++
	}
	for guest, n := range times {
		if n != 1 || !guests[guest] {
			h.t.Errorf("%s was announced %d times; counted by hand: %v", guest, n, guests[guest])
		}
	}
	if len(times) != len(guests) {
		h.t.Errorf("%d guests were announced, counted by hand %d", len(times), len(guests))
	}
}

// compareMembers holds two audiences to each other, member by member.
func (h *dataHouse) compareMembers(ctx context.Context, one, other string) {
	h.t.Helper()
	all, err := h.audiences(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	members := map[string][]string{}
	for _, key := range []string{one, other} {
		a := all[key]
		list, err := h.client.Members(ctx, "default", a.ID, int(a.Size.Count)+1)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, m := range list {
			members[key] = append(members[key], m.ID)
		}
		if uint64(len(list)) != a.Size.Count {
			h.t.Errorf("%s lists %d members and says it has %d", key, len(list), a.Size.Count)
		}
	}
	if !slices.Equal(members[one], members[other]) {
		h.t.Errorf("%s and %s have different members", one, other)
	}
}
