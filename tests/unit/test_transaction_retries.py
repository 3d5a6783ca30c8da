"""Retries after serialization failures, deadlocks and lost connections."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from alchemistore.database.transaction import MAX_ATTEMPTS
from alchemistore.errors import StateStoreError, StoreUnavailableError
from tests.support.concurrency import BLOCKED, Running
from tests.support.databases import end_backend, libpq
from tests.support.toy_store import Notes, add


def state_of(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _outdate(engine: Engine, times: int) -> Callable[[Connection], None]:
    """Change the rows that a transaction has read, from another connection, so often."""
    left = [times]

    def before(tx: Connection) -> None:
        tx.execute(text("SELECT * FROM notes WHERE number = 0"))
        if left[0]:
            left[0] -= 1
            with engine.begin() as other:
                other.execute(text("UPDATE notes SET note = note || 'x' WHERE number = 0"))
        tx.execute(text("UPDATE notes SET note = note || 'y' WHERE number = 0"))

    return before


@pytest.mark.parametrize("named", [False, True])
def test_serialization_failure_is_retried_with_all_items_of_an_iterator(
    engine: Engine, strict: Notes, named: bool
) -> None:
    strict.add(0)
    given = (number for number in (1, 2, 3))
    before = _outdate(engine, times=2)
    assert (
        strict.add_all(numbers=given, before=before) if named else strict.add_all(given, before)
    ) == 6
    assert strict.numbers() == [0, 1, 2, 3]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT note FROM notes WHERE number = 0")) == "xxy"


def test_call_that_always_fails_is_given_up_after_max_attempts(
    engine: Engine, strict: Notes
) -> None:
    strict.add(0)
    with pytest.raises(StateStoreError, match="conflicts with concurrent ones"):
        strict.add_all([1], _outdate(engine, times=100))
    assert strict.numbers() == [0]
    with engine.connect() as connection:
        assert (
            connection.scalar(text("SELECT note FROM notes WHERE number = 0")) == "x" * MAX_ATTEMPTS
        )


def test_call_in_a_transaction_is_not_retried_alone(engine: Engine, strict: Notes) -> None:
    strict.add(0)
    with pytest.raises(StateStoreError), strict.transaction() as tx:
        tx.add_all([1], _outdate(engine, times=1))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT note FROM notes WHERE number = 0")) == "x"


@pytest.mark.parametrize("error", [ArithmeticError, ValueError, KeyError, OSError])
def test_other_errors_are_not_retried(notes: Notes, error: type[Exception]) -> None:
    tried = []

    def act(tx: Connection) -> None:
        tried.append(1)
        raise error

    with pytest.raises(error):
        notes.write(act)
    assert tried == [1]


def test_constraint_violation_is_not_retried(notes: Notes) -> None:
    tried = []

    def act(tx: Connection) -> None:
        tried.append(1)
        add(tx, 1)

    notes.add(1)
    with pytest.raises(StateStoreError, match="notes_pkey"):
        notes.write(act)
    assert tried == [1]


def wait_until_one_waits_for(engine: Engine, tx: Connection) -> None:
    """Wait until another transaction waits for a lock of this one."""
    pid = tx.scalar(text("SELECT pg_backend_pid()"))
    with engine.connect() as connection:
        for _ in range(6000):
            with connection.begin():
                if connection.scalar(BLOCKED, {"pid": pid}):
                    return
            threading.Event().wait(0.005)
    raise AssertionError("no transaction waits")


def test_deadlock_victim_is_retried(engine: Engine, notes: Notes) -> None:
    notes.add_all([1, 2])
    other_holds, we_hold = threading.Event(), threading.Event()
    states: list[str | None] = []

    def lock(tx: Connection, number: int) -> None:
        tx.execute(
            text("UPDATE notes SET note = note || 'x' WHERE number = :number"), {"number": number}
        )

    def other(tx: Connection) -> None:
        # Not this one is to notice the deadlock.
        tx.execute(text("SET LOCAL deadlock_timeout = '60s'"))
        lock(tx, 1)
        other_holds.set()
        assert we_hold.wait(30)
        lock(tx, 2)

    def ours(tx: Connection) -> None:
        tx.execute(text("SET LOCAL deadlock_timeout = '10ms'"))
        lock(tx, 2)
        assert other_holds.wait(30)
        we_hold.set()
        if not states:
            wait_until_one_waits_for(engine, tx)
        try:
            lock(tx, 1)
        except DBAPIError as error:
            states.append(state_of(error))
            raise

    running = Running(lambda: notes.write(other))
    notes.write(ours)
    running.result()
    assert states == ["40P01"]
    with engine.connect() as connection:
        assert list(connection.scalars(text("SELECT note FROM notes"))) == ["xx", "xx"]


# dead connections


def _kill_pooled(engine: Engine, url: str) -> None:
    """Fill the pool, then let the server end all its connections."""
    connections = [engine.connect() for _ in range(2)]
    pids = [connection.scalar(text("SELECT pg_backend_pid()")) for connection in connections]
    for connection in connections:
        connection.close()
    _kill(url, pids)


def _kill(url: str, pids: list[int | None]) -> None:
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        for pid in filter(None, pids):
            end_backend(connection, pid)


def test_read_survives_broken_pooled_connections(
    engine: Engine, notes: Notes, notes_database: str
) -> None:
    notes.add(1)
    _kill_pooled(engine, notes_database)
    assert notes.numbers() == [1]


def test_write_survives_broken_pooled_connections(
    engine: Engine, notes: Notes, notes_database: str
) -> None:
    _kill_pooled(engine, notes_database)
    assert notes.add_all(iter([1, 2])) == 3
    assert notes.numbers() == [1, 2]


def test_transaction_on_a_broken_pooled_connection_begins_on_another(
    engine: Engine, notes: Notes, notes_database: str
) -> None:
    _kill_pooled(engine, notes_database)
    with notes.transaction() as tx:
        tx.add(1)
    assert notes.numbers() == [1]


def test_connection_lost_in_a_call_is_replaced_and_the_call_runs_once(
    notes: Notes, notes_database: str
) -> None:
    killed: list[int | None] = []

    def act(tx: Connection) -> None:
        add(tx, 1)
        if not killed:
            killed.append(tx.scalar(text("SELECT pg_backend_pid()")))
            _kill(notes_database, killed)
        add(tx, 2)

    notes.write(act)
    assert len(killed) == 1
    assert notes.numbers() == [1, 2]


def test_read_is_repeated_if_the_connection_is_lost_during_commit(
    notes: Notes, notes_database: str
) -> None:
    killed: list[int | None] = []

    def look(tx: Connection) -> list[int]:
        found = list(tx.scalars(text("SELECT number FROM notes")))
        if not killed:
            killed.append(tx.scalar(text("SELECT pg_backend_pid()")))
            _kill(notes_database, killed)
        return found

    notes.add(1)
    assert notes.read(look) == [1]
    assert len(killed) == 1


def test_connection_lost_in_a_transaction_is_an_error_and_the_next_transaction_works(
    notes: Notes, notes_database: str
) -> None:
    with pytest.raises(StoreUnavailableError), notes.transaction() as tx:
        tx.add(1)
        assert tx.connection is not None
        _kill(notes_database, [tx.connection.scalar(text("SELECT pg_backend_pid()"))])
        tx.add(2)
    assert notes.numbers() == []


def test_transaction_that_swallows_the_loss_of_its_connection_is_an_error(
    notes: Notes, notes_database: str
) -> None:
    def swallow() -> None:
        with notes.transaction() as tx:
            tx.add(1)
            assert tx.connection is not None
            _kill(notes_database, [tx.connection.scalar(text("SELECT pg_backend_pid()"))])
            with suppress(StoreUnavailableError):
                tx.add(2)

    with pytest.raises(StateStoreError, match="nothing was changed"):
        swallow()
    assert notes.numbers() == []


def test_read_that_tries_to_write_is_not_repeated(notes: Notes) -> None:
    calls: list[int] = []

    def act(tx: Connection) -> None:
        calls.append(1)
        add(tx, 1)

    with pytest.raises(StateStoreError, match="read-only"):
        notes.read(act)
    assert calls == [1]


def test_write_on_a_connection_that_has_become_read_only_is_repeated_on_another(
    notes: Notes,
) -> None:
    pids: list[int | None] = []

    def act(tx: Connection) -> None:
        pids.append(tx.scalar(text("SELECT pg_backend_pid()")))
        if len(pids) == 1:
            # As after a switch to a standby.
            tx.execute(text("SET LOCAL transaction_read_only TO on"))
        add(tx, 1)

    notes.write(act)
    assert len(set(pids)) == 2
    assert notes.numbers() == [1]


def test_transaction_that_has_become_read_only_does_not_return_its_connection_to_the_pool(
    notes: Notes,
) -> None:
    pids: list[int | None] = []
    for read_only in (True, False):
        with suppress(StateStoreError), notes.transaction() as tx:
            assert tx.connection is not None
            pids.append(tx.connection.scalar(text("SELECT pg_backend_pid()")))
            if read_only:
                tx.connection.execute(text("SET LOCAL transaction_read_only TO on"))
            tx.add(1)
    assert len(set(pids)) == 2
    assert notes.numbers() == [1]
