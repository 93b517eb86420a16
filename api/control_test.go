package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"kith/workspace"
)

func TestSources(t *testing.T) {
	w := newWorld(t)
	r := w.post("/api/sources", object{"slug": "web", "enabled": true, "metadataId": "IqDTy1TpoU", "settings": object{"domain": "example.com"}}).is(201,
		"data.source.slug", "web", "data.source.name", "web", "data.source.enabled", true, "data.source.metadata.id", "IqDTy1TpoU",
		"data.source.settings.domain", "example.com", "data.source.labels", "[]", "data.source.workspaceId", w.store.Current().ID,
		"data.source.spaceId", w.store.Current().Space("default").ID, "data.source.createdAt", "2025-03-01T12:00:00.000Z")
	id, key := r.text("data.source.id"), r.text("data.source.writeKeys.0")
	if len(id) != 22 || len(key) != 32 {
		t.Errorf("id %q, write key %q", id, key)
	}
	at := "/api/sources/" + id
	w.get(at).is(200, "data.source.writeKeys.0", key)
	w.patch(at, object{"name": "Website", "enabled": false, "settings": object{"limit": 7, "domain": nil}}).is(200,
		"data.source.name", "Website", "data.source.enabled", false, "data.source.settings", "map[limit:7]")
	w.patch(at, object{"slug": "no good"}).refused(422, "slug", "not a slug")
	w.patch(at, object{"spaceId": "nowhere"}).refused(422, "spaceId", "there are: default")

	two := w.post(at+"/writekey", nil).is(200).text("data.source.writeKeys.1")
	if w.store.Current().SourceByWriteKey(two) == nil {
		t.Error("the new write key is not known")
	}
	w.delete(at+"/writekey/"+key).is(200, "data.status", "SUCCESS")
	w.delete(at+"/writekey/"+key).refused(404, "", "no write key")
	w.get(at).is(200, "data.source.writeKeys", "["+two+"]")

	label := object{"key": "env", "value": "prod"}
	w.post(at+"/labels", object{"labels": []any{label, object{"key": "team", "value": "a"}}}).is(200, "data.labels.0.key", "env", "data.labels.1.value", "a")
	w.post(at+"/labels", object{"labels": []any{object{"key": "env", "value": "dev"}}}).is(200, "data.labels.1.value", "dev")
	w.do("PUT", at+"/labels", object{"labels": []any{label}}).is(200, "data.labels.0.value", "prod", "data.labels.1", nil)

	w.get(at+"/settings").is(200, "data.sourceId", id, "data.settings.track.allowUnplannedEvents", true, "data.settings.group.commonEventOnViolations", "ALLOW")
	w.patch(at+"/settings", object{"track": object{"allowEventOnViolations": false, "commonEventOnViolations": "BLOCK"}, "identify": object{"allowUnplannedTraits": false}}).is(200,
		"data.settings.track.allowEventOnViolations", false, "data.settings.track.commonEventOnViolations", "BLOCK", "data.settings.track.allowUnplannedEvents", true,
		"data.settings.identify.allowUnplannedTraits", false, "data.settings.group.allowUnplannedTraits", true)
	w.patch(at+"/settings", object{"identify": object{"commonEventOnViolations": "OMIT_PROPERTIES"}}).refused(422, "identify.commonEventOnViolations", "OMIT_TRAITS")
	w.patch(at+"/settings", object{"forwardingViolationsTo": "x"}).refused(422, "forwardingViolationsTo", "no such field")

	snippet := w.get(at+"/snippet").is(200, "data.snippet.server", w.url, "data.snippet.writeKey", two)
	if html := snippet.text("data.snippet.html"); !strings.HasPrefix(html, "<script>") || !strings.Contains(html, two) || !strings.Contains(html, w.url) {
		t.Errorf("the snippet: %s", html)
	}
	three := w.post(at+"/writekey", nil).is(200).text("data.source.writeKeys.1")
	w.get(at+"/snippet?writeKey="+three).is(200, "data.snippet.writeKey", three)
	w.get(at+"/snippet?writeKey="+key).refused(422, "writeKey", "no such write key")

	w.delete(at).is(200, "data.status", "SUCCESS")
	w.get(at).refused(404, "", "no source")
	w.delete(at).refused(404, "", "no source")
	for _, path := range []string{"/connected-destinations", "/settings", "/snippet", "/rejected-events", "/quarantined-events"} {
		w.get(at+path).refused(404, "", "no source")
	}
}

