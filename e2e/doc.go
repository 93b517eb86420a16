// Package e2e holds the real binary to what Kith promises, from outside: text
// scenarios (testdata/*.txtar), the official clients, unmodified, a real Chromium on pages
// with the snippet, and kill -9 under load with exact accounting at the sink.
//
// A scenario is a testscript file. It starts the server with "serve" and takes
// its steps with "kith test --server", in the language of docs/scripts.md;
// scenario_test.go lists the commands it has besides. Folder sdk has a small
// program for each of Segment's SDKs (sdk_test.go says what it must do), and the
// requests of those that cannot be run here (composed_test.go). The package has
// no code but tests, and keeps no keys.
package e2e
