package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"kith/client"
	"kith/script"
)

// What is known of the data set Online Retail II, 2009-12 to 2010-12.
const (
	retailRows      = 525_461
	retailInvoices  = 28_816
	retailCustomers = 4_383 // with an id
	retailRepeat    = 3_116 // of them with two or more invoices, cancellations counted
	retailSum       = thousandths(9_539_484_634)
	retailTop       = "18102"
	retailTopSum    = thousandths(341_776_730)
)

// How the year is played.
const (
	retailWeeks      = 6 // at the end, week by week; what was before comes at once
	retailStep       = 7 * 24 * time.Hour
	retailLate       = 0.03 // of the events come a step late
	retailDuplicates = 0.02 // of the events come twice
	retailApart      = 40   // places at most by which an event leaves the order of time
	retailLines      = 40   // lines of an invoice that are sent along
)

const (
	ordered   = "Order Completed"
	cancelled = "Order Cancelled"
	adjusted  = "Debt Adjusted" // an invoice that begins with A
)

// invoice is an invoice of the data: its rows together, at the time of the
// first.
type invoice struct {
	number, customer, country string
	at                        time.Time
	event                     string
	total                     thousandths
	lines                     int
	products                  []map[string]any
	arrived                   time.Time // the clock when it was sent; zero before
}

// readRetail returns the invoices in the order of time.
func readRetail(t *testing.T) []*invoice {
	byNumber := map[string]*invoice{}
	var all []*invoice
	rows, sum := 0, thousandths(0)
	dataset(t, func(row map[string]string) error {
		rows++
		at, err := time.Parse(time.DateTime, row["InvoiceDate"])
		if err != nil {
			return err
		}
		price, err := parseThousandths(row["Price"])
		if err != nil {
			return err
		}
		var quantity int64
		if _, err := fmt.Sscan(row["Quantity"], &quantity); err != nil {
			return err
		}
		x := byNumber[row["Invoice"]]
		if x == nil {
			x = &invoice{number: row["Invoice"], customer: row["Customer ID"], country: row["Country"], at: at, event: ordered}
			switch x.number[0] {
			case 'C':
				x.event = cancelled
			case 'A':
				x.event = adjusted
			}
			byNumber[x.number] = x
			all = append(all, x)
		}
		x.lines++
		x.total += price * thousandths(quantity)
		sum += price * thousandths(quantity)
		if x.lines <= retailLines {
			x.products = append(x.products, map[string]any{"sku": row["StockCode"], "price": price, "quantity": quantity})
		}
		return nil
	}, "online_retail", "online_retail_II_2009_2010.csv.gz")
	if rows != retailRows || len(all) != retailInvoices || sum != retailSum {
		t.Fatalf("%d rows, %d invoices, sum %s; the data set is known to have %d, %d, %s", rows, len(all), sum, retailRows, retailInvoices, retailSum)
	}
	slices.SortStableFunc(all, func(a, b *invoice) int { return a.at.Compare(b.at) })
	return all
}

// call returns the invoice as a track call.
func (x *invoice) call() *call {
	c := &call{
		Type: "track", Event: x.event, MessageID: "invoice-" + x.number, Timestamp: instant(x.at),
		Properties: map[string]any{"order_id": x.number, "total": x.total, "currency": "GBP", "lines": x.lines, "country": x.country, "products": x.products},
	}
	if c.UserID = x.customer; c.UserID == "" {
		c.AnonymousID = "till-" + x.number
	}
	return c
}

// retailAudience is an audience and the same counted by hand: of the invoices
// that have arrived by an instant, which it is given, whether there are enough.
type retailAudience struct {
	query     string
	options   string
	told      bool          // connected to a destination
	window    time.Duration // of the simple ones: their window, zero for all time,
	need      int           // how many invoices they want,
	counts    func(*invoice) bool
	anonymous bool // counts those without an id too
}

// in says whether somebody with these invoices is a member at an instant.
func (a *retailAudience) in(invoices []*invoice, at time.Time) bool {
	n := 0
	for _, x := range invoices {
		if x.arrived.IsZero() || x.arrived.After(at) || !a.counts(x) {
			continue
		}
		if a.window == 0 || !x.at.After(at) && at.Before(x.at.Add(a.window)) {
			n++
		}
	}
	return n >= a.need
}

