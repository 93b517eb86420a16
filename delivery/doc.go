// Package delivery brings what leaves the row to destinations: at least once,
// in order per profile, and each destination at its own pace.
//
// Every destination has a worker, one goroutine that owns all of its state and
// reads the resolved log of every space with a cursor of its own. The steps of
// an output at a destination:
//
//	judge    the gates say whether the destination gets it, and for which of
//	         its subscriptions (gates.go); what is kept back is counted by gate
//	queue    it waits in the queue of its profile until those before it are
//	         done with (queue.go)
//	send     queues whose first events are ready fill a batch; the connector
//	         sends it in a goroutine of its own, a bounded number at a time
//	         (batch.go)
//	outcome  delivered; put off until a retry is due; or a dead letter
//	         (outcome.go)
//	commit   outcomes gather while the commit before them is written
//	         (commit.go)
//
// An event that waits for a retry holds back later events of its profile at
// its destination, up to Limits.MaxBehind of them or until it is
// Limits.MaxAge old; then it becomes a dead letter and the rest goes on. It
// holds back no other profile. When Limits.MaxWaiting wait at one destination,
// its cursor stands still until fewer do. An event that makes a whole batch
// fail is found by sending smaller batches.
//
// A crash loses nothing: what is known is a cursor, the outputs before it that
// are still under way, and those that wait for a retry or are dead letters.
// All of them are references into the resolved log, never copies. Commits are
// lazy, since a lost one only means that something is sent again. So for each
// destination, at every commit: accepted = delivered + filtered + dead +
// waiting.
//
// The ledger (ledger.go, bookkeep.go) says of every output what became of it,
// in the same commits, for Limits.Ledger: Trail looks up one, Sums adds up a
// time. Of failures the newest are kept as samples (failures.go).
//
// A new destination begins at the end of the logs (Begin). The cursor of a
// disabled one stands still, and what waits goes on waiting. What is known of
// a removed one is deleted.
//
// Keys (keys.go): workspace scope, room 'd', fence "delivery/<destination>".
package delivery
