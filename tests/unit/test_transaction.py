"""One transaction per call: what is tried again, what is rolled back, and what errors say."""

from __future__ import annotations

import inspect
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from alchemistore import StateStore
from alchemistore.engine import database_url
from alchemistore.errors import SchemaError, StateStoreError, StoreUnavailableError
from alchemistore.operations import tasks
from alchemistore.transaction import TRIES, Transactional, reads, writes


def add(tx: Connection, number: int, note: str = "") -> int:
    """Add a note."""
    tx.execute(text("INSERT INTO notes VALUES (:number, :note)"), {"number": number, "note": note})
    return number


def add_all(tx: Connection, numbers: Iterable[int], before: Callable[[Connection], None] = lambda tx: None) -> int:
    before(tx)
    return sum(add(tx, number) for number in numbers)


def numbers(tx: Connection) -> list[int]:
    return list(tx.scalars(text("SELECT number FROM notes ORDER BY number")))


def run(tx: Connection, act: Callable[[Connection], Any]) -> Any:
    return act(tx)


class Notes(Transactional):
    add = writes(add)
    add_all = writes(add_all)
    numbers = reads(numbers)
    write = writes(run)
    read = reads(run)


@pytest.fixture(scope="module")
def url(server: URL, run_sql: Callable[[str], None]) -> Iterator[str]:
    """A database for all of this; each test has a table of its own in it."""
    name = f"test_{uuid.uuid4().hex}"
    run_sql(f"CREATE DATABASE {name}")
    yield server.set(database=name).render_as_string(hide_password=False)
    run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(database_url(url), pool_size=2)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS notes"))
        connection.execute(text("CREATE TABLE notes (number int PRIMARY KEY, note text NOT NULL)"))
    yield engine
    engine.dispose()


@pytest.fixture
def notes(engine: Engine) -> Notes:
    return Notes(engine)


@pytest.fixture
def strict(engine: Engine) -> Notes:
    """Notes whose transactions see one moment only, so that they can fail to be serialized."""
    return Notes(engine.execution_options(isolation_level="REPEATABLE READ"))


