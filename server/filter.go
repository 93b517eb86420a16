package server

import "github.com/prometheus/client_golang/prometheus"

// filteredEvents counts what event filters have kept out of profiles.
func filteredEvents() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kith_filtered_events_total", Help: "Events that an event filter has kept out of profiles, since the start.",
	}, []string{"space"})
}
