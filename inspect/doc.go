// Package inspect lets people watch: a live feed of what passes each stage, the
// numbers behind it, and the messages that were rejected, kept for a week.
//
// The feed is memory only. Publishing never waits: a watcher that is too slow
// loses items and is told how many. Rejected messages are written, a few at a
// time and lazily, by one goroutine; when more come than it can write they are
// counted and not kept, so that bad input never slows good input.
//
// Keys (keys.go): workspace scope, room 'x', fence "inspect".
//
// The package knows no other room: server turns what collect, the loop and
// delivery tell into Items and Rejections.
package inspect