func isOrder(x *invoice) bool { return x.event == ordered }

func isInvoice(x *invoice) bool { return x.event == ordered || x.event == cancelled }

const (
	day          = 24 * time.Hour
	anyInvoice   = "event('Order Completed').count() >= 1 OR event('Order Cancelled').count() >= 1"
	twoInvoices  = "event('Order Completed').count() >= 2 OR event('Order Cancelled').count() >= 2 OR (event('Order Completed').count() >= 1 AND event('Order Cancelled').count() >= 1)"
	bigOrder     = thousandths(500_500)
	invoicesWith = "options: {filterByExternalIds: [user_id, anonymous_id]}"
)

var retailAudiences = map[string]*retailAudience{
	"customers":      {query: anyInvoice, need: 1, counts: isInvoice},
	"everyone":       {query: anyInvoice, options: invoicesWith, need: 1, counts: isInvoice, anonymous: true},
	"two_invoices":   {query: twoInvoices, need: 2, counts: isInvoice},
	"two_orders":     {query: "event('Order Completed').count() >= 2", need: 2, counts: isOrder},
	"recent":         {query: "event('Order Completed').within(30 days).count() >= 1", told: true, window: 30 * day, need: 1, counts: isOrder},
	"loyal":          {query: "event('Order Completed').within(90 days).count() >= 4", told: true, window: 90 * day, need: 4, counts: isOrder},
	"recent_big":     {query: "event('Order Completed').where(property('total') >= 500.5).within(60 days).count() >= 2", told: true, window: 60 * day, need: 2, counts: func(x *invoice) bool { return isOrder(x) && x.total >= bigOrder }},
	"german_orders":  {query: "event('Order Completed').where(property('country') = 'Germany').count() >= 1", need: 1, counts: func(x *invoice) bool { return isOrder(x) && x.country == "Germany" }},
	"recent_returns": {query: "event('Order Cancelled').where(property('total') < -99.99).within(45 days).count() >= 1", window: 45 * day, need: 1, counts: func(x *invoice) bool { return x.event == cancelled && x.total < -99_990 }},
}

// retailWorkspace writes the workspace file. Everything goes to the sink's
// /all, what audiences tell to /told.
func retailWorkspace(sink string) string {
	var b strings.Builder
	b.WriteString("name: Shop\nslug: shop\nsources:\n  - {slug: till, name: Till, writeKeys: [till-key]}\ndestinations:\n")
	fmt.Fprintf(&b, "  - {slug: all, name: All, metadataId: webhook, source: till, settings: {url: %q, batch: {size: 500, maxAgeMs: 50}}}\n", sink+"/all")
	fmt.Fprintf(&b, "  - {slug: told, name: Told, metadataId: webhook, settings: {url: %q, batch: {size: 500, maxAgeMs: 50}}}\naudiences:\n", sink+"/told")
	for key, a := range retailAudiences {
		fmt.Fprintf(&b, "  - name: %s\n    definition: {query: %q}\n", key, a.query)
		if a.options != "" {
			fmt.Fprintf(&b, "    %s\n", a.options)
		}
		if a.told {
			b.WriteString("    connections: [{destination: told, activations: [{activationName: In, activationType: Audience Entered}, {activationName: Out, activationType: Audience Exited}]}]\n")
		}
	}
	return b.String()
}

// retail is the year of the shop as it is played.
type retail struct {
	t          *testing.T
	house      *dataHouse
	random     *rand.Rand
	people     map[string][]*invoice // by customer, or by invoice number where there is none
	countries  map[string]string     // by customer, the newest that was sent
	queue      []*invoice            // not sent yet, in the order of time
	late       []*invoice            // to be sent with the next step
	again      [][]*call             // duplicates, by how many steps later
	sent       map[string]*call      // by message id
	duplicates int
}

