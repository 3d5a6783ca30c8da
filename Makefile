# `make` prints this file's help. Everything that is needed is installed into .venv, by itself.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Three workers on two cores: many tests wait for a lock or a server.
PYTEST_ARGS ?= -n 3 --dist worksteal

help:  ## print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of packages; a changed pyproject.toml makes it stale.
$(VENV)/.%: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

demo: $(VENV)/.demo  ## run a tiny free energy campaign on private servers and plot its answers
	$(BIN)/alchemistore demo

demo-clean: $(VENV)/.demo  ## remove the demo's data and stop its servers
	$(BIN)/alchemistore demo --clean

test: $(VENV)/.test  ## run all tests (on your server: ALCHEMISTORE_TEST_DATABASE_URL=postgresql://...)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

soak: $(VENV)/.test  ## run the long random and concurrent tests, which `make test` leaves out
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m soak

lint: $(VENV)/.dev  ## check style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test  ## measure bulk calls against bare SQL, networks against gufe, in ratios
	$(BIN)/python -m bench

bench-claims: $(VENV)/.test  ## measure claims at depth, in ratios (ARGS='--deep', ARGS='--url postgresql://...')
	$(BIN)/python -m bench.claims $(ARGS)

build: $(VENV)/.dev  ## build the wheel and the source archive into dist/
	$(BIN)/python -m build

clean:  ## remove what make made, but no data
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help demo demo-clean test soak lint format bench bench-claims build clean
