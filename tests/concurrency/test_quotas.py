"""Quotas are exact in concurrent calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from alchemistore import QuotaError, Scope, ScopedKey, StateStore
from tests.support.campaigns import Campaign, campaign, created, register
from tests.support.concurrency import (
    Running,
    committed_or_rolled_back,
    run_concurrently,
    run_while_open,
)

N = 6


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Three transformations without tasks, and a hub."""
    return campaign(store, scope)


def count(answers: list[list[ScopedKey | None]]) -> int:
    """Return how many entries were accepted."""
    return sum(key is not None for answer in answers for key in answer)


def test_concurrent_calls_create_as_many_tasks_as_the_quota_allows(
    store: StateStore, made: Campaign
) -> None:
    store.set_quota(made.hub.scope, waiting_per_transformation=5)
    first, second, _ = made.transformations
    # In different order, which is no deadlock.
    calls = [
        partial(store.create_tasks, order * 2) for order in ([first, second], [second, first])
    ] * (N // 2)
    assert count(run_concurrently(calls)) == 10
    for edge in (first, second):
        assert len(store.get_transformation_tasks(edge)) == 5


def test_concurrent_single_creations_stay_within_the_quota(
    store: StateStore, made: Campaign
) -> None:
    store.set_quota("org-*-*", waiting_per_transformation=2)

    def create(number: int) -> bool:
        try:
            if number % 2:
                store.set_tasks(made.transformations[0], count=number)
            else:
                store.create_task(made.transformations[0])
        except QuotaError:
            return False
        return True

    run_concurrently([partial(create, number) for number in range(N)])
    assert len(store.get_transformation_tasks(made.transformations[0])) == 2


def test_concurrent_calls_action_as_many_tasks_as_the_quota_allows(
    store: StateStore, made: Campaign
) -> None:
    tasks = created(store.create_tasks(made.transformations * N))
    store.set_quota(made.hub.scope, actioned_per_hub=7)
    calls = [partial(store.action_tasks, tasks[i::N], made.hub) for i in range(N)]
    assert count(run_concurrently(calls)) == 7
    assert len(store.get_taskhub_tasks(made.hub)) == 7


@committed_or_rolled_back
@pytest.mark.parametrize("limited", [True, False])
def test_creation_waits_for_a_concurrent_one_only_with_a_quota(
    store: StateStore, made: Campaign, limited: bool, commit: bool
) -> None:
    if limited:
        store.set_quota(made.hub.scope, waiting_per_transformation=1)
    _, second = run_while_open(
        store,
        lambda tx: tx.create_tasks(made.transformations[:1]),
        partial(store.create_tasks, made.transformations[:1]),
        commit=commit,
    )
    [task] = second.result()
    assert second.waited is limited
    assert (task is None) is (limited and commit)


@committed_or_rolled_back
@pytest.mark.parametrize("limited", [True, False])
def test_action_waits_for_a_concurrent_one_only_with_a_quota(
    store: StateStore, made: Campaign, limited: bool, commit: bool
) -> None:
    first, one, other = created(store.create_tasks(made.transformations))
    # Opens the lanes of the hub; calls that do so wait for each other.
    store.action_tasks([first], made.hub)
    if limited:
        store.set_quota(made.hub.scope, actioned_per_hub=2)
    _, second = run_while_open(
        store,
        lambda tx: tx.action_tasks([one], made.hub),
        partial(store.action_tasks, [other], made.hub),
        commit=commit,
    )
    [task] = second.result()
    assert second.waited is limited
    assert (task is None) is (limited and commit)


@committed_or_rolled_back
def test_call_that_waited_follows_the_quota_that_was_changed_meanwhile(
    store: StateStore, made: Campaign, commit: bool
) -> None:
    store.set_quota(made.hub.scope, waiting_per_transformation=1)

    def change(tx: StateStore) -> None:
        tx.create_tasks(made.transformations[:1])
        tx.set_quota(made.hub.scope)

    _, second = run_while_open(
        store, change, partial(store.create_tasks, made.transformations[:1] * 2), commit=commit
    )
    assert second.waited
    assert [task is None for task in second.result()] == ([False] * 2 if commit else [False, True])


def test_return_to_waiting_does_not_wait_for_a_creation(store: StateStore, made: Campaign) -> None:
    [task] = created(store.create_tasks(made.transformations[:1]))
    store.action_tasks([task], made.hub)
    register(store, "a")
    assert store.claim_taskhub_tasks(made.hub, "a") == [task]
    store.set_quota(made.hub.scope, 1, 1)
    with store.transaction() as tx:
        assert tx.create_tasks(made.transformations[:1]) != [None]
        released = Running(partial(store.deregister_computeservice, "a"))
        assert not released.waits_for(tx)
        claim = Running(partial(store.set_task_waiting, [task]))
        assert not claim.waits_for(tx)
    assert store.get_transformation_status(made.transformations[0]) == {"waiting": 2}


def test_transformations_without_a_quota_are_not_locked(
    store: StateStore, made: Campaign, other_scope: Scope
) -> None:
    other = campaign(store, other_scope)
    store.set_quota(made.hub.scope, waiting_per_transformation=5)
    with store.transaction() as tx:
        tx.create_tasks([made.transformations[0], other.transformations[0]])
        # It locks the transformation, too.
        second = Running(partial(store.set_tasks, other.transformations[0], count=1))
        assert not second.waits_for(tx)
        limited = Running(partial(store.set_tasks, made.transformations[0], count=1))
        assert limited.waits_for(tx)
    assert len(second.result()) == 1
    assert len(limited.result()) == 1


def test_calls_with_quotas_end_beside_all_others(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    other = campaign(store, scope, name="other")
    store.set_quota(scope, waiting_per_transformation=8, actioned_per_hub=9)
    tasks = created(store.create_tasks(made.transformations * 4))
    edges, hubs = made.transformations, (made.hub, other.hub)
    register(store, "a")

    parents = [*tasks[:3], None, None, None]
    calls: list[Callable[[StateStore], object]] = [
        lambda tx: tx.create_tasks(edges * 2, parents),
        lambda tx: tx.create_tasks([*edges[::-1], *edges]),
        lambda tx: tx.action_tasks(tasks, hubs[0]),
        lambda tx: tx.action_tasks(tasks[::-1], hubs[1]),
        lambda tx: tx.set_task_priority(tasks, 3),
        lambda tx: tx.cancel_tasks(tasks[::2], hubs[0]),
        lambda tx: tx.set_taskhub_weight(made.network, 0.25),
        lambda tx: tx.claim_tasks([scope], "a", 4),
        lambda tx: tx.set_task_waiting(tasks),
        lambda tx: tx.set_tasks(edges[2], count=1),
    ]

    def run(call: Callable[[StateStore], object]) -> None:
        # In a transaction, so that a deadlock fails the test instead of being tried again.
        with store.transaction() as tx:
            call(tx)

    for shift in range(len(calls)):
        run_concurrently([partial(run, call) for call in [*calls[shift:], *calls[:shift]]])
        for hub in hubs:
            assert len(store.get_taskhub_tasks(hub)) <= 9
    assert list(store.problems()) == []
