// Package pipeline is the one loop of a space: it reads the space's raw log in
// order, leads each record through the row of stages, and commits state,
// position and outputs in one transaction per batch.
//
// The loop is the only writer of the space's derived state. It decides the
// order: before a record is handled, every timer due at or before the record's
// instant is fired, in the order of (due, key), through the same stages. What a
// stage sees is a Record; what it wants others to know it writes into its own
// slot of the record (NewSlot), where the stages after it read it. What leaves
// the row is an Output of the batch; all outputs of a batch form one block of
// the resolved log, which delivery and inspect read at their own pace.
//
// Nothing in a stage may use a clock, the network or randomness: an instant is
// the record's At, an id derives from the record's ID. A transaction may run
// again, so a stage keeps nothing between batches but what can be read again.
//
// The loop drops what it has seen before: a messageId counts once a space
// within the dedup window. The index of that also leads from a messageId to its
// record, for the trace:
//
//	FindMessage(r kv.Reader, space uint32, messageID string) (commitlog.Offset, bool, error)
//
// The package imports no room: server hands it the list of stages.
package pipeline
