// Package object keeps what the Objects API sends (sheet connections_protocols
// §1.9): per source and collection, each object with the properties that all
// its records have set, the newest of each. It stands first in the row, since
// an object is nobody's: it feeds no profile and is held to no plan. The
// records themselves rest in the raw log like all others.
//
// What is kept is a function of the log alone and the same in every epoch, so
// it does not stand under one; the live loop writes it.
package object
