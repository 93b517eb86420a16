package standard

import (
	"log/slog"

	"kith/destination"
	"kith/destination/webhook"
	"kith/kv"
	"kith/kv/memkv"
	"kith/kv/pebblekv"
)

// Store opens the embedded store in a folder, which it creates.
func Store(dir string, logger *slog.Logger) (kv.DB, error) {
	db, err := pebblekv.Open(dir, pebblekv.Options{Logger: logger})
	if err != nil {
		return nil, err
	}
	return db, nil
}

// Memory opens a store that is gone when it is closed. It takes the arguments
// of Store so that it can stand in its place.
func Memory(string, *slog.Logger) (kv.DB, error) { return memkv.New(), nil }

// Destinations returns the kinds of destination.
func Destinations() []destination.Connector {
	return []destination.Connector{webhook.Connector()}
}
