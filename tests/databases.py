"""Databases to test with: lent to one test after the other, counted, and addressed as psycopg wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

import psycopg
from sqlalchemy import create_engine, func, select, text

from alchemistore import StateStore
from alchemistore.database.engine import database_url
from alchemistore.maintenance import schema_diff
from alchemistore.tables import metadata

# What was deleted stays in the files, and makes them slow to read in the end.
LOANS = 60


def libpq(url: str) -> str:
    """The URL of a database without SQLAlchemy's name of the driver."""
    return url.replace("+psycopg", "", 1)


def counts(store: StateStore) -> dict[str, int]:
    """Count the rows of every table, as seen from the open transaction if there is one."""
    with (
        nullcontext(store.connection) if store.connection else store.engine.connect() as connection
    ):
        tables = metadata.sorted_tables
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in tables
        }


def everything(store: StateStore) -> dict[str, list[str]]:
    """All rows of all tables."""
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


@dataclass
class _Copy:
    url: str
    made: ExitStack = field(default_factory=ExitStack)
    loans: int = 0


class Library:
    """Copies of a template that are lent to whoever keeps to the schema, because to empty one is quicker than to make one."""

    def __init__(self, make: Callable[[], AbstractContextManager[str]]) -> None:
        self._make = make
        self._idle: list[_Copy] = []

    @contextmanager
    def lend(self) -> Iterator[str]:
        """Give the URL of a database with nothing but the schema in it."""
        copy = self._idle.pop() if self._idle else self._acquire()
        try:
            yield copy.url
        finally:
            copy.loans += 1
            if copy.loans < LOANS:
                _empty(copy.url)
                self._idle.append(copy)
            else:
                self._discard(copy)

    def close(self) -> None:
        """Drop them all."""
        while self._idle:
            self._discard(self._idle.pop())

    def _acquire(self) -> _Copy:
        with ExitStack() as made:
            url = made.enter_context(self._make())
            return _Copy(url, made.pop_all())

    def _discard(self, copy: _Copy) -> None:
        with copy.made:
            engine = create_engine(database_url(copy.url))
            with engine.connect() as connection:
                drift = schema_diff.drift(connection)
            engine.dispose()
            assert not drift, (
                f"a test that changes the schema must take the fixture `database`: {drift}"
            )


def _empty(url: str) -> None:
    with psycopg.connect(libpq(url)) as connection:
        # Whoever the test left behind must not write into the next one.
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        # Without foreign keys, because everything goes.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(";".join(f"DELETE FROM {name}" for name in metadata.tables).encode())