func TestDestinations(t *testing.T) {
	w := newWorld(t)
	src := w.source("web")
	r := w.post("/api/destinations", object{"sourceId": src, "metadataId": "webhook", "settings": object{
		"url": "https://example.com/hook", "sharedSecret": "hush-hush",
	}}).is(200, "data.destination.enabled", true, "data.destination.sourceId", src, "data.destination.metadata.slug", "webhook",
		"data.destination.settings.url", "https://example.com/hook", "data.destination.settings.sharedSecret", workspace.Mask)
	id := r.text("data.destination.id")
	at := "/api/destinations/" + id
	noSecret := func(r *reply) *reply {
		t.Helper()
		if strings.Contains(r.body, "hush") || strings.Contains(r.body, "sealed:") {
			t.Errorf("a secret is shown: %s", r.body)
		}
		return r
	}
	noSecret(r)
	noSecret(w.get(at)).is(200, "data.destination.settings.sharedSecret", workspace.Mask)
	noSecret(w.get("/api/destinations")).is(200, "data.destinations.0.id", id, "data.pagination.totalEntries", 1)
	noSecret(w.get("/api/sources/"+src+"/connected-destinations")).is(200, "data.destinations.0.id", id)

	stored := func() string { return string(w.store.Current().Destination(id).Settings) }
	before := stored()
	noSecret(w.patch(at, object{"name": "CRM", "enabled": false, "settings": object{"sharedSecret": workspace.Mask}})).is(200,
		"data.destination.name", "CRM", "data.destination.enabled", false, "data.destination.settings.url", "https://example.com/hook")
	if stored() != before {
		t.Errorf("the mask changed the secret: %s", stored())
	}
	w.patch(at, object{"name": nil, "settings": object{"sharedSecret": nil}}).is(200, "data.destination.name", "CRM", "data.destination.settings.sharedSecret", nil)
	noSecret(w.patch(at, object{"settings": object{"sharedSecret": "hush-again", "colour": "red"}})).refused(422, "settings.colour", "")
	w.patch(at, object{"settings": object{"url": "http://10.0.0.1/"}}).refused(422, "settings.url", "--egress-allow")
	w.patch(at, object{"settings": object{"url": nil}}).refused(422, "settings.url", "")
	w.patch(at, object{"sourceId": "none"}).refused(422, "sourceId", "no source")

	w.post("/api/destinations", object{"metadataId": "fax", "settings": object{}}).refused(422, "metadataId", "there are: webhook")
	w.post("/api/destinations", object{"metadataId": "webhook", "sourceId": "none", "settings": object{"url": "https://example.com"}}).refused(422, "sourceId", "no source")
	w.post("/api/destinations", object{"metadataId": "webhook"}).refused(422, "settings.url", "")
	alone := w.post("/api/destinations", object{"metadataId": "webhook", "name": "CRM", "settings": object{"url": "https://example.com"}}).is(200,
		"data.destination.sourceId", "", "data.destination.slug", "crm").text("data.destination.id")
	w.post("/api/destinations", object{"metadataId": "webhook", "name": "CRM", "settings": object{"url": "https://example.com"}}).is(200, "data.destination.slug", "crm-2")
	w.delete("/api/destinations/"+alone).is(200, "data.status", "SUCCESS")
	w.delete("/api/destinations/"+alone).refused(404, "", "no destination")
	w.delete("/api/sources/" + src).is(200)
	w.get(at).refused(404, "", "no destination")
}

