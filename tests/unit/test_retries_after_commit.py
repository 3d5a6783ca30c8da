"""A call is not retried once COMMIT was sent, because nobody can know whether it took effect."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import Engine

from alchemistore.errors import StoreUnavailableError
from tests.support.databases import end_backend, libpq
from tests.support.toy_store import Notes, add


def test_call_whose_connection_dies_at_commit_is_not_retried(
    engine: Engine, notes: Notes, notes_database: str
) -> None:
    calls: list[int] = []

    def add_next(tx: Connection) -> None:
        calls.append(len(calls))
        add(tx, calls[-1])

    @event.listens_for(engine, "commit", once=True)
    def kill(connection: Connection) -> None:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        with psycopg.connect(libpq(notes_database), autocommit=True) as other:
            end_backend(other, pid)

    with pytest.raises(StoreUnavailableError):
        notes.write(add_next)
    assert calls == [0]
    assert notes.numbers() == []
