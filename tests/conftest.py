"""One PostgreSQL server for the run, a template database for each worker, and stores."""

from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import bcrypt
import pytest
from sqlalchemy import URL, create_engine, make_url, text

from alchemistore import Scope, StateStore
from alchemistore.database.engine import database_url as parse_url
from alchemistore.operations.key_hashing import DUMMY_HASH
from tests.support.databases import Copy, DatabasePool, require_valid
from tests.support.sharing import shared_by_workers

pytest_plugins = ["tests.support.servers"]

NewDatabase = Callable[..., AbstractContextManager[str]]
RunSql = Callable[[str], None]
SERVER = "ALCHEMISTORE_TEST_DATABASE_URL"


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> URL:
    """The server that the environment names, or else an embedded one."""
    url = os.environ.get(SERVER) or request.getfixturevalue("database_server")
    return parse_url(url)


@pytest.fixture(scope="session")
def run_sql(server: URL) -> Iterator[RunSql]:
    """A function that runs a statement on the server, outside any transaction."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")

    def run(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(text(statement))

    yield run
    engine.dispose()


@pytest.fixture(scope="session")
def new_database(server: URL, run_sql: RunSql) -> NewDatabase:
    """A context manager that creates a database, by default an empty one, and drops it."""

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
def template(server: URL, run_sql: RunSql, run_directory: Path) -> Iterator[str]:
    """The name of a database with the schema, to be copied; all workers share it."""

    def create() -> str:
        name = f"template_{uuid.uuid4().hex}"
        run_sql(f"CREATE DATABASE {name}")
        run_sql(f"ALTER DATABASE {name} SET search_path TO alchemistore, public")
        store = StateStore(server.set(database=name).render_as_string(hide_password=False))
        store.initialize()
        store.close()
        return name

    def drop(name: str) -> None:
        run_sql(f"DROP DATABASE {name}")

    with shared_by_workers(run_directory / "template", create, drop) as name:
        yield name


@pytest.fixture(scope="session")
def database_pool(new_database: NewDatabase, template: str) -> Iterator[DatabasePool]:
    """Databases with the schema, for tests that change rows only."""
    pool = DatabasePool(partial(new_database, template))
    yield pool
    pool.close()


@pytest.fixture
def empty_database(new_database: NewDatabase) -> Iterator[str]:
    """The URL of a database without a schema."""
    with new_database() as url:
        yield url


@pytest.fixture
def database(new_database: NewDatabase, template: str) -> Iterator[str]:
    """The URL of a database with the schema, which the test may change in any way."""
    with new_database(template) as url:
        yield url


@pytest.fixture
def pooled_copy(database_pool: DatabasePool) -> Iterator[Copy]:
    """A database with the schema, which is emptied and used again after the test."""
    with database_pool.acquire() as copy:
        yield copy


@pytest.fixture
def pooled_database(pooled_copy: Copy) -> str:
    """The URL of a database with the schema, which is emptied and used again after the test."""
    return pooled_copy.url


@pytest.fixture
def store(pooled_copy: Copy) -> Iterator[StateStore]:
    """A state store on the pooled database; no test may leave a broken invariant behind."""
    store = StateStore(pooled_copy.engine)
    yield store
    require_valid(store.engine)


@pytest.fixture
def own_store(database: str) -> Iterator[StateStore]:
    """A state store like `store`, on a database whose schema the test may change."""
    store = StateStore(database)
    yield store
    try:
        require_valid(store.engine)
    finally:
        store.close()


@pytest.fixture(scope="module")
def shared_store(database_pool: DatabasePool) -> Iterator[StateStore]:
    """A store for all tests of a module that change nothing, or only rows of their own scope."""
    with database_pool.acquire() as copy:
        store = StateStore(copy.engine)
        yield store
        problems = store.problems()
    assert not problems


@pytest.fixture
def scope() -> Scope:
    """A scope."""
    return Scope("org", "campaign", "project")


@pytest.fixture
def other_scope() -> Scope:
    """A second scope of the same campaign."""
    return Scope("org", "campaign", "other_project")


@pytest.fixture
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the cost of hashing and verifying a key one millisecond."""
    original = bcrypt.gensalt
    monkeypatch.setattr(bcrypt, "gensalt", lambda: original(rounds=4))
    for module in ("alchemistore.operations.key_hashing", "alchemistore.operations.identities"):
        monkeypatch.setattr(f"{module}.DUMMY_HASH", DUMMY_HASH.replace("$12$", "$04$"))


@pytest.fixture
def quick_collection() -> None:
    """Let `gc.collect` look only at objects of the test, which takes a hundredth of the time."""
    gc.freeze()


def pytest_collection_finish() -> None:
    """Exempt the collected tests from garbage collection, which many tests call for."""
    gc.collect()
    gc.freeze()


def pytest_report_header() -> str:
    """Return the line that names the server, without its password."""
    url = os.environ.get(SERVER)
    return (
        f"database: {make_url(url).render_as_string(hide_password=True)}"
        if url
        else "database: embedded"
    )
