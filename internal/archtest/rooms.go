package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// layer is a storey of the house. Arrows point down.
type layer int

// The storeys. A room imports rooms of its own storey and of those below.
const (
	ground layer = iota + 1 // knows nothing of customers
	words                   // what every room speaks of
	rooms                   // front, hall, row, back, across
	people                  // what people and programs talk to
	house                   // puts it together
	verbs                   // the command line
	gate                    // main
	proof                   // tests, simulations, benchmarks: imported by none of the others
)

// layerOf places every top-level folder. A folder that is not here has no
// place in the house yet: add it where design and docs/architecture.md put it.
var layerOf = map[string]layer{
	"fault": ground, "clock": ground, "kv": ground, "commitlog": ground, "timer": ground, "job": ground,
	"secret": ground, "fql": ground, "query": ground, "egress": ground, "proxy": ground,
	"certificate": ground,

	"event": words, "workspace": words,

	"collect":  rooms,
	"pipeline": rooms, "archive": rooms,
	"revision": rooms,
	"object":   rooms, "trackingplan": rooms, "identity": rooms, "profile": rooms, "computation": rooms, "audience": rooms, "activation": rooms,
	"delivery": rooms, "destination": rooms,
	"inspect": rooms, "erasure": rooms, "importer": rooms, "rebuild": rooms,
	"retention": rooms,

	"auth": people, "api": people, "client": people, "script": people, "demo": people,

	"standard": house, "server": house,

	"cli": verbs, "cmd": gate,

	"internal/archtest": proof, "internal/sim": proof, "e2e": proof, "bench": proof,
}

// The rooms between words and people, by the side of the house they are on.
var (
	front = []string{"collect", "source", "function"}
	hall  = []string{"pipeline", "archive"}
	// row is in the order in which an event passes.
	row    = []string{"object", "trackingplan", "consent", "identity", "profile", "computation", "trait", "audience", "journey", "activation"}
	back   = []string{"delivery", "destination", "warehouse"}
	across = []string{"regulation", "inspect", "erasure", "importer", "rebuild", "retention"}
)

// again are the rooms that lead the past through the row once more. They stand
// behind the row and know its rooms, as they put together what those keep; but
// for server nobody knows them.
var again = []string{"revision"}

// drivers are the folders behind a seam, which only those who put a server
// together may name.
var drivers = []string{"kv/memkv", "kv/pebblekv", "commitlog/kvlog", "destination/webhook"}

// onlyIn gives libraries one folder each (by prefix of their import path).
var onlyIn = map[string]string{
	"github.com/cockroachdb/pebble": "kv/pebblekv",
	"github.com/alecthomas/kong":    "cli",
	"github.com/danielgtaylor/huma": "api",
	"golang.org/x/crypto/acme":      "certificate",
	"github.com/go-jose/go-jose":    "auth",
}

// checkDirection holds imports to the plan of the house.
func checkDirection(t *tree) (complaints []string) {
	for _, p := range t.pkgs {
		from := room(p.dir)
		if p.dir == "." || layerOf[from] == 0 {
			complaints = append(complaints, fmt.Sprintf("%s: the folder has no storey in archtest.layerOf", p.dir))
			continue
		}
		for _, f := range p.files {
			for _, imported := range f.imports {
				dir, ok := t.inside(imported)
				if !ok {
					continue
				}
				if why := refused(p.dir, dir, f.test || forTests(p.dir)); why != "" {
					complaints = append(complaints, fmt.Sprintf("%s imports %s: %s", f.name, dir, why))
				}
			}
		}
	}
	return complaints
}

// refused says why code in one folder may not import another folder.
func refused(fromDir, toDir string, test bool) string {
	from, to := room(fromDir), room(toDir)
	if test {
		return "" // a test may put together what it needs
	}
	switch {
	case layerOf[to] == 0:
		return "no such room"
	case forTests(toDir):
		return "it serves tests only"
	case slices.Contains(drivers, toDir) && from != "standard" && from != "server":
		return "only standard, server and tests name drivers"
	case from == to:
		return ""
	case layerOf[to] > layerOf[from]:
		return "arrows point down: cmd, cli, server, people, rooms, words, ground"
	case layerOf[from] != rooms || layerOf[to] != rooms:
		return ""
	}
	return refusedBetweenRooms(from, to)
}

// refusedBetweenRooms holds the walls within the middle storey.
func refusedBetweenRooms(from, to string) string {
	is := func(room string, side []string) bool { return slices.Contains(side, room) }
	switch {
	case from == "collect" && to == "delivery", from == "delivery" && to == "collect":
		return "collect and delivery never meet"
	case is(to, again):
		return "nobody but server knows who leads the past through the row again"
	case is(from, again) && !is(to, row) && !is(to, hall):
		return "who leads the past through the row again knows the row and the hall"
	case is(from, hall) && !is(to, hall):
		return "the hall imports no room"
	case is(from, front):
		return "what stands before the raw log knows nothing behind it"
	case is(from, row) && is(to, row) && slices.Index(row, to) > slices.Index(row, from):
		return "a room of the row knows only rooms that the event has already left"
	case is(from, row) && (is(to, back) || is(to, front) || is(to, across)):
		return "the row knows only the hall and the rooms before it"
	case is(from, across) && !is(to, hall):
		return "rooms across reach the others through server"
	case is(from, back) && is(to, front):
		return "the back does not know the front"
	}
	return ""
}

// checkLibraries keeps each library behind the one folder that is made for it,
// and the network, the machine and chance out of the row.
func checkLibraries(t *tree) (complaints []string) {
	for _, p := range t.pkgs {
		for _, f := range p.files {
			for _, imported := range f.imports {
				for library, folder := range onlyIn {
					if (imported == library || strings.HasPrefix(imported, library+"/")) && p.dir != folder {
						complaints = append(complaints, fmt.Sprintf("%s imports %s: only %s does", f.name, imported, folder))
					}
				}
				if strings.Contains(imported, "gomock") || strings.Contains(imported, "mockery") || strings.HasSuffix(imported, "testify/mock") {
					complaints = append(complaints, fmt.Sprintf("%s imports %s: fakes live in xtest packages, there are no mocks", f.name, imported))
				}
			}
		}
	}
	for p, f := range t.code() {
		if !slices.Contains(row, room(p.dir)) {
			continue
		}
		for _, imported := range f.imports {
			switch imported {
			case "net", "net/http", "os", "os/exec", "crypto/rand", "math/rand", "math/rand/v2", t.module + "/clock":
				complaints = append(complaints, fmt.Sprintf("%s imports %s: the row uses no clock, network or chance", f.name, imported))
			}
		}
	}
	return complaints
}
