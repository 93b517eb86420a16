// Package standard lists what is built in: the stores and connectors of the
// usual binary, as plain values that somebody hands on. Nothing registers
// itself. A binary with other drivers is another list.
package standard