// TestOnlineRetail plays a real shop's year against the test clock: the first
// months at once, as history, then the last weeks one by one, with invoices out
// of order, some late, some twice. Each week the audiences are compared with
// counting by hand; at the last instant also what is known of the data, the best
// customer's profile, what is at the webhook, and every entry and exit that was
// announced.
func TestOnlineRetail(t *testing.T) {
	if testing.Short() {
		t.Skip("it plays a whole year")
	}
	invoices := readRetail(t)
	sink := &script.Receiver{}
	web := httptest.NewServer(sink)
	t.Cleanup(web.Close)
	end := invoices[len(invoices)-1].at
	begin := end.Add(-retailWeeks * retailStep)
	r := &retail{
		t: t, house: openHouse(t, "--test-clock", instant(begin)), random: rand.New(rand.NewPCG(2009, 2010)),
		people: map[string][]*invoice{}, countries: map[string]string{}, queue: invoices, again: make([][]*call, 4), sent: map[string]*call{},
	}
	r.house.apply(retailWorkspace(web.URL))
	for _, x := range invoices {
		key := x.customer
		if key == "" {
			key = "till-" + x.number
		}
		r.people[key] = append(r.people[key], x)
	}
	ctx := t.Context()
	for now := begin; !now.After(end); now = now.Add(retailStep) {
		if now.After(begin) {
			if err := r.house.advance(ctx, retailStep); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.step(ctx, now, now.Equal(end)); err != nil {
			t.Fatal(err)
		}
		if err := r.house.advance(ctx, 0); err != nil {
			t.Fatal(err)
		}
		if err := r.house.compareSizes(ctx, now.Format(time.DateOnly), r.sizes(now)); err != nil {
			t.Fatal(err)
		}
	}
	r.checkKnown(ctx, end)
	r.checkTop(ctx, end)
	r.checkSink(sink)
	r.checkCountries(ctx)
	// A hundred days later nothing is left of any window.
	if err := r.house.advance(ctx, 100*day); err != nil {
		t.Fatal(err)
	}
	if err := r.house.compareSizes(ctx, "a hundred days later", r.sizes(end.Add(100*day))); err != nil {
		t.Error(err)
	}
	r.checkTold(sink, end)
}

// step sends what has happened by now, but what comes late; the last step sends
// all.
func (r *retail) step(ctx context.Context, now time.Time, last bool) error {
	fresh := 0
	for fresh < len(r.queue) && !r.queue[fresh].at.After(now) {
		fresh++
	}
	due := r.late
	r.late = nil
	for _, x := range r.queue[:fresh] {
		if !last && r.random.Float64() < retailLate {
			r.late = append(r.late, x)
		} else {
			due = append(due, x)
		}
	}
	r.queue = r.queue[fresh:]
	for i := range due {
		j := min(i+r.random.IntN(retailApart), len(due)-1)
		due[i], due[j] = due[j], due[i]
	}
	calls := r.again[0]
	copy(r.again, r.again[1:])
	r.again[len(r.again)-1] = nil
	for _, x := range due {
		x.arrived = now
		for _, c := range []*call{r.identify(x), x.call()} {
			if c == nil {
				continue
			}
			r.sent[c.MessageID] = c
			calls = append(calls, c)
			if r.random.Float64() >= retailDuplicates {
				continue
			}
			r.duplicates++
			if steps := r.random.IntN(len(r.again) + 1); steps == 0 || last {
				calls = append(calls, c)
			} else {
				r.again[steps-1] = append(r.again[steps-1], c)
			}
		}
	}
	if last {
		for _, more := range r.again {
			calls = append(calls, more...)
		}
	}
	return r.house.send(ctx, "till-key", calls)
}

// identify returns a call that tells where a customer is, when that is news.
func (r *retail) identify(x *invoice) *call {
	if x.customer == "" || r.countries[x.customer] == x.country {
		return nil
	}
	r.countries[x.customer] = x.country
	return &call{
		Type: "identify", MessageID: "customer-" + x.number, UserID: x.customer, Timestamp: instant(x.at),
		Traits: map[string]any{"country": x.country, "email": "c" + x.customer + "@example.com"},
	}
}

// sizes counts the audiences by hand.
func (r *retail) sizes(now time.Time) map[string]int {
	n := map[string]int{}
	for key, a := range retailAudiences {
		n[key] = 0
		for who, invoices := range r.people {
			if (a.anonymous || !strings.HasPrefix(who, "till-")) && a.in(invoices, now) {
				n[key]++
			}
		}
	}
	return n
}

// checkKnown holds the audiences of all time to what is known of the data.
func (r *retail) checkKnown(ctx context.Context, end time.Time) {
	t := r.t
	anonymous := 0
	for who := range r.people {
		if strings.HasPrefix(who, "till-") && r.people[who][0].event != adjusted {
			anonymous++
		}
	}
	if err := r.house.compareSizes(ctx, "known", map[string]int{"customers": retailCustomers, "two_invoices": retailRepeat, "everyone": retailCustomers + anonymous}); err != nil {
		t.Error(err)
	}
	sizes := r.sizes(end)
	t.Logf("at %s: %v; %d calls sent and %d of them twice", instant(end), sizes, len(r.sent), r.duplicates)
	for key, n := range sizes {
		if n == 0 {
			t.Errorf("nobody is in %s at the end: the comparison says nothing", key)
		}
	}
	for stage, want := range map[string]int{"accepted": len(r.sent) + r.duplicates, "duplicate": r.duplicates, "rejected": 0, "dead": 0} {
		got, err := r.house.seen(ctx, stage)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%d events were seen as %s, want %d", got, stage, want)
		}
	}
}

