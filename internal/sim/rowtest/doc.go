// Package rowtest runs rooms of the row in tests as they run in a server: one
// space's raw log, the real loop, the archive and the resolved log, on a store
// that the test chooses. Nothing in it belongs to the product.
package rowtest
