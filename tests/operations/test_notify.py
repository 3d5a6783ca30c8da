"""Waiting services are notified when tasks enter a queue, once per interval, and not otherwise."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from alchemistore import Scope, StateStore
from alchemistore.operations.queue.notify import CHANNEL
from tests.support.campaigns import Campaign, campaign, register
from tests.support.databases import libpq


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Three tasks that are not actioned, and the service `a`."""
    register(store, "a")
    return campaign(store, scope, tasks=3, action=False)


def notifications(store: StateStore, *acts: Callable[[], object]) -> int:
    """Return how many notifications some calls send."""
    url = libpq(store.engine.url.render_as_string(hide_password=False))
    with psycopg.connect(url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}".encode())
        for act in acts:
            act()
        # The server delivers all that was committed before it answers.
        listener.execute("SELECT 1")
        return len(list(listener.notifies(timeout=0)))


def test_tasks_that_enter_a_queue_are_notified_once_per_interval(
    store: StateStore, made: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("alchemistore.database.throttle.time.monotonic", lambda: clock[0])

    def action(number: int) -> Callable[[], object]:
        return lambda: store.action_tasks(made.tasks[number : number + 1], made.hub)

    assert notifications(store, action(0), action(1)) == 1
    clock[0] += 1.5
    assert notifications(store, action(2)) == 1


def test_calls_by_which_no_task_enters_a_queue_are_not_notified(
    store: StateStore, made: Campaign
) -> None:
    assert notifications(store, lambda: store.set_task_priority(made.tasks, 3)) == 0
    assert notifications(store, lambda: store.set_task_running(made.tasks)) == 0
    assert notifications(store, lambda: store.action_tasks(made.tasks, made.hub)) == 0