// checkTop holds the profile of the best customer to the data.
func (r *retail) checkTop(ctx context.Context, end time.Time) {
	t := r.t
	top := client.Profile{Space: "default", ID: "user_id:" + retailTop}
	var want []string
	sum := thousandths(0)
	for _, x := range r.people[retailTop] {
		want = append(want, "invoice-"+x.number)
		sum += x.total
	}
	if sum != retailTopSum {
		t.Errorf("customer %s has bought for %s, known is %s", retailTop, sum, retailTopSum)
	}
	var got []string
	before := time.Time{}
	sum = 0
	for page := (client.Page{Limit: 100}); ; {
		list, cursor, err := r.house.client.Events(ctx, top, page)
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			e := &list[i]
			got = append(got, e.MessageID)
			n, err := parseThousandths(gjson.GetBytes(e.Properties, "total").Raw)
			if err != nil {
				t.Error(err)
			}
			sum += n
			at, err := parseInstant(e.Timestamp)
			if err != nil || !before.IsZero() && at.After(before) {
				t.Errorf("%s at %s does not come newest first (%v)", e.MessageID, e.Timestamp, err)
			}
			before = at
		}
		if page.Next = cursor.Next; !cursor.HasMore {
			break
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the history of %s has %d events %v, want %d", retailTop, len(got), got, len(want))
	}
	if sum != retailTopSum {
		t.Errorf("the history of %s sums to %s, known is %s", retailTop, sum, retailTopSum)
	}
	traits, _, err := r.house.client.Traits(ctx, top, client.Page{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for key, a := range retailAudiences {
		if in := string(traits[key]) == "true"; in != a.in(r.people[retailTop], end) {
			t.Errorf("%s in %s is %v, by hand it is not", retailTop, key, in)
		}
	}
}

// checkSink holds what is at the webhook to what was sent.
func (r *retail) checkSink(sink *script.Receiver) {
	t := r.t
	delivered := sink.Delivered("all")
	seen := map[string]bool{}
	sum := thousandths(0)
	for _, e := range delivered {
		id := gjson.GetBytes(e, "messageId").String()
		c := r.sent[id]
		if c == nil {
			t.Fatalf("the sink has %s, which nobody sent", e)
		}
		if seen[id] {
			t.Errorf("%s was delivered twice, and nothing failed", id)
		}
		seen[id] = true
		want, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"type", "event", "userId", "anonymousId", "timestamp", "properties", "traits"} {
			if got, want := gjson.GetBytes(e, path).Raw, gjson.GetBytes(want, path).Raw; got != want {
				t.Errorf("%s of %s is %s at the sink and was sent as %s", path, id, got, want)
			}
		}
		if total := gjson.GetBytes(e, "properties.total"); total.Exists() {
			n, err := parseThousandths(total.Raw)
			if err != nil {
				t.Error(err)
			}
			sum += n
		}
	}
	if len(delivered) != len(r.sent) {
		t.Errorf("%d events are at the sink, %d were sent", len(delivered), len(r.sent))
	}
	if sum != retailSum {
		t.Errorf("the totals at the sink sum to %s, known is %s", sum, retailSum)
	}
}

// checkCountries looks at a trait of customers who have moved: the newest by
// effective time holds, in whatever order it came.
func (r *retail) checkCountries(ctx context.Context) {
	t := r.t
	newest := map[string]*call{}
	moves := map[string]int{}
	for _, c := range r.sent {
		if c.Type != "identify" {
			continue
		}
		moves[c.UserID]++
		if n := newest[c.UserID]; n == nil || n.Timestamp < c.Timestamp {
			newest[c.UserID] = c
		}
	}
	looked := 0
	for who, n := range moves {
		if n < 2 {
			continue
		}
		looked++
		traits, _, err := r.house.client.Traits(ctx, client.Profile{Space: "default", ID: "user_id:" + who}, client.Page{Include: "country"})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := gjson.ParseBytes(traits["country"]).String(), newest[who].Traits["country"]; got != want {
			t.Errorf("%s, who has moved, is in %s, want %s", who, got, want)
		}
	}
	if looked == 0 {
		t.Error("nobody has moved")
	}
}

// told is one entry or exit, as it was announced.
type told struct {
	in    bool
	at    time.Time
	times int
}

// checkTold holds every entry and exit that was announced to counting by hand:
// they alternate, each happened at the instant it says and not before, each was
// told once for the customer's id and once for the address, and none is missing.
func (r *retail) checkTold(sink *script.Receiver, end time.Time) {
	t := r.t
	changes := map[string]map[string][]*told{} // by audience and customer, in order
	seen := map[string]bool{}
	for _, e := range sink.Delivered("told") {
		if id := gjson.GetBytes(e, "messageId").String(); seen[id] {
			t.Errorf("%s was delivered twice, and nothing failed", id)
		} else {
			seen[id] = true
		}
		key, who := gjson.GetBytes(e, "properties.audience_key").String(), gjson.GetBytes(e, "userId").String()
		at, err := parseInstant(gjson.GetBytes(e, "timestamp").String())
		if retailAudiences[key] == nil || r.people[who] == nil || err != nil {
			t.Fatalf("%s tells of nothing that is known (%v)", e, err)
		}
		if changes[key] == nil {
			changes[key] = map[string][]*told{}
		}
		in, list := gjson.GetBytes(e, "event").String() == "Audience Entered", changes[key][who]
		if n := len(list); n > 0 && list[n-1].in == in && list[n-1].at.Equal(at) {
			list[n-1].times++
			continue
		}
		changes[key][who] = append(list, &told{in, at, 1})
	}
	for key, a := range retailAudiences {
		if !a.told {
			continue
		}
		changed, entries := 0, 0
		for who, list := range changes[key] {
			changed += len(list)
			for i, c := range list {
				if c.in != (i%2 == 0) || c.times != 2 {
					t.Errorf("%s: change %d of %s, %+v, does not alternate or was not told twice", key, i, who, *c)
				}
				if a.in(r.people[who], c.at) != c.in || a.in(r.people[who], c.at.Add(-time.Millisecond)) == c.in {
					t.Errorf("%s: change %d of %s, %+v, did not happen then, by hand", key, i, who, *c)
				}
			}
		}
		for who, invoices := range r.people {
			if !strings.HasPrefix(who, "till-") {
				entries += a.entries(invoices, end)
			}
		}
		// All have left since.
		if changed != 2*entries || entries == 0 {
			t.Errorf("%s: %d entries and exits were announced, by hand %d came in and left", key, changed, entries)
		}
		t.Logf("%s: %d entries and as many exits", key, entries)
	}
}

// entries counts by hand how often somebody with these invoices came in: it can
// happen only when an invoice arrives.
func (a *retailAudience) entries(invoices []*invoice, end time.Time) (n int) {
	var arrivals []time.Time
	for _, x := range invoices {
		arrivals = append(arrivals, x.arrived)
	}
	slices.SortFunc(arrivals, time.Time.Compare)
	for _, at := range slices.Compact(arrivals) {
		if !at.After(end) && a.in(invoices, at) && !a.in(invoices, at.Add(-time.Millisecond)) {
			n++
		}
	}
	return n
}