func TestSubscriptions(t *testing.T) {
	w := newWorld(t)
	d := w.post("/api/destinations", object{"metadataId": "webhook", "settings": object{"url": "https://example.com"}}).is(200).text("data.destination.id")
	at := "/api/destinations/" + d + "/subscriptions"
	w.get(at).is(200, "data.subscriptions", "[]", "data.pagination.totalEntries", 0)
	id := w.post(at, object{"name": "Bookings", "actionId": "send", "enabled": true, "trigger": `event = "Booking Completed"`}).is(200,
		"data.destinationSubscription.actionSlug", "send", "data.destinationSubscription.destinationId", d,
		"data.destinationSubscription.settings", "map[]").text("data.destinationSubscription.id")
	w.post(at, object{"name": "x", "actionId": "fly", "enabled": true, "trigger": `type = "track"`}).refused(422, "actionId", "it has: send")
	w.post(at, object{"name": "x", "actionId": "send", "enabled": true, "trigger": `type = `}).refused(422, "trigger", "character")
	w.get(at+"/"+id).is(200, "data.subscription.name", "Bookings")
	w.patch(at+"/"+id, object{"input": object{"enabled": false, "trigger": `type = "identify"`}}).is(200,
		"data.subscription.enabled", false, "data.subscription.trigger", `type = "identify"`, "data.subscription.name", "Bookings")
	w.patch(at+"/"+id, object{"input": object{"trigger": `(`}}).refused(422, "input.trigger", "")
	w.patch(at+"/"+id, object{"trigger": "x"}).refused(422, "input", "missing")
	w.get(at).is(200, "data.subscriptions.0.id", id)
	w.delete(at+"/"+id).is(200, "data.status", "SUCCESS")
	for _, r := range []*reply{w.get(at + "/" + id), w.delete(at + "/" + id), w.patch(at+"/"+id, object{"input": object{}})} {
		r.refused(404, "", "no subscription")
	}
	w.get("/api/destinations/none/subscriptions").refused(404, "", "no destination")
	w.post("/api/destinations/none/subscriptions", object{"name": "x", "actionId": "send", "trigger": "x"}).refused(404, "", "no destination")
}

func TestCatalog(t *testing.T) {
	w := newWorld(t)
	r := w.get("/api/catalog/destinations").is(200, "data.destinationsCatalog.0.slug", "webhook", "data.destinationsCatalog.0.actions.0.slug", "send", "data.pagination.totalEntries", 1)
	types := map[string]string{}
	for _, o := range r.get("data.destinationsCatalog.0.options").([]any) {
		types[o.(object)["name"].(string)] = o.(object)["type"].(string)
	}
	if types["url"] != "string" || types["sharedSecret"] != "password" || types["batch"] != "object" || types["batch.size"] != "number" {
		t.Errorf("options: %v", types)
	}
	w.get("/api/catalog/destinations/webhook").is(200, "data.destinationMetadata.status", "PUBLIC", "data.destinationMetadata.previousNames", "[]")
	w.get("/api/catalog/destinations/fax").refused(404, "", "there are: webhook")
}

func TestTrackingPlans(t *testing.T) {
	w := newWorld(t)
	id := w.post("/api/tracking-plans", object{"name": "Hotel events", "type": "LIVE"}).is(200,
		"data.trackingPlan.slug", "hotel-events", "data.trackingPlan.type", "LIVE").text("data.trackingPlan.id")
	if !strings.HasPrefix(id, "tp_") {
		t.Errorf("id %q", id)
	}
	at := "/api/tracking-plans/" + id
	w.post("/api/tracking-plans", object{"name": "x", "type": "DEAD"}).refused(422, "type", "LIVE")
	w.patch(at, object{"name": "Hotels", "description": "All of them"}).is(200, "data.status", "SUCCESS")
	w.get(at).is(200, "data.trackingPlan.name", "Hotels", "data.trackingPlan.description", "All of them", "data.trackingPlan.slug", "hotel-events")
	w.get("/api/tracking-plans?type=LIVE").is(200, "data.trackingPlans.0.id", id)
	w.get("/api/tracking-plans?type=TEMPLATE").is(200, "data.trackingPlans", "[]")
	w.patch(at, object{"name": ""}).refused(422, "name", "missing")

	web, app := w.source("web"), w.source("app")
	w.post(at+"/sources", object{"sourceId": web}).is(200, "data.status", "SUCCESS")
	w.post(at+"/sources", object{"sourceId": web}).is(200, "data.status", "SUCCESS")
	w.post(at+"/sources", object{"sourceId": app}).is(200)
	w.post(at+"/sources", object{"sourceId": "none"}).refused(422, "sourceId", "no source")
	w.get(at+"/sources").is(200, "data.pagination.totalEntries", 2)
	other := w.post("/api/tracking-plans", object{"name": "Other", "type": "LIVE"}).is(200).text("data.trackingPlan.id")
	w.post("/api/tracking-plans/"+other+"/sources", object{"sourceId": web}).refused(422, "sourceId", "a source has one at most")
	w.delete(at+"/sources?sourceId="+web).is(200, "data.status", "SUCCESS")
	w.delete(at+"/sources?sourceId="+web).refused(404, "", "connected")
	w.delete(at+"/sources").refused(422, "sourceId", "missing")
	w.get(at+"/sources").is(200, "data.sources.0.id", app)

	w.delete(at).is(200, "data.status", "SUCCESS")
	for _, r := range []*reply{w.get(at), w.delete(at), w.patch(at, object{"name": "x"}), w.get(at + "/rules"), w.get(at + "/sources")} {
		r.refused(404, "", "no tracking plan")
	}
}

