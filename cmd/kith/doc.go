// Command kith is Kith: the server and the tools around it, in one binary. It
// hands the streams of the process and the built-in drivers to package cli.
package main
