# Everything that is done with this source tree. `make` lists it.
#
# Programs that it needs are installed once into .bin/; a development run keeps its state in .dev/.
# Neither is committed. Needed beforehand: Go, make and git; for tests also a C compiler (race detector).

SHELL         := bash
.SHELLFLAGS   := -euo pipefail -c
MAKEFLAGS     += --no-builtin-rules
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .bin
DEV := .dev

# --- versions, all pinned -------------------------------------------------------------------------------------------

# Later releases of the temporal program carry a replace directive, which `go install` refuses.
TEMPORAL_VERSION        := v1.5.1
TCTL_VERSION            := v1.18.0
GOLANGCI_LINT_VERSION   := v2.15.0
WORKFLOWCHECK_VERSION   := v0.6.0
GOTESTSUM_VERSION       := v1.13.0
TEMPORAL_SERVER_VERSION := v1.32.0
STEP_CA_VERSION         := v0.30.2
GITLEAKS_VERSION        := v8.30.0
GOVULNCHECK_VERSION     := v1.2.0

# --- what a caller may set ------------------------------------------------------------------------------------------

# Packages to test and further flags for `go test`: make test PKGS=./workflows TESTFLAGS='-run Lock -v'
# The workflows begin: for a quarter of an hour they mostly wait for the engine's time-outs, and the others run meanwhile.
PKGS      ?= ./workflows ./...
TESTFLAGS ?=
# Tests that wait for time-outs of others wait side by side.
PARALLEL  ?= 6
# The race detector needs cgo, hence a C compiler.
RACE      ?= $(if $(shell command -v gcc clang cc),-race)
# AGAIN=yes: up to six failures, none a data race, run once more by themselves, and the summary has both. What
# waits for real servers beside all the others can be late; nobody should have to run the other thousands again for it.
AGAIN     ?=
# Every test event, for whoever wants to count; .ci/run does.
TESTJSON  ?= $(DEV)/test.json
# How long each fuzz target runs. Without an end of its own, making an input smaller could take all of it.
FUZZTIME  ?= 20s
# Another place of the Go vulnerability database, for a machine that does not reach the public one.
VULNDB    ?=

# The temporal program of the machine, if it has one; else ours.
TEMPORAL := $(or $(shell command -v temporal),$(BIN)/temporal)
# Behind the machine's own programs, so that demo and tests find the same ones as these rules.
export PATH := $(PATH):$(CURDIR)/$(BIN)

# --- see it, use it -------------------------------------------------------------------------------------------------

.PHONY: help
help: ## this list
	@echo 'usage: make TARGET'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: build $(TEMPORAL) ## lock mobile IDs and get one on real parts, check the end states, stop again
	@$(BIN)/starter demo

.PHONY: demo-cas
demo-cas: build $(TEMPORAL) $(BIN)/step-ca ## certificates of two CAs, devca and a real step-ca that is down for a while
	@$(BIN)/starter demo-cas

.PHONY: run
run: build $(TEMPORAL) ## the same parts, left running with the Web UI, until Ctrl-C
	@$(BIN)/starter run

.PHONY: cluster
cluster: build $(BIN)/temporal-server $(BIN)/temporal-sql-tool ## as in production: Temporal's server on PostgreSQL, two workers, until Ctrl-C
	@$(BIN)/starter run --temporal postgres --workers 2 --dir $(DEV)/cluster

.PHONY: bench
bench: build $(TEMPORAL) $(BIN)/temporal-server $(BIN)/temporal-sql-tool ## a lock beside a no-op workflow, on both Temporal servers; some fifteen minutes
	@$(BIN)/starter bench --temporal development --waiting 100 --file $(DEV)/bench.json
	@$(BIN)/starter bench --temporal postgres --waiting 10000 --file $(DEV)/bench.json

# CHAOS_SEEDS="1 2 3" runs one after the other; each adds its row to .dev/chaos/report.md. CHAOS_RACE=1 builds worker and
# starter with the race detector.
CHAOS_LOCKS ?= 100
CHAOS_GETS  ?= $(shell echo $$(($(CHAOS_LOCKS) / 10)))
CHAOS_SEED  ?=
CHAOS_SEEDS ?= $(CHAOS_SEED)