func TestRules(t *testing.T) {
	w := newWorld(t)
	at := "/api/tracking-plans/" + w.post("/api/tracking-plans", object{"name": "P", "type": "LIVE"}).is(200).text("data.trackingPlan.id") + "/rules"
	rule := func(kind, key string, version int, schema string) object {
		return object{"type": kind, "key": key, "version": version, "jsonSchema": json.RawMessage(schema)}
	}
	number := `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"properties":{"type":"object","properties":{"revenue":{"type":"number","maximum":1e2}}}}}`
	w.patch(at, object{"rules": []any{rule("TRACK", "Bought", 1, number), rule("IDENTIFY", "", 1, `{}`)}}).is(200, "data.status", "SUCCESS")
	w.patch(at, object{"rules": []any{rule("TRACK", "Bought", 1, `{"type":"object"}`), rule("TRACK", "Bought", 2, number)}}).is(200)
	r := w.get(at).is(200, "data.pagination.totalEntries", 3, "data.rules.0.type", "IDENTIFY", "data.rules.1.jsonSchema", "map[type:object]", "data.rules.2.version", 2)
	if !strings.Contains(r.body, `"maximum":1e2`) {
		t.Errorf("the schema's text has changed: %s", r.body)
	}
	w.get(at+"?pagination.count=2").is(200, "data.rules.1.key", "Bought")
	w.patch(at, object{"rules": []any{object{"type": "TRACK", "key": "Bought", "newKey": "Order Completed", "version": 2, "jsonSchema": object{}}}}).is(200)
	w.get(at).is(200, "data.rules.2.key", "Order Completed", "data.pagination.totalEntries", 3)

	w.patch(at, object{"rules": []any{rule("TRACK", "Good", 1, `{}`), rule("TRACK", "Bad", 1, `{"type":"text"}`)}}).refused(422, "rules.1.jsonSchema.type", "")
	w.patch(at, object{"rules": []any{rule("TRACK", "", 1, `{}`)}}).refused(422, "rules.0.key", "key")
	w.patch(at, object{"rules": []any{rule("SING", "x", 1, `{}`)}}).refused(422, "rules[0].type", "TRACK")
	w.patch(at, object{"rules": []any{rule("TRACK", "x", 1, `{"$ref":"https://example.com/schema"}`)}}).is(422)
	many := make([]any, 201)
	for i := range many {
		many[i] = rule("TRACK", fmt.Sprint("e", i), 1, `{}`)
	}
	w.patch(at, object{"rules": many}).refused(422, "rules", "200")

	name := func(i int, kind, key, version string) string {
		return fmt.Sprintf("rules[%d][type]=%s&rules[%d][key]=%s&rules[%d][version]=%s", i, kind, i, url.QueryEscape(key), i, version)
	}
	w.delete(at+"?"+name(0, "TRACK", "Order Completed", "2")+"&"+name(1, "IDENTIFY", "", "1")).is(200, "data.status", "SUCCESS")
	w.get(at).is(200, "data.rules.0.key", "Bought", "data.pagination.totalEntries", 1)
	w.delete(at+"?"+name(0, "TRACK", "Order Completed", "2")).refused(404, "", "Order Completed")
	w.delete(at).refused(422, "rules", "rules[0][type]")
	w.delete(at+"?rules[0][colour]=red").refused(422, "rules", "colour")
	w.delete(at + "?rules.0[type]=TRACK&rules.0[key]=Bought&rules.0[version]=1").is(200) // as the Go SDK writes it

	w.do("PUT", at, object{"rules": []any{rule("COMMON", "", 1, `{}`), rule("PAGE", "", 1, `{}`)}}).is(200)
	w.get(at).is(200, "data.rules.0.type", "COMMON", "data.rules.1.type", "PAGE", "data.pagination.totalEntries", 2)
	w.do("PUT", at, object{"rules": []any{rule("COMMON", "", 1, `{}`), rule("COMMON", "", 1, `{}`)}}).refused(422, "rules.1", "another COMMON rule")
	w.do("PUT", at, object{"rules": []any{}}).is(200)
	w.get(at).is(200, "data.rules", "[]")
}

