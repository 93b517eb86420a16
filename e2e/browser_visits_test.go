package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tidwall/gjson"
)

// visits are the scenarios of TestBrowser. Their names are the slugs of their
// sources.
func visits() []browsing {
	list := []browsing{
		{name: "standard", does: standard},
		{name: "standard-https", tls: true, does: standard},
		{name: "batching", does: batching},
		{name: "unload", does: func(v *visitor) { unload(v, func() { v.goTo("/bare") }) }},
		{name: "closed", does: func(v *visitor) { unload(v, v.shut) }},
		{name: "offline", does: withoutNetwork},
		{name: "kept-over-pages", does: keptOverPages},
		{name: "consent", does: consent},
		{name: "policy", does: policy},
		{name: "preflight", does: preflighted},
		{name: "segments-own-tag", does: segmentsOwnTag},
		{name: "from-npm", does: fromNPM},
		{name: "without-settings", tls: true, does: withoutSettings},
	}
	for _, x := range []struct {
		name  string
		does  trouble
		times int
	}{
		{"429", refuse(http.StatusTooManyRequests, "Retry-After", "1"), 1},
		{"503", refuse(http.StatusServiceUnavailable), 1},
		// A connection that was used before and breaks, Chromium tries again by
		// itself; with the second one analytics.js has to.
		{"reset-before", trouble{resetBefore: true}, 2},
		{"reset-after", trouble{resetAfter: true}, 2},
	} {
		list = append(list,
			browsing{name: "standard-" + x.name, does: func(v *visitor) { retried(v, "{}", x.does, x.times) }},
			browsing{name: "batching-" + x.name, does: func(v *visitor) { retried(v, inBatches(100), x.does, x.times) }},
		)
	}
	return list
}

// inBatches are load options for batching mode that sends after so many
// milliseconds.
func inBatches(timeout int) string {
	return fmt.Sprintf("{integrations: {'Segment.io': {deliveryStrategy: {strategy: 'batching', config: {size: 10, timeout: %d}}}}}", timeout)
}

// load is the JavaScript that loads analytics.js on /wait, and waits for it.
func (v *visitor) load(options string) string {
	return fmt.Sprintf("analytics.load(%q, %s); analytics.page();\n%s", v.key, options, ready)
}

