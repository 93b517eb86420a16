# make build   the binary, at bin/kith
# make demo    a hotel group with simulated guests, until it is stopped
# make test    formatting, vet, staticcheck, all tests
# make crash   kill -9 under load, ten times, with exact accounting
# make overload  twice the capacity for a minute, then power loss
# make bench   figures, each beside the limit of this machine
# make bench-scale  many people and events: SCALE_PEOPLE, SCALE_EVENTS, SCALE_DIR

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: build demo test crash overload lint bench bench-scale clean

ANALYTICS = collect/cdn/web

build: $(ANALYTICS)/dist/standalone.js
	@mkdir -p bin
	go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/kith ./cmd/kith

demo: build demo/node/node_modules
	bin/kith demo --sdk demo/node $(DEMO)

test: lint $(ANALYTICS)/dist/standalone.js demo/node/node_modules e2e/node/node_modules e2e/browser/node_modules
	@e2e/sdk/install node
	go test -timeout 20m ./...
	@echo "make test: all tests passed"

crash:
	KITH_CRASHES=10 go test -count=1 -timeout 20m -run '^TestCrash$$' -v ./e2e

overload:
	KITH_OVERLOAD=60s go test -count=1 -timeout 20m -run '^TestOverload$$' -v ./e2e

lint:
	@unformatted=$$(find . -name '*.go' -not -path '*/node_modules/*' -print0 | xargs -0 gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

bench: build
	go run ./bench -kith bin/kith $(BENCH)

# It goes on where it was stopped. 10 million people and 100 million events take
# hours and 60 GB: make bench-scale SCALE_PEOPLE=10000000 SCALE_EVENTS=100000000
SCALE_PEOPLE ?= 1000000
SCALE_EVENTS ?= 10000000
SCALE_DIR ?= bin/scale-$(SCALE_PEOPLE)-$(SCALE_EVENTS)

bench-scale: build
	go run ./bench -kith bin/kith -run scale -people $(SCALE_PEOPLE) -events $(SCALE_EVENTS) -dir $(SCALE_DIR) $(BENCH)

# Node packages, as the lock files have them. Without npm they are left out, and
# what needs them says so.
%/node_modules: %/package-lock.json
	@if command -v npm >/dev/null; then cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; \
	else echo "npm is not here: going on without the packages of $(@D)"; fi
	@if [ -d $@ ]; then touch $@; fi

# analytics.js, which the binary serves, out of its npm package. A binary that is
# built without it says so when it is asked for it.
$(ANALYTICS)/dist/standalone.js: $(ANALYTICS)/node_modules
	@if [ ! -d $< ]; then echo "going on without analytics.js"; exit 0; fi; \
	cd $(ANALYTICS) && from=node_modules/@segment/analytics-next && rm -f dist/*.js dist/*.gz dist/LICENSE && \
	cp $$from/dist/umd/*.bundle.*.js $$from/dist/umd/*.bundle.*.js.gz node_modules/@babel/polyfill/dist/polyfill.min.js dist/ && \
	gzip -9 -n -k dist/polyfill.min.js && cp $$from/LICENSE.MD dist/LICENSE && cp $$from/dist/umd/standalone.js dist/ && touch dist/standalone.js

clean:
	rm -rf bin
