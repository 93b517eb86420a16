// Package inspect lets people watch: a live feed of what passes each stage, the
// messages that were rejected, kept for a week, and what was seen and how much
// of it: events, properties and traits, calls and monthly tracked users.
//
// The feed (feed.go) is memory only. Publishing never waits: a watcher that is
// too slow loses items and is told how many. Rejected messages (rejections.go)
// are written, a few at a time and lazily, by one goroutine; when more come than
// it can write they are counted and not kept, so that bad input never slows good
// input.
//
// The Observer (observer.go) follows the raw logs behind the loops, through the
// archive, at its own pace, and counts every record once: where it stands and
// what it has counted commit together. Calls of one outline (shape.go) cost one
// count; what is known of the sources is in memory while it is used
// (register.go) and written once a commit. Schema and Meter only
// read.
//
// Insights (insights.go) follow the resolved logs likewise (follower.go): what identity did and
// refused is counted, and found again (insightsearch.go) by an index of bits of
// hashes, which says where in that log to read.
//
// Keys (keys.go): workspace scope, room 'x', fences "inspect",
// "inspect/insights" and "inspect/usage".
//
// The package knows only the hall: server turns what collect, the loops and
// delivery tell into Items and Rejections.
package inspect
