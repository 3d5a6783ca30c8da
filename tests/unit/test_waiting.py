"""Waiting for work: woken by a notification, or by polling."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from typing import Any

import gufe
import pytest
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, StateStore
from alchemistore.database.notifications import Listener
from alchemistore.settings import Settings
from tests.support.campaigns import Campaign, campaign, chain, register
from tests.support.claims import expire_silent, register_silent
from tests.support.concurrency import Running
from tests.support.results import ref

SPAWN = multiprocessing.get_context("spawn")
# Seconds: a test that needs so many has failed.
GENEROUS = 60.0
FOREVER = 1000.0


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Two tasks that are on no hub yet, and a service."""
    register(store, "b")
    return campaign(store, scope, tasks=2, action=False)


@pytest.fixture
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a notification ends the wait in time."""
    monkeypatch.setattr("alchemistore.store.POLL_SECONDS", (FOREVER, FOREVER))


@pytest.fixture
def no_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    """As through PgBouncer in transaction mode: who listens hears nothing; but looks again soon."""
    monkeypatch.setattr("alchemistore.store.CHANNEL", "nobody_speaks_here")
    monkeypatch.setattr("alchemistore.store.POLL_SECONDS", (0.05, 0.1))


def act(url: str, commands: Connection) -> None:
    """Call a store in a process of its own, as told."""
    store = StateStore(url)
    commands.send("ready")
    while (command := commands.recv()) is not None:
        name, arguments = command
        getattr(store, name)(*arguments)
        commands.send("done")
    store.close()


@pytest.fixture
def elsewhere(pooled_database: str) -> Iterator[Connection]:
    """Somebody in another process, who calls what is sent."""
    # A new one for each test: a process speaks up at most once a second.
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=act, args=(pooled_database, there))
    process.start()
    assert here.recv() == "ready"
    yield here
    here.send(None)
    process.join(GENEROUS)
    assert process.exitcode == 0


def listeners(store: StateStore, waiting: Running[Any]) -> list[tuple[str, bool]]:
    """Wait for an idle listening connection; return the state of each and if in a transaction."""
    query = text("""
        SELECT state, xact_start IS NOT NULL FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state <> 'active'
    """)
    while not waiting.done.wait(0.02):
        with store.engine.connect() as connection:
            found = [(row[0], row[1]) for row in connection.execute(query)]
        if found:
            return found
    raise AssertionError(f"it did not wait, but answered {waiting.result()}")


def test_existing_work_ends_the_wait_at_once(store: StateStore, made: Campaign) -> None:
    store.action_tasks(made.tasks, made.hub)
    assert store.wait_for_tasks()
    assert store.wait_for_tasks([Scope()], timeout=0)
    assert store.wait_for_tasks(taskhubs=[made.hub], timeout=FOREVER)
    assert store.get_taskhub_unclaimed_tasks(made.hub) == made.tasks


@pytest.mark.parametrize("timeout", [-1.0, 0.0, 0.3])
def test_wait_without_work_ends_after_the_timeout(
    store: StateStore, made: Campaign, no_second_look: None, timeout: float
) -> None:
    assert not store.wait_for_tasks(timeout=timeout)


def test_unclaimable_tasks_do_not_end_the_wait(store: StateStore, made: Campaign) -> None:
    weightless, running = made.tasks
    parent, child = chain(store, made.transformations[0], 2)
    store.action_tasks([weightless, running, child], made.hub)
    store.set_task_weights([weightless], made.hub, 0)
    store.set_task_running([running])
    assert not store.wait_for_tasks(timeout=0)
    store.settle_task(parent, ref(parent.scope))
    assert store.wait_for_tasks(timeout=0)
    store.set_taskhub_weight(made.network, 0)
    assert not store.wait_for_tasks(timeout=0)
    assert store.claim_tasks([Scope()], "b") == [None]


def test_claimable_task_of_a_named_hub_ends_the_wait(store: StateStore, made: Campaign) -> None:
    store.action_tasks(made.tasks[:1], made.hub)
    store.set_taskhub_weight(made.network, 0)
    seen = store.wait_for_tasks(taskhubs=[made.hub], timeout=0)
    assert seen == (store.claim_taskhub_tasks(made.hub, "b") != [None])


def test_work_outside_the_filters_does_not_end_the_wait(
    store: StateStore, made: Campaign, scope: Scope, other_scope: Scope
) -> None:
    other = campaign(store, other_scope, tasks=1)
    missing = ScopedKey.from_str(f"TaskHub-{'0' * 32}-{scope}")
    assert not store.wait_for_tasks([scope], timeout=0)
    assert not store.wait_for_tasks([], timeout=0)
    assert not store.wait_for_tasks(exclude_scopes=["org-campaign-*"], timeout=0)
    assert not store.wait_for_tasks(taskhubs=[made.hub, missing], timeout=0)
    assert not store.wait_for_tasks(taskhubs=[], timeout=0)
    assert not store.wait_for_tasks(protocols=["NoProtocol"], timeout=0)
    assert store.wait_for_tasks([str(other_scope)], timeout=0)
    assert store.wait_for_tasks(["org-*-*"], timeout=0, exclude_scopes=[scope])
    assert store.wait_for_tasks(taskhubs=[made.hub, str(other.hub)], timeout=0)
    assert store.wait_for_tasks(protocols=iter(["NoProtocol", "PushProtocol"]), timeout=0)


def test_malformed_scope_is_a_value_error(store: StateStore) -> None:
    with pytest.raises(ValueError):
        store.wait_for_tasks(["org-one"], timeout=0)
    with pytest.raises(ValueError):
        store.wait_for_tasks(exclude_scopes=["org-*-one"], timeout=0)


def test_tasks_that_another_process_actions_end_the_wait(
    store: StateStore, made: Campaign, scope: Scope, no_second_look: None, elsewhere: Connection
) -> None:
    waiting = Running(lambda: store.wait_for_tasks([scope], timeout=FOREVER))
    assert listeners(store, waiting) == [("idle", False)]
    elsewhere.send(("action_tasks", (made.tasks, made.hub)))
    assert elsewhere.recv() == "done"
    assert waiting.result()


def test_parent_that_another_process_completes_ends_the_wait(
    store: StateStore, made: Campaign, scope: Scope, no_second_look: None, elsewhere: Connection
) -> None:
    parent, child = chain(store, made.transformations[0], 2)
    store.action_tasks([child], made.hub)
    waiting = [
        Running(lambda: store.wait_for_tasks(taskhubs=[made.hub], timeout=FOREVER))
        for _ in range(3)
    ]
    for one in waiting:
        listeners(store, one)
    elsewhere.send(("settle_task", (parent, ref(scope))))
    assert elsewhere.recv() == "done"
    assert [one.result() for one in waiting] == [True] * 3


def test_work_without_notification_is_found_by_polling(
    store: StateStore, made: Campaign, scope: Scope, no_notification: None
) -> None:
    waiting = Running(lambda: store.wait_for_tasks([scope], timeout=FOREVER))
    listeners(store, waiting)
    store.action_tasks(made.tasks, made.hub)
    assert waiting.result()


def test_task_of_an_expired_service_is_found_by_polling(
    store: StateStore, made: Campaign, scope: Scope, no_notification: None
) -> None:
    register_silent(store, "a")
    store.action_tasks(made.tasks, made.hub)
    assert None not in store.claim_taskhub_tasks(made.hub, "a", count=2)
    waiting = Running(lambda: store.wait_for_tasks([scope], timeout=FOREVER))
    listeners(store, waiting)
    expire_silent(store)
    assert waiting.result()


def end_listeners(store: StateStore) -> bool:
    """End all listening connections; return whether there were any."""
    query = text("""
        SELECT bool_and(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'
    """)
    with store.engine.connect() as connection:
        return bool(connection.scalar(query))


def test_listener_needs_no_connection_of_the_pool(pooled_database: str, store: StateStore) -> None:
    settings = {"database_url": pooled_database, "pool_size": 1, "pool_timeout": 0.1}
    with (
        closing(StateStore(Settings.model_validate(settings))) as small,
        small.engine.connect(),
        small.engine.connect(),
        Listener(small.engine, "some_channel"),
    ):
        assert end_listeners(store)


def test_listener_without_connection_waits_as_long_as_it_is_told(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    with Listener(store.engine, "some_channel") as listener:
        assert end_listeners(store)
        monkeypatch.setattr("alchemistore.database.notifications.time.sleep", slept.append)
        listener.wait(FOREVER)
    assert len(slept) == 1
    assert FOREVER / 2 < slept[0] <= FOREVER


def test_listener_whose_connection_was_lost_hears_notifications_again(store: StateStore) -> None:
    with Listener(store.engine, "some_channel") as listener:
        assert end_listeners(store)
        # It notices the loss here, and connects again in the next wait.
        listener.wait(0.1)
        waiting = Running(lambda: listener.wait(1.5 * GENEROUS))
        assert listeners(store, waiting) == [("idle", False)]
        with store.engine.begin() as connection:
            connection.execute(text("SELECT pg_notify('some_channel', '')"))
        # Raises an error if the call does not come back within GENEROUS seconds.
        waiting.result()


def test_notification_about_other_work_does_not_end_the_wait(
    store: StateStore,
    made: Campaign,
    scope: Scope,
    other_scope: Scope,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alchemistore.store.POLL_SECONDS", (0.05, 0.1))
    other = campaign(store, other_scope, tasks=1, action=False)
    waiting = Running(lambda: store.wait_for_tasks([scope], timeout=0.5))
    listeners(store, waiting)
    store.action_tasks(other.tasks, other.hub)
    assert not waiting.result()


def test_listening_connection_returns_to_the_pool_clean(
    store: StateStore, made: Campaign, no_second_look: None
) -> None:
    assert not store.wait_for_tasks(timeout=0.1)
    pool = store.engine.pool
    assert "Connections in pool: 0" not in pool.status()
    assert "Current Checked out connections: 0" in pool.status()
    with store.engine.connect() as first, store.engine.connect() as second:
        for connection in (first, second):
            assert connection.execute(text("SELECT pg_listening_channels()")).all() == []
            assert connection.in_transaction()


@pytest.mark.parametrize("waiters", [1, 3])
def test_waiting_calls_leave_pooled_connections_to_other_calls(
    pooled_database: str,
    store: StateStore,
    made: Campaign,
    scope: Scope,
    no_notification: None,
    waiters: int,
) -> None:
    small = StateStore(
        Settings.model_validate(
            {"database_url": pooled_database, "pool_size": 1, "pool_timeout": 2}
        )
    )
    waiting = [Running(lambda: small.wait_for_tasks([scope], timeout=20)) for _ in range(waiters)]
    try:
        for one in waiting:
            listeners(store, one)
        assert small.action_tasks(made.tasks, made.hub) == made.tasks
    finally:
        # No thread may outlive its store.
        for one in waiting:
            one.done.wait(GENEROUS)
        small.close()
    assert [one.result() for one in waiting] == [True] * waiters


def test_task_of_another_protocol_does_not_end_the_wait(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    store.action_tasks(made.tasks, made.hub)
    assert not store.wait_for_tasks([scope], timeout=0, protocols=[gufe.Protocol.__name__])
    assert store.wait_for_tasks([scope], timeout=0, protocols=["PushProtocol"])
