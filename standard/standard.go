package standard

import (
	"log/slog"

	"kith/kv"
	"kith/kv/memkv"
	"kith/kv/pebblekv"
)

// Store opens the embedded store in a folder, which it creates.
func Store(dir string, logger *slog.Logger) (kv.DB, error) {
	return pebblekv.Open(dir, pebblekv.Options{Logger: logger})
}

// Memory opens a store that is gone when it is closed. It takes the arguments
// of Store so that it can stand in its place.
func Memory(string, *slog.Logger) (kv.DB, error) { return memkv.New(), nil }