def state_of(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


# one transaction per call


def test_a_call_is_committed(notes: Notes) -> None:
    assert notes.add(1) == 1
    assert notes.numbers() == [1]


def test_a_call_that_fails_leaves_nothing(notes: Notes) -> None:
    def act(tx: Connection) -> None:
        add(tx, 1)
        raise ArithmeticError("no luck")

    with pytest.raises(ArithmeticError, match="no luck"):
        notes.write(act)
    assert notes.numbers() == []


def test_calls_in_a_transaction_are_committed_together(notes: Notes) -> None:
    with notes.transaction() as tx:
        tx.add(1)
        assert tx.numbers() == [1]
        assert notes.numbers() == []
        tx.add(2)
    assert notes.numbers() == [1, 2]


def test_calls_in_a_transaction_are_rolled_back_together(notes: Notes) -> None:
    with pytest.raises(ArithmeticError), notes.transaction() as tx:  # noqa: PT012
        tx.add(1)
        raise ArithmeticError
    assert notes.numbers() == []


def test_a_call_joins_a_transaction_it_is_given(notes: Notes) -> None:
    with pytest.raises(ArithmeticError), notes.transaction() as tx:  # noqa: PT012
        notes.add(1, tx=tx)
        assert notes.numbers(tx=tx) == [1]
        raise ArithmeticError
    assert notes.numbers() == []


def test_a_transaction_in_a_transaction_is_a_savepoint(notes: Notes) -> None:
    with notes.transaction() as tx:
        tx.add(1)
        with pytest.raises(ArithmeticError), tx.transaction() as inner:  # noqa: PT012
            inner.add(2)
            assert inner.numbers() == [1, 2]
            raise ArithmeticError
        with tx.transaction() as inner:
            inner.add(3)
        assert tx.numbers() == [1, 3]
    assert notes.numbers() == [1, 3]


def test_a_refused_call_in_a_savepoint_leaves_the_rest_usable(notes: Notes) -> None:
    with notes.transaction() as tx:
        tx.add(1)
        with pytest.raises(StateStoreError), tx.transaction() as inner:
            inner.add(1)
        tx.add(2)
    assert notes.numbers() == [1, 2]


def test_a_bound_store_is_a_store_of_the_same_kind(database: str) -> None:
    store = StateStore(database)
    with store.transaction() as tx:
        assert type(tx) is StateStore
        assert tx.query_tasks() == []
    store.close()


# read-only


def test_a_read_only_transaction_refuses_to_write(notes: Notes) -> None:
    with pytest.raises(StateStoreError, match="read-only"), notes.transaction(readonly=True) as tx:  # noqa: PT012
        assert tx.numbers() == []
        tx.add(1)
    assert notes.numbers() == []


def test_a_call_that_reads_cannot_write(notes: Notes) -> None:
    with pytest.raises(StateStoreError, match="read-only"):
        notes.read(lambda tx: add(tx, 1))
    assert notes.numbers() == []


def test_the_connection_of_a_read_only_transaction_can_write_again(notes: Notes) -> None:
    for number in range(3):
        with notes.transaction(readonly=True) as tx:
            tx.numbers()
        notes.add(number)
    assert notes.numbers() == [0, 1, 2]


# exceptions


def test_an_ignored_exception_rolls_back_and_is_gone(notes: Notes) -> None:
    with notes.transaction(ignore_exceptions=True) as tx:
        tx.add(1)
        raise ArithmeticError
    with notes.transaction(ignore_exceptions=True) as tx:
        tx.add(2)
        tx.add(2)
    assert notes.numbers() == []


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_rolls_back_and_is_raised_again(notes: Notes, interrupt: type[BaseException], ignore: bool) -> None:
    with pytest.raises(interrupt), notes.transaction(ignore_exceptions=ignore) as tx:  # noqa: PT012
        tx.add(1)
        raise interrupt
    assert notes.numbers() == []
    notes.add(1)


# tried again


def _outdate(engine: Engine, times: int) -> Callable[[Connection], None]:
    """Let another connection change what a transaction has read, so often."""
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
def test_a_serialization_failure_is_tried_again_with_all_that_an_iterator_gave(
    engine: Engine, strict: Notes, named: bool
) -> None:
    strict.add(0)
    given = (number for number in (1, 2, 3))
    before = _outdate(engine, times=2)
    assert (strict.add_all(numbers=given, before=before) if named else strict.add_all(given, before)) == 6
    assert strict.numbers() == [0, 1, 2, 3]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT note FROM notes WHERE number = 0")) == "xxy"


def test_what_fails_every_time_is_given_up_after_some_tries(engine: Engine, strict: Notes) -> None:
    strict.add(0)
    with pytest.raises(DBAPIError) as raised:
        strict.add_all([1], _outdate(engine, times=100))
    assert state_of(raised.value) == "40001"
    assert strict.numbers() == [0]
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT note FROM notes WHERE number = 0")) == "x" * TRIES


def test_a_call_in_a_transaction_is_not_tried_again_alone(engine: Engine, strict: Notes) -> None:
    strict.add(0)
    with pytest.raises(DBAPIError), strict.transaction() as tx:
        tx.add_all([1], _outdate(engine, times=1))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT note FROM notes WHERE number = 0")) == "x"


@pytest.mark.parametrize("error", [ArithmeticError, ValueError, KeyError, OSError])
def test_other_errors_are_not_tried_again(notes: Notes, error: type[Exception]) -> None:
    tried = []

    def act(tx: Connection) -> None:
        tried.append(1)
        raise error

    with pytest.raises(error):
        notes.write(act)
    assert tried == [1]


def test_a_refused_constraint_is_not_tried_again(notes: Notes) -> None:
    tried = []

    def act(tx: Connection) -> None:
        tried.append(1)
        add(tx, 1)

    notes.add(1)
    with pytest.raises(StateStoreError, match="notes_pkey"):
        notes.write(act)
    assert tried == [1]


def test_the_victim_of_a_deadlock_is_tried_again(engine: Engine, notes: Notes) -> None:
    notes.add_all([1, 2])
    other_holds, we_hold, states = threading.Event(), threading.Event(), []

    def lock(tx: Connection, number: int) -> None:
        tx.execute(text("UPDATE notes SET note = note || 'x' WHERE number = :number"), {"number": number})

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
        try:
            lock(tx, 1)
        except DBAPIError as error:
            states.append(state_of(error))
            raise

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(notes.write, other)
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
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for pid in pids:
            # Waits until it is gone.
            assert connection.execute("SELECT pg_terminate_backend(%s, 10000)", [pid]).fetchone() == (True,)


def test_a_read_survives_connections_that_died_in_the_pool(engine: Engine, notes: Notes, url: str) -> None:
    notes.add(1)
    _kill_pooled(engine, url)
    assert notes.numbers() == [1]


def test_a_write_survives_connections_that_died_in_the_pool(engine: Engine, notes: Notes, url: str) -> None:
    _kill_pooled(engine, url)
    assert notes.add_all(iter([1, 2])) == 3
    assert notes.numbers() == [1, 2]


def test_a_connection_that_dies_in_a_call_is_replaced_and_nothing_is_done_twice(notes: Notes, url: str) -> None:
    killed: list[int | None] = []

    def act(tx: Connection) -> None:
        add(tx, 1)
        if not killed:
            killed.append(tx.scalar(text("SELECT pg_backend_pid()")))
            _kill(url, killed)
        add(tx, 2)

    notes.write(act)
    assert len(killed) == 1
    assert notes.numbers() == [1, 2]


def test_a_connection_that_dies_in_a_transaction_is_an_error_and_the_next_one_works(notes: Notes, url: str) -> None:
    with pytest.raises(StoreUnavailableError), notes.transaction() as tx:  # noqa: PT012
        tx.add(1)
        assert tx._connection is not None
        _kill(url, [tx._connection.scalar(text("SELECT pg_backend_pid()"))])
        tx.add(2)
    assert notes.numbers() == []


# what the database refuses


def test_a_missing_table_is_an_error_that_names_the_command(notes: Notes) -> None:
    with pytest.raises(SchemaError, match=r"no_such.*alchemistore database upgrade"):
        notes.read(lambda tx: tx.execute(text("SELECT * FROM no_such")))


def test_a_constraint_that_nobody_translates_is_named(notes: Notes) -> None:
    notes.add(1)
    with pytest.raises(StateStoreError, match="notes_pkey"):
        notes.add(1)


def test_other_errors_of_the_database_are_raised_as_they_are(notes: Notes) -> None:
    with pytest.raises(DBAPIError, match="division by zero"):
        notes.read(lambda tx: tx.execute(text("SELECT 1 / 0")))


# names, docstrings, signatures


def test_a_call_keeps_name_docstring_and_parameters(notes: Notes) -> None:
    call: Any = notes.add
    assert call.__name__ == "add"
    assert call.__doc__ == "Add a note."
    assert str(inspect.signature(call)) == "(number: 'int', note: 'str' = '') -> 'int'"


def test_a_call_of_the_class_keeps_them_too() -> None:
    call: Any = StateStore.create_task
    assert call.__name__ == "create_task"
    assert call.__doc__ == tasks.create_task.__doc__
    assert list(inspect.signature(call).parameters) == ["transformation", "extends", "creator"]
