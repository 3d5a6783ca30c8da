"""A pool of test databases, and what they contain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, func, select, text

from alchemistore import Settings, StateStore
from alchemistore.database.engine import database_url, make_engine
from alchemistore.maintenance import invariants, schema_diff
from alchemistore.tables import metadata

TERMINATE_OTHERS = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
        AND pid <> pg_backend_pid()
        AND (state <> 'idle' OR pid <> ALL(CAST(%s AS integer[])))
"""
DELETE_ALL = "; ".join(f"DELETE FROM {name}" for name in metadata.tables)
# All rules in one statement, which takes a sixth of the time of one statement for each.
FIND_BROKEN_RULES = " UNION ALL ".join(
    f"SELECT '{rule}' FROM (SELECT FROM ({query}) AS o (scope_id, kind, token) LIMIT 1) AS o"
    for rule, query in invariants.RULES.items()
)
# Deleted rows stay in the files and slow down reads.
MAX_REUSES = 60


def libpq(url: str) -> str:
    """Return the URL without SQLAlchemy's driver name, as psycopg wants it."""
    return url.replace("+psycopg", "", 1)


def require_valid(engine: Engine) -> None:
    """Check that no invariant is broken."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        broken = driver.execute(FIND_BROKEN_RULES.encode(), prepare=True).fetchall()
        assert not broken, invariants.violations(connection)


def end_backend(connection: psycopg.Connection[Any], pid: int) -> None:
    """End the server process of another connection and wait until it is gone.

    PostgreSQL itself would look only every tenth of a second.
    """
    connection.execute("SELECT pg_terminate_backend(%s)", [pid])
    deadline = time.monotonic() + 10
    while connection.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
        assert time.monotonic() < deadline, f"server process {pid} does not end"
        time.sleep(0.001)


def row_counts(store: StateStore) -> dict[str, int]:
    """Return the number of rows of each table, within the open transaction if there is one."""
    with (
        nullcontext(store.connection) if store.connection else store.engine.connect() as connection
    ):
        tables = metadata.sorted_tables
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in tables
        }


def all_rows(store: StateStore) -> dict[str, list[str]]:
    """Return all rows of all tables."""
    with store.engine.connect() as connection:
        names = (
            connection.execute(
                text("SELECT tablename FROM pg_tables WHERE schemaname = 'alchemistore'")
            )
            .scalars()
            .all()
        )
        return {
            name: sorted(map(repr, connection.execute(text(f'SELECT * FROM "{name}"')).all()))
            for name in names
        }


@contextmanager
def rolled_back(store: StateStore) -> Iterator[StateStore]:
    """Open a transaction that is rolled back at its end."""
    with suppress(InterruptedError), store.transaction() as tx:
        yield tx
        raise InterruptedError


@dataclass
class Copy:
    """A database, and an engine whose connections stay open between tests.

    Attributes
    ----------
    url : str
        The URL of the database.
    engine : Engine
        The engine. A new connection would have to plan and to read the catalog again.
    cleaner : psycopg.Connection
        The connection that empties the database. It ignores foreign keys, because all rows go. A
        connection of the engine that changed this setting would have to plan again.
    pids : set of int
        The process ids of its connections, those that are closed included.
    """

    url: str
    engine: Engine
    cleaner: psycopg.Connection[Any]
    pids: set[int] = field(default_factory=set)
    resources: ExitStack = field(default_factory=ExitStack)
    uses: int = 0


class DatabasePool:
    """Copies of a template, emptied between uses: faster than a new copy for each test.

    Parameters
    ----------
    create : callable
        Returns a context manager that yields the URL of a new copy.
    """

    def __init__(self, create: Callable[[], AbstractContextManager[str]]) -> None:
        self._create = create
        self._idle: list[Copy] = []

    @contextmanager
    def acquire(self) -> Iterator[Copy]:
        """Yield a database that contains the schema and no rows."""
        copy = self._idle.pop() if self._idle else self._new_copy()
        try:
            yield copy
        finally:
            copy.uses += 1
            if copy.uses < MAX_REUSES:
                _empty(copy)
                self._idle.append(copy)
            else:
                self._discard(copy)

    def close(self) -> None:
        """Drop all copies."""
        while self._idle:
            self._discard(self._idle.pop())

    def _new_copy(self) -> Copy:
        with ExitStack() as resources:
            url = resources.enter_context(self._create())
            engine = make_engine(Settings.from_url(url))
            resources.callback(engine.dispose)
            cleaner = resources.enter_context(psycopg.connect(libpq(url), autocommit=True))
            cleaner.execute("SET session_replication_role = replica")
            copy = Copy(url, engine, cleaner)
            event.listen(engine, "connect", lambda dbapi, _: copy.pids.add(dbapi.info.backend_pid))
            copy.resources = resources.pop_all()
            return copy

    def _discard(self, copy: Copy) -> None:
        with copy.resources:
            engine = create_engine(database_url(copy.url))
            with engine.connect() as connection:
                drift = schema_diff.drift(connection)
            engine.dispose()
            assert not drift, (
                f"a test that changes the schema must use the fixture `database`: {drift}"
            )


def _empty(copy: Copy) -> None:
    if copy.engine.pool.checkedout():  # type: ignore[attr-defined]  # of a QueuePool
        copy.engine.dispose()
    # A connection left behind by the test must not write into the next one.
    copy.cleaner.execute(TERMINATE_OTHERS, [list(copy.pids)])
    copy.cleaner.execute(DELETE_ALL)
