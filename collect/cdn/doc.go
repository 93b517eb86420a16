// Package cdn is the settings CDN and the home of analytics.js: what a page or
// an app fetches before it sends its first event (sheet connections_protocols
// §1.10 and §1.11). It serves
//
//	/v1/projects/{writeKey}/settings, /projects/{writeKey}/settings
//	/analytics.js/v1/{writeKey}/[platform/]analytics.min.js, and analytics.classic.js
//	/analytics-next/bundles/{chunk}
//
// and writes the snippet that a page needs.
//
// Everything is made from the newest snapshot of the workspace and from files
// that are embedded in the binary: nothing is read, waited for or asked. What was
// made is kept, within bounds. SDKs hold back their events until the settings
// have come, so an answer must always come at once.
//
// analytics.js is the npm package @segment/analytics-next, copied to web/dist by
// "make build". It is served with its hosts set to this server: the defaults in
// it would send to Segment whatever finds no other host, such as the report that
// the settings could not be loaded.
package cdn
