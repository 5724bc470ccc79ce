# `make run` and `make test` are all that is needed; both make .venv themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run demo deploy-gears test soak bench check format gears-scripts lock clean

help:  ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "SponsorSync needs Python 3.11 or newer; $$($(PYTHON) --version) was found. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV) (once; it is quick the next time)"
	@$(PYTHON) -m venv $(VENV)
	@# The lock is complete: nothing is to be resolved, and a release of tomorrow cannot get in the way.
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps -r requirements-dev.lock
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --no-deps --no-build-isolation -e .
	@touch $(READY)

run: $(READY)  ## start everything: the service, two embedded Valkeys, a simulated GitHub
	@exec $(BIN)/sponsorsync dev

demo: $(READY)  ## walk through the main job, step by step, and check each one
	@exec $(BIN)/sponsorsync demo

deploy-gears: $(READY)  ## upload the scripts that run inside the local Redis (DEPLOY_ARGS="--status")
	@exec $(BIN)/sponsorsync deploy-gears $(DEPLOY_ARGS)

test: $(READY)  ## the tests
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

MINUTES ?= 10
SCALE ?= 20
soak: $(READY)  ## random tests SCALE=20 times as long, then the model with new seeds for MINUTES=10
	SPONSORSYNC_TEST_SCALE=$(SCALE) $(BIN)/python -m pytest -n auto -o faulthandler_timeout=1800 -m "random or hypothesis"
	$(BIN)/python -m tests.model.soak --minutes $(MINUTES) $(SOAK_ARGS)

bench: $(READY)  ## how fast the sync engine is, beside its limits (BENCH_ARGS="--only relay")
	$(BIN)/python -m bench.sync $(BENCH_ARGS)

check: $(READY)  ## what CI runs: format, lint, types, import rules, tests with coverage
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -n auto --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

format: $(READY)  ## format and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

gears-scripts: $(READY)  ## write into each script of gears_scripts/ what it shares with the service
	$(BIN)/python -m tools.bundle_gears_scripts

lock: $(READY)  ## resolve requirements-dev.lock anew (needs uv)
	uv pip compile pyproject.toml --extra sandbox --group dev --universal --generate-hashes \
	  --no-header --no-annotate --python-version 3.11 -o requirements-dev.lock

clean:  ## remove the virtual environment and every cache
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .coverage .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
