// Package api is what people and programs steer Kith with: the control API
// under /api and the Profile API under /v1/spaces.
//
// The control API has the paths and JSON shapes of Segment's Public API, so
// that its SDKs work when their base path is http://host/api (sheet
// connections_protocols §6), and beside them Kith's own: what was rejected,
// quarantined and not delivered, live events, the workspace as a file. All
// routes are in one table, from which GET /api/openapi.json is made. Every
// route asks for the admin token. Bodies are application/json or Segment's
// application/vnd.segment.v1[alpha|beta]+json; the answer has the media type
// that was asked for. An answer is {"data": …}; an error, on every path, is
//
//	{"errors": [{"type", "message", "field", "data", "status"}]}
//
// The Profile API answers Segment's five reads and its deletion of identifiers
// in Segment's shapes, its errors too (sheet unify_engage_privacy §1.6, §1.8);
// beside them stand Kith's own search, batches, waiting for a message, and
// tokens for apps, the only ones that web pages of other origins may use.
//
// The package decides nothing itself: it translates between HTTP and the rooms,
// which it meets through the small interfaces in config.go. It keeps no keys
// and shows no secrets.
package api
