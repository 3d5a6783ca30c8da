"""The settings of a session hold on connections of the store alone, and only there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text

from alchemistore import Scope, Settings, StateStore
from alchemistore.database.engine import database_url
from tests.support.campaigns import Campaign, campaign, register
from tests.support.requests import CALLS, REGISTRATION, connection_lost

HOUR = timedelta(hours=1)
AUTOCOMMIT = {name for name, call in vars(StateStore).items() if getattr(call, "autocommit", False)}
CLAIMS = ["claim_taskhub_tasks", "claim_tasks"]
# What alchemiscale's server asks before each claim.
BEFORE_CLAIMS: dict[str, Callable[[StateStore], object]] = {
    "compute_service_can_claim": lambda store: store.compute_service_can_claim("a", HOUR, 0),
    "compute_services_can_claim": lambda store: store.compute_services_can_claim(["a"], HOUR, 0),
    "query_taskhubs": lambda store: store.query_taskhubs(),
}
WRITES_AGAIN = {
    "compute_service_can_claim",
    "compute_services_can_claim",
    "heartbeat_computeservice",
}
# Changes that outlive the transaction in which they are made.
CHANGES = [
    "SET search_path TO nowhere",
    "SET default_transaction_read_only TO on",
    "SET statement_timeout TO '1ms'",
]


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Three tasks on a hub, and the service `a`."""
    register(store, "a")
    return campaign(store, scope, tasks=3)


@pytest.fixture
def single(pooled_database: str) -> Iterator[StateStore]:
    """A store whose calls all use the same connection."""
    settings = Settings(database_url=pooled_database, pool_size=1)  # type: ignore[arg-type]  # pydantic makes a secret of it
    with closing(StateStore(settings)) as store:
        yield store


@pytest.fixture
def others_engine(pooled_database: str) -> Iterator[Engine]:
    """An engine that was not made by the store, with one connection."""
    engine = create_engine(database_url(pooled_database), pool_size=1, max_overflow=0)
    yield engine
    engine.dispose()