// standard is the snippet as it is printed: every call arrives, with what the
// page and the browser are.
func standard(v *visitor) {
	v.goTo("/?utm_source=letter&utm_campaign=spring")
	var page struct{ AnonymousID, Agent, First string }
	v.run(ready+`
		const anonymousId = analytics.user().anonymousId();
		await analytics.identify('u1', {email: 'jo@example.com', visits: 3});
		await analytics.track('Order Completed', {revenue: 12.5, products: [{sku: 'a'}]});
		await analytics.page('Docs', 'Home', {tab: 1});
		await analytics.group('acme', {seats: 20});
		await analytics.reset();
		await analytics.track('After Reset');
		// While a user is known, analytics.js puts that one in place of the new id.
		await analytics.alias('u2', 'u1');
		return {anonymousId, agent: navigator.userAgent};`, &page)
	list := v.arrived(7)

	who := []string{"anonymousId", page.AnonymousID, "context.userAgent", page.Agent, "context.ip", "127.0.0.1", "context.locale", "de-CH",
		"context.page.path", "/", "context.page.title", "Shop", "context.page.url", v.shop + "/?utm_source=letter&utm_campaign=spring",
		"context.page.search", "?utm_source=letter&utm_campaign=spring", "context.campaign.source", "letter", "context.campaign.name", "spring",
		"context.library.name", "analytics.js", "_metadata.unbundled.0", "Webhook", "writeKey", ""}
	v.want(v.one(list, "identify", ""), append(who, "userId", "u1", "traits.email", "jo@example.com", "traits.visits", "3")...)
	v.want(v.one(list, "track", "Order Completed"), append(who, "userId", "u1", "properties.revenue", "12.5", "properties.products.0.sku", "a")...)
	v.want(v.one(list, "group", ""), append(who, "userId", "u1", "groupId", "acme", "traits.seats", "20")...)
	for _, e := range list {
		p := gjson.ParseBytes(e)
		if p.Get("type").String() != "page" {
			continue
		}
		if p.Get("name").String() == "Home" {
			v.want(p, append(who, "userId", "u1", "category", "Docs", "properties.tab", "1", "properties.path", "/")...)
		} else {
			v.want(p, append(who, "properties.title", "Shop")...)
		}
	}
	after := v.one(list, "track", "After Reset")
	if id := after.Get("anonymousId").String(); len(id) != 36 || id == page.AnonymousID || len(page.AnonymousID) != 36 {
		v.Errorf("after the reset the anonymous id is %q, before %q", id, page.AnonymousID)
	}
	v.want(after, "userId", "")
	v.want(v.one(list, "alias", ""), "userId", "u2", "previousId", "u1", "anonymousId", after.Get("anonymousId").String())

	for _, path := range []string{"/analytics.js/v1/" + v.key + "/analytics.min.js", "/v1/projects/" + v.key + "/settings"} {
		if !v.loaded(path) {
			v.Errorf("%s was not loaded\n%s", path, v.story())
		}
	}
	// What it loads when it needs it comes from here too.
	v.run(`await analytics.trackForm(document.getElementById('f'), 'Sent');`, nil)
	v.goTo("/?ajs_event=Clicked&ajs_prop_letter=7&ajs_uid=u9")
	v.run(ready, nil)
	clicked := v.one(v.arrived(10), "track", "Clicked") // with a page view, and an identify
	v.want(clicked, "userId", "u9", "properties.letter", "7")
	for _, chunk := range []string{"/analytics-next/bundles/auto-track.bundle.", "/analytics-next/bundles/queryString.bundle."} {
		if !v.loaded(chunk) {
			v.Errorf("%s was not loaded\n%s", chunk, v.story())
		}
	}
	if len(v.sent("/v1/t")) == 0 || len(v.sent("/v1/b")) > 0 || len(v.sent("/v1/m")) > 0 {
		v.Errorf("events went elsewhere\n%s", v.story())
	}
}

// batching sends what is called together in one request.
func batching(v *visitor) {
	v.goTo("/wait")
	v.run(v.load(inBatches(200))+`
		analytics.identify('u1', {plan: 'gold'});
		for (let n = 0; n < 20; n++) analytics.track('Counted', {n});`, nil)
	list := v.arrived(22)
	batches := v.sent("/v1/b")
	if len(batches) < 2 || len(batches) > 6 || len(v.proxy.requests()) != len(batches) {
		v.Errorf("22 events came in %d batches\n%s", len(batches), v.story())
	}
	numbers := map[int64]bool{}
	for _, e := range list {
		if r := gjson.ParseBytes(e); r.Get("event").String() == "Counted" {
			numbers[r.Get("properties.n").Int()] = true
			v.want(r, "userId", "u1", "context.page.path", "/wait", "context.ip", "127.0.0.1", "writeKey", "")
			if r.Get("sentAt").String() == "" || r.Get("timestamp").String() == "" {
				v.Errorf("an event has no time: %s", e)
			}
		}
	}
	if len(numbers) != 20 {
		v.Errorf("%d of 20 numbers arrived", len(numbers))
	}
}

// unload leaves the page with a batch that has not been sent: the browser sends
// it on the way.
func unload(v *visitor, leave func()) {
	v.goTo("/wait")
	v.run(v.load(inBatches(600_000))+`
		analytics.track('Added');
		await analytics.track('Left');`, nil)
	if n := len(v.proxy.requests()); n > 0 {
		v.Errorf("%d requests were sent while the page was there", n)
	}
	leave()
	list := v.arrived(3)
	v.want(v.one(list, "track", "Left"), "context.page.path", "/wait")
	v.one(list, "track", "Added")
	v.one(list, "page", "")
}

