"""A PostgreSQL server for the run, a template database for each worker, a database of its own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import bcrypt
import pytest
from sqlalchemy import URL, create_engine, make_url, text

from alchemistore import Scope, StateStore
from alchemistore.database.engine import database_url as parse_url
from alchemistore.maintenance import invariants
from alchemistore.operations.key_hashing import DUMMY_HASH
from tests.databases import Library

pytest_plugins = ["tests.servers"]

NewDatabase = Callable[..., AbstractContextManager[str]]
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
def new_database(server: URL, run_sql: Callable[[str], None]) -> NewDatabase:
    """Makes databases, dropped at the end of a block: empty ones, or copies of a template."""

    @contextmanager
    def make(template: str = "template1") -> Iterator[str]:
        name = f"test_{uuid.uuid4().hex}"
        run_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        # For connections of the tests themselves; the store states its own search path.
        run_sql(f"ALTER DATABASE {name} SET search_path TO alchemistore, public")
        yield server.set(database=name).render_as_string(hide_password=False)
        run_sql(f"DROP DATABASE {name} WITH (FORCE)")

    return make


@pytest.fixture(scope="session")
def template(new_database: NewDatabase) -> Iterator[str]:
    """The name of a database with the schema in it, to be copied."""
    with new_database() as url:
        store = StateStore(url)
        store.initialize()
        store.close()
        yield str(make_url(url).database)


@pytest.fixture(scope="session")
def library(new_database: NewDatabase, template: str) -> Iterator[Library]:
    """Databases with the schema in them, for tests that keep to it."""
    library = Library(partial(new_database, template))
    yield library
    library.close()


@pytest.fixture
def empty_database(new_database: NewDatabase) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    with new_database() as url:
        yield url


@pytest.fixture
def database(new_database: NewDatabase, template: str) -> Iterator[str]:
    """The URL of a database with the schema in it, to do anything to."""
    with new_database(template) as url:
        yield url


@pytest.fixture
def lent_database(library: Library) -> Iterator[str]:
    """The URL of a database with the schema in it, which others get afterwards."""
    with library.lend() as url:
        yield url


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Iterator[StateStore]:
    """A state store on a database of its own. Whatever a test did to it must leave it sound."""
    # Who asks for the database too may do to it what no other test should find.
    url = request.getfixturevalue(
        "database" if "database" in request.fixturenames else "lent_database"
    )
    store = StateStore(url)
    yield store
    try:
        with store.engine.connect() as connection:
            assert not invariants.violations(connection)
    finally:
        store.close()


@pytest.fixture(scope="module")
def shared_store(library: Library) -> Iterator[StateStore]:
    """One store for all tests of a module that change nothing in it, or keep to a scope of their own."""
    with library.lend() as url:
        store = StateStore(url)
        yield store
        problems = store.problems()
        store.close()
    assert not problems


@pytest.fixture
def scope() -> Scope:
    """A scope."""
    return Scope("org", "campaign", "project")


@pytest.fixture
def other_scope() -> Scope:
    """Another one."""
    return Scope("org", "campaign", "other_project")


@pytest.fixture
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of keys, and the verification of what is no hash, take a millisecond."""
    original = bcrypt.gensalt
    monkeypatch.setattr(bcrypt, "gensalt", lambda: original(rounds=4))
    for module in ("alchemistore.operations.key_hashing", "alchemistore.operations.identities"):
        monkeypatch.setattr(f"{module}.DUMMY_HASH", DUMMY_HASH.replace("$12$", "$04$"))


def pytest_report_header() -> str:
    """Say on which server the tests run, without its password."""
    url = os.environ.get(SERVER)
    return (
        f"database: {make_url(url).render_as_string(hide_password=True)}"
        if url
        else "database: embedded"
    )