func TestAudiences(t *testing.T) {
	w := newWorld(t)
	const all = "/api/spaces/default/audiences"
	space := w.store.Current().Space("default").ID
	r := w.post(all, object{"name": "VIP guests", "definition": object{"query": "q"}, "audienceType": "USERS"}).is(200,
		"data.audience.key", "vip_guests", "data.audience.spaceId", space, "data.audience.enabled", true, "data.audience.definition.query", "q",
		"data.audience.audienceType", "USERS", "data.audience.status", "Live", "data.audience.options.includeHistoricalData", true)
	id := r.text("data.audience.id")
	at := all + "/" + id
	if !strings.HasPrefix(id, "aud_") {
		t.Errorf("id %q", id)
	}
	w.post(all, object{"name": "VIP guests", "definition": object{"query": "q"}}).refused(422, "name", "in use")
	w.post(all, object{"name": "Bad", "definition": object{"query": "!"}}).refused(422, "definition.query", "position 1")
	w.post(all, object{"name": "Bad", "definition": object{"query": " "}}).refused(422, "definition.query", "empty")
	w.post(all, object{"name": "Bad", "definition": object{"query": "q"}, "audienceType": "ACCOUNTS"}).refused(422, "audienceType", "USERS")
	w.post(all, object{"name": "Bad", "definition": object{"query": "q", "targetEntity": "orders"}}).refused(422, "definition.targetEntity", "")
	w.post("/api/spaces/none/audiences", object{"name": "x", "definition": object{"query": "q"}}).refused(404, "", "no space")
	w.post(all, object{"name": "Empty start", "enabled": false, "definition": object{"query": "q", "type": "users", "targetEntity": "profile"},
		"options": object{"includeHistoricalData": false, "filterByExternalIds": []any{"anonymous_id"}, "backfillEventDataDays": 7}}).is(200,
		"data.audience.status", "Disabled", "data.audience.options.includeHistoricalData", false,
		"data.audience.options.filterByExternalIds.0", "anonymous_id", "data.audience.options.backfillEventDataDays", 7)

	w.get("/api/spaces/"+space+"/audiences").is(200, "data.pagination.totalEntries", 2)
	w.get("/api/spaces/"+space+"/audiences/"+id).is(200, "data.audience.name", "VIP guests")
	w.patch(at, object{"name": "Very important", "definition": object{"query": "q2"}}).is(200,
		"data.audience.key", "vip_guests", "data.audience.name", "Very important", "data.audience.definition.query", "q2")
	if v := w.store.Current().Audience(id).Version; v != 2 {
		t.Errorf("version %d after another query", v)
	}
	w.patch(at, object{"definition": object{"query": "!"}}).refused(422, "definition.query", "position 1")

	for i := range 3 {
		w.played.members = append(w.played.members, member(byte(i+1)))
	}
	w.get(at+"/size").is(200, "data.size.count", 3)
	page := w.get(at+"/members?pagination.count=2").is(200, "data.members.0.id", member(1).Profile.String(), "data.members.2", nil, "data.pagination.next", "2")
	w.get(at+"/members?pagination.count=2&pagination.cursor="+page.text("data.pagination.next")).is(200, "data.members.0.id", member(3).Profile.String(), "data.pagination.next", nil)

	w.post("/api/spaces", object{"slug": "staff"}).is(201)
	w.get("/api/spaces/staff/audiences/"+id).refused(404, "", "no audience")
	w.delete("/api/spaces/staff/audiences/"+id).refused(404, "", "no audience")
	w.delete(at).is(200, "data.status", "SUCCESS")
	for _, r := range []*reply{w.get(at), w.delete(at), w.patch(at, object{}), w.get(at + "/members"), w.get(at + "/size")} {
		r.refused(404, "", "no audience")
	}
}