// withoutNetwork calls while the network is away; once it is back all of it is
// sent.
func withoutNetwork(v *visitor) {
	v.goTo("/")
	v.run(ready, nil)
	v.arrived(1)
	v.offline(true)
	v.run(`for (let n = 0; n < 5; n++) analytics.track('Counted', {n});`, nil)
	if n := len(v.proxy.requests()); n != 1 {
		v.Errorf("%d requests came without a network", n-1)
	}
	v.offline(false)
	numbers := map[int64]bool{}
	for _, e := range v.arrived(6) {
		if gjson.GetBytes(e, "event").String() == "Counted" {
			numbers[gjson.GetBytes(e, "properties.n").Int()] = true
		}
	}
	if len(numbers) != 5 {
		v.Errorf("of 5 numbers arrived %v", numbers)
	}
}

// keptOverPages leaves the page while the server does not answer: what was not
// sent is in the browser's storage and is sent from the next page.
func keptOverPages(v *visitor) {
	v.proxy.next(1000, refuse(http.StatusServiceUnavailable))
	v.goTo("/")
	v.run(ready+`analytics.track('Added'); analytics.track('Left');`, nil)
	v.inTrouble(3)
	v.goTo("/bare")
	v.proxy.mend()
	v.goTo("/")
	list := v.arrived(4)
	v.one(list, "track", "Added")
	v.one(list, "track", "Left")
}

// consent sends nothing, and loads nothing, before the visitor agrees. What was
// called until then is sent, with the page it was called on.
func consent(v *visitor) {
	v.goTo("/wait?step=1")
	v.run(`
		analytics.page('Shop');
		analytics.track('Looked');
		analytics.identify('u1', {plan: 'gold'});
		history.pushState({}, '', '/later?step=2');
		document.title = 'Later';
		analytics.track('Waited');
		await new Promise(idle => requestIdleCallback(idle));`, nil)
	// The snippet was fetched through the proxy before the page was there.
	for _, p := range v.proxy.all() {
		if !strings.HasPrefix(p.path, "/api/") {
			v.Errorf("before consent there is a request: %s %s", p.method, p.path)
		}
	}
	var stored string
	v.run(`return document.cookie + Object.keys(localStorage)`, &stored)
	if stored != "" {
		v.Errorf("before consent the browser has stored %s", stored)
	}
	v.run(fmt.Sprintf("analytics.load(%q);\n", v.key)+ready, nil)
	list := v.arrived(4)
	v.want(v.one(list, "track", "Looked"), "context.page.path", "/wait", "context.page.title", "Shop", "context.page.search", "?step=1")
	v.want(v.one(list, "track", "Waited"), "context.page.path", "/later", "context.page.title", "Later", "context.page.search", "?step=2")
	v.want(v.one(list, "page", ""), "name", "Shop", "properties.path", "/wait")
	v.want(v.one(list, "identify", ""), "userId", "u1")
}

// policy is a page whose Content-Security-Policy allows no more than docs/web.md
// says.
func policy(v *visitor) {
	v.goTo("/csp")
	v.run(ready+`await analytics.track('Allowed'); await analytics.trackForm(document.getElementById('f'), 'Sent');`, nil)
	v.one(v.arrived(2), "track", "Allowed")
	for _, said := range v.console() {
		if strings.Contains(said, "Content Security Policy") {
			v.Errorf("the policy was violated: %s", said)
		}
	}
}

// preflighted has headers of the page's own in every request, which the browser
// asks for first, and credentials.
func preflighted(v *visitor) {
	v.proxy.next(1, refuse(http.StatusTooManyRequests, "Retry-After", "1"))
	v.goTo("/wait")
	v.run(v.load(`{integrations: {'Segment.io': {deliveryStrategy: {config: {
		headers: {'Content-Type': 'application/json', 'X-Shop': 'yes'}, credentials: 'include', keepalive: true}}}}}`), nil)
	v.arrived(1)
	var requested []string
	for _, p := range v.proxy.all() {
		if p.method == http.MethodOptions {
			requested = append(requested, p.header.Get("Access-Control-Request-Headers"))
			if p.status != http.StatusNoContent {
				v.Errorf("a preflight was answered with %d", p.status)
			}
		}
	}
	// x-retry-count is allowed before it is needed: the browser need not ask again.
	if want := []string{"authorization,content-type,x-shop"}; !slices.Equal(requested, want) {
		v.Errorf("the browser asked for %q, want %q", requested, want)
	}
	for i, p := range v.proxy.requests() {
		want := map[string]string{"Content-Type": "application/json", "X-Shop": "yes", "X-Retry-Count": []string{"", "1"}[min(i, 1)]}
		for name, value := range want {
			if got := p.header.Get(name); got != value {
				v.Errorf("%s of request %d is %q, want %q", name, i, got, value)
			}
		}
		if user, _, ok := (&http.Request{Header: p.header}).BasicAuth(); !ok || user != v.key {
			v.Errorf("request %d is of %q", i, user)
		}
	}
}

