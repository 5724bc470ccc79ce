# Each target installs in .venv what is missing.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# One stamp for each lock: for running, then for the tests, then for the tools.
READY       := $(VENV)/.ready-run
TEST_READY  := $(VENV)/.ready-test
TOOLS_READY := $(VENV)/.ready-tools
# A lock is complete: pip resolves nothing, and a new release has no effect.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps

# Tests wait for their servers half of the time, so two share a core.
WORKERS = $(shell $(PYTHON) -c "import os; print(2 * (os.cpu_count() or 1))")

.DEFAULT_GOAL := help
.PHONY: help run demo deploy-gears test soak mutants bench check format gears-scripts lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "SponsorSync needs Python 3.11 or newer; $$($(PYTHON) --version) was found. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV) (once; it is quick the next time)"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes -r $<
	@$(INSTALL) --no-build-isolation -e .
	@touch $@

$(TEST_READY): requirements-test.lock $(READY)
	@echo "Installing what the tests need"
	@$(INSTALL) --require-hashes -r $<
	@touch $@

$(TOOLS_READY): requirements-tools.lock $(TEST_READY)
	@echo "Installing the tools"
	@$(INSTALL) --require-hashes -r $<
	@touch $@

run: $(READY)  ## start the service, two embedded Valkeys, a simulated GitHub and Patreon
	@exec $(BIN)/sponsorsync dev

demo: $(READY)  ## perform the main job step by step, and check each step
	@exec $(BIN)/sponsorsync demo

deploy-gears: $(READY)  ## upload the scripts that run inside the local Redis (DEPLOY_ARGS="--status")
	@exec $(BIN)/sponsorsync deploy-gears $(DEPLOY_ARGS)

test: $(TEST_READY)  ## run the tests
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

MINUTES ?= 10
SCALE ?= 20
soak: $(TEST_READY)  ## run random tests SCALE=20 times as long, then the model for MINUTES=10
	SPONSORSYNC_TEST_SCALE=$(SCALE) $(BIN)/python -m pytest -n $(WORKERS) -o faulthandler_timeout=1800 -m "random or hypothesis"
	$(BIN)/python -m tests.model.soak --minutes $(MINUTES) $(SOAK_ARGS)

mutants: $(TEST_READY)  ## take out each guard in a copy: a test has to fail (MUTANTS_ARGS="--only promise")
	$(BIN)/python -m tests.mutants.run $(MUTANTS_ARGS)

bench: $(TEST_READY)  ## measure the sync engine beside its limits (BENCH_ARGS="--only relay")
	$(BIN)/python -m bench.sync $(BENCH_ARGS)

check: $(TOOLS_READY)  ## run what CI runs: format, lint, types, import rules, tests with coverage
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

format: $(TOOLS_READY)  ## format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

gears-scripts: $(READY)  ## write the scripts for RedisGears into build/gears, for gears-cli
	@$(BIN)/sponsorsync gears bundle --output build/gears

COMPILE := uv pip compile --universal --generate-hashes --no-header --no-annotate \
  --python-version 3.11 --quiet
lock:  ## resolve the three locks again (needs uv)
	$(COMPILE) pyproject.toml --extra sandbox --group build -o requirements.lock
	$(COMPILE) --group test -c requirements.lock -o requirements-test.lock
	$(COMPILE) --group tools -c requirements.lock -c requirements-test.lock -o requirements-tools.lock

clean:  ## remove the virtual environment and every cache
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .coverage .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
