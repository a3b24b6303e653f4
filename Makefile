# Everything is made inside the checkout: .venv (Python), .tools (Go tools),
# .cache (environments of functions, uv's downloads), bin (the engine).
# `make demo` is the place to start; README.md says what is needed.

# Other toolchains: make PYTHON=python3.12 GO=go1.26.8 … (another Python needs a
# `make clean` before it, or .venv stays as it is).
PYTHON ?= python3
GO ?= go

PYTHON_OLDEST := 3.10
GO_OLDEST := 1.26
GOLANGCI_VERSION := v2.15.0
GOFUMPT_VERSION := v0.12.0

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

VENV := $(CURDIR)/.venv
VENV_READY := .venv/.ready
GOLANGCI := $(CURDIR)/.tools/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
GOFUMPT := $(CURDIR)/.tools/gofumpt-$(GOFUMPT_VERSION)/gofumpt
PYRUNNER := $(CURDIR)/bin/pyrunner

# What the engine, the client and the tests of both find their parts by.
export ALINK_CACHE_DIR := $(CURDIR)/.cache/alink
export ALINK_PYRUNNER := $(PYRUNNER)
export ALINK_UV := $(VENV)/bin/uv
export ALINK_TEST_PYTHON := $(VENV)/bin/python
export UV_CACHE_DIR := $(CURDIR)/.cache/uv
export GOLANGCI_LINT_CACHE := $(CURDIR)/.cache/golangci-lint
# An activated environment or a stray setting must not leak into these.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

.PHONY: build
build: $(VENV_READY) $(PYRUNNER) ## the engine (bin/pyrunner) and the client (.venv)

