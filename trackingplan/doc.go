// Package trackingplan is the first room of the row: it holds a source's events
// to the rules of its tracking plan and settles what becomes of those that do
// not fit (sheet connections_protocols §5.1–5.3).
//
// A rule is a JSON Schema of draft-07 over the whole event. A track call is held
// to the TRACK rule of its name, in the version that its
// context.protocols.event_version names; a missing or unknown version means the
// oldest. Identify and group calls are held to the IDENTIFY and GROUP rule. Page
// and screen calls are held to the TRACK rule "Page Viewed" or "Screen Viewed"
// and to the PAGE or SCREEN rule, whichever there are. COMMON rules hold for
// every call, after the others, on what the others have left of the event.
//
// What then happens is the source's choice (workspace.SchemaSettings): the event
// passes and carries its violations in context.protocols, it loses what does not
// fit, or it is blocked. A blocked event goes no further; a reference to it with
// its violations rests in quarantine, its body stays in the archive.
//
// Validating is order-free and done in Prepare on all cores; Handle only writes.
// The room uses no network: a rule that refers outside itself is refused when it
// is saved (Check), as is one that refers to itself or is too big to be run on
// every event. It never decides about duplicates, which the loop has done
// before, and it keeps no bodies.
package trackingplan
