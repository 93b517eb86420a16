# make build   the binary, at bin/kith
# make test    formatting, vet, staticcheck, all tests

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

.PHONY: build test lint clean

build:
	@mkdir -p bin
	go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/kith ./cmd/kith

test: lint
	go test -timeout 20m ./...
	@echo "make test: all tests passed"

lint:
	@unformatted=$$(find . -name '*.go' -not -path '*/node_modules/*' -print0 | xargs -0 gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

clean:
	rm -rf bin
