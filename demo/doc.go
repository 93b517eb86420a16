// Package demo is a hotel group to play with: a workspace file, guests who come
// from a seed, and a view in the terminal of what Kith makes of them.
//
// Guests makes the traffic: people who look at rooms on shared and changing
// devices, book, check in, use the WiFi, mistype their address and leave. The
// calls of the website go through the official Node SDK, unmodified, in a child
// process (package node/ beside this file); those of the booking engine, the
// property system and the WiFi are plain HTTP. Run applies the workspace, sends
// the traffic, stands in for the webhooks of the tools that are fed, and draws.
// It speaks to the server over its public APIs only.
//
// It keeps no keys.
package demo
