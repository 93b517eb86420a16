// Package guard holds the callers of a kv driver to the contract of package
// kv: closing, fences and limits. The drivers share it; it keeps no keys and
// knows nothing of how a driver stores or reads.
package guard