# Linking takes seconds, so it is left out where nothing has changed. The
# harness and the dashboard are embedded in the binary.
GO_ROOMS := cmd config diag engine envmgr fnapi grant python server udfworker
SOURCES := go.mod go.sum $(shell find $(GO_ROOMS) tools/binary -name '*.go' ! -name '*_test.go') \
	$(wildcard tools/binary/compat/*) $(wildcard server/dashboard/*) $(wildcard python/alink/_worker/*.py)

$(PYRUNNER): $(SOURCES) | toolchain
	@echo "== building bin/pyrunner"
	@$(GO) run ./tools/binary -go $(GO) -o $@
	@touch $@

.PHONY: demo
demo: build ## the first run: a year of real flights through two Python environments
	@$(VENV)/bin/python examples/flight_delays.py

# So many files of Python's tests run at a time.
TESTS_AT_ONCE ?= 2

# -count=1: the tests run bin/pyrunner, .venv and .cache, of which Go's cache of
# test results knows nothing.
.PHONY: test
test: build ## all tests, Go's under the race detector
	@echo "== go test -race"
	@$(GO) test -race -count=1 -timeout 15m ./...
	@echo "== go test, Beam's Prism runner (a module of its own: its libraries are many)"
	@cd go-tests/prism && $(GO) test -count=1 -timeout 10m ./...
	@$(MAKE) fuzz-worker FUZZ_TIME=30000x
	@echo "== pytest"
	@$(VENV)/bin/python -m pytest -n $(TESTS_AT_ONCE) --dist loadfile
	@$(MAKE) wheel-test-one

# What a worker sends is read by nothing but these two.
# In "make test" by the number of inputs, some 10 s: where a time is up in the
# middle of an input, Go may say that its context's deadline is exceeded, and fail.
FUZZ_TIME ?= 60s
.PHONY: fuzz-worker
fuzz-worker: fuzzing/fnapi/FuzzDecode fuzzing/fnapi/FuzzFrames

.PHONY: fuzz
fuzz: fuzz-worker $(addprefix fuzzing/,config/FuzzParse engine/plan/FuzzParseType engine/connector/file/FuzzCSV \
	engine/connector/file/FuzzJSON engine/duck/FuzzPieces engine/duck/FuzzTokens engine/duck/FuzzPlace \
	engine/duck/FuzzQuery) ## all fuzz tests, a minute each (FUZZ_TIME=…)

fuzzing/%: toolchain
	@echo "== fuzzing $(@F), $(FUZZ_TIME)"
	@$(GO) test -run '^$$' -fuzz '^$(@F)$$' -fuzztime $(FUZZ_TIME) -fuzzminimizetime 100x ./$(*D)

.PHONY: wheel
wheel: $(VENV_READY) toolchain ## dist/alink-…whl: the client with the engine inside; and PyAlink's name for it
	@echo "== building wheels"
	@rm -rf dist
	@GO=$(GO) $(VENV)/bin/python -m hatchling build -t wheel -d dist
	@cd python/pyalink && $(VENV)/bin/python -m hatchling build -t wheel -d $(CURDIR)/dist

# The wheel outside the checkout, in virtual environments of its own.
.PHONY: wheel-test
wheel-test: wheel ## the wheel with every Python from 3.10 to 3.14 that is found; from the sdist too
	@GO=$(GO) $(VENV)/bin/python tools/wheel_test.py --every-python --from-sdist dist/alink-*.whl dist/alink_pyalink-*.whl

.PHONY: wheel-test-one
wheel-test-one: wheel
	@$(VENV)/bin/python tools/wheel_test.py dist/alink-*.whl dist/alink_pyalink-*.whl

.PHONY: random-plans
random-plans: build ## plans with seeds that nobody has tried, against plain Python
	@ALINK_PLANS=$${ALINK_PLANS:-2000} $(VENV)/bin/python -m pytest -o timeout=0 python/tests/test_random_plans.py

.PHONY: random-values
random-values: $(VENV_READY) ## values that nobody has tried, in the worker's reading and writing of columns
	@ALINK_NEW_VALUES=1 $(VENV)/bin/python -m pytest python/tests/worker/test_quick_values.py python/tests/worker/test_values.py python/tests/worker/test_elements.py python/tests/worker/test_wire.py

.PHONY: attack
attack: build ## hostile functions at every level of the sandbox, as root and as an ordinary user
	@PYTHONPATH=python/tests $(VENV)/bin/python -m attack

.PHONY: soak
soak: build ## streams whose engines and workers are killed a hundred times
	@ALINK_SOAK_KILLS=$${ALINK_SOAK_KILLS:-100} $(GO) test -race -count=1 -timeout 120m -v -run '^TestKilledEngines' ./go-tests

.PHONY: soak-kills
soak-kills: build $(VENV_READY) ## a job of two minutes whose workers are killed at random, at least a hundred times
	@ALINK_WORKER_KILLS=$${ALINK_WORKER_KILLS:-125} $(VENV)/bin/python -m pytest -s --timeout 1200 python/tests/test_failures.py -k kills_from_outside

# A bomb takes 1 GiB at most, if nothing stops it.
.PHONY: bombs
bombs: build ## functions that take all memory, under each control of memory, with a table of peaks
	@ALINK_BOMBS=all $(VENV)/bin/python -m pytest -q -rs python/tests/test_bombs.py

.PHONY: million
million: build ## programs of PyAlink on a million rows, in clients with 400 MiB, with a table of times and peaks
	@ALINK_MILLION=all $(VENV)/bin/python -m pytest -q -s python/tests/test_million.py

.PHONY: check
check: check-go check-python ## formatting, linters, types, import rules, generated code, other platforms

.PHONY: check-go
check-go: toolchain $(VENV_READY) $(GOLANGCI) $(GOFUMPT)
	@echo "== gofumpt"
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs $(GOFUMPT) -l); \
	if [ -n "$$unformatted" ]; then \
	  echo "not formatted (run $(GOFUMPT:$(CURDIR)/%=%) -w on them):"; echo "$$unformatted"; exit 1; \
	fi
	@echo "== go mod tidy"
	@$(GO) mod tidy -diff
	@echo "== go vet"
	@$(GO) vet ./...
	@echo "== golangci-lint"
	@$(GOLANGCI) run ./...
	@echo "== import rules"
	@$(GO) test -count=1 -run '^TestImportRules' ./go-tests
	@echo "== licences of what is linked in"
	@$(GO) run ./tools/binary -go $(GO) -check
	@echo "== generated code"
	@$(GO) run ./tools/gen -check
	@$(VENV)/bin/python tools/operators.py --check
	@echo "== GOOS=darwin CGO_ENABLED=0 go build"
	@export GOOS=darwin CGO_ENABLED=0; \
	packages=$$($(GO) list -e -f '{{if .GoFiles}}{{.ImportPath}}{{end}}' ./... | grep -v '/engine/duck$$'); \
	$(GO) build $$packages

.PHONY: check-python
check-python: $(VENV_READY)
	@echo "== ruff format"
	@$(VENV)/bin/ruff format --check --quiet --diff .
	@echo "== ruff check"
	@$(VENV)/bin/ruff check --quiet .
	@echo "== basedpyright"
	@$(VENV)/bin/basedpyright

.PHONY: generate
generate: toolchain $(VENV_READY) ## the generated code
	@$(GO) run ./tools/gen
	@$(VENV)/bin/python tools/operators.py

.PHONY: bench
bench: build ## measurements, side by side with peers in the same run
	@GO=$(GO) $(VENV)/bin/python bench/run.py

# What it installs stays in .cache/peers, about 2 GB.
.PHONY: bench-peers
bench-peers: build ## Python functions in PyFlink, PySpark, DuckDB, Polars and ours, side by side
	@$(VENV)/bin/python bench/peers.py

# Its libraries are in .cache/peers too.
.PHONY: bench-ml
bench-ml: build ## trainings and predictions beside scikit-learn and LightGBM, start of a PyAlink program
	@$(VENV)/bin/python bench/ml.py

.PHONY: clean
clean: ## removes all that make has made, caches of this checkout included
	rm -rf bin build dist out examples/out .venv .tools .cache .pytest_cache .ruff_cache .hypothesis
	find python bench examples -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

.PHONY: toolchain
toolchain:
	@command -v $(GO) >/dev/null || { echo "Go is needed, $(GO_OLDEST) or later; '$(GO)' was not found (make GO=...)" >&2; exit 1; }
	@version=$$($(GO) env GOVERSION); \
	printf '%s\n' "go$(GO_OLDEST)" "$$version" | sort -V -C || \
	  { echo "Go $(GO_OLDEST) or later is needed; '$(GO)' is $$version (make GO=...)" >&2; exit 1; }
	@command -v $$($(GO) env CC) >/dev/null || { echo "a C compiler is needed (gcc or clang): DuckDB is linked into the engine" >&2; exit 1; }

# The virtual environment is made afresh when what it should hold changes.
$(VENV_READY): tools/requirements-dev.txt tools/requirements-uv.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python is needed, $(PYTHON_OLDEST) or later; '$(PYTHON)' was not found (make PYTHON=...)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; wanted = tuple(map(int, "$(PYTHON_OLDEST)".split("."))); sys.exit(sys.version_info < wanted and "Python $(PYTHON_OLDEST) or later is needed; $(PYTHON) is " + sys.version.split()[0] + " (make PYTHON=...)")'
	@echo "== making .venv with $$($(PYTHON) -V)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r tools/requirements-uv.txt
	@$(VENV)/bin/uv pip sync --quiet --python $(VENV)/bin/python --require-hashes --only-binary :all: --compile-bytecode tools/requirements-dev.txt
	@$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

$(GOLANGCI):
	@echo "== building golangci-lint $(GOLANGCI_VERSION), once"
	@GOFLAGS= GOBIN=$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

$(GOFUMPT):
	@echo "== building gofumpt $(GOFUMPT_VERSION), once"
	@GOFLAGS= GOBIN=$(@D) $(GO) install mvdan.cc/gofumpt@$(GOFUMPT_VERSION)
