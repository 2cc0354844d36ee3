# `make` lists the targets. Everything lands in this folder: .venv, target, src/betanet/_core.*.so, packaging/data.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export UV_SYSTEM_CERTS := 1
export UV_PYTHON_DOWNLOADS := never
# Where cargo and maturin look for the interpreter: one answer for both, or each rebuilds the other's bindings.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

RUST := Cargo.toml Cargo.lock $(shell find crates -name '*.rs' -o -name 'Cargo.toml' -o -name 'README.md')
# Each file's tests in one process, so that what they share starts once; a process for each core, four at most.
PYTEST := $(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile
# nextest is faster where it is installed, but leaves the examples in the documentation to cargo.
CARGO_TEST := $(if $(shell command -v cargo-nextest),cargo nextest run --locked --workspace --no-tests=pass \
	&& cargo test --locked --doc --workspace --exclude betanet-py,cargo test --locked --workspace)

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 18

.PHONY: demo
demo: build ## Start a fog, run one private task through a real mixnet, stop
	$(BIN)/python examples/demo.py

.PHONY: up
up: build ## Run a fog on this machine until Ctrl-C
	$(BIN)/fog up

.PHONY: build
build: $(VENV)/build.stamp ## Install the Rust core and the Python packages into .venv, editable

# What the tests run as servers of their own; without one those that need it are skipped, and say so.
# $(1) is Debian's package, $(2) tells whether it is there, $(3) are the tests.
define debian_package
@$(2) || { \
	test "$$(id -u)" = 0 && command -v apt-get >/dev/null && { \
		echo 'Installing $(1) for the tests'; export DEBIAN_FRONTEND=noninteractive; \
		apt-get install --yes --quiet --no-install-recommends $(1) >/dev/null 2>&1 \
		|| { apt-get update --quiet >/dev/null 2>&1 \
			&& apt-get install --yes --quiet --no-install-recommends $(1) >/dev/null; }; }; \
} || echo '$(3) will be skipped: it is not installed (Debian: apt-get install $(1))' >&2
endef

.PHONY: postgres
postgres: ## Install Debian's Postgres for the tests, where that is missing and allowed
	$(call debian_package,postgresql,ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null,Tests on Postgres)

.PHONY: monitoring-tools
monitoring-tools: $(VENV)/deps.stamp ## Unpack Prometheus and its like into .venv, install Redis, for the tests
	@$(BIN)/python packaging/monitoring_tools.py $(VENV)
	$(call debian_package,redis-server,command -v redis-server >/dev/null,Tests on Redis)

# What parses LogQL in the tests: a grammar, and nothing that is installed runs of itself (see the .npmrc there).
.PHONY: logql
logql: ## Fetch the grammar of LogQL for the tests, where Node is there
	@cd monitoring/logql && { test node_modules/.package-lock.json -nt package-lock.json || { \
		command -v node >/dev/null && command -v npm >/dev/null && npm ci --silent >/dev/null; }; } \
	|| echo 'LogQL will not be parsed: node and npm are missing, or npm ci in monitoring/logql fails' >&2

.PHONY: test
test: build postgres monitoring-tools logql ## Run all tests but those that take minutes
	$(CARGO_TEST)
	$(PYTEST)

.PHONY: test-long
test-long: build postgres monitoring-tools logql ## Run all tests, with long property searches
	export PROPTEST_CASES=10000 && $(CARGO_TEST)
	cargo test --locked --package betanet-sphinx -- --ignored
	cargo test --locked --package betanet-mix --test bulk -- --ignored
	cargo run --locked --package betanet-fuzz -- --seconds 20
	HYPOTHESIS_PROFILE=deep CONTRACT_SECONDS=1800 $(BIN)/pytest --slow --timeout=1800
	$(BIN)/pytest --postgres --timeout=600 tests/unit/fog_compute/coordinator

# Programs that nobody here wrote, in an environment of their own, on a D-Bus and a mock of BlueZ of their own.
.PHONY: test-interop
test-interop: $(VENV)/interop.stamp build ## Talk to other people's BitChat programs, over a mock of BlueZ
	INTEROP_PYTHON=$(CURDIR)/$(VENV)/interop/bin/python $(BIN)/pytest tests/interop

$(VENV)/interop.stamp: requirements/interop.txt $(VENV)/deps.stamp
	@command -v dbus-daemon >/dev/null || { echo 'dbus-daemon is missing (Debian: apt-get install dbus-daemon)' >&2; exit 1; }
	@test -x $(VENV)/interop/bin/python || $(BIN)/uv venv --quiet $(VENV)/interop
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(VENV)/interop/bin/python requirements/interop.txt
	@touch $@

.PHONY: test-bluez
test-bluez: build ## Try the Bluetooth radio on a real BlueZ in a virtual machine: some ten minutes
	$(BIN)/python -m tests.bluez.guest

# Needs Debian's docker.io and mmdebstrap, and root; where they are not, it says so.
.PHONY: compose-test
compose-test: build ## Build the images and bring the stack up, on a container engine of its own: half an hour
	COMPOSE_TEST=target/compose-test $(BIN)/pytest tests/compose/test_containers.py --capture=no

.PHONY: coverage
coverage: build postgres monitoring-tools logql ## Measure which branches of each package the tests take: 90 % of each, half an hour
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --timeout=600 tests/unit/fog_compute tests/integration/test_circuits.py \
		tests/integration/test_seed_contract.py tests/integration/test_lending.py tests/integration/test_fog.py
	$(BIN)/coverage combine --quiet
	for package in cli client coordinator face p2p server store tasks vpn worker; do \
		$(BIN)/coverage report --include "src/fog_compute/$$package/*"; done

.PHONY: lint
lint: build ## Check format, types, lints, layers
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/stubtest --concise betanet._core
	$(BIN)/lint-imports --no-logo
	$(BIN)/python packaging/checks.py
	$(BIN)/python packaging/module_circles.py
	$(BIN)/python packaging/names.py

.PHONY: fmt
fmt: $(VENV)/deps.stamp ## Format the code, apply safe fixes
	cargo fmt --all
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

.PHONY: bench
bench: $(VENV)/deps.stamp monitoring-tools ## Measure, on optimised builds of their own, and draw docs/benchmarks.md
	test -x $(VENV)/bench/bin/python || $(BIN)/uv venv --quiet $(VENV)/bench
	FOG_BUILD_PROFILE=quick $(BIN)/uv pip install --quiet --python $(VENV)/bench/bin/python --no-cache ".[postgres,python]"
	$(BIN)/python -m benches.report $(VENV)/bench/bin/python
	$(VENV)/bench/bin/python -m benches.submit_postgres --keep
	$(BIN)/uv pip install --quiet --python $(VENV)/bench/bin/python --constraint requirements/dev.txt bitchat-protocol
	$(VENV)/bench/bin/python -m benches.mesh_engine --keep

.PHONY: bench-long
bench-long: build ## Let nodes run for long: memory, losses; half an hour
	$(BIN)/python -m benches.long

.PHONY: bench-chaos
bench-chaos: build ## Kill and freeze the processes of busy fogs: what is lost, what is accepted twice; half an hour
	$(BIN)/python -m benches.chaos --keep
	$(BIN)/python -m benches.pair --keep

.PHONY: docs
docs: build ## Build the Rust reference and check that the pages match the code
	cargo doc --locked --workspace --no-deps --exclude betanet-py
	$(BIN)/pytest tests/docs

.PHONY: reference
reference: build ## Write the pages of docs/reference anew, from the code
	for page in packaging/*_reference.py; do $(BIN)/python $$page; done

.PHONY: dashboards
dashboards: build ## Write the dashboards of monitoring/grafana anew, from the code
	$(BIN)/python -m monitoring.grafana.boards

.PHONY: requirements
requirements: $(VENV)/deps.stamp ## Pin the newest versions that pyproject.toml and requirements/dev.in allow
	cd requirements && uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 \
		--no-header --no-annotate --extra postgres --extra python --extra redis --extra bluetooth ../pyproject.toml dev.in --output-file dev.txt
	cd requirements && uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 \
		--no-header --no-annotate interop.in --output-file interop.txt

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf $(VENV) target dist build packaging/data src/betanet/_core.*.so .mypy_cache .ruff_cache .pytest_cache \
		monitoring/logql/node_modules .hypothesis .import_linter_cache .coverage*
	find src tests packaging examples monitoring -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's Python may lack ensurepip, and refuses to install outside an environment: the environment is then made
# without pip and filled from outside.
$(VENV)/deps.stamp: requirements/dev.txt requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=…")'
	@echo 'Making .venv: the Python packages of requirements/dev.txt, each checked against its hash'
	@test -x $(BIN)/pip -o -x $(BIN)/uv || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
		|| $(PYTHON) -m venv --clear --without-pip $(VENV)
	@test -x $(BIN)/uv || if test -x $(BIN)/pip; \
		then $(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt; \
		else $(PYTHON) -m pip --python $(BIN)/python install --quiet --require-hashes -r requirements/uv.txt; fi
	@$(BIN)/uv pip sync --quiet requirements/dev.txt requirements/uv.txt
	@touch $@

# cargo first, because it shows its progress; the installer then finds almost everything compiled. Each call names the
# extension's package, so that all resolve to one set of features and nothing is compiled twice.
$(VENV)/build.stamp: $(VENV)/deps.stamp $(RUST) pyproject.toml packaging/fog_build.py
	@command -v cargo >/dev/null || { echo 'cargo is not on the PATH: fog-compute needs Rust 1.95 or newer' >&2; exit 1; }
	@echo 'Building the Rust core: some minutes the first time'
	cargo build --locked --package betanet-node --package betanet-py --bin betanet
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --no-cache --reinstall-package fog-compute -e .
	@touch $@
