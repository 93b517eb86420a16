// Package redact takes erased identifiers out of what other people's events
// say. A Set knows the identifiers of those who were erased; it finds them in
// an event's head and anywhere in its body, and in any bytes that may hold
// them, at about the speed of reading.
//
// An identifier of a head is found by collection, type and value. In JSON and
// in text a value is found wherever it stands as a word of its own, when it is
// long enough to mean somebody (MinValue): "12" as a user id must not take every
// twelve out of other people's events. Letter case counts, but not in values
// with an "@", of which people write as they like.
package redact
