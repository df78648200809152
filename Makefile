# Countersign's build. `make` lists the targets; scripts/ holds what needs more than a few lines.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup assets build screenshots demo test lint bench generate generate-check fuzz clean

# Extra arguments for the program that a target starts: make demo ARGS='--exit'.
ARGS ?=
# How long `make fuzz` stays on each fuzz target.
FUZZTIME ?= 10s

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS = -X main.version=$(VERSION)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install the programs that the tests need (Debian packages; says what and why)
	@scripts/setup

# The style, scripts and fonts of the pages, bundled by Node from what package-lock.json pins. The Go program embeds them.
WEB := internal/web/assets

assets: $(WEB)/dist/app.css ## Bundle the pages' style and scripts

$(WEB)/dist/app.css: $(WEB)/package-lock.json $(WEB)/build.mjs $(wildcard $(WEB)/src/*)
	cd $(WEB) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent build

build: assets ## Build bin/countersign, static and reproducible
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/countersign ./cmd/countersign

screenshots: assets ## Write a picture of every page, in both themes and two widths, and printed reports into dist/screenshots
	COUNTERSIGN_SCREENSHOTS=$(CURDIR)/dist/screenshots go test -count=1 -run '^(TestScreenshots|TestReportPrints)$$' ./internal/web

demo: build ## Run the release scenario on a real Windows program, then keep serving (ARGS='--exit' stops)
	@scripts/setup demo || echo "demo: goes on without osslsigncode's opinion of the signatures"
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 go build -trimpath -ldflags '$(LDFLAGS)' -o dist/demo/sampleapp.exe ./e2e/sampleapp
	bin/countersign demo --scenario dist/demo/sampleapp.exe --output dist/demo $(ARGS)

test: setup build ## Vet and run every test, the end-to-end tests included
	go vet ./...
	go test -timeout 20m ./...

lint: ## Run golangci-lint and govulncheck at the versions pinned below tools/
	go tool -modfile=tools/lint/go.mod golangci-lint run ./...
	scripts/vulncheck

bench: build ## Measure whole programs beside their peers (ARGS are the benchmark's own)
	go run ./e2e/bench $(ARGS)

generate: ## Regenerate what is generated, with the versions pinned in tools/go.mod
	go generate ./...

generate-check: ## Fail when generated code is not current
	scripts/generate-check

fuzz: ## Run each fuzz target for FUZZTIME (default 10s)
	scripts/fuzz $(FUZZTIME)

clean: ## Remove what the targets above built
	rm -rf bin dist
	find $(WEB)/dist -type f ! -name README -delete
