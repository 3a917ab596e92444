# Everything a person or CI runs. `make help` lists the targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  = -s -w -X github.com/ganglion-iot/ganglion/internal/version.Version=$(VERSION)
LINK_LDFLAGS = $(LDFLAGS)
GO      ?= go
export CGO_ENABLED ?= 0

PROGRAMS = bin/ganglion bin/ganglion-link bin/fwup
ASSETS   = internal/web/assets/dist/.built
WEBSRC   = $(wildcard internal/web/assets/src/*) internal/web/assets/package.json internal/web/assets/package-lock.json

.PHONY: help build cross demo test fuzz lint bench generate screenshot clean $(PROGRAMS)

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(PROGRAMS) ## build bin/ganglion, bin/ganglion-link and bin/fwup

bin/ganglion: $(ASSETS)
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/ganglion
bin/ganglion-link:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/ganglion-link
bin/fwup:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/fwup

# Browser code: npm packages by lock file, bundled by esbuild, embedded.
$(ASSETS): $(WEBSRC)
	scripts/bundle-assets
	@touch $@

cross: ## ganglion-link and fwup for every kind of device, with their sizes
	scripts/cross

demo: build ## a server and five devices taking their first update
	bin/ganglion demo

test: $(ASSETS) ## all tests; installs missing test parts where it may
	scripts/test

fuzz: ## every fuzz target for FUZZTIME (4s); make test does so too
	scripts/fuzz

lint: $(ASSETS) ## go vet, golangci-lint, formatting, generated code, govulncheck
	scripts/lint

bench: build ## benchmarks; ends with a table (BENCH_JSON=file also writes it)
	$(GO) run ./test/bench

generate: ## regenerate templ pages and the API document
	$(GO) tool templ generate -path internal/web
	$(GO) test ./internal/api -run OpenAPI -update

screenshot: build ## redo the pictures of the README from a running demo
	scripts/screenshot

clean: ## remove what was built
	rm -rf bin build internal/web/assets/dist internal/web/assets/node_modules
	git checkout -- internal/web/assets/dist 2>/dev/null || true
