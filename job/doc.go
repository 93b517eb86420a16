// Package job runs durable long work: what spans more than a batch of a loop
// or a request of a caller, such as the first sync of an audience to a
// destination.
//
// A job is a record in kv: its kind, parameters, cursor, progress and state.
// The code of a kind is handed in as a value. A job has one owner, the Jobs
// that runs it; after a restart it goes on from the cursor it saved last, so a
// kind must bear having the work since then done again. Jobs never decides
// what a job does, and keeps finished ones only for a while, so that people
// can see them. See keys.go for its keys.
package job
