// Package commitlog is the second seam: durable sequences.
//
// A log is a sequence of records, numbered from zero by Offset and carried in
// blocks. What a block holds is the writer's business (package event has the
// form of Kith's blocks): the log knows only how many records there are in it.
// kvlog keeps a log in any kv store; a log on Kafka obeys the same contract.
package commitlog
