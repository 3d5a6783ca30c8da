"""Activity: recent claims and results, and the tasks that have taken longest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from alchemistore import Scope, StateStore
from tests.support.campaigns import campaign, register

EVER = datetime(2020, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def age(store: StateStore, statement: str) -> None:
    with store.engine.begin() as connection:
        connection.execute(text(statement))


def test_nothing_happens_in_an_empty_store(store: StateStore) -> None:
    found = store.get_activity()
    assert (found.num_claimed, found.num_complete, found.num_error, found.num_lost) == (0, 0, 0, 0)
    assert (found.num_claimable, found.oldest_claimable, found.oldest_running) == (0, None, None)
    assert found.time - found.since == timedelta(minutes=10)


def test_claims_and_ends_of_attempts_are_counted(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=8)
    register(store, "a", "b", "c")
    first = store.claim_taskhub_tasks(made.hub, "a", count=3)
    store.set_task_complete(first[:2])
    store.set_task_error(first[2:])
    store.claim_taskhub_tasks(made.hub, "b", count=1)
    store.deregister_computeservice("b")
    store.claim_taskhub_tasks(made.hub, "c", count=1)
    store.expire_registrations(datetime.now(UTC) + HOUR)
    register(store, "d")
    store.claim_taskhub_tasks(made.hub, "d", count=1)
    found = store.get_activity(since=EVER)
    assert found.since == EVER
    assert (found.num_claimed, found.num_complete, found.num_error, found.num_lost) == (6, 2, 1, 2)
    assert found.num_claimable == 4


def test_only_recent_events_of_the_scope_count(
    store: StateStore, scope: Scope, other_scope: Scope
) -> None:
    register(store, "a")
    for place in (scope, other_scope):
        made = campaign(store, place, tasks=3)
        store.set_task_complete(store.claim_taskhub_tasks(made.hub, "a", count=2))
    assert store.get_activity(since=HOUR).num_claimed == 4
    for name in (str(scope), str(other_scope)):
        found = store.get_activity(name, HOUR)
        assert (found.num_claimed, found.num_complete, found.num_claimable) == (2, 2, 1)
    assert store.get_activity("other-*-*", HOUR).num_claimed == 0
    age(store, "UPDATE attempts SET claimed_at = claimed_at - interval '2 hours'")
    found = store.get_activity(since=HOUR)
    assert (found.num_claimed, found.num_complete) == (0, 4)
    age(store, "UPDATE attempts SET ended_at = ended_at - interval '2 hours'")
    found = store.get_activity(since=HOUR)
    assert (found.num_claimed, found.num_complete) == (0, 0)
    assert store.get_activity(since=3 * HOUR).num_complete == 4


def test_oldest_claimable_task_and_oldest_claim_are_named(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=5)
    register(store, "a")
    [older] = store.claim_taskhub_tasks(made.hub, "a")
    [newer] = store.claim_taskhub_tasks(made.hub, "a")
    assert older is not None
    assert newer is not None
    waiting = [task for task in made.tasks if task not in (older, newer)]
    oldest = waiting[1]
    age(
        store,
        "UPDATE tasks SET status_changed_at = status_changed_at - interval '1 hour'"
        f" WHERE token = '{oldest.token}'",
    )
    found = store.get_activity(scope)
    assert found.oldest_claimable == oldest
    assert found.claimable_since is not None
    assert found.time - found.claimable_since >= HOUR
    assert found.oldest_running is not None
    assert (found.oldest_running.task, found.oldest_running.service) == (older, "a")
    assert found.oldest_running.ended_at is None
    # It is on no hub, so no service is expected to claim it.
    store.cancel_tasks([oldest], made.hub)
    found = store.get_activity(scope)
    assert found.oldest_claimable in waiting
    assert (found.oldest_claimable == oldest, found.num_claimable) == (False, 2)
    store.set_taskhub_weight(made.network, 0)
    found = store.get_activity(scope)
    assert (found.oldest_claimable, found.num_claimable) == (None, 0)


def test_task_on_several_hubs_is_claimable_once(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=2)
    other = campaign(store, scope, name="other")
    store.action_tasks(made.tasks, other.hub)
    assert store.get_activity(scope).num_claimable == 2


def test_wrong_arguments_are_refused(store: StateStore) -> None:
    with pytest.raises(ValueError, match="since must be 0 or more"):
        store.get_activity(since=-HOUR)
    with pytest.raises(ValueError, match="not a scope"):
        store.get_activity("nonsense")
