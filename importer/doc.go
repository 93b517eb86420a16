// Package importer makes profiles of the rows of a CSV file (sheet
// unify_engage_privacy §1.14, "CSV upload of profiles", without its limits of
// rows, columns and bytes).
//
// An upload is received as a stream, turned into UTF-8 on its way and kept as a
// file; its header is checked before anything is kept. Then a job (package job)
// reads it row by row. A row becomes an identify call, one of accounts a group
// call, and goes the way of every call from outside: through collect, into the
// raw log. Its messageId is made of the import's id and the number of the row,
// and the job saves how far it is after every few hundred rows, so what a crash
// makes it send again is dropped as a duplicate.
//
// What is wrong with a row is written into a report, a CSV file of its own with
// the row as it was, and the import goes on. A dry run does the same and sends
// nothing.
//
// Bounds: MaxRowBytes of a row, Limits.DiskBytes of all files, Limits.AtOnce
// imports that run while the others wait, Limits.Pending that have not ended;
// the loop is never more than two stretches of rows behind.
//
// Folder: one per import below Config.Dir, with upload.csv, errors.csv and
// preview.json. The upload goes when the import ends, the rest 7 days later,
// and so does an import that has been paused for that long. Keys: keys.go.
package importer