.PHONY: chaos
chaos: $(BIN)/temporal-server $(BIN)/temporal-sql-tool $(BIN)/step-ca ## locks and Gets under faults, and an independent checker; CHAOS_LOCKS, CHAOS_GETS, CHAOS_SEEDS
	@go run ./tools/chaos --seeds '$(CHAOS_SEEDS)' --locks $(CHAOS_LOCKS) --gets $(CHAOS_GETS) --dir $(DEV)/chaos --bin $(BIN) $(if $(CHAOS_RACE),--race)

# Locks that wait while memory is read, and `SHORT=1 make load` to try it: see docs/load.md.
LOAD_WAITING ?= 20000
LOAD := --file $(DEV)/load.json $(if $(SHORT),--short)

.PHONY: load
load: build $(BIN)/temporal-server $(BIN)/temporal-sql-tool ## locks under load beside a no-op and the bare calls, by sizes, and pages: docs/load.md
	@$(BIN)/starter bench --temporal postgres --waiting $(LOAD_WAITING) $(LOAD)
	@$(BIN)/starter bench sizes $(LOAD)
	@$(BIN)/starter bench pages $(LOAD)
	@$(BIN)/starter bench summary --file $(DEV)/load.json

.PHONY: chaos-table
chaos-table: ## the table of docs/chaos.md, from the runs of make chaos that are kept
	@go run ./tools/chaos --dir $(DEV)/chaos --write-table docs/chaos.md

.PHONY: bench-parts
bench-parts: ## the hot inner parts by size: OCSP and CRL checks, the store, devca
	@go test -run '^$$' -bench . ./activities/identitymanager ./activities/ca ./activities/ca/devca

.PHONY: contract-table
contract-table: $(BIN)/step-ca $(BIN)/vault-pki ## the table of the driver contract in docs/cas.md, from a test run
	@go test -json -run '^TestContract$$' ./activities/ca/... >$(BIN)/contract.json
	@go run ./activities/ca/catest/contracttable -write docs/cas.md <$(BIN)/contract.json

.PHONY: build
build: ## worker and starter, into .bin/
	@echo 'building worker and starter'
	@mkdir -p $(BIN)
	@CGO_ENABLED=0 go build -trimpath -o $(BIN)/ ./worker ./starter

# --- keep it right --------------------------------------------------------------------------------------------------

.PHONY: check
check: lint test ## lint and test: what must pass before a commit

.PHONY: cluster-test
cluster-test: PKGS := ./starter/cluster
cluster-test: test ## the tests on the cluster alone: kills, restarts, new builds, backups; LOCKS=n in the place of 200

.PHONY: test
test: $(TEMPORAL) $(BIN)/temporal-server $(BIN)/temporal-sql-tool $(BIN)/tctl $(BIN)/step-ca $(BIN)/vault-pki
test: $(BIN)/gotestsum $(BIN)/axe.min.js $(BIN)/htmlvalidate ## all tests, on the real parts, with the race detector
	@mkdir -p $(dir $(TESTJSON))
	@$(if $(RACE),,echo 'no C compiler: testing without the race detector')
	@$(BIN)/gotestsum --format pkgname --jsonfile $(TESTJSON) $(if $(AGAIN),$(again)) --packages '$(PKGS)' \
	  -- $(RACE) -count=1 -timeout 60m -parallel $(PARALLEL) $(TESTFLAGS)

again := --rerun-fails=1 --rerun-fails-max-failures=6 --rerun-fails-run-root-test --rerun-fails-abort-on-data-race

# The histories carry today's date in their names. Older ones stay: they stand for processes that are open somewhere.
.PHONY: record-histories
record-histories: $(TEMPORAL) ## record one history per path of each process, for the replay test
	@RECORD_HISTORIES=$$(date -u +%F) go test -count=1 ./workflows

# Go runs one target at a time. What a target finds stays in its package's testdata/fuzz, for every `make test` from then on.
.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME
	@grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$$dir"/*_test.go | cut -d' ' -f2); do \
	    echo "$$dir $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s "$$dir" || exit 1; \
	  done; \
	done

