// Package bot tells by its user agent whether a request comes from a crawler, a
// monitor or another program that is no visitor.
//
// The list is patterns.txt: the patterns of crawler-user-agents 1.67.0
// (github.com/monperrus/crawler-user-agents, MIT licence, see NOTICE), as its
// packages ship it in crawler-user-agents.json. A newer one is put in its place
// with
//
//	jq -r '.[].pattern' crawler-user-agents.json > patterns.txt
//	jq -r '.[].instances[0] // empty' crawler-user-agents.json | grep -v Feedsearch > testdata/agents.txt
//
// (one example names the address of a package registry) and the tests say whether it still works.
package bot
