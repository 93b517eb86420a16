package api_test

import "testing"

func TestTrackingOfASource(t *testing.T) {
	w := newWorld(t)
	id := w.source("app")
	at := "/api/sources/" + id + "/tracking"
	w.get(at).is(200, "data.sourceId", id, "data.tracking.filterBots", false, "data.tracking.requireToken", false, "data.tracking.httpConfig", "map[]")
	w.patch(at, object{"filterBots": true, "httpConfig": object{"backoffConfig": object{"maxRetryCount": 5}}}).is(200,
		"data.tracking.filterBots", true, "data.tracking.requireToken", false, "data.tracking.httpConfig.backoffConfig.maxRetryCount", 5)
	w.patch(at, object{"requireToken": true, "filterBots": false}).is(200,
		"data.tracking.filterBots", false, "data.tracking.requireToken", true, "data.tracking.httpConfig.backoffConfig.maxRetryCount", 5)
	if s := w.store.Current().Source(id); !s.Tracking.RequireToken || s.Tracking.FilterBots || len(s.Tracking.HTTPConfig) == 0 {
		t.Errorf("the workspace says %+v", s.Tracking)
	}
	w.patch(at, object{"httpConfig": object{"backoffConfig": object{"maxRetryCount": "5"}}}).refused(422, "httpConfig.backoffConfig.maxRetryCount", "want a number")
	w.patch(at, object{"httpConfig": object{}}).is(200, "data.tracking.httpConfig", "map[]", "data.tracking.requireToken", true)
	if s := w.store.Current().Source(id); s.Tracking.HTTPConfig != nil {
		t.Errorf("httpConfig is still there: %s", s.Tracking.HTTPConfig)
	}
	w.patch(at, object{"filterBot": true}).refused(422, "filterBot", "no such field")
	w.get("/api/sources/nobody/tracking").refused(404, "", "no source")
	w.patch("/api/sources/nobody/tracking", object{"filterBots": true}).refused(404, "", "no source")
}