# It needs the vulnerability database of the Go project. Without it nothing was looked for, and that is a failure.
.PHONY: vulncheck
vulncheck: $(BIN)/govulncheck ## known vulnerabilities in what worker and starter call
	@said=$$($(BIN)/govulncheck $(if $(VULNDB),-db '$(VULNDB)') ./worker ./starter 2>&1) && { echo "$$said"; exit 0; }; \
	  echo "$$said"; \
	  ! grep -q 'fetching vulnerabilities' <<<"$$said" || echo 'vulncheck: NOT RUN: the vulnerability database cannot be reached; VULNDB names another one'; \
	  exit 1

# What a licence asks of whoever ships the programs is known for these; any other one is looked at before it comes in.
LICENCES := Apache-2.0,BSD-2-Clause,BSD-3-Clause,ISC,MIT
licences = $(BIN)/go-licenses report ./worker ./starter --ignore mobileid --template tools/licenses/list.tpl 2>/dev/null

.PHONY: licences
licences: $(BIN)/go-licenses ## write docs/licences.md
	@$(licences) >docs/licences.md

.PHONY: lint
lint: lint-fmt lint-mod lint-vet lint-go lint-workflows lint-shell lint-licences lint-secrets ## all the static checks below

.PHONY: lint-fmt
lint-fmt: ## gofmt
	@echo 'gofmt'
	@diff=$$(find . -name '*.go' -not -path './$(BIN)/*' -not -path './$(DEV)/*' -exec gofmt -d {} + || true); \
	  [[ -z $$diff ]] || { echo "$$diff"; echo 'run: gofmt -w .'; exit 1; }

.PHONY: lint-mod
lint-mod: ## go.mod and go.sum are complete and free of leftovers
	@echo 'go mod tidy -diff'
	@go mod tidy -diff || { echo 'run: go mod tidy'; exit 1; }

.PHONY: lint-vet
lint-vet: ## go vet
	@echo 'go vet'
	@go vet ./...

.PHONY: lint-go
lint-go: $(BIN)/golangci-lint ## golangci-lint, see .golangci.yml
	@echo 'golangci-lint'
	@$(BIN)/golangci-lint run ./...

# Called directly, not as `go vet -vettool`: vet would keep its answer when only the configuration file changes.
.PHONY: lint-workflows
lint-workflows: $(BIN)/workflowcheck ## workflow code is deterministic, see workflowcheck.config.yaml
	@echo 'workflowcheck'
	@$(BIN)/workflowcheck -config workflowcheck.config.yaml ./workflows/...

