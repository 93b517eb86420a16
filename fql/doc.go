// Package fql holds the conditions that are asked of a single event.
//
// An Expr is an expression of Segment's filter query language, whole (its
// documents public-api/fql, sheet connections_protocols §3.4): what event
// filters and the filters of destinations are written in. Whatever is wrong
// with one is said when it is parsed; to evaluate it cannot fail. It is
// compiled once and asked of the raw JSON of each event, of which it reads
// only what it needs.
//
// A Trigger is what a destination's subscription matches on: a restricted form
// of Segment's filter query language (sheet connections_protocols §3.5). It is
// compiled once and asked of the raw JSON of each event.
//
// The trigger language of Segment is what its published parser does with a
// text, accidents included, and triggers that people have written live on
// them. ParseTrigger therefore reads every well-formed trigger as that parser
// does, and says in Warnings where a trigger does not do what it seems to say.
// What is not well-formed is an error, also where the published parser takes
// it for something that never matches (an operator without a value, empty
// parentheses, "<=" directly followed by a number).
//
// The package keeps no state and no keys and knows nothing of destinations.
package fql
