// Package destination is the seam behind which everything lies that Kith sends
// events to.
//
// A Connector is one kind of destination: a Spec, which describes it as data
// (settings, actions, limits) for forms, documentation and checks, and Open,
// which makes a Destination of settings. A Destination does one thing, Send.
// Queues, batches, order, retries, rate and concurrency limits, dead letters
// and counting are around it, in package delivery.
//
// The connectors of a server are a Registry, a value that standard puts
// together; there is no list that packages enter themselves into.
// destinationtest.Run holds every connector to the contract written here.
//
// The package keeps no keys.
package destination
