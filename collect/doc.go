// Package collect is the Tracking API: it takes events from Segment's SDKs,
// judges and completes them, appends them to the raw log of their source's
// space, and answers 200 once they are durable. It runs the wire protocol of
// sheet connections_protocols §1.1–1.5, §1.7–1.9, §1.12, §2.1–2.5 and §2.8:
// calls and batches, pixels, and the objects of the Objects API and its bulk
// form.
//
// What is stored of an event is one JSON object: the fields as they were sent,
// their text and order kept, without writeKey, with what the batch says for all
// its events merged in, and with type, messageId, timestamp, originalTimestamp,
// sentAt and receivedAt in place. Later rooms read nothing else.
//
// A request is judged as the SDKs need it: unreadable JSON, a body over the
// limit and a single call over the event limit are 400; everything else that is
// wrong with events is 200 and a Rejection with a discard code, item by item. A
// wrong access token is 401. A pixel is always answered with an image. A
// fault of ours is never a 4xx but 429: a full queue is 429 with Retry-After, a
// log that fails and a server that closes are 503.
//
// Collect never decides about duplicates, plans or people, never reads what it
// wrote, and never waits for the loop. It keeps no keys of its own: the raw log
// is the space's.
package collect
