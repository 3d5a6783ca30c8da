"""A pool of test databases, and what they contain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

import psycopg
from sqlalchemy import create_engine, func, select, text

from alchemistore import StateStore
from alchemistore.database.engine import database_url
from alchemistore.maintenance import schema_diff
from alchemistore.tables import metadata

# Deleted rows stay in the files and slow down reads.
MAX_REUSES = 60


def libpq(url: str) -> str:
    """Return the URL without SQLAlchemy's driver name, as psycopg wants it."""
    return url.replace("+psycopg", "", 1)


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
class _Copy:
    url: str
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
        self._idle: list[_Copy] = []

    @contextmanager
    def acquire(self) -> Iterator[str]:
        """Yield the URL of a database that contains the schema and no rows."""
        copy = self._idle.pop() if self._idle else self._new_copy()
        try:
            yield copy.url
        finally:
            copy.uses += 1
            if copy.uses < MAX_REUSES:
                _empty(copy.url)
                self._idle.append(copy)
            else:
                self._discard(copy)

    def close(self) -> None:
        """Drop all copies."""
        while self._idle:
            self._discard(self._idle.pop())

    def _new_copy(self) -> _Copy:
        with ExitStack() as resources:
            url = resources.enter_context(self._create())
            return _Copy(url, resources.pop_all())

    def _discard(self, copy: _Copy) -> None:
        with copy.resources:
            engine = create_engine(database_url(copy.url))
            with engine.connect() as connection:
                drift = schema_diff.drift(connection)
            engine.dispose()
            assert not drift, (
                f"a test that changes the schema must use the fixture `database`: {drift}"
            )


def _empty(url: str) -> None:
    with psycopg.connect(libpq(url)) as connection:
        # A connection left behind by the test must not write into the next one.
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
            " AND pid <> pg_backend_pid()"
        )
        # Without foreign keys, because all rows go.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(";".join(f"DELETE FROM {name}" for name in metadata.tables).encode())
