"""Restart patterns while other transactions settle, resolve, cancel and remove."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, StateStore
from tests.support.campaigns import Campaign, campaign, register, star
from tests.support.concurrency import (
    LOCKED,
    committed_or_rolled_back,
    in_a_transaction,
    run_concurrently,
    run_while_open,
)
from tests.support.databases import row_counts
from tests.support.history import status
from tests.support.restarts import NAN, counters, fail_in_steps, retries
from tests.support.results import ref

ADD_PATTERN = text("""
    INSERT INTO restart_patterns (scope_id, taskhub, token, pattern, max_retries, created_at)
    SELECT scope_id, token, token, 'NaN', 1, now() FROM taskhubs WHERE token = :taskhub
""")


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """A task on a hub with the pattern `NaN`, claimed by the service `b`."""
    register(store, "b")
    made = campaign(store, scope, tasks=1, arms=1)
    store.add_task_restart_patterns(made.hub, ["NaN"], 3)
    return made


@pytest.fixture
def claimed(store: StateStore, made: Campaign) -> ScopedKey:
    [task] = store.claim_taskhub_tasks(made.hub, "b")
    assert task is not None
    return task


def settle_failure(task: ScopedKey, store: StateStore) -> str:
    return store.settle_task(task, ref(task.scope, ok=False), "b", 1, [NAN]).status


def counted(store: StateStore, made: Campaign) -> int:
    return retries(store, made.tasks[0])[str(made.hub), "NaN"][0]


@committed_or_rolled_back
def test_two_settlements_of_one_attempt_count_once(
    store: StateStore, made: Campaign, claimed: ScopedKey, commit: bool
) -> None:
    settle = partial(settle_failure, claimed)
    _, second = run_while_open(store, settle, lambda: settle(store), commit=commit)
    assert second.waited
    assert second.result() == "waiting"
    assert counted(store, made) == 1


def test_two_resolves_of_one_failure_count_once(store: StateStore, made: Campaign) -> None:
    [task] = made.tasks
    fail_in_steps(store, task, NAN)
    _, second = run_while_open(
        store,
        lambda tx: tx.resolve_task_restarts([task]),
        lambda: store.resolve_task_restarts([task]),
        commit=True,
    )
    second.result()
    assert second.waited
    assert (status(store, task), counted(store, made)) == ("waiting", 1)


def test_many_resolves_at_once_count_each_failure_once(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=20)
    store.add_task_restart_patterns(made.hub, ["NaN", "coordinate"], 3)
    for task in made.tasks:
        fail_in_steps(store, task, NAN)
    run_concurrently(
        [partial(store.resolve_task_restarts, made.tasks[::step]) for step in (1, -1, 1, -1)]
    )
    for task in made.tasks:
        assert {one for one, _ in retries(store, task).values()} == {1}
    assert store.get_network_status(made.network) == {"waiting": 20}


@committed_or_rolled_back
def test_resolve_during_a_settlement_does_not_count_again(
    store: StateStore, made: Campaign, claimed: ScopedKey, commit: bool
) -> None:
    _, second = run_while_open(
        store,
        partial(settle_failure, claimed),
        lambda: store.resolve_task_restarts([claimed]),
        commit=commit,
    )
    second.result()
    if commit:
        assert (status(store, claimed), counted(store, made)) == ("waiting", 1)
    else:
        assert (status(store, claimed), counted(store, made)) == ("running", 0)


def removed(store: StateStore, made: Campaign) -> None:
    store.remove_task_restart_patterns(made.hub, ["NaN"])


def cleared(store: StateStore, made: Campaign) -> None:
    store.clear_task_restart_patterns(made.hub)


def deleted(store: StateStore, made: Campaign) -> None:
    store.delete_taskhub(made.network)


def cancelled(store: StateStore, made: Campaign) -> None:
    store.cancel_tasks(made.tasks, made.hub)


def invalidated(store: StateStore, made: Campaign) -> None:
    store.set_task_invalid(made.tasks)


def again(store: StateStore, made: Campaign) -> None:
    store.add_task_restart_patterns(made.hub, ["NaN"], 5)


def maximum(store: StateStore, made: Campaign) -> None:
    store.set_task_restart_patterns_max_retries(made.hub, ["NaN"], 4)


def settled(store: StateStore, made: Campaign) -> None:
    settle_failure(made.tasks[0], store)


def resolved(store: StateStore, made: Campaign) -> None:
    store.resolve_task_restarts(made.tasks)


Change = Callable[[StateStore, Campaign], None]
Left = tuple[str, int, int]


def left(store: StateStore, made: Campaign) -> Left:
    """Return the status of the task, and the numbers of actions and counters."""
    return status(store, made.tasks[0]), row_counts(store)["actions"], counters(store)


# The status, the number of actions and the number of counters after each change, if the failure was
# counted before it and if it was not.
WITHOUT_PATTERN = (("waiting", 1, 0), ("error", 1, 0))
OFF_THE_HUB = (("waiting", 0, 0), ("error", 0, 0))
LEFT: dict[Change, tuple[Left, Left]] = {
    removed: WITHOUT_PATTERN,
    cleared: WITHOUT_PATTERN,
    deleted: OFF_THE_HUB,
    cancelled: OFF_THE_HUB,
    invalidated: (("invalid", 0, 0), ("invalid", 0, 0)),
    again: (("waiting", 1, 1), ("waiting", 1, 1)),
    maximum: (("waiting", 1, 1), ("waiting", 1, 1)),
}
each_change = pytest.mark.parametrize("change", LEFT)
in_each_order = pytest.mark.parametrize(
    "first_counts", [True, False], ids=["counted first", "changed first"]
)


def require_serial_order(
    store: StateStore, made: Campaign, count: Change, change: Change, first_counts: bool
) -> None:
    """Make both calls at once and check that the second has the effect of a later one."""
    one, two = (count, change) if first_counts else (change, count)
    _, second = run_while_open(
        store, lambda tx: one(tx, made), lambda: two(store, made), commit=True
    )
    second.result()
    assert left(store, made) == LEFT[change][0 if first_counts else 1]


@in_each_order
@each_change
def test_failure_is_settled_before_or_after_a_change(
    store: StateStore, made: Campaign, claimed: ScopedKey, change: Change, first_counts: bool
) -> None:
    require_serial_order(store, made, settled, change, first_counts)


@in_each_order
@each_change
def test_failure_is_resolved_before_or_after_a_change(
    store: StateStore, made: Campaign, change: Change, first_counts: bool
) -> None:
    # The task has a counter already.
    fail_in_steps(store, made.tasks[0], NAN)
    resolved(store, made)
    fail_in_steps(store, made.tasks[0], NAN)
    require_serial_order(store, made, resolved, change, first_counts)
    if change in (again, maximum):
        assert counted(store, made) == 2


def test_failure_during_the_addition_of_a_pattern_is_resolved_by_one_of_both(
    store: StateStore, made: Campaign, claimed: ScopedKey
) -> None:
    store.clear_task_restart_patterns(made.hub)
    _, second = run_while_open(
        store, lambda tx: settled(tx, made), lambda: again(store, made), commit=True
    )
    second.result()
    assert left(store, made) == ("waiting", 1, 1)


@pytest.fixture
def other(store: StateStore, scope: Scope) -> Campaign:
    """Another hub of the same transformation, without tasks."""
    return campaign(store, scope, arms=1, name="other")


def test_patterns_of_a_hub_apply_to_a_task_that_came_to_it_during_its_settlement(
    store: StateStore, made: Campaign, other: Campaign, claimed: ScopedKey
) -> None:
    store.add_task_restart_patterns(other.hub, ["coordinate"], 2)
    _, second = run_while_open(
        store,
        lambda tx: tx.action_tasks([claimed], other.hub),
        lambda: settle_failure(claimed, store),
        commit=True,
    )
    assert second.waited
    assert second.result() == "waiting"
    assert retries(store, claimed) == {
        (str(made.hub), "NaN"): (1, 3),
        (str(other.hub), "coordinate"): (1, 2),
    }


def test_settlement_and_deletion_of_a_hub_with_new_patterns_do_not_deadlock(
    store: StateStore, made: Campaign, other: Campaign, claimed: ScopedKey
) -> None:
    store.action_tasks([claimed], other.hub)
    with store.transaction() as tx:
        tx.set_task_priority([claimed], 3)
        # It has locked the pattern of one hub, and waits for the task.
        settling = in_a_transaction(store, partial(settle_failure, claimed))
        assert settling.waits_for(tx)
        with store.engine.begin() as connection:
            connection.execute(ADD_PATTERN, {"taskhub": other.hub.token})
        # It locks the pattern of the other hub, and then waits for the settlement.
        deleting = in_a_transaction(store, lambda tx: tx.delete_taskhub(other.network))
        with store.engine.connect() as connection:
            while connection.scalar(LOCKED) < 2:
                connection.rollback()
    assert settling.result() == "waiting"
    assert deleting.result() == other.hub
    assert retries(store, claimed) == {(str(made.hub), "NaN"): (1, 3)}


def test_calls_in_opposite_orders_do_not_deadlock(store: StateStore, scope: Scope) -> None:
    hubs = []
    first = campaign(store, scope, tasks=12, arms=3)
    network = store.create_network(star(3, "another"), scope)
    hubs = [first.hub, store.create_taskhub(network)]
    store.action_tasks(first.tasks, hubs[1])
    names = ["NaN", "coordinate", "Particle"]
    for hub in hubs:
        store.add_task_restart_patterns(hub, names, 9)
    for task in first.tasks:
        fail_in_steps(store, task, NAN)
    deadlocks = text("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    run_concurrently(
        [
            lambda: store.resolve_task_restarts(first.tasks),
            lambda: store.resolve_task_restarts(first.tasks[::-1]),
            lambda: store.remove_task_restart_patterns(hubs[0], names[::-1]),
            lambda: store.add_task_restart_patterns(hubs[1], names[::-1], 8),
            lambda: store.set_task_restart_patterns_max_retries(hubs[1], names, 7),
            lambda: store.clear_task_restart_patterns(hubs[1]),
        ]
    )
    store.close()
    with store.engine.connect() as connection:
        assert connection.scalar(deadlocks) == 0
