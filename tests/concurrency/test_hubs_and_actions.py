"""Concurrent calls about hubs, actions and tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from alchemistore import Scope, ScopedKey, StateStore, TaskStatusEnum
from tests.support.campaigns import campaign, chain, register, star
from tests.support.concurrency import (
    Running,
    committed_or_rolled_back,
    run_concurrently,
    run_while_open,
)

N = 8


# Hubs


def test_concurrent_creation_of_a_hub_creates_one(store: StateStore, scope: Scope) -> None:
    network = store.create_network(star(), scope)
    hubs = run_concurrently([partial(store.create_taskhub, network)] * N)
    assert len(set(hubs)) == 1
    assert store.query_taskhubs() == hubs[:1]


@committed_or_rolled_back
def test_create_taskhub_waits_for_concurrent_creation(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    network = store.create_network(star(), scope)
    hub, second = run_while_open(
        store,
        lambda tx: tx.create_taskhub(network),
        partial(store.create_taskhub, network),
        commit=commit,
    )
    assert second.result() == hub
    assert store.query_taskhubs() == [hub]


def test_concurrent_deletion_of_a_hub_deletes_it_once(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=20)

    def delete() -> ScopedKey | None:
        try:
            return store.delete_taskhub(made.network)
        except KeyError:
            return None

    answers = run_concurrently([delete] * N)
    assert [answer for answer in answers if answer] == [made.hub]
    assert store.get_task_actioned_networks(made.tasks[0]) == {}


def test_weights_of_the_same_hubs_are_set_without_deadlock(store: StateStore, scope: Scope) -> None:
    networks = [store.create_network(star(1, f"net {n}"), scope) for n in range(5)]
    for network in networks:
        store.create_taskhub(network)
    weights = [n / N for n in range(N)]
    run_concurrently(
        [
            partial(store.set_taskhub_weight, networks[:: 1 if n % 2 else -1], [weight] * 5)
            for n, weight in enumerate(weights)
        ]
    )
    [kept] = set(store.get_taskhub_weight(networks))
    assert kept in weights


@committed_or_rolled_back
def test_set_taskhub_weight_waits_for_concurrent_deletion_of_a_hub(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    one, two = (campaign(store, scope, name=name).network for name in ("one", "two"))
    _, setting = run_while_open(
        store,
        lambda tx: tx.delete_taskhub(one),
        lambda: store.set_taskhub_weight([two, one], [0.25, 0.75]),
        commit=commit,
    )
    assert setting.waited
    assert setting.result() == [two, None if commit else one]
    assert store.get_taskhub_weight([two, one]) == [0.25, None if commit else 0.75]


@committed_or_rolled_back
def test_action_waits_for_concurrent_deletion_of_the_hub(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    made = campaign(store, scope, tasks=4, action=False)
    _, actioned = run_while_open(
        store,
        lambda tx: tx.delete_taskhub(made.network),
        partial(store.action_tasks, made.tasks, made.hub),
        commit=commit,
    )
    assert actioned.result() == ([None] * 4 if commit else made.tasks)
    assert store.get_taskhub_tasks(made.hub) == ([] if commit else sorted(made.tasks))
    assert store.query_taskhubs() == ([] if commit else [made.hub])


@committed_or_rolled_back
def test_hub_deletion_waits_for_concurrent_action(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    made = campaign(store, scope, tasks=4, action=False)
    _, deleted = run_while_open(
        store,
        lambda tx: tx.action_tasks(made.tasks, made.hub),
        partial(store.delete_taskhub, made.network),
        commit=commit,
    )
    assert deleted.result() == made.hub
    assert store.query_taskhubs() == store.get_taskhub_tasks(made.hub) == []
    assert store.create_taskhub(made.network) == made.hub
    assert store.get_taskhub_tasks(made.hub) == []


# Actions


def test_concurrent_action_returns_each_task_to_one_caller(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=60, action=False)
    orders = [made.tasks if n % 2 else made.tasks[::-1] for n in range(N)]
    answers = run_concurrently([partial(store.action_tasks, order, made.hub) for order in orders])
    got = [key for answer in answers for key in answer if key]
    assert sorted(got) == sorted(made.tasks)
    assert all(
        key in (None, asked)
        for order, answer in zip(orders, answers, strict=True)
        for asked, key in zip(order, answer, strict=True)
    )
    assert store.get_task_weights(made.tasks, made.hub) == [0.5] * 60


def test_concurrent_cancel_returns_each_task_to_one_caller(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=60)
    orders = [made.tasks if n % 2 else made.tasks[::-1] for n in range(N)]
    answers = run_concurrently([partial(store.cancel_tasks, order, made.hub) for order in orders])
    assert sorted(key for answer in answers for key in answer if key) == sorted(made.tasks)
    assert store.get_taskhub_tasks(made.hub) == []


def test_concurrent_action_and_cancel_counts_balance(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=40, action=False)
    orders = [made.tasks if n % 4 < 2 else made.tasks[::-1] for n in range(N)]
    calls = [
        partial((store.cancel_tasks, store.action_tasks)[n % 2], order, made.hub)
        for n, order in enumerate(orders)
    ]
    answers = run_concurrently(calls)
    left = store.get_taskhub_tasks(made.hub)
    for task in made.tasks:
        gained = sum(answer.count(task) for answer in answers[1::2])
        lost = sum(answer.count(task) for answer in answers[0::2])
        assert gained - lost == (task in left)


@committed_or_rolled_back
def test_action_waits_for_concurrent_action(store: StateStore, scope: Scope, commit: bool) -> None:
    made = campaign(store, scope, tasks=4, action=False)
    first, second = run_while_open(
        store,
        lambda tx: tx.action_tasks(made.tasks[:3], made.hub),
        partial(store.action_tasks, made.tasks[::-1], made.hub),
        commit=commit,
    )
    assert first == made.tasks[:3]
    assert second.result() == ([made.tasks[3], None, None, None] if commit else made.tasks[::-1])
    assert store.get_taskhub_tasks(made.hub) == sorted(made.tasks)


@committed_or_rolled_back
def test_action_waits_for_concurrent_cancel(store: StateStore, scope: Scope, commit: bool) -> None:
    made = campaign(store, scope, tasks=3)
    first, second = run_while_open(
        store,
        lambda tx: tx.cancel_tasks(made.tasks, made.hub),
        partial(store.action_tasks, made.tasks, made.hub),
        commit=commit,
    )
    assert first == made.tasks
    assert second.result() == (made.tasks if commit else [None] * 3)
    assert store.get_taskhub_tasks(made.hub) == sorted(made.tasks)
    register(store, "service")
    assert set(store.claim_taskhub_tasks(made.hub, "service", count=3)) == set(made.tasks)


@committed_or_rolled_back
def test_cancel_waits_for_concurrent_action(store: StateStore, scope: Scope, commit: bool) -> None:
    made = campaign(store, scope, tasks=3, action=False)
    _, second = run_while_open(
        store,
        lambda tx: tx.action_tasks(made.tasks, made.hub),
        partial(store.cancel_tasks, made.tasks, made.hub),
        commit=commit,
    )
    # A cancel that does not see the actions yet may run first: then the actions stay.
    cancelled = second.result()
    assert cancelled in ([made.tasks, [None] * 3] if commit else [[None] * 3])
    assert store.get_taskhub_tasks(made.hub) == (
        sorted(made.tasks) if commit and cancelled == [None] * 3 else []
    )


@committed_or_rolled_back
@pytest.mark.parametrize("status", ["invalid", "deleted"])
def test_action_waits_for_concurrent_terminal_status(
    store: StateStore, scope: Scope, status: str, commit: bool
) -> None:
    made = campaign(store, scope, tasks=3, action=False)
    _, second = run_while_open(
        store,
        lambda tx: tx.set_task_status(made.tasks[:1], status),
        partial(store.action_tasks, made.tasks, made.hub),
        commit=commit,
    )
    left = made.tasks[1:] if commit else made.tasks
    assert second.result() == [None if commit else made.tasks[0], *made.tasks[1:]]
    assert store.get_taskhub_tasks(made.hub) == sorted(left)


@committed_or_rolled_back
def test_terminal_status_waits_for_concurrent_action(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    made = campaign(store, scope, tasks=3, action=False)
    _, second = run_while_open(
        store,
        lambda tx: tx.action_tasks(made.tasks, made.hub),
        partial(store.set_task_invalid, made.tasks),
        commit=commit,
    )
    assert second.result() == made.tasks
    assert store.get_taskhub_tasks(made.hub) == []


@committed_or_rolled_back
def test_set_weights_waits_for_concurrent_cancel(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    made = campaign(store, scope, tasks=3)
    _, second = run_while_open(
        store,
        lambda tx: tx.cancel_tasks(made.tasks[:2], made.hub),
        partial(store.set_task_weights, made.tasks, made.hub, 0.25),
        commit=commit,
    )
    assert second.result() == ([None, None, made.tasks[2]] if commit else made.tasks)
    assert store.get_task_weights(made.tasks, made.hub) == (
        [None, None, 0.25] if commit else [0.25, 0.25, 0.25]
    )


# Tasks


def test_concurrent_set_tasks_with_count_five_creates_five(store: StateStore, scope: Scope) -> None:
    transformation = campaign(store, scope).transformations[0]
    answers = run_concurrently([partial(store.set_tasks, transformation, None, 5)] * N)
    assert all(answer == answers[0] for answer in answers)
    assert store.query_tasks() == answers[0]
    assert len(answers[0]) == 5
    parent = answers[0][0]
    children = run_concurrently(
        [partial(store.set_tasks, transformation, parent, n + 1) for n in range(N)]
    )
    assert [len(answer) >= n + 1 for n, answer in enumerate(children)] == [True] * N
    assert len(store.get_transformation_tasks(transformation, extends=parent)) == N


@committed_or_rolled_back
def test_set_tasks_waits_for_concurrent_set_tasks(
    store: StateStore, scope: Scope, commit: bool
) -> None:
    transformation = campaign(store, scope).transformations[0]
    first, second = run_while_open(
        store,
        lambda tx: tx.set_tasks(transformation, count=5),
        partial(store.set_tasks, transformation, None, 5),
        commit=commit,
    )
    assert len(second.result()) == 5
    assert store.query_tasks() == second.result()
    assert (second.result() == first) is commit


@committed_or_rolled_back
@pytest.mark.parametrize("status", [TaskStatusEnum.invalid, TaskStatusEnum.deleted])
@pytest.mark.parametrize("how", ["create_task", "create_tasks", "set_tasks"])
def test_create_task_waits_for_terminal_status_of_its_parent(
    store: StateStore, scope: Scope, how: str, status: TaskStatusEnum, commit: bool
) -> None:
    transformation = campaign(store, scope).transformations[0]
    parent = store.create_task(transformation)
    arguments: list[Any] = (
        [[transformation], [parent]] if how == "create_tasks" else [transformation, parent]
    )
    _, second = run_while_open(
        store,
        lambda tx: tx.set_task_status([parent], status),
        partial(getattr(store, how), *arguments),
        commit=commit,
    )
    if commit:
        with pytest.raises(ValueError, match="Cannot extend"):
            second.result()
        assert store.query_tasks() == [parent]
    else:
        assert len(store.get_transformation_tasks(transformation, extends=parent)) == 1
        assert len(store.query_tasks(status="waiting")) == 2


@committed_or_rolled_back
@pytest.mark.parametrize("generations", [1, 3])
def test_terminal_status_of_a_parent_waits_for_its_new_child(
    store: StateStore, scope: Scope, generations: int, commit: bool
) -> None:
    made = campaign(store, scope)
    line = chain(store, made.transformations[0], generations)

    def extend(tx: StateStore) -> ScopedKey:
        child = tx.create_task(made.transformations[0], extends=line[-1])
        assert tx.action_tasks([child], made.hub) == [child]
        return child

    child, second = run_while_open(
        store, extend, partial(store.set_task_invalid, line[:1]), commit=commit
    )
    assert second.result() == line[:1]
    alive = [*line, child] if commit else line
    assert store.get_task_status(alive) == [TaskStatusEnum.invalid] * len(alive)
    assert store.get_taskhub_tasks(made.hub) == []


def test_concurrent_set_priority_does_not_deadlock(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope, tasks=40)
    orders = [made.tasks if n % 2 else made.tasks[::-1] for n in range(N)]
    answers = run_concurrently(
        [partial(store.set_task_priority, order, n + 1) for n, order in enumerate(orders)]
    )
    assert answers == orders
    (last,) = set(store.get_task_priority(made.tasks))
    assert last in range(1, N + 1)


def test_lanes_are_opened_in_the_order_of_their_priorities(store: StateStore, scope: Scope) -> None:
    made = campaign(store, scope)
    first, waits, *free = store.create_tasks([made.transformations[0]] * 60)
    store.set_task_priority([first, waits], 1)
    for priority, pair in enumerate(zip(free[::2], free[1::2], strict=True), 2):
        store.set_task_priority(pair, priority)
    with store.transaction() as tx:
        assert tx.action_tasks([first], made.hub) == [first]
        waiting = Running(lambda: store.action_tasks([waits, *free[::2]], made.hub))
        assert waiting.waits_for(tx)
        # It waits for the first of its lanes, so it has opened no other.
        with store.transaction() as other:
            assert other.connection is not None
            other.connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            assert other.action_tasks(free[1::2], made.hub) == free[1::2]
    assert waiting.result() == [waits, *free[::2]]