// segmentsOwnTag is a page that names no CDN, as those have that were written
// for Segment and changed in nothing but the host. Over http analytics.js would
// then go to Segment.
func segmentsOwnTag(v *visitor) {
	v.goTo("/bare")
	v.run(fmt.Sprintf(`
		window.analytics = [['page'], ['track', 'Moved']];
		const script = document.createElement('script');
		const there = new Promise(done => { script.onload = done });
		script.src = %q;
		document.head.appendChild(script);
		await there;
		for (let i = 0; !analytics.initialized && i < 500; i++) await new Promise(next => setTimeout(next, 20));`,
		v.proxy.URL+"/analytics.js/v1/"+v.key+"/analytics.min.js"), nil)
	v.one(v.arrived(2), "track", "Moved")
}

// fromNPM is a page that has analytics.js from its npm package, unmodified, and
// names Kith as its CDN: the settings say the rest.
func fromNPM(v *visitor) {
	needs(v.T, lackFile(npmLibrary))
	v.goTo("/npm")
	v.run(fmt.Sprintf(`
		window.analytics = AnalyticsNext.AnalyticsBrowser.load({writeKey: %q, cdnURL: %q});
		await analytics.identify('u1', {plan: 'gold'});
		await analytics.track('Bundled');`, v.key, v.proxy.URL), nil)
	list := v.arrived(2)
	v.want(v.one(list, "track", "Bundled"), "userId", "u1", "context.page.path", "/npm")
	v.want(v.one(list, "identify", ""), "traits.plan", "gold")
	if len(v.sent("/v1/t")) != 1 || len(v.sent("/v1/i")) != 1 {
		v.Errorf("events went elsewhere\n%s", v.story())
	}
}

// withoutSettings is a page whose settings cannot be loaded. analytics.js
// reports that, to Segment unless it is told otherwise.
func withoutSettings(v *visitor) {
	v.proxy.nextOn(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/settings") }, 1, refuse(http.StatusNotFound))
	v.goTo("/")
	err := v.until(func() error {
		for _, p := range v.proxy.all() {
			if p.method == http.MethodPost && p.path == "/v1/m" && p.status == http.StatusOK {
				return nil
			}
		}
		return fmt.Errorf("no report came")
	})
	if err != nil {
		v.Fatalf("%v\n%s", err, v.story())
	}
}

// retried gets the first events into trouble, so many times, and wants each of
// them once.
func retried(v *visitor, options string, does trouble, times int) {
	v.goTo("/wait")
	// The first event opens the connection and shows that all is well.
	v.run(v.load(options), nil)
	v.arrived(1)
	v.proxy.next(times, does)
	v.run(`for (let n = 0; n < 5; n++) analytics.track('Counted', {n});`, nil)
	list := v.arrived(6)
	v.inTrouble(times)
	numbers := map[int64]int{}
	for _, e := range list {
		if gjson.GetBytes(e, "event").String() == "Counted" {
			numbers[gjson.GetBytes(e, "properties.n").Int()]++
		}
	}
	if len(numbers) != 5 {
		v.Errorf("of 5 numbers arrived %v", numbers)
	}
	attempts := map[string][]passed{}
	for _, p := range v.proxy.requests() {
		for _, id := range p.messageIDs() {
			attempts[id] = append(attempts[id], p)
		}
	}
	again := 0
	for id, all := range attempts {
		last := all[len(all)-1]
		if len(all) < 2 {
			continue
		}
		again++
		if got := last.header.Get("X-Retry-Count"); does.status != 0 && got != "1" {
			v.Errorf("%s came again with X-Retry-Count %q, want 1", id, got)
		}
	}
	if again == 0 {
		v.Errorf("nothing came again\n%s", v.story())
	}
}
