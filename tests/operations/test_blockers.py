"""Reasons why a task cannot be claimed."""

from __future__ import annotations

import pytest

from alchemistore import Scope, ScopedKey, StateStore
from alchemistore.models import Blocker, BlockerKind
from tests.support.campaigns import Campaign, campaign, chain, register, star
from tests.support.results import ref, settle


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Three tasks on a hub, and a service."""
    register(store, "b")
    return campaign(store, scope, tasks=3, arms=1)


def blockers(store: StateStore, task: ScopedKey) -> tuple[Blocker, ...]:
    [found] = store.get_task_blockers([task])
    assert found is not None
    assert all(blocker.text for blocker in found)
    return found


def the_only(
    store: StateStore, task: ScopedKey
) -> tuple[BlockerKind, ScopedKey | None, ScopedKey | None, int | None]:
    """Return the fields of the one blocker of a task."""
    [found] = blockers(store, task)
    return found.kind, found.task, found.taskhub, found.count


def test_claimable_task_is_not_blocked(store: StateStore, made: Campaign) -> None:
    assert store.get_task_blockers(made.tasks) == [(), (), ()]


@pytest.mark.parametrize("status", ["running", "error", "complete", "invalid", "deleted"])
def test_task_that_is_not_waiting_is_blocked_by_its_status(
    store: StateStore, made: Campaign, status: str
) -> None:
    [task] = made.tasks[:1]
    if status in ("error", "complete"):
        store.set_task_running([task])
    assert store.set_task_status([task], status) == [task]
    assert BlockerKind.status in [blocker.kind for blocker in blockers(store, task)]
    [found] = [blocker for blocker in blockers(store, task) if blocker.kind is BlockerKind.status]
    assert status in found.text


def test_unfinished_parent_is_named_until_it_is_complete(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    parent, child, grandchild = chain(store, made.transformations[0], 3)
    store.action_tasks([parent, child, grandchild], made.hub)
    assert the_only(store, child) == (BlockerKind.parent, parent, None, None)
    assert the_only(store, grandchild) == (BlockerKind.parent, child, None, None)
    settle(store, parent, ref(scope))
    assert blockers(store, child) == ()
    assert the_only(store, grandchild) == (BlockerKind.parent, child, None, None)


def test_task_on_no_hub_is_not_actioned(store: StateStore, made: Campaign) -> None:
    task = store.create_task(made.transformations[0])
    assert the_only(store, task) == (BlockerKind.not_actioned, None, None, None)
    store.action_tasks([task], made.hub)
    assert blockers(store, task) == ()
    store.cancel_tasks([task], made.hub)
    assert the_only(store, task)[0] is BlockerKind.not_actioned


def test_weight_of_zero_blocks_until_it_is_raised(store: StateStore, made: Campaign) -> None:
    task = made.tasks[0]
    store.set_task_weights([task], made.hub, 0)
    assert the_only(store, task) == (BlockerKind.weight, None, made.hub, None)
    store.set_task_weights([task], made.hub, 0.01)
    assert blockers(store, task) == ()


def test_hub_of_weight_zero_blocks_its_tasks(store: StateStore, made: Campaign) -> None:
    store.set_taskhub_weight(made.network, 0)
    for task in made.tasks:
        assert the_only(store, task) == (BlockerKind.hub_weight, None, made.hub, None)
    store.set_taskhub_weight(made.network, 1)
    assert store.get_task_blockers(made.tasks) == [(), (), ()]


def test_more_urgent_tasks_in_front_are_counted(store: StateStore, made: Campaign) -> None:
    first, second, third = made.tasks
    store.set_task_priority([second, third], 20)
    assert blockers(store, first) == ()
    for task in (second, third):
        assert the_only(store, task) == (BlockerKind.priority, None, made.hub, 1)
    store.set_task_priority([third], 30)
    assert the_only(store, third) == (BlockerKind.priority, None, made.hub, 2)


def test_unclaimable_more_urgent_tasks_are_not_counted(store: StateStore, made: Campaign) -> None:
    running, weightless, last = made.tasks
    _, child = chain(store, made.transformations[0], 2)
    store.action_tasks([child], made.hub)
    store.set_task_priority([last], 20)
    assert the_only(store, last)[3] == 2
    store.set_task_running([running])
    assert the_only(store, last)[3] == 1
    store.set_task_weights([weightless], made.hub, 0)
    assert blockers(store, last) == ()


def test_missing_services_are_a_blocker(store: StateStore, made: Campaign) -> None:
    store.deregister_computeservice("b")
    assert the_only(store, made.tasks[0]) == (BlockerKind.no_service, None, None, None)
    register(store, "c")
    assert blockers(store, made.tasks[0]) == ()


def test_all_blockers_are_returned_together(store: StateStore, made: Campaign) -> None:
    parent, child = chain(store, made.transformations[0], 2)
    store.deregister_computeservice("b")
    assert {blocker.kind for blocker in blockers(store, child)} == {
        BlockerKind.parent,
        BlockerKind.not_actioned,
        BlockerKind.no_service,
    }
    assert [
        blocker.task for blocker in blockers(store, child) if blocker.kind is BlockerKind.parent
    ] == [parent]
    store.action_tasks([child], made.hub)
    store.set_task_weights([child], made.hub, 0)
    store.set_taskhub_weight(made.network, 0)
    assert {blocker.kind for blocker in blockers(store, child)} >= {
        BlockerKind.parent,
        BlockerKind.weight,
        BlockerKind.hub_weight,
        BlockerKind.no_service,
    }


def test_task_claimable_on_one_hub_is_not_blocked(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    other = store.create_network(star(1, "the same arm in another network"), scope)
    hub, task = store.create_taskhub(other), made.tasks[0]
    assert store.action_tasks([task], hub) == [task]
    store.set_task_weights([task], made.hub, 0)
    assert store.claim_taskhub_tasks(hub, "b") == [task]
    store.set_task_waiting([task])
    assert blockers(store, task) == ()
    store.set_taskhub_weight(other, 0)
    assert {(blocker.kind, blocker.taskhub) for blocker in blockers(store, task)} == {
        (BlockerKind.weight, made.hub),
        (BlockerKind.hub_weight, hub),
    }


def test_bulk_answers_are_in_the_requested_order(
    store: StateStore, made: Campaign, scope: Scope
) -> None:
    free, heavy = made.tasks[:2]
    store.set_task_weights([heavy], made.hub, 0)
    missing = ScopedKey.from_str(f"Task-{'0' * 32}-{scope}")
    answers = store.get_task_blockers(iter([heavy, None, str(free), missing, made.hub, heavy]))
    assert [
        found if found is None else [blocker.kind for blocker in found] for found in answers
    ] == [
        [BlockerKind.weight],
        None,
        [],
        None,
        None,
        [BlockerKind.weight],
    ]
    assert store.get_task_blockers([]) == []
