// Package query is Segment's query language for audiences and computed traits:
// from text to a checked program that says whether somebody is a member now,
// and when that can next change by itself.
//
// A text is read in three steps. Parse knows the whole grammar (sheet
// unify_engage_privacy §2.3) and gives a tree of Nodes, each with its line and
// column; String prints a tree in canonical form. ParseAudience checks the tree
// (what each function returns, what may follow what) and compiles a Program.
// What the language has and Kith does not evaluate yet is refused there, with
// its position: a Program is evaluated whole or does not exist.
//
// A Program does not look anything up. It lists the Traits it reads and the
// Aggregates it counts, and Eval asks an Env for their values at an instant.
//
// # Values
//
// Numbers are compared exactly, as the decimals of their JSON text. A string
// stands for a number or a date wherever the other side is one. A date has the
// form 2023-12-07 or 2023-12-07T18:50:00Z, with seconds, fraction and zone
// optional; without a zone it is UTC, and a day alone is its first instant.
// An object or an array is compared as its JSON text. What is missing or null
// is equal to nothing, differs from nothing, and is neither more nor less than
// anything; only absent() and omits() are true of it.
//
// In a name "." walks into objects, "\." is a dot, and "$" stands for every
// element of an array: a condition over "$" holds when it holds for one of the
// elements, absent() and omits() when their opposites hold for none.
//
// The package knows no customers, no store and no clock.
package query
