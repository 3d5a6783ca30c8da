# `make` prints this help. Each target installs what it needs into .venv.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Four workers on two cores, because many tests wait for a lock or a server.
PYTEST_ARGS ?= -n 4 --dist worksteal
# Without compiled files, the tests themselves and the many processes that they start compile the
# code again and again.
export PYTHONDONTWRITEBYTECODE :=

help:  ## print this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "install Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# One stamp per extra. A changed pyproject.toml makes it stale.
$(VENV)/.%: $(BIN)/python pyproject.toml
	@echo "Installing packages into $(VENV); the demo needs 55 packages, 0.8 GB on disk ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

demo: $(VENV)/.demo  ## run a small free energy campaign on private servers (installs 0.8 GB)
	$(BIN)/alchemistore demo

demo-clean: $(VENV)/.demo  ## stop the servers of the demo and remove its data
	$(BIN)/alchemistore demo --clean

check: lint test  ## run everything that must pass before a commit is merged

test: $(VENV)/.test  ## run all tests, or some: make test T=tests/operations/test_claims.py
	$(BIN)/python -m pytest $(if $(T),$(T),$(PYTEST_ARGS))

test-postgres15: $(VENV)/.test  ## run all tests on a private server of Debian's PostgreSQL 15
	$(BIN)/python -m tests.postgres15 $(if $(T),$(T),$(PYTEST_ARGS))

test-neo4j: $(VENV)/.test  ## move a graph of alchemiscale's own store on a real Neo4j (needs Java, Maven)
	$(BIN)/python -m pytest tests/neo4j -m neo4j

soak: $(VENV)/.test  ## run a load under faults (S=sigkill,s3: some), and the long random tests
	$(BIN)/python -m bench.soak $(if $(S),--only $(S)) $(ARGS)
	$(if $(S),,$(BIN)/python -m pytest $(PYTEST_ARGS) -m soak)
	$(if $(S),,ALCHEMISTORE_TEST_ROUNDS=12 $(BIN)/python -m pytest tests/operations/test_weights.py)

lint: $(VENV)/.dev  ## check style, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

statements: $(VENV)/.test  ## render the statements of the queue to tests/statements/*.sql
	$(BIN)/python -m tests.statements

catalog: $(VENV)/.test  ## describe the tables in alchemistore/maintenance/catalog.json
	$(BIN)/python -m tests.schema

migration: $(VENV)/.dev  ## create an empty migration, with the rules for it (m='add a column')
	$(BIN)/alembic revision --message '$(m)' \
	    --rev-id $$(printf %04d $$(($$(ls migrations/versions/[0-9]*.py | wc -l) + 1)))
	$(BIN)/ruff format migrations

docs: $(VENV)/.docs  ## build the documentation in build/docs/index.html; a warning is an error
	$(BIN)/python -m sphinx --quiet --nitpicky --fail-on-warning --keep-going docs build/docs

bench: $(VENV)/.test  ## compare bulk calls with bare SQL and networks with gufe
	$(BIN)/python -m bench

bench-claims: $(VENV)/.test  ## measure claims on long queues (ARGS='--deep', ARGS='--url ...')
	$(BIN)/python -m bench.claims $(ARGS)

bench-http: $(VENV)/.test  ## measure claims over HTTP, through alchemiscale (ARGS='--bolt ...')
	$(BIN)/python -m bench.http $(ARGS)

bench-peers: $(VENV)/.peers  ## compare with exorcist, procrastinate and pgqueuer (ARGS='--deep')
	$(BIN)/python -m bench.peers $(ARGS)

bench-original: $(VENV)/.test  ## compare with alchemiscale's own store on a private Neo4j (needs Java)
	$(BIN)/python -m bench.original $(ARGS)

build: $(VENV)/.dev  ## build the wheel and the source archive into dist/
	$(BIN)/python -m build

clean:  ## remove everything that make created, except data
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help demo demo-clean check test test-neo4j test-postgres15 soak lint format statements catalog \
    migration docs bench bench-claims bench-http bench-peers bench-original build clean
