"""A PostgreSQL server for the run, a template database for each worker, a database of its own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from alchemistore import Scope, StateStore, invariants
from alchemistore.engine import database_url as parse_url

pytest_plugins = ["tests.servers"]

SERVER = "ALCHEMISTORE_TEST_DATABASE_URL"


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> URL:
    """The server that tests run on: the one named by the environment, else an embedded one."""
    url = os.environ.get(SERVER) or request.getfixturevalue("database_server")
    return parse_url(url)


@pytest.fixture(scope="session")
def run_sql(server: URL) -> Iterator[Callable[[str], None]]:
    """Runs a statement on the server, outside any transaction."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")

    def run(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(text(statement))

    yield run
    engine.dispose()


@pytest.fixture(scope="session")
def template(server: URL, run_sql: Callable[[str], None]) -> Iterator[str]:
    """A database with the schema in it, to be cloned."""
    name = f"template_{uuid.uuid4().hex}"
    run_sql(f"CREATE DATABASE {name}")
    store = StateStore(server.set(database=name).render_as_string(hide_password=False))
    store.initialize()
    store.close()
    yield name
    run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(server: URL, run_sql: Callable[[str], None]) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    name = f"test_{uuid.uuid4().hex}"
    run_sql(f"CREATE DATABASE {name}")
    yield server.set(database=name).render_as_string(hide_password=False)
    run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(server: URL, template: str, run_sql: Callable[[str], None]) -> Iterator[str]:
    """The URL of a database of its own, with the schema in it."""
    name = f"test_{uuid.uuid4().hex}"
    run_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.set(database=name).render_as_string(hide_password=False)
    run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def store(database: str) -> Iterator[StateStore]:
    """A state store on a database of its own. Whatever a test did to it must leave it sound."""
    store = StateStore(database)
    yield store
    try:
        with store._engine.connect() as connection:
            assert not invariants.violations(connection)
    finally:
        store.close()


@pytest.fixture
def scope() -> Scope:
    """A scope."""
    return Scope("org", "campaign", "project")


@pytest.fixture
def other_scope() -> Scope:
    """Another one."""
    return Scope("org", "campaign", "other_project")


def pytest_report_header() -> str:
    """Say on which server the tests run, without its password."""
    url = os.environ.get(SERVER)
    return f"database: {make_url(url).render_as_string(hide_password=True)}" if url else "database: embedded"