func TestActivations(t *testing.T) {
	w := newWorld(t)
	audience := "/api/spaces/default/audiences/" + w.post("/api/spaces/default/audiences", object{"name": "A", "definition": object{"query": "q"}}).is(200).text("data.audience.id")
	dest := w.post("/api/destinations", object{"metadataId": "webhook", "settings": object{"url": "https://example.com", "sharedSecret": "hush"}}).is(200).text("data.destination.id")
	at := audience + "/destination-connections"
	to := object{"destination": object{"id": dest, "type": "destination"}}
	id := w.post(at, to).is(200, "data.idSyncConfiguration", "[]").text("data.connection.id")
	w.post(at, to).refused(409, "", "already")
	w.post(at, object{"destination": object{"id": "none", "type": "destination"}}).refused(422, "destination.id", "no destination")
	w.post(at, object{"destination": object{"id": dest, "type": "warehouse"}}).refused(422, "destination.type", "")
	w.post(at, object{"destination": to["destination"], "idSyncConfiguration": []any{object{"externalId": "email", "strategy": "last"}}}).refused(422, "idSyncConfiguration", "chosen")
	list := w.get(at).is(200, "data.connections.0.id", id, "data.connections.0.destinationId", dest, "data.connections.0.metadata.slug", "webhook")
	if strings.Contains(list.body, "sealed:") {
		t.Error("a sealed secret is shown")
	}
	w.patch(at+"/"+dest, object{"connectionSettings": object{"list": "a"}}).is(200, "data.destination.id", dest, "data.connectionSettings.list", "a")
	w.delete("/api/destinations/"+dest).refused(409, "", "audience a")

	r := w.post(at+"/"+id+"/activations", object{"activationType": "Audience Entered", "activationName": "Welcome", "performResync": false,
		"personalization":    object{"profile": object{"properties": []any{"email"}, "mapping": object{"first_name": "firstName"}}},
		"destinationMapping": object{"actionId": "send"}}).is(200,
		"data.activation.enabled", true, "data.activation.connectionId", id, "data.activation.workspaceId", w.store.Current().ID,
		"data.activation.personalization.profile.properties", "[email first_name]", "data.activation.personalization.profile.mapping.first_name", "firstName")
	act := r.text("data.activation.id")
	w.post(at+"/"+id+"/activations", object{"activationType": "Audience Exited", "activationName": "x", "performResync": true}).refused(422, "performResync", "not offered")
	w.post(at+"/"+id+"/activations", object{"activationType": "Audience Danced", "activationName": "x"}).refused(422, "activationType", "")
	w.post(at+"/"+id+"/activations", object{"activationType": "Audience Exited", "activationName": ""}).refused(422, "activationName", "missing")
	w.post(at+"/"+id+"/activations", object{"activationType": "Audience Exited", "activationName": "x", "trigger": "("}).refused(422, "trigger", "")
	w.post(at+"/"+id+"/activations", object{"activationType": "Audience Exited", "activationName": "x", "destinationMapping": object{"actionId": "fly"}}).refused(422, "destinationMapping.actionId", "fly")
	w.post(at+"/none/activations", object{"activationType": "Audience Exited", "activationName": "x"}).refused(404, "", "no connection")
	w.get(audience+"/activations").is(200, "data.activations.0.id", act, "data.pagination.totalEntries", 1)
	w.get(audience+"/activations/"+act).is(200, "data.activation.activationName", "Welcome")
	w.patch(audience+"/activations/"+act, object{"enabled": false, "activationName": "Hello"}).is(200,
		"data.activation.enabled", false, "data.activation.activationName", "Hello", "data.activation.personalization.profile.mapping.first_name", "firstName")
	w.patch(audience+"/activations/"+act, object{"personalization": object{}}).is(200, "data.activation.personalization.profile.mapping", nil)
	w.delete(audience+"/activations/"+act).is(200, "data.status", "SUCCESS")
	for _, r := range []*reply{w.get(audience + "/activations/" + act), w.delete(audience + "/activations/" + act), w.patch(audience+"/activations/"+act, object{})} {
		r.refused(404, "", "no activation")
	}
	w.get(audience+"/activations").is(200, "data.activations", "[]")
	w.delete(at+"/"+dest).is(200, "data.status", "SUCCESS")
	w.delete(at+"/"+dest).refused(404, "", "no connection")
	w.get(at).is(200, "data.connections", "[]")
	w.delete("/api/destinations/" + dest).is(200)
}
