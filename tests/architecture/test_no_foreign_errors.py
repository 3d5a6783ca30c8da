"""No public call lets an exception of a library out."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError
from sqlalchemy import event, text

from alchemistore import AlchemistoreError, ProtocolDAGResultRef, StateStore, errors
from alchemistore.database import transaction
from tests.support.calls import CALLS, World, arguments, make_user, make_world
from tests.support.databases import rolled_back

PLAIN = (ValueError, KeyError, TypeError)
OWN = tuple(
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, Exception) and not issubclass(found, Warning)
)
NONSENSE: dict[str, Any] = {
    "none": None,
    "text": "text",
    "empty text": "",
    "bytes": b"bytes",
    "NUL": "a\0b",
    "surrogate": "\ud800",
    "long text": "x" * 100_000,
    "huge": 10**400,
    "large": 2**70,
    "negative": -1,
    "nan": float("nan"),
    "infinity": float("inf"),
    "object": object(),
    "class": int,
    "list": [object()],
    "mapping": {"a": object()},
    "nested": [[["text"]]],
    "key of nothing": f"Task-{'0' * 32}-org-campaign-project",
    "naive time": datetime(1, 1, 1),
    "iterator that fails": None,
}

# Parts of messages of Python and its libraries that do not help.
FOREIGN = (
    "Background on this error",
    "has no attribute",
    "invalid literal",
    "not supported between",
    "object is not",
    "pydantic.dev",
)


def _failing() -> Iterator[Any]:
    yield "text"
    raise ValueError("the iterator fails")


@pytest.fixture(scope="module")
def world(shared_store: StateStore) -> World:
    made = make_world(shared_store, size=2)
    make_user(shared_store)
    return made


def require_own(error: BaseException, about: object) -> None:
    told = "".join(traceback.format_exception(error))
    assert type(error) in (*PLAIN, *OWN), f"{about}: {type(error)}\n{told}"
    assert str(error).strip(), about
    for foreign in FOREIGN:
        assert foreign not in str(error), f"{about}: {error}\n{told}"


PARAMETERS = [
    (name, parameter)
    for name in CALLS
    for parameter in inspect.signature(getattr(StateStore, name)).parameters
    if parameter != "self"
]


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_nonsense_is_refused_with_own_errors(world: World, name: str, parameter: str) -> None:
    # Every other kind; the next parameter gets the others.
    first = PARAMETERS.index((name, parameter)) % 2
    require_refusal(world, name, parameter, list(NONSENSE)[first::2])


@pytest.mark.soak
@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_all_nonsense_is_refused_with_own_errors(world: World, name: str, parameter: str) -> None:
    require_refusal(world, name, parameter, list(NONSENSE))


def require_refusal(world: World, name: str, parameter: str, kinds: Iterable[str]) -> None:
    good = arguments(world, name)
    for kind in kinds:
        value = NONSENSE[kind]
        given = {**good, parameter: _failing() if kind == "iterator that fails" else value}
        with rolled_back(world.store) as tx:
            try:
                getattr(tx, name)(**given)
            except Exception as error:  # noqa: BLE001  (any error is examined)
                require_own(error, (name, parameter, kind))


@pytest.mark.parametrize("parameter", ["scopes", "taskhubs", "protocols", "exclude_scopes"])
def test_nonsense_in_a_filter_of_waiting_is_refused_with_own_errors(
    world: World, parameter: str
) -> None:
    for kind, value in NONSENSE.items():
        calls: Any = world.store
        try:
            calls.wait_for_tasks(**{parameter: value}, timeout=0)
        except Exception as error:  # noqa: BLE001  (any error is examined)
            require_own(error, (parameter, kind))


@pytest.mark.parametrize("timeout", ["text", None, b"1", [], object(), float("nan")])
def test_nonsense_as_timeout_of_waiting_is_refused(world: World, timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout must be"):
        world.store.wait_for_tasks(timeout=timeout)


@pytest.mark.parametrize("timeout", [float("-inf"), -1, 10**400, float("inf")])
def test_any_number_is_a_timeout_of_waiting(world: World, timeout: Any) -> None:
    assert world.store.wait_for_tasks(timeout=timeout)


# faults of the database

RAISE = "DO $$ BEGIN RAISE EXCEPTION 'a fault' USING ERRCODE = '{}'; END $$"
STATES = {
    "08006": AlchemistoreError,
    "22021": ValueError,
    "25006": AlchemistoreError,
    "25P02": AlchemistoreError,
    "25P03": AlchemistoreError,
    "25P04": AlchemistoreError,
    "26000": AlchemistoreError,
    "40001": AlchemistoreError,
    "40P01": AlchemistoreError,
    "42501": AlchemistoreError,
    "42P01": AlchemistoreError,
    "53100": AlchemistoreError,
    "53200": AlchemistoreError,
    "53300": AlchemistoreError,
    "54000": ValueError,
    "55P03": AlchemistoreError,
    "57014": AlchemistoreError,
    "57P01": AlchemistoreError,
    "58030": AlchemistoreError,
    "P0001": AlchemistoreError,
    "XX000": AlchemistoreError,
    "XX001": AlchemistoreError,
}


@contextmanager
def fault(store: StateStore, statement: str) -> Iterator[None]:
    """Let PostgreSQL fail before the first statement of each transaction after BEGIN."""

    def fail(connection: Any, cursor: Any, sql: str, *_: object) -> None:
        if not sql.startswith("BEGIN"):
            driver = cursor.connection
            assert isinstance(driver, psycopg.Connection)
            cursor.execute(statement)

    event.listen(store.engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        event.remove(store.engine, "before_cursor_execute", fail)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "pause", lambda attempt: None)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("state", STATES)
def test_fault_of_the_database_is_an_own_error_of_a_call(world: World, state: str) -> None:
    # A quarter of the calls for each state, and all calls for four states that follow each other.
    require_own_errors(world, state, CALLS[list(STATES).index(state) % 4 :: 4])


@pytest.mark.soak
@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("state", STATES)
def test_fault_of_the_database_is_an_own_error_of_every_call(world: World, state: str) -> None:
    require_own_errors(world, state, CALLS)


def require_own_errors(world: World, state: str, names: Iterable[str]) -> None:
    with fault(world.store, RAISE.format(state)):
        for name in names:
            with pytest.raises(STATES[state]) as raised:
                getattr(world.store, name)(**arguments(world, name))
            require_own(raised.value, (name, state))


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("name", CALLS)
def test_lost_connection_is_an_own_error(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr(transaction, "OUTCOME_SECONDS", 0)
    with fault(world.store, "SELECT pg_terminate_backend(pg_backend_pid())"):
        with pytest.raises(errors.StoreUnavailableError) as raised:
            getattr(world.store, name)(**arguments(world, name))
        require_own(raised.value, name)
    assert world.store.query_tasks(limit=1)


@pytest.mark.parametrize("name", CALLS)
def test_call_in_a_failed_or_finished_transaction_is_an_own_error(world: World, name: str) -> None:
    with rolled_back(world.store) as tx:
        assert tx.connection is not None
        with pytest.raises(Exception, match="division by zero"):
            tx.connection.execute(text("SELECT 1 / 0"))
        with pytest.raises(errors.StateStoreError, match="leave its 'with' block"):
            getattr(tx, name)(**arguments(world, name))
    with pytest.raises(errors.StateStoreError, match="leave its 'with' block"):
        getattr(tx, name)(**arguments(world, name))


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("state", ["53100", "42501", "XX000"])
def test_fault_in_the_life_cycle_is_an_own_error(world: World, state: str) -> None:
    calls: list[Callable[[], Any]] = [
        world.store.initialize,
        world.store.check,
        world.store.problems,
        world.store.reset,
    ]
    with fault(world.store, RAISE.format(state)):
        for call in calls:
            with pytest.raises(AlchemistoreError) as raised:
                call()
            require_own(raised.value, (call, state))
        assert not world.store._store_check()


def test_message_of_a_too_long_value_names_the_reason(world: World) -> None:
    with pytest.raises(ValueError, match="too long"):
        world.store.create_credentialed_entity(
            arguments(world, "create_credentialed_entity")["entity"].model_copy(
                update={"identifier": "".join(map(chr, range(500, 20_000)))}
            )
        )


def test_models_raise_the_errors_of_pydantic() -> None:
    # Constructing a model is a call of pydantic's, and its errors name all fields.
    with pytest.raises(ValidationError):
        ProtocolDAGResultRef.from_dict({})