def messages(store: StateStore, act: Callable[[], object]) -> list[str]:
    """Return what a call sends."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *details: Any) -> None:
        sent.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    act()
    event.remove(store.engine, "before_cursor_execute", note)
    return sent


def test_writes_that_send_no_begin_are_single_statements() -> None:
    assert {*CLAIMS, *WRITES_AGAIN} == AUTOCOMMIT


def test_calls_that_read_send_no_begin(made: Campaign, single: StateStore) -> None:
    single.query_tasks()
    reads = {
        "get_task_status": messages(single, lambda: single.get_task_status(made.tasks)),
        "query_tasks": messages(single, single.query_tasks),
        "wait_for_tasks": messages(single, lambda: single.wait_for_tasks([made.hub.scope])),
    }
    assert {name: len(sent) for name, sent in reads.items()} == {
        "get_task_status": 1,
        "query_tasks": 1,
        "wait_for_tasks": 1,
    }


@pytest.mark.parametrize("name", CLAIMS)
def test_claim_is_one_message(made: Campaign, single: StateStore, name: str) -> None:
    single.get_task_status(made.tasks)
    (statement,) = messages(single, lambda: CALLS[name](single, made, None))
    assert statement.startswith("WITH")
    assert set(single.get_task_status(made.tasks)) == {"running"}


@pytest.mark.parametrize("name", BEFORE_CLAIMS)
def test_call_before_a_claim_is_one_message(made: Campaign, single: StateStore, name: str) -> None:
    single.get_task_status(made.tasks)
    assert len(messages(single, lambda: BEFORE_CLAIMS[name](single))) == 1


@pytest.mark.parametrize("name", BEFORE_CLAIMS)
def test_call_before_a_claim_is_repeated_if_the_connection_is_lost(
    made: Campaign, pooled_database: str, single: StateStore, name: str
) -> None:
    expected = BEFORE_CLAIMS[name](single)
    with connection_lost(single, pooled_database, "in the call") as lost:
        assert BEFORE_CLAIMS[name](single) == expected
    assert lost


def test_heartbeat_is_one_message_and_sent_again_if_the_connection_is_lost(
    made: Campaign, pooled_database: str, single: StateStore
) -> None:
    single.get_task_status(made.tasks)
    assert len(messages(single, lambda: single.heartbeat_computeservice("a"))) == 1
    with connection_lost(single, pooled_database, "in the call") as lost:
        assert single.heartbeat_computeservice("a") == "a"
    assert lost


@pytest.mark.parametrize("name", BEFORE_CLAIMS)
def test_call_before_a_claim_inside_a_transaction_belongs_to_it(
    made: Campaign, single: StateStore, name: str
) -> None:
    with single.transaction() as tx:
        tx.delete_taskhub(made.network)
        tx.deregister_computeservice("a")
        assert not any(as_list(BEFORE_CLAIMS[name](tx)))
    assert not any(as_list(BEFORE_CLAIMS[name](single)))


def as_list(answer: object) -> list[object]:
    return answer if isinstance(answer, list) else [answer]


def test_connections_opened_under_load_stay_open(pooled_database: str) -> None:
    settings = Settings(database_url=pooled_database, pool_size=2)  # type: ignore[arg-type]  # pydantic makes a secret of it
    with closing(StateStore(settings)) as store:

        def backends(count: int) -> list[int]:
            with ExitStack() as stack:
                found = []
                for _ in range(count):
                    connection = stack.enter_context(store.engine.connect())
                    found.append(connection.scalar(text("SELECT pg_backend_pid()")))
                return found

        under_load = backends(4)
        assert len(set(under_load)) == 4
        assert set(backends(4)) == set(under_load)
        # The others rest.
        assert len({backends(1)[0] for _ in range(4)}) == 1


def test_settings_are_sent_once_for_each_connection(made: Campaign, single: StateStore) -> None:
    first, second = (
        messages(single, lambda: single.register_computeservice(REGISTRATION)),
        messages(single, lambda: single.set_task_priority(made.tasks, 3)),
    )
    assert [one for one in first if "search_path" in one] == first[:1]
    assert not [one for one in second if "search_path" in one]


@pytest.mark.parametrize("change", CHANGES)
def test_change_of_the_session_by_a_user_of_the_engine_does_not_last(
    made: Campaign, single: StateStore, change: str
) -> None:
    single.claim_taskhub_tasks(made.hub, "a")
    with single.engine.begin() as connection:
        connection.execute(text(change))
    assert single.claim_taskhub_tasks(made.hub, "a") != [None]
    with single.engine.begin() as connection:
        connection.execute(text(change))
    assert None not in single.get_task_status(made.tasks)


@pytest.mark.parametrize("change", CHANGES)
def test_sessions_of_another_engine_are_left_as_they_are(
    made: Campaign, others_engine: Engine, change: str
) -> None:
    name, value = change.removeprefix("SET ").split(" TO ")
    with others_engine.begin() as connection:
        connection.execute(text(change))
    with closing(StateStore(others_engine)) as store:
        assert store.claim_taskhub_tasks(made.hub, "a") != [None]
        store.set_task_priority(made.tasks, 3)
        with others_engine.connect() as connection:
            assert connection.scalar(text(f"SHOW {name}")) == value.strip("'")


def test_session_is_left_alone_where_statements_are_not_prepared(
    made: Campaign, pooled_database: str
) -> None:
    settings = Settings(database_url=pooled_database, pool_size=1, prepare_statements=False)  # type: ignore[arg-type]  # pydantic makes a secret of it
    with closing(StateStore(settings)) as store:
        sent = messages(store, lambda: store.claim_taskhub_tasks(made.hub, "a"))
        assert [one[:5] for one in sent] == ["BEGIN", "WITH "]
        assert "SET LOCAL search_path" in sent[0]
