"""Permanent removal of tasks: obstacles, removed rows and kept rows."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial
from itertools import count

import pytest
from sqlalchemy import text

from alchemistore import ProtocolDAGResultRef, Scope, ScopedKey, StateStore
from alchemistore.models import GufeKey
from tests.support.campaigns import Campaign, campaign, chain, created, register, tree
from tests.support.concurrency import Running, run_concurrently

NUMBERS = count()
OF_TASKS = (
    "actions", "attempts", "claims", "extends", "queue", "status_changes", "task_results",
)  # fmt: skip


def ref(ok: bool = True) -> ProtocolDAGResultRef:
    return ProtocolDAGResultRef(
        obj_key=GufeKey(f"ProtocolDAGResult-{next(NUMBERS):032x}"),
        scope=Scope("org", "campaign", "project"),
        ok=ok,
    )


def rows_of(store: StateStore, task: ScopedKey) -> dict[str, int]:
    """How many rows of each table are about a task."""
    with store.engine.connect() as connection:
        found = {
            table: connection.scalar(
                text(f"SELECT count(*) FROM {table} WHERE task = :task"), {"task": task.token}
            )
            for table in OF_TASKS
        }
    return {table: number for table, number in found.items() if number}


@pytest.fixture
def made(store: StateStore, scope: Scope) -> Campaign:
    """Three tasks on a hub, and two services."""
    register(store, "a", "b")
    return campaign(store, scope, tasks=3)


def test_delete_task_removes_actions_and_queue_rows(store: StateStore, made: Campaign) -> None:
    gone, *others = made.tasks
    assert store.delete_task(gone) == gone
    assert not store.check_existence(gone)
    assert rows_of(store, gone) == {}
    assert store.query_tasks() == others
    assert store.get_taskhub_tasks(made.hub) == others
    assert set(store.claim_taskhub_tasks(made.hub, "a", count=3)) == {*others, None}


def test_task_key_is_accepted_as_text(store: StateStore, made: Campaign) -> None:
    assert store.delete_task(str(made.tasks[0])) == made.tasks[0]


@pytest.mark.parametrize("status", ["error", "invalid", "deleted", "complete"])
def test_delete_task_removes_its_history(store: StateStore, made: Campaign, status: str) -> None:
    task = store.claim_taskhub_tasks(made.hub, "a")[0]
    assert task is not None
    assert store.set_task_status([task], status) == [task]
    assert rows_of(store, task)["attempts"] == 1
    store.delete_task(task)
    assert rows_of(store, task) == {}


@pytest.mark.parametrize("force", [False, True])
def test_missing_task_is_a_key_error(
    store: StateStore, made: Campaign, scope: Scope, force: bool
) -> None:
    store.delete_task(made.tasks[0])
    elsewhere = ScopedKey.from_str(f"{made.tasks[1].gufe_key}-other-campaign-project")
    for key in (
        made.tasks[0],
        elsewhere,
        ScopedKey.from_str(f"Task-{uuid.uuid4().hex}-{scope}"),
        f"Task-short-{scope}",
    ):
        with pytest.raises(KeyError, match="No such object in database"):
            store.delete_task(key, force=force)


@pytest.mark.parametrize("force", [False, True])
def test_key_of_another_class_is_a_value_error(
    store: StateStore, made: Campaign, force: bool
) -> None:
    for key in (
        made.network,
        made.hub,
        made.transformations[0],
        "nonsense",
        "",
        "'; DROP TABLE tasks; --",
        "Task-\0-a-b-c",
    ):
        with pytest.raises(ValueError, match="key"):
            store.delete_task(key, force=force)


# What is in the way


def test_delete_task_with_children_is_refused(store: StateStore, made: Campaign) -> None:
    root, child, grandchild = chain(store, made.transformations[0], 3)
    with pytest.raises(
        ValueError, match=f"Cannot delete {root}: other tasks extend it: {child}.*force=True"
    ):
        store.delete_task(root)
    assert [store.check_existence(task) for task in (root, child, grandchild)] == [True] * 3
    for task in (grandchild, child, root):
        assert store.delete_task(task) == task


@pytest.mark.parametrize("ok", [True, False])
def test_delete_task_with_results_is_refused(store: StateStore, made: Campaign, ok: bool) -> None:
    task = made.tasks[0]
    result = store.set_task_result(task, ref(ok))
    with pytest.raises(ValueError, match=f"Cannot delete {task}: it has results: {result}"):
        store.delete_task(task)
    assert store.get_task_status([task]) != [None]


@pytest.mark.parametrize("by_hand", [True, False])
def test_delete_task_of_a_running_task_is_refused(
    store: StateStore, made: Campaign, by_hand: bool
) -> None:
    task = (
        store.set_task_running(made.tasks[:1])[0]
        if by_hand
        else store.claim_taskhub_tasks(made.hub, "a")[0]
    )
    assert task is not None
    with pytest.raises(ValueError, match=f"Cannot delete {task}: it is running"):
        store.delete_task(task)
    assert store.delete_task(task, force=True) == task


def test_refusal_names_ten_obstacles_and_counts_the_others(
    store: StateStore, made: Campaign
) -> None:
    task = made.tasks[0]
    children = store.create_tasks(made.transformations[:1] * 12, extends=[task] * 12)
    results = sorted(store.set_task_result(task, ref()) for _ in range(11))
    with pytest.raises(ValueError, match="Cannot delete") as refused:
        store.delete_task(task)
    said = str(refused.value)
    assert [str(one) in said for one in children] == [True] * 10 + [False] * 2
    assert [str(one) in said for one in results] == [True] * 10 + [False]
    assert f"{children[9]} and 2 more; it has results: " in said
    assert f"{results[9]} and 1 more." in said


# With force


def test_force_removes_the_whole_tree_and_nothing_else(
    store: StateStore, scope: Scope, made: Campaign
) -> None:
    second = campaign(store, scope, name="second").hub
    edge = made.transformations[0]
    above = made.tasks[0]
    root, *below = gone = tree(store, edge, extends=above)
    beside = store.create_task(edge, extends=above)
    for hub in (made.hub, second):
        assert store.action_tasks([*gone, beside], hub) == [*gone, beside]
    store.set_task_status(below[-1:], "deleted")
    assert store.delete_task(root, force=True) == root
    assert [rows_of(store, task) for task in gone] == [{}] * 7
    assert store.query_tasks() == sorted([*made.tasks, beside])
    assert store.get_taskhub_tasks(second) == [beside]
    assert store.get_gufe(beside).extends == str(above)


def test_force_removes_results_of_no_other_task(store: StateStore, made: Campaign) -> None:
    root, child = chain(store, made.transformations[0], 2)
    other = made.tasks[0]
    shared, between, own, of_other = (ref() for _ in range(4))
    for task, refs in (
        (root, (shared, between)),
        (child, (between, own)),
        (other, (shared, of_other)),
    ):
        for one in refs:
            store.set_task_result(task, one)
    keys = {
        one: store.get_scoped_key(one, made.network.scope)
        for one in (shared, between, own, of_other)
    }
    store.delete_task(root, force=True)
    assert [store.check_existence(keys[one]) for one in (shared, between, own, of_other)] == [
        True,
        False,
        False,
        True,
    ]
    assert store.get_task_results(other) == sorted([keys[shared], keys[of_other]])


def test_force_ends_a_claim_and_the_settlement_is_a_key_error(
    store: StateStore, made: Campaign
) -> None:
    task, other = store.claim_taskhub_tasks(made.hub, "a", count=2)
    assert task is not None
    store.delete_task(task, force=True)
    assert store.get_service_tasks("a") == [other]
    with pytest.raises(KeyError):
        store.settle_task(task, ref(), "a")
    store.deregister_computeservice("a")


def test_removal_in_a_failed_transaction_is_rolled_back(store: StateStore, made: Campaign) -> None:
    with store.transaction(ignore_exceptions=True) as tx:
        tx.delete_task(made.tasks[0])
        assert not tx.check_existence(made.tasks[0])
        raise RuntimeError
    assert store.query_tasks() == made.tasks
    assert store.get_taskhub_tasks(made.hub) == made.tasks


# At the same moment


def race(*calls: Callable[[], object]) -> list[object]:
    """Run calls at once; the answer of each, or its error."""

    def answer(call: Callable[[], object]) -> object:
        try:
            return call()
        except KeyError:
            return KeyError
        except ValueError:
            return ValueError

    return run_concurrently([partial(answer, call) for call in calls])


@pytest.mark.parametrize("force", [False, True])
def test_extension_of_a_task_being_removed_is_refused(
    store: StateStore, made: Campaign, force: bool
) -> None:
    edge = made.transformations[0]
    for _ in range(15):
        task = store.create_task(edge)
        extend = partial(store.create_task, edge, extends=task)
        removed, *children = race(
            partial(store.delete_task, task, force=force), extend, extend, extend
        )
        extended = [child for child in children if isinstance(child, ScopedKey)]
        assert all(child in (KeyError, *extended) for child in children)
        if removed == task:
            assert not store.check_existence(task)
            assert [store.check_existence(child) for child in extended] == [False] * len(extended)
            assert force or not extended
        else:
            assert removed is ValueError
            assert not force
            assert extended
            assert store.check_existence(task)


def test_growing_tree_is_removed_completely(store: StateStore, made: Campaign) -> None:
    edge = made.transformations[0]
    root, *tasks = chain(store, edge, 4)

    def grow() -> None:
        for task in tasks:
            store.create_task(edge, extends=task)

    for answer in race(lambda: store.delete_task(root, force=True), grow, grow):
        assert answer in (root, KeyError, None)
    assert store.query_tasks() == sorted(made.tasks)


@pytest.mark.parametrize("force", [False, True])
def test_removal_waits_for_a_concurrent_extension(
    store: StateStore, made: Campaign, force: bool
) -> None:
    task = made.tasks[0]
    with store.transaction() as tx:
        child = tx.create_task(made.transformations[0], extends=task)
        removing = Running(partial(store.delete_task, task, force=force))
        assert removing.waits_for(tx)
    if force:
        assert removing.result() == task
    else:
        with pytest.raises(ValueError, match=f"other tasks extend it: {child}"):
            removing.result()
    assert store.check_existence(child) is not force


def test_child_added_while_the_tree_is_locked_is_removed(store: StateStore, made: Campaign) -> None:
    edge = made.transformations[0]
    root = store.create_task(edge)
    early, late = store.create_tasks([edge] * 2, extends=[root] * 2)
    with store.transaction() as lowest:
        with store.transaction() as last:
            last.create_task(edge, extends=late)
            with store.transaction() as first:
                grandchild = first.create_task(edge, extends=early)
                removing = Running(partial(store.delete_task, root, force=True))
                assert removing.waits_for(first)
            assert removing.waits_for(last)
            # Came after the removal had looked for the tree, and is being extended already.
            lowest.create_task(edge, extends=grandchild)
        assert removing.waits_for(lowest)
    assert removing.result() == root
    assert store.query_tasks() == sorted(made.tasks)


def test_removals_of_overlapping_trees_do_not_deadlock(store: StateStore, made: Campaign) -> None:
    for _ in range(5):
        tasks = chain(store, made.transformations[0], 6)
        answers = race(*[partial(store.delete_task, task, force=True) for task in tasks])
        assert set(answers) <= {*tasks, KeyError}
        assert answers[0] == tasks[0]
    assert store.query_tasks() == sorted(made.tasks)


def test_removal_and_claims_do_not_disturb_each_other(store: StateStore, made: Campaign) -> None:
    for _ in range(5):
        tasks = created(store.create_tasks(made.transformations * 2))
        store.action_tasks(tasks, made.hub)
        claim = [partial(store.claim_taskhub_tasks, made.hub, name, count=6) for name in ("a", "b")]
        removed, *claimed = race(partial(store.delete_task, tasks[0], force=True), *claim)
        assert removed == tasks[0]
        assert all(isinstance(answer, list) for answer in claimed)
        store.set_task_status(store.query_tasks(status="running"), "error")