.PHONY: lint-shell
lint-shell: ## shellcheck on every shell script
	@echo 'shellcheck'
	@command -v shellcheck >/dev/null || { echo 'shellcheck is not installed (Debian package shellcheck)'; exit 1; }
	@grep -lE '^#!.*[/ ](ba)?sh\b' .ci/run $(wildcard scripts/*) | xargs shellcheck --external-sources

# nexus-proto-annotations ships no licence file with its module; it is generated code of two options, by Temporal.
.PHONY: lint-licences
lint-licences: $(BIN)/go-licenses ## licences of dependencies are among the known ones, and docs/licences.md lists them
	@echo 'go-licenses'
	@said=$$($(BIN)/go-licenses check ./worker ./starter --allowed_licenses=$(LICENCES) \
	  --ignore mobileid --ignore github.com/nexus-rpc/nexus-proto-annotations 2>&1) || { grep -v 'Error discovering' <<<"$$said"; exit 1; }
	@diff docs/licences.md <($(licences)) || { echo 'run: make licences'; exit 1; }

.PHONY: lint-secrets
lint-secrets: $(BIN)/gitleaks ## no secret in the tree, or in its history where there is one, see .gitleaks.toml
	@echo 'gitleaks'
	@$(BIN)/gitleaks dir --no-banner --log-level warn --redact --verbose .
	@if git rev-parse --git-dir >/dev/null 2>&1; then $(BIN)/gitleaks git --no-banner --log-level warn --redact --verbose .; fi

# --- programs of others ---------------------------------------------------------------------------------------------

.PHONY: tools
tools: $(TEMPORAL) $(BIN)/temporal-server $(BIN)/temporal-sql-tool $(BIN)/tctl $(BIN)/step-ca $(BIN)/vault-pki $(BIN)/gotestsum
tools: $(BIN)/golangci-lint $(BIN)/workflowcheck $(BIN)/gitleaks $(BIN)/go-licenses $(BIN)/govulncheck ## install all of them into .bin/

# A stamp carries the version in its name. A new version makes a new stamp, which is newer than the program; a program
# that was not finished is older than its stamp, or missing. Both are built again, and nothing else is. Stamps of other
# versions go, so that the way back to one builds it too.
stamp = $(BIN)/.$(1)-$(2)
.PRECIOUS: $(BIN)/.%
$(BIN)/.%:
	@mkdir -p $(BIN)
	@stem='$*'; rm -f $(BIN)/."$${stem%-v*}"-v*
	@touch $@

# $(call go-install,PACKAGE,VERSION): into .bin/, by Go's own means, from the module proxy.
define go-install
	@GOBIN='$(CURDIR)/$(BIN)' go install $(1)@$(2)
	@touch $@
endef

$(BIN)/temporal: $(call stamp,temporal,$(TEMPORAL_VERSION))
	@echo 'building the temporal program $(TEMPORAL_VERSION), about three minutes the first time'
	$(call go-install,github.com/temporalio/cli/cmd/temporal,$(TEMPORAL_VERSION))

# tctl is no longer maintained, and its list of requirements is long: a module of its own keeps it out of ours.
$(BIN)/tctl: $(call stamp,tctl,$(TCTL_VERSION)) tools/tctl/go.mod tools/tctl/go.sum
	@echo 'building tctl $(TCTL_VERSION), a minute or two the first time'
	@cd tools/tctl && go build -o ../../$@ github.com/temporalio/tctl/cmd/tctl
	@touch $@

# What a production cluster runs. Its package is called server, its tool sql.
$(BIN)/temporal-server: $(call stamp,temporal-server,$(TEMPORAL_SERVER_VERSION))
	@echo 'building the Temporal server $(TEMPORAL_SERVER_VERSION), about two minutes the first time'
	@GOBIN='$(CURDIR)/$(BIN)/temporal-parts' CGO_ENABLED=0 go install go.temporal.io/server/cmd/server@$(TEMPORAL_SERVER_VERSION)
	@mv $(BIN)/temporal-parts/server $@
	@touch $@

$(BIN)/temporal-sql-tool: $(call stamp,temporal-sql-tool,$(TEMPORAL_SERVER_VERSION))
	@GOBIN='$(CURDIR)/$(BIN)/temporal-parts' CGO_ENABLED=0 go install go.temporal.io/server/cmd/tools/sql@$(TEMPORAL_SERVER_VERSION)
	@mv $(BIN)/temporal-parts/sql $@
	@touch $@

$(BIN)/step-ca: $(call stamp,step-ca,$(STEP_CA_VERSION))
	@echo 'building step-ca $(STEP_CA_VERSION), about three minutes the first time'
	@CGO_ENABLED=0 GOBIN='$(CURDIR)/$(BIN)' go install github.com/smallstep/certificates/cmd/step-ca@$(STEP_CA_VERSION)
	@touch $@

# Vault's PKI engine needs hundreds of modules: a module of its own keeps them out of ours.
$(BIN)/vault-pki: tools/vaultpki/go.mod tools/vaultpki/go.sum $(wildcard tools/vaultpki/*.go)
	@echo 'building the PKI engine of Vault, about a minute the first time'
	@cd tools/vaultpki && CGO_ENABLED=0 go build -o ../../$@ .
	@touch $@

# `go install` would ask its repository whether it is deprecated, and the module proxy is all that there need be.
$(BIN)/go-licenses: tools/licenses/go.mod tools/licenses/go.sum
	@echo 'building go-licenses'
	@cd tools/licenses && go build -o ../../$@ github.com/google/go-licenses/v2
	@touch $@

$(BIN)/gitleaks: $(call stamp,gitleaks,$(GITLEAKS_VERSION))
	@echo 'building gitleaks $(GITLEAKS_VERSION)'
	$(call go-install,github.com/zricethezav/gitleaks/v8,$(GITLEAKS_VERSION))

$(BIN)/govulncheck: $(call stamp,govulncheck,$(GOVULNCHECK_VERSION))
	@echo 'building govulncheck $(GOVULNCHECK_VERSION)'
	$(call go-install,golang.org/x/vuln/cmd/govulncheck,$(GOVULNCHECK_VERSION))

$(BIN)/axe.min.js: tools/axe/package.json tools/axe/package-lock.json
	@mkdir -p $(BIN)/axe
	@cp $^ $(BIN)/axe/
	@npm ci --prefix $(BIN)/axe --ignore-scripts --no-audit --no-fund --silent
	@cp $(BIN)/axe/node_modules/axe-core/axe.min.js $@

$(BIN)/htmlvalidate: tools/htmlvalidate/package.json tools/htmlvalidate/package-lock.json
	@mkdir -p $@
	@cp $^ $@/
	@npm ci --prefix $@ --ignore-scripts --no-audit --no-fund --silent
	@touch $@

$(BIN)/gotestsum: $(call stamp,gotestsum,$(GOTESTSUM_VERSION))
	@echo 'building gotestsum $(GOTESTSUM_VERSION)'
	$(call go-install,gotest.tools/gotestsum,$(GOTESTSUM_VERSION))

$(BIN)/golangci-lint: $(call stamp,golangci-lint,$(GOLANGCI_LINT_VERSION))
	@echo 'building golangci-lint $(GOLANGCI_LINT_VERSION), some minutes the first time'
	$(call go-install,github.com/golangci/golangci-lint/v2/cmd/golangci-lint,$(GOLANGCI_LINT_VERSION))

$(BIN)/workflowcheck: $(call stamp,workflowcheck,$(WORKFLOWCHECK_VERSION))
	@echo 'building workflowcheck $(WORKFLOWCHECK_VERSION)'
	$(call go-install,go.temporal.io/sdk/contrib/tools/workflowcheck,$(WORKFLOWCHECK_VERSION))

# --- containers -----------------------------------------------------------------------------------------------------

SECRETS := .secrets

# The folder is closed and its files are not: containers read them as users of their own. Kept when they are there,
# because the databases were made with them. Not below .dev/, which `make clean` removes while the volumes stay.
.PHONY: secrets
secrets: ## random passwords and a TLS certificate for docker-compose.yml, once, in .secrets/
	@command -v openssl >/dev/null || { echo 'openssl is not installed'; exit 1; }
	@mkdir -p -m 0700 $(SECRETS)
	@echo '*' >$(SECRETS)/.gitignore
	@random() { od -An -v -tx1 -N24 /dev/urandom | tr -d ' \n'; }; \
	  cd $(SECRETS); umask 022; \
	  for name in postgres_password temporal_password mobileid_password grafana_password; do \
	    [[ -s $$name ]] || random >$$name; \
	  done; \
	  echo "postgres://mobileid:$$(cat mobileid_password)@postgres:5432/mobileid?sslmode=disable" >mobileid_dsn; \
	  [[ -s serve_certificate.pem && -s serve_key.pem ]] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
	    -subj '/CN=mobileid Self-Service' -addext 'subjectAltName=DNS:localhost,DNS:serve,IP:127.0.0.1' -days 365 \
	    -keyout serve_key.pem -out serve_certificate.pem 2>openssl.log || { cat openssl.log; exit 1; }; \
	  rm -f openssl.log; chmod 0644 serve_key.pem
	@echo 'they are in $(SECRETS)/'

# --- clean up -------------------------------------------------------------------------------------------------------

.PHONY: clean
clean: ## remove .dev/, the state of development runs
	@rm -rf $(DEV)

.PHONY: distclean
distclean: clean ## remove .bin/ too
	@rm -rf $(BIN)
